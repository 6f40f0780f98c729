//go:build linux

package processes

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/websocktunnel/websocktunnel/internal/tunneltest"
)

// process is a running command. It is killed when its test ends.
type process struct {
	t     testing.TB
	name  string
	cmd   *exec.Cmd
	log   tunneltest.Log
	ended context.Context // ends when it has been waited for
}

// start runs one of the two commands, or the program at an absolute path, under
// limit if that is not zero: the number of file descriptors it may have.
func start(t testing.TB, h *host, limit int, env []string, command string, args ...string) *process {
	t.Helper()
	path := command
	if !filepath.IsAbs(path) {
		path = filepath.Join(binaries, command)
	}
	cmd := exec.Command(path, args...)
	if limit != 0 {
		// Both limits, for the Go runtime raises the soft one to the hard one.
		cmd = exec.Command("bash", append([]string{"-c", `ulimit -n "$0" && exec "$@"`, strconv.Itoa(limit), path}, args...)...)
	}
	ended, end := context.WithCancelCause(context.Background())
	p := &process{t: t, name: command, cmd: cmd, ended: ended}
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "GORACE=halt_on_error=1"}, env...)
	cmd.Stdout, cmd.Stderr = &p.log, &p.log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var err error
	h.do(func() { err = cmd.Start() })
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = cmd.Wait()
		end(errors.New(command + " has ended"))
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-p.ended.Done()
		text := p.log.String()
		if strings.Contains(text, "DATA RACE") || strings.Contains(text, "panic") {
			t.Errorf("%s has panicked or has a data race", p.name)
		}
		if t.Failed() {
			t.Logf("log of %s, process %d:\n%s", p.name, cmd.Process.Pid, tail(text, 4<<10))
		}
	})
	return p
}

func tail(s string, n int) string {
	if len(s) > n {
		return "…" + s[len(s)-n:]
	}
	return s
}

func (p *process) signal(sig syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		p.t.Fatalf("%s: %v", p.name, err)
	}
}

// freeze stops the process, and returns when every thread stands still.
func (p *process) freeze() {
	p.t.Helper()
	p.signal(syscall.SIGSTOP)
	timeout := time.After(patience)
	for {
		tasks, err := filepath.Glob("/proc/" + strconv.Itoa(p.cmd.Process.Pid) + "/task/*/stat")
		if err != nil {
			p.t.Fatal(err)
		}
		stopped := len(tasks) > 0
		for _, task := range tasks {
			stopped = stopped && stat(p.t, task)[0] == "T"
		}
		if stopped {
			return
		}
		select {
		case <-time.After(time.Millisecond):
		case <-timeout:
			p.t.Fatalf("%s does not stop", p.name)
		}
	}
}

// stat returns the fields of a file as in /proc/PID/stat that come after the
// program's name, which may have anything in it: the state is the first.
func stat(t testing.TB, file string) []string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
}

// kill ends the process as the kernel does when memory runs out.
func (p *process) kill() {
	p.t.Helper()
	p.signal(syscall.SIGKILL)
	<-p.ended.Done()
}

// exits waits until the process ends, with that exit status.
func (p *process) exits(status int, within time.Duration) {
	p.t.Helper()
	select {
	case <-p.ended.Done():
		if got := p.cmd.ProcessState.ExitCode(); got != status {
			p.t.Fatalf("%s ended with exit status %d (%v), want %d", p.name, got, p.cmd.ProcessState, status)
		}
	case <-time.After(within):
		p.t.Fatalf("%s did not end within %v", p.name, within)
	}
}

func (p *process) running() bool {
	select {
	case <-p.ended.Done():
		return false
	default:
		return true
	}
}

// cpuTime returns how long the process has kept a processor busy.
func (p *process) cpuTime() time.Duration {
	p.t.Helper()
	fields := stat(p.t, "/proc/"+strconv.Itoa(p.cmd.Process.Pid)+"/stat")
	var ticks int
	for _, f := range fields[11:13] { // fields 14 and 15 of proc(5): utime and stime
		n, err := strconv.Atoi(f)
		if err != nil {
			p.t.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * time.Second / 100 // USER_HZ is 100 everywhere
}

// mark returns a place in the log: the end of what is there now.
func (p *process) mark() int { return len(p.log.Lines()) }

// count returns how many lines after mark match.
func (p *process) count(mark int, expression string) int {
	re := regexp.MustCompile(expression)
	n := 0
	for _, ln := range p.log.Lines()[mark:] {
		if re.MatchString(ln.Text) {
			n++
		}
	}
	return n
}

// await returns the first line after mark that matches.
func (p *process) await(mark int, expression string, within time.Duration) (tunneltest.Line, error) {
	ctx, cancel := context.WithTimeout(p.ended, within)
	defer cancel()
	ln, err := p.log.Next(ctx, mark, regexp.MustCompile(expression))
	if err != nil {
		err = fmt.Errorf("%s wrote no line that matches %s: %w", p.name, expression, err)
	}
	return ln, err
}

// says is await for what has to come.
func (p *process) says(mark int, expression string, within time.Duration) tunneltest.Line {
	p.t.Helper()
	ln, err := p.await(mark, expression, within)
	if err != nil {
		p.t.Fatal(err)
	}
	return ln
}
