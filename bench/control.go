package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"time"
)

// control runs everything that the options ask for and prints the results.
func control(ctx context.Context, o options, stdout, stderr io.Writer) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	// Fail before an hour of measuring rather than after it.
	for _, name := range []string{o.json, o.svg} {
		if err := writable(name); err != nil {
			return err
		}
	}
	dir, err := os.MkdirTemp("", "bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if o.keep != "" {
		if err := os.MkdirAll(o.keep, 0o755); err != nil {
			return err
		}
	}
	bins, err := binaries(ctx, o, dir, stderr)
	if err != nil {
		return err
	}
	cert, err := makeCert(dir)
	if err != nil {
		return err
	}
	logs := dir
	if o.keep != "" {
		if logs, err = filepath.Abs(o.keep); err != nil {
			return err
		}
	}
	base := environment{group: &group{self: self, dir: logs}, bins: bins, cert: cert}

	res := &results{
		Date:    time.Now().UTC().Truncate(time.Second),
		Machine: thisMachine(),
		Builds:  map[string]string{},
		Note:    o.note,
		Rounds:  o.rounds,
		Quick:   o.quick,
	}
	for name, bin := range bins {
		res.Builds[name] = version(ctx, bin)
	}
	progress := newProgress(stderr, steps(o))
	for _, w := range workloads {
		if !w.asked(o) {
			continue
		}
		if err := w.can(); err != nil {
			progress.clear()
			fmt.Fprintf(stdout, "\n%s: not measured: %v\n", w.name, err)
			continue
		}
		wr := runWorkload(ctx, w, &base, o, progress)
		if ctx.Err() != nil {
			progress.clear()
			return ctx.Err()
		}
		res.Workloads = append(res.Workloads, wr)
		progress.clear()
		wr.print(stdout)
	}
	res.printFoot(stdout)
	return errors.Join(res.writeJSON(o.json), res.writeSVG(o.svg), res.failure())
}

// writable reports why a file could not be written later.
func writable(name string) error {
	if name == "" {
		return nil
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	return f.Close()
}

const modulePath = "github.com/websocktunnel/websocktunnel"

var commands = []string{"websocktunnel", "wst-client"}

// binaries returns the directories with our commands, and builds this checkout
// if no other is given.
func binaries(ctx context.Context, o options, dir string, stderr io.Writer) (map[string]string, error) {
	bins := map[string]string{}
	for name, given := range map[string]string{nameOurs: o.bin, nameOursB: o.binB} {
		if given == "" {
			continue
		}
		abs, err := filepath.Abs(given)
		if err != nil {
			return nil, err
		}
		for _, command := range commands {
			if _, err := exec.LookPath(filepath.Join(abs, command)); err != nil {
				return nil, fmt.Errorf("%s has no command %s: ci/build.sh DIRECTORY makes both", given, command)
			}
		}
		bins[name] = abs
	}
	if o.bin == "" {
		root, err := checkout()
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(stderr, "building the commands of %s\n", root)
		out := filepath.Join(dir, "bin")
		cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-tags", "http2legacy", "-o", out+string(filepath.Separator), "./cmd/websocktunnel", "./cmd/wst-client")
		cmd.Dir = root
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if text, err := cmd.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("go build: %w\n%s", err, text)
		}
		bins[nameOurs] = out
	}
	return bins, nil
}

// checkout returns the directory with the project's go.mod, at or above the
// working directory.
func checkout() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		mod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && strings.HasPrefix(string(mod), "module "+modulePath+"\n") {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("this is no checkout of " + modulePath + ": run it inside of one, or name a directory with built commands with --bin")
		}
		dir = parent
	}
}

// version returns what a build says about itself.
func version(ctx context.Context, bin string) string {
	out, err := exec.CommandContext(ctx, filepath.Join(bin, "websocktunnel"), "version").Output()
	if err != nil {
		return "unknown"
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return strings.TrimSpace(line)
}

// machine describes the machine that the figures come from.
type machine struct {
	CPU    string `json:"cpu"`
	Cores  int    `json:"cores"`
	Kernel string `json:"kernel"`
	Go     string `json:"go"`
	OS     string `json:"os"`
}

var modelName = regexp.MustCompile(`(?m)^model name\s*:\s*(.*)$`)

func thisMachine() machine {
	m := machine{Cores: runtime.NumCPU(), Go: runtime.Version(), OS: runtime.GOOS + "/" + runtime.GOARCH}
	info, _ := os.ReadFile("/proc/cpuinfo")
	if match := modelName.FindSubmatch(info); match != nil {
		m.CPU = string(match[1])
	}
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	m.Kernel = strings.TrimSpace(string(kernel))
	return m
}

// steps is how many measurements the options ask for.
func steps(o options) int {
	n := 0
	for _, w := range workloads {
		if w.asked(o) && w.can() == nil {
			n += len(w.field(o)) * o.rounds
		}
	}
	return n
}

// runWorkload measures all contestants in alternating rounds. A contestant that
// fails once is left out from then on; its error is part of the result.
func runWorkload(ctx context.Context, w workload, base *environment, o options, progress *progress) *workloadResult {
	result := &workloadResult{Name: w.name, Title: w.title, Metrics: w.metrics, Yardstick: w.yardstick}
	if w.condition != nil {
		result.Title += "; " + w.condition(o)
	}
	e := base.fresh()
	defer e.end()
	e.secure, e.link, e.tunnels = w.secure, w.link, w.tunnels

	field := w.field(o)
	measure := make([]func(context.Context) (values, error), len(field))
	var target listening
	_, targetErr := e.role(ctx, "target", targetSettings{}, &target)
	e.target = target.Addr
	for i, c := range field {
		result.Contestants = append(result.Contestants, &contestantResult{Name: c.name, Label: c.label, Rounds: map[int]values{}})
		err := targetErr
		if err == nil {
			progress.show(w.name, "start of "+c.label)
			measure[i], err = w.ready(ctx, e, o, c)
		}
		if err != nil {
			result.Contestants[i].Error = err.Error()
			measure[i] = nil
		}
	}
	for round := range o.rounds {
		for k := range field {
			i := k
			if round%2 == 1 { // backwards, so that a drift affects all alike
				i = len(field) - 1 - k
			}
			if ctx.Err() != nil {
				return result
			}
			if measure[i] == nil {
				progress.done()
				continue
			}
			progress.show(w.name, fmt.Sprintf("round %d of %d: %s", round+1, o.rounds, field[i].label))
			v, err := measure[i](ctx)
			progress.done()
			if err != nil {
				result.Contestants[i].Error = err.Error()
				measure[i] = nil
				continue
			}
			result.Contestants[i].Rounds[round] = v
		}
	}
	result.summarize()
	return result
}
