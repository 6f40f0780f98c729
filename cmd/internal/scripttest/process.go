package scripttest

import (
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// timeout is how long scripts wait for what should come at once.
const timeout = 60 * time.Second

// process is a program that start has started.
type process struct {
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	pipe   *pipe    // with start -unread
	status chan int // the exit status, once
}

// processes is the key of a script's processes, by name.
type processes struct{}

func running(ts *testscript.TestScript) map[string]*process {
	return ts.Value(processes{}).(map[string]*process)
}

func named(ts *testscript.TestScript, name string) *process {
	p := running(ts)[name]
	if p == nil {
		ts.Fatalf("nothing called %q has been started", name)
	}
	return p
}

// passed are the environment variables that programs get from the script.
var passed = []string{
	"PATH", "HOME", "TMPDIR", "WORK",
	"CONFIG_FILE", "URL_PREFIX", "HOSTNAME", "PORT", "LISTEN_ADDR", "ENV", "LOG_LEVEL", "LOG_FORMAT", "SYSLOG_ADDR", "AUDIENCE", "TRUSTED_PROXIES", "VIEWER_DOMAIN",
	"TASKCLUSTER_PROXY_SECRET_A", "TASKCLUSTER_PROXY_SECRET_A_FILE",
	"TASKCLUSTER_PROXY_SECRET_B", "TASKCLUSTER_PROXY_SECRET_B_FILE",
	"TLS_KEY", "TLS_KEY_FILE", "TLS_CERTIFICATE", "TLS_CERTIFICATE_FILE",
	"DRAIN_TIMEOUT", "TOKEN_EXPIRY", "ALLOW_SHORT_SECRETS", "WST_TOKEN",
	"CLUSTER_REDIS", "CLUSTER_REDIS_PASSWORD_FILE", "CLUSTER_SECRET_A", "CLUSTER_SECRET_A_FILE", "CLUSTER_NODE", "CLUSTER_LISTEN", "CLUSTER_ADVERTISE",
	"HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "GODEBUG",
}

func cmdStart(ts *testscript.TestScript, neg bool, args []string) {
	const usage = "start [-listen VAR] [-unread out|err] NAME PROGRAM ARGS…"
	listenVar, unread := "", ""
	if len(args) > 1 && args[0] == "-listen" {
		listenVar, args = args[1], args[2:]
	}
	if len(args) > 1 && args[0] == "-unread" {
		unread, args = args[1], args[2:]
	}
	must(ts, len(args) >= 2, neg, usage)
	name, argv := args[0], args[1:]
	var extra []*os.File
	if listenVar != "" {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		ts.Check(err)
		f, err := ln.(*net.TCPListener).File()
		ts.Check(err)
		ts.Setenv(listenVar, ln.Addr().String())
		ts.Check(ln.Close())
		defer f.Close()
		extra = []*os.File{f}
		// LISTEN_PID has to be the program's own: a shell that becomes it knows.
		argv = append([]string{"sh", "-c", `LISTEN_PID=$$ LISTEN_FDS=1 exec "$0" "$@"`}, argv...)
	}
	path, err := exec.LookPath(argv[0])
	ts.Check(err)
	cmd := exec.Command(path, argv[1:]...)
	cmd.Dir = ts.MkAbs(".")
	cmd.ExtraFiles = extra
	for _, v := range passed {
		if value := ts.Getenv(v); value != "" {
			cmd.Env = append(cmd.Env, v+"="+value)
		}
	}
	stdin, err := cmd.StdinPipe()
	ts.Check(err)
	stdout, stderr := create(ts, name+".out"), create(ts, name+".err")
	cmd.Stdout, cmd.Stderr = stdout, stderr
	p := &process{cmd: cmd, stdin: stdin, status: make(chan int, 1)}
	switch unread {
	case "":
	case "out":
		p.pipe = newPipe(ts, stdout)
		cmd.Stdout = p.pipe.w
	case "err":
		p.pipe = newPipe(ts, stderr)
		cmd.Stderr = p.pipe.w
	default:
		ts.Fatalf("usage: %s", usage)
	}
	ts.Check(cmd.Start())
	if p.pipe != nil {
		ts.Check(p.pipe.w.Close())
	}
	running(ts)[name] = p
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait()
		p.status <- cmd.ProcessState.ExitCode()
	}()
	ts.Defer(func() {
		_ = cmd.Process.Kill()
		<-ended
		for _, kind := range []string{".out", ".err"} {
			if text, err := os.ReadFile(filepath.Join(cmd.Dir, name+kind)); err == nil && len(text) > 0 {
				ts.Logf("[%s%s]\n%s", name, kind, text)
			}
		}
	})
}

