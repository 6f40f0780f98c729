package main

import (
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strings"
	"unicode/utf8"
)

// print writes a workload's table for people.
func (w *workloadResult) print(out io.Writer) {
	fmt.Fprintf(out, "\n%s: %s\n", w.Name, w.Title)
	head := []string{"", w.Metrics[0].Label, "spread"}
	yardstick := w.named(w.Yardstick)
	if yardstick != nil {
		head = append(head, "× yardstick")
	}
	withB := slices.ContainsFunc(w.Contestants, func(c *contestantResult) bool { return c.RatioA != nil })
	if withB {
		head = append(head, "B × A")
	}
	for _, m := range w.Metrics[1:] {
		head = append(head, m.Label)
	}
	rows := [][]string{head}
	var failed []string
	for _, c := range w.Contestants {
		if c.Error != "" {
			failed = append(failed, fmt.Sprintf("%s: %s", c.Label, c.Error))
		}
		if len(c.Rounds) == 0 {
			continue
		}
		first := w.Metrics[0]
		label := c.Label
		if c == yardstick {
			label += " (yardstick)"
		}
		row := []string{label, first.median(c), first.spread(c)}
		if yardstick != nil {
			row = append(row, ratio(c.Ratio))
		}
		if withB {
			row = append(row, ratio(c.RatioA))
		}
		for _, m := range w.Metrics[1:] {
			row = append(row, m.median(c))
		}
		rows = append(rows, row)
	}
	printRows(out, rows)
	for _, c := range w.Contestants {
		if len(c.RatiosA) > 1 {
			var parts []string
			for _, m := range w.Metrics[1:] {
				if s, ok := c.RatiosA[m.Key]; ok {
					parts = append(parts, m.Label+" "+ratio(&s))
				}
			}
			fmt.Fprintf(out, "  %s × A: %s\n", c.Label, strings.Join(parts, ", "))
		}
	}
	for _, line := range failed {
		fmt.Fprintf(out, "  not measured: %s\n", strings.ReplaceAll(line, "\n", "\n    "))
	}
}

// printRows writes aligned columns, the first to the left, others to the right.
func printRows(out io.Writer, rows [][]string) {
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	for _, row := range rows {
		var line strings.Builder
		for i, cell := range row {
			padding := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			line.WriteString("  ")
			if i == 0 {
				line.WriteString(cell + padding)
			} else {
				line.WriteString(padding + cell)
			}
		}
		fmt.Fprintln(out, strings.TrimRight(line.String(), " "))
	}
}

// printFoot describes the machine and the builds.
func (r *results) printFoot(out io.Writer) {
	fmt.Fprintf(out, "\n%s, %d cores, %s, Linux %s, %s; loopback; %d rounds, median; spread: least to most\n",
		r.Machine.CPU, r.Machine.Cores, r.Machine.OS, r.Machine.Kernel, r.Machine.Go, r.Rounds)
	for _, name := range slices.Sorted(maps.Keys(r.Builds)) {
		fmt.Fprintf(out, "%s: %s\n", contestantNamed(name).label, r.Builds[name])
	}
	if r.Quick {
		fmt.Fprintln(out, "measured with --quick: short runs, and bodies a tenth of the size. Good for orders of magnitude only")
	}
	if r.Note != "" {
		fmt.Fprintln(out, r.Note)
	}
}

// shown scales a value of m.
func (m metric) shown(x float64) float64 {
	if m.Scale != 0 {
		return x / m.Scale
	}
	return x
}

func (m metric) median(c *contestantResult) string {
	s, ok := c.Summary[m.Key]
	if !ok {
		return "–"
	}
	return number(m.shown(s.Median))
}

func (m metric) spread(c *contestantResult) string {
	s, ok := c.Summary[m.Key]
	if !ok {
		return "–"
	}
	return number(m.shown(s.Min)) + " to " + number(m.shown(s.Max))
}

// ratio shows a ratio with its spread.
func ratio(s *summary) string {
	if s == nil {
		return "–"
	}
	if s.Min == s.Max {
		return number(s.Median)
	}
	return fmt.Sprintf("%s (%s to %s)", number(s.Median), number(s.Min), number(s.Max))
}

// number shows x with three digits, or with all digits before the point.
func number(x float64) string {
	switch a := math.Abs(x); {
	case math.IsNaN(x):
		return "–"
	case a >= 100:
		return fmt.Sprintf("%.0f", x)
	case a >= 10:
		return fmt.Sprintf("%.1f", x)
	}
	return fmt.Sprintf("%.2f", x)
}
