package redisdir_test

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/websocktunnel/websocktunnel/internal/tunneltest"
)

// patience bounds every wait.
const patience = 30 * time.Second

// A server is a process that serves Redis's protocol on loopback.
type server struct {
	addr string
	bus  string // another port
	dir  string

	cmd  *exec.Cmd
	said bytes.Buffer
	done chan struct{}
	kill func()
}

// program returns where a program is. CI has to have redis-server. Not every
// distribution has valkey-server.
func program(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	switch {
	case err == nil:
		return path
	case os.Getenv("CI") != "" && name == "redis-server":
		t.Fatalf("%s is missing: ci/deps.sh installs it", name)
	default:
		t.Skipf("*** SKIPPED: %s is missing", name)
	}
	return ""
}

// start starts a server that keeps nothing on disk, on ports that were free a
// moment ago, and others if they are not any more. In arguments %bus stands for
// a second port.
func start(t testing.TB, path string, args ...string) *server {
	t.Helper()
	for range 10 {
		if s := try(t, path, args...); s != nil {
			t.Cleanup(s.kill)
			return s
		}
	}
	t.Fatal("no port is free")
	return nil
}

func try(t testing.TB, path string, args ...string) *server {
	t.Helper()
	s := &server{addr: freeAddr(t), bus: port(freeAddr(t)), dir: t.TempDir(), done: make(chan struct{})}
	var all []string
	if len(args) > 0 && strings.HasSuffix(args[0], ".conf") { // it comes first
		all, args = args[:1:1], args[1:]
	}
	all = append(all, "--port", port(s.addr), "--bind", "127.0.0.1", "--dir", s.dir)
	for _, arg := range args {
		all = append(all, strings.ReplaceAll(arg, "%bus", s.bus))
	}
	s.cmd = exec.Command(path, all...)
	out, in := io.Pipe()
	s.cmd.Stdout, s.cmd.Stderr = in, in
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ready := make(chan struct{})
	var reading sync.WaitGroup
	reading.Go(func() {
		defer close(s.done)
		isReady := false
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			s.said.WriteString(lines.Text() + "\n")
			if !isReady && (strings.Contains(lines.Text(), "Ready to accept connections") || strings.Contains(lines.Text(), "+monitor")) {
				isReady = true
				close(ready)
			}
		}
	})
	exited := make(chan struct{})
	reading.Go(func() {
		defer close(exited)
		_ = s.cmd.Wait()
		in.Close()
	})
	s.kill = sync.OnceFunc(func() {
		_ = s.cmd.Process.Kill()
		reading.Wait()
		if t.Failed() {
			t.Logf("%s:\n%s", s.addr, s.said.String())
		}
	})
	select {
	case <-ready:
		return s
	case <-exited:
		reading.Wait()
		if strings.Contains(s.said.String(), "listening on port") {
			return nil
		}
		t.Fatalf("%s has ended:\n%s", path, s.said.String())
	case <-time.After(patience):
		s.kill()
		t.Fatalf("%s is not ready:\n%s", path, s.said.String())
	}
	return nil
}

func freeAddr(t testing.TB) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

func port(addr string) string {
	_, port, _ := net.SplitHostPort(addr)
	return port
}

// do sends one command to a server and returns the answer.
func (s *server) do(t testing.TB, words ...string) rueidis.RedisResult {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var c rueidis.Client
	poll(t, "a connection", func() bool { // a server whose role changes ends some
		var err error
		c, err = rueidis.NewClient(rueidis.ClientOption{
			InitAddress: []string{s.addr}, ForceSingleClient: true, DisableCache: true, DisableRetry: true,
			PipelineMultiplex: -1, ReadBufferEachConn: 32 << 10, WriteBufferEachConn: 32 << 10,
		})
		return err == nil
	})
	defer c.Close()
	return c.Do(ctx, c.B().Arbitrary(words...).Build())
}

// must sends one command to a server, which must not fail.
func (s *server) must(t testing.TB, words ...string) rueidis.RedisResult {
	t.Helper()
	r := s.do(t, words...)
	if err := r.Error(); err != nil {
		t.Fatalf("%q: %v", words, err)
	}
	return r
}

// poll waits until cond is true.
func poll(t testing.TB, what string, cond func() bool) {
	t.Helper()
	if !tunneltest.Poll(patience, cond) {
		t.Fatalf("never: %s", what)
	}
}
