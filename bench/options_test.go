package main

import (
	"bytes"
	"errors"
	"flag"
	"io"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestParseOptions(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		args  string
		check func(o options) bool
	}{
		{"defaults", "", func(o options) bool {
			return o.rounds == 5 && o.tunnels == 4000 && o.seconds == 3*time.Second && o.only == nil
		}},
		{"quick", "--quick", func(o options) bool { return o.rounds == 1 && o.tunnels == 200 && o.seconds < time.Second }},
		{"quick, but", "--quick --rounds 3", func(o options) bool { return o.rounds == 3 && o.tunnels == 200 }},
		{"in the order of the list", "--only down-1,small-1", func(o options) bool { return slices.Equal(o.only, []string{"small-1", "down-1"}) }},
		{"loss", "--loss 0.1", func(o options) bool { return o.loss == 0.1 }},
		{"wildcard", "--only small-*", func(o options) bool { return slices.Equal(o.only, []string{"small-1", "small-32", "small-256"}) }},
		{"contestants", "--contestants wst,h2c", func(o options) bool { return slices.Equal(o.against, []string{"h2c", "wst"}) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			o, err := parseOptions(strings.Fields(tt.args), io.Discard)
			if err != nil {
				t.Fatal(err)
			}
			if !tt.check(o) {
				t.Errorf("parseOptions(%q) = %+v", tt.args, o)
			}
		})
	}
}

func TestParseOptionsErrors(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]string{
		"--rounds 0":           "--rounds is 0",
		"--tunnels -1":         "--tunnels is -1",
		"--time 0s":            "--time is 0s",
		"--loss 100":           "--loss is 100",
		"--loss NaN":           "--loss is NaN",
		"--only nothing":       `there is no "nothing"`,
		"--contestants nobody": `there is no "nobody"`,
		"small-1":              `"small-1" is not a flag`,
		"--unknown":            "not defined: -unknown",
	} {
		_, err := parseOptions(strings.Fields(args), io.Discard)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("parseOptions(%q): error %v, want one with %q", args, err, want)
		}
	}
}

func TestHelp(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	_, err := parseOptions([]string{"--help"}, &out)
	if !errors.Is(err, flag.ErrHelp) || !strings.Contains(out.String(), "-rounds number") {
		t.Errorf("error %v, help %q", err, out.String())
	}
}

func TestField(t *testing.T) {
	t.Parallel()
	names := func(o options, workload string) string {
		for _, w := range workloads {
			if w.name == workload {
				var names []string
				for _, c := range w.field(o) {
					if c.programs == nil { // what is installed here varies
						names = append(names, c.name)
					}
				}
				return strings.Join(names, " ")
			}
		}
		t.Fatalf("there is no workload %q", workload)
		return ""
	}
	for _, tt := range []struct {
		workload string
		o        options
		want     string
	}{
		{"small-1", options{}, "target http1 h2c yamux wst"},
		{"small-1", options{binB: "b"}, "target http1 h2c yamux wst wst-b"},
		{"small-1", options{binB: "b", against: []string{"h2c", "wst-b"}}, "h2c wst-b"},
		{"echo", options{}, "target proxy http1 yamux wst"},
		{"idle", options{binB: "b"}, "wst wst-b"},
		{"growth", options{quick: true}, "wst@1 wst@100"},
	} {
		if got := names(tt.o, tt.workload); got != tt.want {
			t.Errorf("field of %s with %+v = %q, want %q", tt.workload, tt.o, got, tt.want)
		}
	}
}
