package main

import (
	"fmt"
	"io"
	"os"
	"time"
)

// progress shows which measurement is running. On a terminal it is one line that
// changes; otherwise each workload gets one line.
type progress struct {
	w        io.Writer
	terminal bool
	total    int
	finished int
	start    time.Time
	last     string // workload of the line before
	shown    bool
}

func newProgress(w io.Writer, total int) *progress {
	p := &progress{w: w, total: total, start: time.Now()}
	if f, ok := w.(*os.File); ok {
		info, err := f.Stat()
		p.terminal = err == nil && info.Mode()&os.ModeCharDevice != 0
	}
	return p
}

// show names the measurement that starts now.
func (p *progress) show(workload, what string) {
	switch {
	case p.terminal:
		fmt.Fprintf(p.w, "\r\x1b[K[%d/%d%s] %s: %s", p.finished, p.total, p.left(), workload, what)
		p.shown = true
	case workload != p.last:
		fmt.Fprintf(p.w, "[%d/%d%s] %s\n", p.finished, p.total, p.left(), workload)
		p.last = workload
	}
}

// left estimates how long the rest takes from how long it took so far.
func (p *progress) left() string {
	if p.finished == 0 || p.finished >= p.total {
		return ""
	}
	rest := time.Since(p.start) / time.Duration(p.finished) * time.Duration(p.total-p.finished)
	return ", about " + rest.Round(time.Second).String() + " left"
}

// done counts one measurement.
func (p *progress) done() { p.finished++ }

// clear removes the line before other output.
func (p *progress) clear() {
	if p.shown {
		fmt.Fprint(p.w, "\r\x1b[K")
		p.shown = false
	}
}
