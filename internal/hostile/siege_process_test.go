//go:build linux

package hostile

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/websocktunnel/websocktunnel/internal/tunneltest"
)

// buildService builds the command websocktunnel. WST_BIN names another one.
func buildService(t *testing.T) string {
	t.Helper()
	if dir := os.Getenv("WST_BIN"); dir != "" {
		return filepath.Join(dir, "websocktunnel")
	}
	path := filepath.Join(t.TempDir(), "websocktunnel")
	if out, err := exec.Command("go", "build", "-o", path, "../../cmd/websocktunnel").CombinedOutput(); err != nil {
		t.Fatalf("building the service: %v\n%s", err, out)
	}
	return path
}

// child is a process of a siege.
type child struct {
	t     *testing.T
	cmd   *exec.Cmd
	ended context.Context
}

func startChild(t *testing.T, cmd *exec.Cmd) *child {
	t.Helper()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended, end := context.WithCancelCause(context.Background())
	go func() { end(errors.New(fmt.Sprint("it ended: ", cmd.Wait()))) }()
	return &child{t, cmd, ended}
}

func (c *child) alive() bool { return c.ended.Err() == nil }

func (c *child) stop() {
	_ = c.cmd.Process.Kill()
	<-c.ended.Done()
}

// sieged is a service with little memory.
type sieged struct {
	*child
	addr   string
	log    tunneltest.Log
	most   atomic.Int64 // RSS
	cgroup string       // empty: there is none
}

// startSieged starts a service, in a control group with siegeMemory where that can be
// had, and otherwise with the limit that it would have there by itself. With WST_SIEGE_ENV
// it has what the machine has, or what that says.
func startSieged(t *testing.T, binary string, env []string) *sieged {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &sieged{addr: ln.Addr().String()}
	ln.Close()
	_, port, _ := net.SplitHostPort(s.addr)
	cmd := exec.Command(binary)
	cmd.Env = append([]string{
		"PATH=" + os.Getenv("PATH"), "URL_PREFIX=http://" + s.addr, "LISTEN_ADDR=127.0.0.1", "PORT=" + port,
		"TASKCLUSTER_PROXY_SECRET_A=" + string(tunneltest.Secret), "ENV=production",
	}, env...)
	if more := os.Getenv("WST_SIEGE_ENV"); more != "" {
		cmd.Env = append(cmd.Env, strings.Fields(more)...)
	} else if s.cgroup = newCgroup(siegeMemory); s.cgroup != "" {
		cmd.Path, cmd.Args = "/bin/sh", []string{"sh", "-c", `echo $$ >"$0/cgroup.procs" && exec "$1"`, s.cgroup, binary}
	} else {
		cmd.Env = append(cmd.Env, "MEMORY_LIMIT="+strconv.Itoa(siegeMemory/5*4>>20)+"MiB")
	}
	cmd.Stdout, cmd.Stderr = &s.log, &s.log
	s.child = startChild(t, cmd)
	go s.watch()
	if !tunneltest.Poll(patience, func() bool {
		c, err := net.Dial("tcp", s.addr)
		if err == nil {
			c.Close()
		}
		return err == nil || !s.alive()
	}) || !s.alive() {
		t.Fatalf("the service does not start: %s", s.tail())
	}
	return s
}

// newCgroup returns the directory of a new control group with that much memory, or "".
func newCgroup(memory int) string {
	name := "websocktunnel-siege-" + strconv.Itoa(os.Getpid())
	for root, file := range map[string]string{"/sys/fs/cgroup/memory": "memory.limit_in_bytes", "/sys/fs/cgroup": "memory.max"} {
		dir := filepath.Join(root, name)
		if os.Mkdir(dir, 0o755) != nil && !isDir(dir) {
			continue
		}
		if os.WriteFile(filepath.Join(dir, file), []byte(strconv.Itoa(memory)), 0) == nil {
			return dir
		}
		_ = os.Remove(dir)
	}
	return ""
}

func isDir(path string) bool {
	i, err := os.Stat(path)
	return err == nil && i.IsDir()
}

// watch notes how much memory the service needs.
func (s *sieged) watch() {
	for s.alive() {
		s.most.Store(max(s.most.Load(), s.rss()))
		select {
		case <-s.ended.Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// rss returns the service's resident memory, or 0 if it has ended.
func (s *sieged) rss() int64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", s.cmd.Process.Pid))
	if f := strings.Fields(string(b)); err == nil && len(f) > 1 {
		n, _ := strconv.ParseInt(f[1], 10, 64)
		return n * int64(os.Getpagesize())
	}
	return 0
}

func (s *sieged) peak() int64 { return s.most.Load() }

func (s *sieged) tail() string {
	text := s.log.String()
	return fmt.Sprint(context.Cause(s.ended), " … ", text[max(len(text)-2000, 0):])
}

func (s *sieged) stop() {
	s.child.stop()
	if text := s.log.String(); strings.Contains(text, "panic") {
		s.t.Errorf("the service has panicked: %s", s.tail())
	}
	if s.cgroup != "" {
		_ = os.Remove(s.cgroup)
	}
}

// besieger is a process that attacks, or takes what one sends.
type besieger struct {
	*child
	out *bufio.Reader
}

// besiege starts this test binary again as an attacker, on the last core.
func besiege(t *testing.T, name, addr string, during time.Duration) *besieger {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	if path, err := exec.LookPath("taskset"); err == nil && name != "sink" {
		cmd = exec.Command(path, "-c", strconv.Itoa(runtime.NumCPU()-1), self)
	}
	cmd.Env = append(os.Environ(), "WST_SIEGE="+name, "WST_SIEGE_ADDR="+addr, "WST_SIEGE_TIME="+during.String(),
		"WST_SIEGE_TOKEN="+tunneltest.Token(t, attackerID))
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { out.Close() })
	var errors bytes.Buffer
	cmd.Stdout, cmd.Stderr = in, &errors
	c := startChild(t, cmd)
	in.Close()
	t.Cleanup(func() {
		if <-c.ended.Done(); t.Failed() && errors.Len() > 0 {
			t.Logf("%s: %.2000s", name, errors.String())
		}
	})
	return &besieger{c, bufio.NewReader(out)}
}

// line returns the next line that it prints.
func (b *besieger) line() string {
	b.t.Helper()
	s, err := b.out.ReadString('\n')
	if err != nil && err != io.EOF {
		b.t.Fatal(err)
	}
	return strings.TrimSpace(s)
}
