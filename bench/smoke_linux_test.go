package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// builds returns a directory with the commands of this checkout.
func builds(t *testing.T) string {
	t.Helper()
	if testing.Short() {
		t.Skip("builds the commands and starts many processes")
	}
	dir := t.TempDir()
	bins, err := binaries(t.Context(), options{}, dir, t.Output())
	if err != nil {
		t.Fatal(err)
	}
	return bins[nameOurs]
}

// children returns the command lines of this process's children.
func children(t *testing.T) []string {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, name := range stats {
		stat, err := os.ReadFile(name)
		if err != nil {
			continue // it has ended
		}
		fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
		if len(fields) > 1 && string(fields[1]) == fmt.Sprint(os.Getpid()) {
			line, _ := os.ReadFile(filepath.Join(filepath.Dir(name), "cmdline"))
			found = append(found, string(bytes.ReplaceAll(line, []byte{0}, []byte{' '})))
		}
	}
	return found
}

// measure runs the command, which has to succeed and leave no process behind, and returns
// its standard output.
func measure(t *testing.T, args ...string) string {
	t.Helper()
	var stdout, stderr bytes.Buffer
	if status := command(t.Context(), args, &stdout, &stderr); status != 0 {
		t.Fatalf("exit status %d; standard error:\n%s\nstandard output:\n%s", status, &stderr, &stdout)
	}
	if left := children(t); len(left) > 0 {
		t.Errorf("these processes are left behind: %q", left)
	}
	return stdout.String()
}

// readResults returns what the command has written into a file for machines.
func readResults(t *testing.T, file string) (r results) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &r); err != nil {
		t.Fatal(err)
	}
	return r
}

func TestSmoke(t *testing.T) {
	bin := builds(t)
	dir := t.TempDir()
	js, svg := filepath.Join(dir, "out.json"), filepath.Join(dir, "out.svg")
	names := []string{"small-1", "down-8", "up-8", "rtt-up", "echo", "tls", "events", "idle", "storm"}
	stdout := measure(t, "--quick", "--time", "250ms", "--rounds", "1", "--tunnels", "3", "--only", strings.Join(names, ","),
		"--contestants", "target,proxy,http1,h2c,yamux,wst,wst-b", "--bin", bin, "--bin-b", bin,
		"--json", js, "--svg", svg, "--note", "a smoke test")
	for _, want := range []string{"two ReverseProxies, HTTP/2 (yardstick)", "B × A", "goroutines/tunnel", "a smoke test"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("the output lacks %q:\n%s", want, stdout)
		}
	}
	r := readResults(t, js)
	var got []string
	for _, w := range r.Workloads {
		got = append(got, w.Name)
		for _, c := range w.Contestants {
			if c.Error != "" || len(c.Rounds) != 1 {
				t.Errorf("%s: %s: %d rounds, error %q", w.Name, c.Name, len(c.Rounds), c.Error)
			}
			// CPU times of so short runs may be zero.
			if first := c.Summary[w.Metrics[0].Key]; w.Name != "idle" && first.Median <= 0 {
				t.Errorf("%s: %s: %s is %v", w.Name, c.Name, w.Metrics[0].Key, first.Median)
			}
		}
	}
	if !slices.Equal(got, names) {
		t.Errorf("workloads %v, want %v", got, names)
	}
	if text, err := os.ReadFile(svg); err != nil || !bytes.HasPrefix(text, []byte("<svg ")) {
		t.Errorf("the plot begins with %.20q, error %v", text, err)
	}
}

// started cancels its context when the first line about a workload is written.
type started struct {
	bytes.Buffer
	cancel context.CancelFunc
}

func (s *started) Write(p []byte) (int, error) {
	if bytes.Contains(p, []byte("small-32")) {
		time.AfterFunc(300*time.Millisecond, s.cancel)
	}
	return s.Buffer.Write(p)
}

func TestInterrupt(t *testing.T) {
	bin := builds(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stderr := started{cancel: cancel}
	var stdout bytes.Buffer
	if status := command(ctx, []string{"--only", "small-32", "--bin", bin}, &stdout, &stderr); status != 130 {
		t.Errorf("exit status %d, want 130; standard error:\n%s", status, &stderr)
	}
	if left := children(t); len(left) > 0 {
		t.Errorf("these processes are left behind: %q", left)
	}
}

func TestErrors(t *testing.T) {
	for _, tt := range []struct {
		name   string
		args   []string
		status int
		want   string
	}{
		{"no commands there", []string{"--bin", "testdata"}, 1, "testdata has no command websocktunnel"},
		{"no place for the output", []string{"--json", "testdata/missing/x.json"}, 1, "no such file"},
		{"a faulty flag", []string{"--rounds", "many"}, 2, "invalid value"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			if status := command(t.Context(), tt.args, &stdout, &stderr); status != tt.status || !strings.Contains(stderr.String(), tt.want) {
				t.Errorf("exit status %d, want %d; standard error %q, want it to have %q", status, tt.status, &stderr, tt.want)
			}
		})
	}
}
