package main

import (
	"fmt"
	"html"
	"math"
	"os"
	"strings"
)

// writeSVG writes a plot to a file, unless its name is empty.
func (r *results) writeSVG(name string) error {
	if name == "" {
		return nil
	}
	return os.WriteFile(name, []byte(r.svg()), 0o644)
}

// colours are those of the contestants, in the order in which they first
// appear; they can be told apart by people who see few colours.
var colours = []string{"#000000", "#e69f00", "#56b4e9", "#0072b2", "#cc79a7", "#009e73", "#d55e00", "#999999", "#b8a800"}

// svg draws, for each workload with a yardstick, where each contestant stands
// beside it. Right is better everywhere: where less is better, the ratio is
// turned round. The axis is logarithmic, and each bar goes from the least to
// the most of the rounds.
func (r *results) svg() string {
	const (
		left, right, top, row = 130, 30, 50, 30
		width                 = 900
		low, high             = 0.05, 20.0
	)
	x := func(ratio float64) float64 {
		ratio = min(max(ratio, low), high)
		return left + (width-left-right)*math.Log(ratio/low)/math.Log(high/low)
	}

	var shown []*workloadResult
	colour := map[string]string{}
	var legend []*contestantResult
	for _, w := range r.Workloads {
		if w.named(w.Yardstick) == nil || w.Name == "growth" {
			continue
		}
		shown = append(shown, w)
		for _, c := range w.Contestants {
			if c.Ratio != nil && colour[c.Name] == "" {
				colour[c.Name] = colours[len(legend)%len(colours)]
				legend = append(legend, c)
			}
		}
	}
	build, _, _ := strings.Cut(r.Builds[nameOurs], " (")
	bottom := top + row*len(shown)
	legendRows := (len(legend) + 2) / 3
	height := bottom + 50 + 20*legendRows + 10

	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" font-family="sans-serif" font-size="13">`+"\n", width, height, width, height)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="#fff"/>`+"\n", width, height)
	fmt.Fprintf(&b, `<text x="%d" y="20" font-size="15">Beside the yardstick of the same run: further to the right is better</text>`+"\n", 10)
	fmt.Fprintf(&b, `<text x="%d" y="38" fill="#555">%s</text>`+"\n", 10, html.EscapeString(fmt.Sprintf("%s, %d cores, loopback, %s", r.Date.Format("2006-01-02"), r.Machine.Cores, build)))
	for _, tick := range []float64{0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20} {
		stroke, weight := "#ddd", 1
		if tick == 1 {
			stroke, weight = "#000", 2
		}
		fmt.Fprintf(&b, `<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke="%s" stroke-width="%d"/>`, x(tick), top, x(tick), bottom, stroke, weight)
		fmt.Fprintf(&b, `<text x="%.1f" y="%d" text-anchor="middle">%g ×</text>`+"\n", x(tick), bottom+18, tick)
	}
	for i, w := range shown {
		middle := float64(top + row*i + row/2)
		fmt.Fprintf(&b, `<text x="%d" y="%.1f" text-anchor="end">%s</text>`+"\n", left-10, middle+4, html.EscapeString(w.Name))
		lane := 0
		for _, c := range w.Contestants {
			if c.Ratio == nil {
				continue
			}
			s := *c.Ratio
			if w.Metrics[0].Better == less {
				s = summary{Median: 1 / s.Median, Min: 1 / s.Max, Max: 1 / s.Min}
			}
			y := middle - 10 + 20*float64(lane)/float64(max(1, len(w.Contestants)-1))
			lane++
			radius := 3.5
			if strings.HasPrefix(c.Name, nameOurs) {
				radius = 5
			}
			fmt.Fprintf(&b, `<g fill="%s" stroke="%s"><title>%s: %s ×</title><line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f"/><circle cx="%.1f" cy="%.1f" r="%.1f"/></g>`+"\n",
				colour[c.Name], colour[c.Name], html.EscapeString(c.Label), number(s.Median), x(s.Min), y, x(s.Max), y, x(s.Median), y, radius)
		}
	}
	for i, c := range legend {
		cx, cy := 20+290*(i%3), bottom+45+20*(i/3)
		fmt.Fprintf(&b, `<circle cx="%d" cy="%d" r="5" fill="%s"/><text x="%d" y="%d">%s</text>`+"\n", cx, cy-4, colour[c.Name], cx+12, cy, html.EscapeString(c.Label))
	}
	b.WriteString("</svg>\n")
	return b.String()
}
