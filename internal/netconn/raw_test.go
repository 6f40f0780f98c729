package netconn

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"syscall"
	"testing"
	"time"
)

// pair returns the two ends of a connection.
func pair(t testing.TB, network string) (a, b net.Conn) {
	t.Helper()
	addr := "127.0.0.1:0"
	if network == "unix" {
		addr = filepath.Join(t.TempDir(), "s")
	}
	l, err := net.Listen(network, addr)
	if err != nil {
		t.Skipf("SKIPPED: %v", err)
	}
	defer l.Close()
	a, err = net.Dial(network, l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	b, err = l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return a, b
}

// TestRawCarriesBytes: both ways at a time, in pieces below and above what is read and
// written at a time, and to the end.
func TestRawCarriesBytes(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		for _, piece := range []int{1000, 32 << 10, 200_000} {
			a, b := pair(t, network)
			a, b = Raw(a), Raw(b)
			sent := make([]byte, 3_000_000)
			_, _ = rand.Read(sent)
			send := func(c net.Conn) error {
				_, err := io.CopyBuffer(struct{ io.Writer }{c}, struct{ io.Reader }{bytes.NewReader(sent)}, make([]byte, piece))
				return errors.Join(err, CloseWrite(c))
			}
			receive := func(c net.Conn) error {
				var got bytes.Buffer
				_, err := io.CopyBuffer(struct{ io.Writer }{&got}, struct{ io.Reader }{c}, make([]byte, piece))
				if err == nil && !bytes.Equal(got.Bytes(), sent) {
					err = errors.New("other bytes have come")
				}
				return err
			}
			results := make(chan error)
			for _, c := range []net.Conn{a, b} {
				go func() { results <- send(c) }()
				go func() { results <- receive(c) }()
			}
			for range 4 {
				if err := <-results; err != nil {
					t.Errorf("%s, %d bytes at a time: %v", network, piece, err)
				}
			}
		}
	}
}

// TestRawFailsAlike: what goes wrong has the same error as without Raw, and as many bytes.
func TestRawFailsAlike(t *testing.T) {
	b := make([]byte, 100)
	write := func(c net.Conn) (int, error) { return c.Write(b) }
	read := func(c net.Conn) (int, error) { return c.Read(b) }
	for name, do := range map[string]func(c, peer net.Conn) (int, error){
		"read at the end":             func(c, peer net.Conn) (int, error) { peer.Close(); return read(c) },
		"read of nothing":             func(c, _ net.Conn) (int, error) { return c.Read(nil) },
		"read after Close":            func(c, _ net.Conn) (int, error) { c.Close(); return read(c) },
		"write after Close":           func(c, _ net.Conn) (int, error) { c.Close(); return write(c) },
		"read after a deadline":       func(c, _ net.Conn) (int, error) { c.SetDeadline(time.Unix(1, 0)); return read(c) },
		"write after a deadline":      func(c, _ net.Conn) (int, error) { c.SetDeadline(time.Unix(1, 0)); return write(c) },
		"write of nothing":            func(c, _ net.Conn) (int, error) { return c.Write(nil) },
		"write after the end of ours": func(c, _ net.Conn) (int, error) { CloseWrite(c); return write(c) },
		"read of a reset connection": func(c, peer net.Conn) (int, error) {
			Reset(peer)
			return read(c)
		},
		"write to a reset connection": func(c, peer net.Conn) (int, error) {
			Reset(peer)
			_, _ = read(c)
			return write(c)
		},
		"Close during a read": func(c, _ net.Conn) (int, error) {
			time.AfterFunc(10*time.Millisecond, func() { c.Close() })
			return read(c)
		},
		"a deadline during a read": func(c, _ net.Conn) (int, error) {
			c.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
			return read(c)
		},
	} {
		a, peer := pair(t, "tcp")
		n, err := do(a, peer)
		a, peer = pair(t, "tcp")
		rawN, rawErr := do(Raw(a), peer)
		if n != rawN || withoutPorts(err) != withoutPorts(rawErr) {
			t.Errorf("%s: %d, %q, but %d, %q without Raw", name, rawN, withoutPorts(rawErr), n, withoutPorts(err))
		}
		for _, is := range []error{io.EOF, net.ErrClosed, os.ErrDeadlineExceeded, syscall.ECONNRESET, syscall.EPIPE} {
			if errors.Is(err, is) != errors.Is(rawErr, is) {
				t.Errorf("%s: %v is %v: %v", name, rawErr, is, !errors.Is(err, is))
			}
		}
	}
}

func TestMain(m *testing.M) {
	AllowRaw(true)
	os.Exit(m.Run())
}

// TestRawIsAskedFor: a program that has not asked for it goes without.
func TestRawIsAskedFor(t *testing.T) {
	AllowRaw(false)
	defer AllowRaw(true)
	tcp, _ := pair(t, "tcp")
	if c := Raw(tcp); c != tcp {
		t.Errorf("it is a %T", c)
	}
}

var port = regexp.MustCompile(`127\.0\.0\.1:\d+`)

func withoutPorts(err error) string {
	if err == nil {
		return ""
	}
	return port.ReplaceAllString(err.Error(), "host")
}

// TestRawWriteThatStops returns how much has left before the deadline.
func TestRawWriteThatStops(t *testing.T) {
	a, b := pair(t, "tcp")
	a = Raw(a)
	piece := make([]byte, 20_000)
	sent := 0
	for {
		a.SetWriteDeadline(time.Now().Add(20 * time.Millisecond))
		n, err := a.Write(piece)
		sent += n
		if err != nil {
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatal(err)
			}
			break
		}
	}
	a.Close()
	if got, err := io.Copy(io.Discard, b); err != nil || got != int64(sent) {
		t.Errorf("%d bytes were sent, %d have come: %v", sent, got, err)
	}
}

// TestRawIsTransparent: what looks for the TCP connection finds it, and only it is
// anything but itself.
func TestRawIsTransparent(t *testing.T) {
	tcp, _ := pair(t, "tcp")
	c := Raw(tcp)
	if (c != tcp) != canRaw {
		t.Errorf("it is a %T", c)
	}
	if Socket(c) != tcp || Bottom(c) != tcp {
		t.Error("the socket is another")
	}
	if source := Source(c); source != c {
		t.Errorf("it is read past it, from %T", source)
	}
	pipe, _ := net.Pipe()
	if c := Raw(pipe); c != pipe {
		t.Errorf("a pipe became a %T", c)
	}
	unix, _ := pair(t, "unix")
	if c := Raw(unix); Socket(c) != nil || Bottom(c) != unix {
		t.Error("a unix socket has become one of TCP")
	}
}

// BenchmarkRead compares reads that find one byte.
func BenchmarkRead(b *testing.B) {
	for _, raw := range []bool{false, true} {
		name := map[bool]string{false: "plain", true: "raw"}[raw]
		b.Run(name, func(b *testing.B) {
			to, from := pair(b, "tcp")
			if raw {
				to, from = Raw(to), Raw(from)
			}
			b.ReportAllocs()
			p := make([]byte, 1)
			for b.Loop() {
				if _, err := from.Write(p); err != nil {
					b.Fatal(err)
				}
				if _, err := to.Read(p); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
