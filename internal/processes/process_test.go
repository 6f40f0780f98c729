//go:build linux

package processes

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// process is a running command. It is killed when its test ends.
type process struct {
	t     testing.TB
	name  string
	cmd   *exec.Cmd
	log   processLog
	ended chan struct{} // closed when it has been waited for
}

// start runs one of the two commands, under limit if that is not zero: the
// number of file descriptors it may have.
func start(t testing.TB, h *host, limit int, env []string, command string, args ...string) *process {
	t.Helper()
	path := filepath.Join(binaries, command)
	cmd := exec.Command(path, args...)
	if limit != 0 {
		// Both limits, for the Go runtime raises the soft one to the hard one.
		cmd = exec.Command("bash", append([]string{"-c", `ulimit -n "$0" && exec "$@"`, strconv.Itoa(limit), path}, args...)...)
	}
	p := &process{t: t, name: command, cmd: cmd, ended: make(chan struct{})}
	p.log.changed = make(chan struct{})
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
		close(p.ended)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-p.ended
		text := p.log.text()
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
	<-p.ended
}

// exits waits until the process ends, with that exit status.
func (p *process) exits(status int, within time.Duration) {
	p.t.Helper()
	select {
	case <-p.ended:
		if got := p.cmd.ProcessState.ExitCode(); got != status {
			p.t.Fatalf("%s ended with exit status %d (%v), want %d", p.name, got, p.cmd.ProcessState, status)
		}
	case <-time.After(within):
		p.t.Fatalf("%s did not end within %v", p.name, within)
	}
}

func (p *process) running() bool {
	select {
	case <-p.ended:
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

// line is a line of a process's output and when it came.
type line struct {
	text   string
	index  int
	at     time.Time
	groups []string // of the expression that was waited for
}

// processLog takes what a process writes.
type processLog struct {
	mu      sync.Mutex
	lines   []line
	rest    []byte
	changed chan struct{} // closed and replaced with every line
}

func (l *processLog) Write(p []byte) (int, error) {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rest = append(l.rest, p...)
	for {
		text, rest, ok := bytes.Cut(l.rest, []byte("\n"))
		if !ok {
			return len(p), nil
		}
		l.lines = append(l.lines, line{text: string(text), index: len(l.lines), at: now})
		l.rest = rest
		close(l.changed)
		l.changed = make(chan struct{})
	}
}

func (l *processLog) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var b strings.Builder
	for _, ln := range l.lines {
		b.WriteString(ln.text)
		b.WriteByte('\n')
	}
	b.Write(l.rest)
	return b.String()
}

// mark returns a place in the log: the end of what is there now.
func (p *process) mark() int {
	p.log.mu.Lock()
	defer p.log.mu.Unlock()
	return len(p.log.lines)
}

// count returns how many lines after mark match.
func (p *process) count(mark int, expression string) int {
	re := regexp.MustCompile(expression)
	p.log.mu.Lock()
	defer p.log.mu.Unlock()
	n := 0
	for _, ln := range p.log.lines[mark:] {
		if re.MatchString(ln.text) {
			n++
		}
	}
	return n
}

// await returns the first line after mark that matches.
func (p *process) await(mark int, expression string, within time.Duration) (line, error) {
	re := regexp.MustCompile(expression)
	timer := time.NewTimer(within)
	defer timer.Stop()
	for {
		p.log.mu.Lock()
		changed := p.log.changed
		for ; mark < len(p.log.lines); mark++ {
			ln := p.log.lines[mark]
			if ln.groups = re.FindStringSubmatch(ln.text); ln.groups != nil {
				p.log.mu.Unlock()
				return ln, nil
			}
		}
		p.log.mu.Unlock()
		select {
		case <-changed:
		case <-p.ended:
			if p.mark() == mark {
				return line{}, errors.New(p.name + " has ended without a line that matches " + expression)
			}
		case <-timer.C:
			return line{}, errors.New(p.name + " wrote no line that matches " + expression)
		}
	}
}

// says is await for what has to come.
func (p *process) says(mark int, expression string, within time.Duration) line {
	p.t.Helper()
	ln, err := p.await(mark, expression, within)
	if err != nil {
		p.t.Fatal(err)
	}
	return ln
}
