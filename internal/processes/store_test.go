//go:build linux

package processes

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// store is a running redis-server, which keeps nothing on disk.
type store struct {
	*process
	t    *testing.T
	addr string

	counting sync.Once
	sent     atomic.Int64 // see operations
}

// startStore starts one at addr. CI has to have redis-server.
func startStore(t *testing.T, addr string, args ...string) *store {
	t.Helper()
	return startRedis(t, addr, "Ready to accept connections", append([]string{"--save", "", "--appendonly", "no"}, args...)...)
}

// startRedis starts a redis-server, and waits until it says that it is ready.
func startRedis(t *testing.T, addr, ready string, args ...string) *store {
	t.Helper()
	path, err := exec.LookPath("redis-server")
	switch {
	case err != nil && os.Getenv("CI") != "":
		t.Fatal(err)
	case err != nil:
		t.Skipf("*** SKIPPED: %v", err)
	}
	ip, port, _ := net.SplitHostPort(addr)
	s := &store{t: t, addr: addr}
	s.process = start(t, here, 0, nil, path, append(args, "--bind", ip, "--port", port, "--dir", t.TempDir())...)
	s.says(0, ready, patience)
	return s
}

// again starts the store anew, with nothing in it.
func (s *store) again() { s.process = startStore(s.t, s.addr).process }

// do runs a command that has no argument with a space, and returns the answer,
// which is a line or a string.
func (s *store) do(command string) string {
	s.t.Helper()
	answer, err := s.try(command)
	if err != nil {
		s.t.Fatalf("%s: %v", command, err)
	}
	return answer
}

func (s *store) try(command string) (string, error) {
	c, err := net.DialTimeout("tcp", s.addr, patience)
	if err != nil {
		return "", err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := fmt.Fprintf(c, "%s\r\n", command); err != nil {
		return "", err
	}
	r := bufio.NewReader(c)
	line, err := r.ReadString('\n')
	if err != nil {
		return "", err
	}
	line = strings.TrimSpace(line)
	if line[0] != '$' {
		return line, nil
	}
	n, err := strconv.Atoi(line[1:])
	if err != nil {
		return "", err
	}
	b := make([]byte, n)
	_, err = io.ReadFull(r, b)
	return string(b), err
}
