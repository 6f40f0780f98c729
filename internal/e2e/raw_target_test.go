package e2e

import (
	"bufio"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/websocktunnel/websocktunnel/internal/tunneltest"
)

// rawTarget is a server that records requests and answers with given bytes.
type rawTarget struct {
	ln      net.Listener
	answers chan string // as HTTP/1.1
	seen    chan message
	done    chan struct{} // the test is over
}

// answer waits for what the target is to answer with.
func (r *rawTarget) answer() (string, bool) {
	select {
	case a := <-r.answers:
		return a, true
	case <-r.done:
		return "", false
	}
}

// newRawTarget runs a target that speaks as serve does: serveHTTP1 or
// serveHTTP2.
func newRawTarget(t *testing.T, serve func(*rawTarget, *testing.T, net.Conn)) *rawTarget {
	t.Helper()
	r := &rawTarget{answers: make(chan string, 1), seen: make(chan message, 1), done: make(chan struct{})}
	r.ln = tunneltest.ServeConns(t, func(c net.Conn) { serve(r, t, c) })
	t.Cleanup(func() { close(r.done) })
	return r
}

func (r *rawTarget) addr() string { return r.ln.Addr().String() }

// serveHTTP1 answers requests of a connection, until one whose answer ends
// with it.
func (r *rawTarget) serveHTTP1(t *testing.T, c net.Conn) {
	br := bufio.NewReader(c)
	for {
		m, err := readMessage(br, "")
		if err != nil {
			if !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
				t.Errorf("the target cannot read the request: %v", err)
			}
			return
		}
		r.seen <- m
		answer, ok := r.answer()
		if !ok {
			return
		}
		io.WriteString(c, answer)
		if strings.Contains(answer, "\r\nConnection: close") {
			return
		}
	}
}

// observe returns what the target saw, and what the viewer got, of a request
// that ask makes and the target answers with answer.
func (r *rawTarget) observe(t *testing.T, answer string, ask func() []message) (message, []message) {
	t.Helper()
	r.answers <- answer
	defer func() { // ask may have failed
		select {
		case <-r.answers:
		case <-r.seen:
		default:
		}
	}()
	got := ask()
	select {
	case seen := <-r.seen:
		return seen, got
	default:
		t.Fatalf("the target saw no request; the viewer got %q", got)
		return message{}, nil
	}
}

// askHTTP1 sends request, as it stands, to addr and returns the answers.
func askHTTP1(t *testing.T, addr, request string) []message {
	t.Helper()
	c := dialRaw(t, addr)
	defer c.Close()
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	method, _, _ := strings.Cut(request, " ")
	all, err := readAnswer(bufio.NewReaderSize(c, 1<<16), method)
	if err != nil {
		t.Fatalf("the viewer cannot read the answer: %v", err)
	}
	return all
}

func dialRaw(t *testing.T, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(20 * time.Second))
	return c
}
