package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"
)

// startTimeout bounds how long a process may take until it is ready.
const startTimeout = 30 * time.Second

// process is a running child of the controller.
type process struct {
	name  string
	cmd   *exec.Cmd
	lines *bufio.Reader // its standard output, if the caller asked for it
	out   io.Closer
	in    place
	log   string        // file with its standard error (and output)
	done  chan struct{} // closed when it has ended
}

// group is the processes of one or several contestants, ended together.
type group struct {
	self  string // this binary
	dir   string // for logs and files
	place place  // where they run

	// owner, if not nil, is the group that ends the processes of this one.
	owner *group

	mu    sync.Mutex
	procs []*process
}

// logNumber makes the names of logs different.
var logNumber atomic.Int64

// start runs a program. With piped, its standard output can be read from
// process.lines; otherwise it goes to the log with its standard error.
func (g *group) start(ctx context.Context, name string, env []string, piped bool, program string, args ...string) (*process, error) {
	return g.startWith(ctx, nil, name, env, piped, program, args...)
}

// startWith is start with something to read for the program.
func (g *group) startWith(ctx context.Context, stdin io.Reader, name string, env []string, piped bool, program string, args ...string) (*process, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	owner := g
	if g.owner != nil {
		owner = g.owner
	}
	owner.mu.Lock()
	defer owner.mu.Unlock()
	p := &process{
		name: name,
		in:   g.place,
		log:  filepath.Join(g.dir, fmt.Sprintf("%03d-%s.log", logNumber.Add(1), name)),
		done: make(chan struct{}),
	}
	log, err := os.Create(p.log)
	if err != nil {
		return nil, err
	}
	defer log.Close()

	program, args = g.place.command(g.self, program, args)
	p.cmd = exec.Command(program, args...)
	// The user's own settings for a service must not affect this one.
	p.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + g.dir, "TMPDIR=" + g.dir}, env...)
	for _, name := range []string{"GOMAXPROCS", "GOGC", "GODEBUG", "GOMEMLIMIT"} {
		if v, ok := os.LookupEnv(name); ok {
			p.cmd.Env = append(p.cmd.Env, name+"="+v)
		}
	}
	p.cmd.Stdin = stdin
	p.cmd.Stderr = log
	p.cmd.Stdout = log
	detach(p.cmd)
	var w *os.File
	if piped {
		r, pw, err := os.Pipe()
		if err != nil {
			return nil, err
		}
		w, p.out = pw, r
		p.cmd.Stdout = w
		p.lines = bufio.NewReader(r)
	}
	err = p.cmd.Start()
	if w != nil {
		w.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("cannot start %s: %w", name, err)
	}
	go func() {
		_ = p.cmd.Wait()
		close(p.done)
	}()
	owner.procs = append(owner.procs, p)
	return p, nil
}

// role runs this binary in another role and decodes the first line that it
// prints into ready, if ready is not nil.
func (g *group) role(ctx context.Context, name string, settings, ready any) (*process, error) {
	js, err := json.Marshal(settings)
	if err != nil {
		return nil, err
	}
	p, err := g.startWith(ctx, bytes.NewReader(js), name, nil, true, g.self, "role", name)
	if err != nil || ready == nil {
		return p, err
	}
	line, err := p.line(ctx, startTimeout)
	if err != nil {
		return nil, err
	}
	return p, p.decode(line, ready)
}

// decode decodes a line that the process has printed.
func (p *process) decode(line []byte, v any) error {
	if err := json.Unmarshal(line, v); err != nil {
		return fmt.Errorf("%s printed %q: %w", p.name, line, err)
	}
	return nil
}

// fresh returns an environment like e for processes that end earlier.
func (e *environment) fresh() *environment {
	f := *e
	f.group = &group{self: e.self, dir: e.dir, place: e.place}
	return &f
}

// countGoroutines returns how many goroutines are in what a Go program prints
// when it gets SIGQUIT.
func countGoroutines(dump []byte) int {
	n := 0
	for line := range bytes.Lines(dump) {
		// Goroutine 0 is a thread's own stack.
		if bytes.HasPrefix(line, []byte("goroutine ")) && !bytes.HasPrefix(line, []byte("goroutine 0 ")) && bytes.HasSuffix(line, []byte("]:\n")) {
			n++
		}
	}
	return n
}

// within returns a group for processes in another place, which g ends.
func (g *group) within(p place) *group {
	return &group{self: g.self, dir: g.dir, place: p, owner: g}
}

// end kills all processes and waits until they are gone.
func (g *group) end() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, p := range g.procs {
		p.kill()
	}
	g.procs = nil
}

// kill ends the process and waits until it is gone. It may be called again.
func (p *process) kill() {
	select {
	case <-p.done:
	default:
		kill(p.cmd)
		<-p.done
	}
	if p.out != nil {
		p.out.Close()
	}
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// line returns the next line that the process prints.
func (p *process) line(ctx context.Context, timeout time.Duration) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { p.out.Close() })
	line, err := p.lines.ReadBytes('\n')
	if !stop() {
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return nil, p.failed(fmt.Errorf("printed nothing within %v", timeout))
		}
		return nil, ctx.Err()
	}
	if err != nil {
		return nil, p.failed(errors.New("ended"))
	}
	return bytes.TrimSpace(line), nil
}

// failed adds the name of the process and the end of its log to err.
func (p *process) failed(err error) error {
	log, _ := os.ReadFile(p.log)
	log = bytes.TrimSpace(log)
	const most = 2000
	if len(log) > most {
		log = append([]byte("… "), log[len(log)-most:]...)
	}
	if len(log) == 0 {
		return fmt.Errorf("%s %w, and its log is empty", p.name, err)
	}
	return fmt.Errorf("%s %w; its log:\n%s", p.name, err, log)
}

// answers waits until a request for url is answered without an error status,
// and fails when the process ends before.
func (p *process) answers(ctx context.Context, url, host string) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	transport := &http.Transport{TLSClientConfig: insecureTLS(), DisableKeepAlives: true, DialContext: p.in.dial}
	defer transport.CloseIdleConnections()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
		if err != nil {
			return err
		}
		req.Host = host
		res, err := transport.RoundTrip(req)
		if err == nil {
			res.Body.Close()
			if res.StatusCode < 400 {
				return nil
			}
		}
		select {
		case <-p.done:
			return p.failed(errors.New("ended"))
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return p.failed(fmt.Errorf("did not answer at %s within %v", url, startTimeout))
		}
	}
}

// freePort returns a TCP port that nobody listened on a moment ago.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// pause waits, unless ctx ends first.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// accepts waits until a TCP connection to addr can be made, and fails when the
// process ends before.
func (p *process) accepts(ctx context.Context, addr string) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-p.done:
			return p.failed(errors.New("ended"))
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return p.failed(fmt.Errorf("did not listen at %s within %v", addr, startTimeout))
		}
	}
}
