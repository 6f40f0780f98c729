package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// options is the command line.
type options struct {
	bin     string   // directory with websocktunnel and wst-client; empty: build this checkout
	binB    string   // the same for a second build; empty: there is none
	only    []string // names of the workloads to run; empty: all
	against []string // names of the contestants to measure; empty: all
	rounds  int
	quick   bool
	list    bool
	tunnels int           // size of the crowd for idle and storm
	seconds time.Duration // length of one timed measurement
	json    string
	svg     string
	loss    float64 // percent of the packets that lossy links lose
	note    string
	keep    string
}

const usage = `bench measures websocktunnel beside other ways to carry HTTP to a target,
in one run and in alternating rounds.

Usage: bench [flags]

`

// parseOptions reads the command line. It writes the help to w if asked for,
// and returns flag.ErrHelp then.
func parseOptions(args []string, w io.Writer) (options, error) {
	var o options
	var only, against string
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	fs.SetOutput(io.Discard) // errors are returned and printed once
	fs.StringVar(&o.bin, "bin", "", "measure websocktunnel and wst-client in this `directory` (default: build this checkout)")
	fs.StringVar(&o.binB, "bin-b", "", "measure a second build, in this `directory`, in the same rounds")
	fs.StringVar(&only, "only", "", "run only these `workloads`, separated by commas; a trailing * matches the rest of a name")
	fs.StringVar(&against, "contestants", "", "measure only these `contestants`, separated by commas (the yardstick is needed for ratios)")
	fs.IntVar(&o.rounds, "rounds", 0, "measure each contestant this `number` of times (default 5, with --quick 1)")
	fs.BoolVar(&o.quick, "quick", false, "short measurements of everything, in less than two minutes: for orders of magnitude only")
	fs.BoolVar(&o.list, "list", false, "list the workloads and end")
	fs.IntVar(&o.tunnels, "tunnels", 0, "`number` of tunnels for the workloads idle and storm (default 4000, with --quick 200)")
	fs.DurationVar(&o.seconds, "time", 0, "length of one timed measurement (default 3s, with --quick 400ms)")
	fs.Float64Var(&o.loss, "loss", 1, "`percent` of the packets that the links of the workloads loss-* lose each way")
	fs.StringVar(&o.json, "json", "", "write all figures to this `file`")
	fs.StringVar(&o.svg, "svg", "", "write a plot of the ratios to this `file`")
	fs.StringVar(&o.note, "note", "", "`text` to add to the output, such as how busy the machine was")
	fs.StringVar(&o.keep, "logs", "", "keep the logs of all processes in this `directory`")
	err := fs.Parse(args)
	if errors.Is(err, flag.ErrHelp) {
		fmt.Fprint(w, usage)
		fs.SetOutput(w)
		fs.PrintDefaults()
		return o, err
	}
	if err != nil {
		return o, fmt.Errorf("%w; --help lists the flags", err)
	}
	if fs.NArg() > 0 {
		return o, fmt.Errorf("%q is not a flag; --help lists them", fs.Arg(0))
	}
	given := map[string]bool{}
	fs.Visit(func(f *flag.Flag) { given[f.Name] = true })
	o.defaults(given)

	switch {
	case o.rounds < 1:
		return o, fmt.Errorf("--rounds is %d: it must be at least 1", o.rounds)
	case o.tunnels < 1:
		return o, fmt.Errorf("--tunnels is %d: it must be at least 1", o.tunnels)
	case !(o.loss >= 0 && o.loss < 100):
		return o, fmt.Errorf("--loss is %v: it must be at least 0 and less than 100", o.loss)
	case o.seconds <= 0:
		return o, fmt.Errorf("--time is %v: it must be positive", o.seconds)
	}
	if o.only, err = choose("--only", only, workloadNames()); err != nil {
		return o, err
	}
	if o.against, err = choose("--contestants", against, contestantNames()); err != nil {
		return o, err
	}
	return o, nil
}

// defaults fills in what the command line does not give.
func (o *options) defaults(given map[string]bool) {
	rounds, tunnels, seconds := 5, 4000, 3*time.Second
	if o.quick {
		rounds, tunnels, seconds = 1, 200, 400*time.Millisecond
	}
	if !given["rounds"] {
		o.rounds = rounds
	}
	if !given["tunnels"] {
		o.tunnels = tunnels
	}
	if !given["time"] {
		o.seconds = seconds
	}
}

// choose returns those of known that the comma-separated patterns name, in the
// order of known. No patterns: nil.
func choose(flagName, patterns string, known []string) ([]string, error) {
	if strings.TrimSpace(patterns) == "" {
		return nil, nil
	}
	chosen := map[string]bool{}
	for pattern := range strings.SplitSeq(patterns, ",") {
		pattern = strings.TrimSpace(pattern)
		found := false
		for _, name := range known {
			prefix, wild := strings.CutSuffix(pattern, "*")
			if name == pattern || wild && strings.HasPrefix(name, prefix) {
				chosen[name], found = true, true
			}
		}
		if !found {
			return nil, fmt.Errorf("%s: there is no %q; there are %s", flagName, pattern, strings.Join(known, ", "))
		}
	}
	var names []string
	for _, name := range known {
		if chosen[name] {
			names = append(names, name)
		}
	}
	return names, nil
}

// wants reports whether list names name, or is empty.
func wants(list []string, name string) bool {
	return len(list) == 0 || slices.Contains(list, name)
}