func create(ts *testscript.TestScript, name string) *os.File {
	f, err := os.Create(ts.MkAbs(name))
	ts.Check(err)
	ts.Defer(func() { f.Close() })
	return f
}

func cmdSend(ts *testscript.TestScript, neg bool, args []string) {
	must(ts, len(args) == 2 || len(args) == 3 && args[1] == "-file", neg, "send NAME [-file] TEXT")
	text := args[len(args)-1] + "\n"
	if len(args) == 3 {
		text = ts.ReadFile(args[2])
	}
	_, err := io.WriteString(named(ts, args[0]).stdin, text)
	ts.Check(err)
}

func cmdEOF(ts *testscript.TestScript, neg bool, args []string) {
	must(ts, len(args) == 1, neg, "eof NAME")
	ts.Check(named(ts, args[0]).stdin.Close())
}

func cmdSignal(ts *testscript.TestScript, neg bool, args []string) {
	const usage = "signal NAME INT|TERM|HUP|QUIT|KILL…"
	must(ts, len(args) >= 2, neg, usage)
	for _, name := range args[1:] {
		sig, ok := signals[name]
		must(ts, ok, neg, usage)
		ts.Check(named(ts, args[0]).cmd.Process.Signal(sig))
	}
}

var signals = map[string]os.Signal{
	"INT": os.Interrupt, "TERM": syscall.SIGTERM, "HUP": syscall.SIGHUP, "QUIT": syscall.SIGQUIT, "KILL": syscall.SIGKILL,
}

// cmdInsist sends a signal again and again until the program has ended.
func cmdInsist(ts *testscript.TestScript, neg bool, args []string) {
	const usage = "insist NAME INT|TERM STATUS"
	must(ts, len(args) == 3, neg, usage)
	sig, ok := signals[args[1]]
	must(ts, ok, neg, usage)
	p := named(ts, args[0])
	done := make(chan struct{})
	var sending sync.WaitGroup
	sending.Go(func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				_ = p.cmd.Process.Signal(sig) // it may have ended just now
			}
		}
	})
	defer sending.Wait()
	defer close(done)
	cmdExited(ts, false, []string{args[0], args[2]})
}

func cmdExited(ts *testscript.TestScript, neg bool, args []string) {
	must(ts, len(args) == 2, neg, "exited NAME STATUS")
	p := named(ts, args[0])
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case got := <-p.status:
		if strconv.Itoa(got) != args[1] {
			ts.Fatalf("%s ended with exit status %d, want %s", args[0], got, args[1])
		}
	case <-timer.C:
		ts.Fatalf("%s did not end within %v", args[0], timeout)
	}
}

func cmdExits(ts *testscript.TestScript, neg bool, args []string) {
	must(ts, len(args) >= 2, neg, "exits STATUS PROGRAM ARGS…")
	got := 0
	err := ts.Exec(args[1], args[2:]...)
	var ee *exec.ExitError
	switch {
	case errors.As(err, &ee):
		got = ee.ExitCode()
	case err != nil:
		ts.Fatalf("%v", err)
	}
	if strconv.Itoa(got) != args[0] {
		ts.Fatalf("exit status %d, want %s", got, args[0])
	}
}

func cmdWaitfor(ts *testscript.TestScript, neg bool, args []string) {
	must(ts, len(args) == 2 || len(args) == 3, neg, "waitfor FILE REGEXP [VAR]")
	re, err := regexp.Compile("(?m)" + args[1])
	ts.Check(err)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(timeout); ; <-tick.C {
		text, err := os.ReadFile(ts.MkAbs(args[0]))
		if m := re.FindSubmatch(text); m != nil {
			if len(args) == 3 {
				ts.Setenv(args[2], string(m[1]))
			}
			return
		}
		if time.Now().After(end) {
			ts.Fatalf("no line of %s matches %s within %v (%v):\n%s", args[0], args[1], timeout, err, text)
		}
	}
}
