//go:build unix

package server

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/websocktunnel/websocktunnel/cluster"
)

// TestHopSlowViewer: a viewer that takes little at a time, and waits less than the stall
// timeout between, gets its answer by another node as by the one that has the tunnel.
func TestHopSlowViewer(t *testing.T) {
	t.Parallel()
	const stall = 3 * time.Second
	const size = 16 << 20
	nodes := newNodes(t, 2, new(cluster.Memory), Config{StallTimeout: stall})
	nodes[0].waitActive(nodes[0].connect("here", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "length") {
			w.Header().Set("Content-Length", fmt.Sprint(size))
		}
		w.Write(make([]byte, size))
	})))
	nodes[0].waitAnnounced()
	for i, s := range nodes {
		for _, path := range []string{"/here/", "/here/length"} {
			t.Run(fmt.Sprint("download by node ", i, path), func(t *testing.T) {
				t.Parallel()
				conn := dialSmall(t, s)
				io.WriteString(conn, "GET "+path+" HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
				resp, err := http.ReadResponse(bufio.NewReaderSize(conn, 16), nil)
				if err != nil {
					t.Fatal(err)
				}
				if n, err := slowly(resp.Body, stall); n != size || err != nil {
					t.Errorf("%d bytes, %v", n, err)
				}
			})
		}
	}
}

// slowly reads r in small pieces, with a pause before each that is shorter than stall.
func slowly(r io.Reader, stall time.Duration) (n int, err error) {
	b := make([]byte, 16<<10)
	for n < 192<<10 {
		<-time.After(stall / 5)
		k, err := io.ReadFull(r, b)
		if n += k; err != nil {
			return n, err
		}
	}
	k, err := io.Copy(io.Discard, r)
	return n + int(k), err
}

// dialSmall connects to s, with a small buffer for what it has not read.
func dialSmall(t *testing.T, s *testService) net.Conn {
	t.Helper()
	d := net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) { _ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4<<10) })
	}}
	conn, err := d.DialContext(context.Background(), "tcp", s.addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(60 * time.Second))
	return conn
}

// TestHopStalled: who takes nothing at all is cut by another node as by the one that has the
// tunnel, and the records say the same.
func TestHopStalled(t *testing.T) {
	t.Parallel()
	records := make(chan *RequestInfo, 4)
	nodes := newNodes(t, 2, new(cluster.Memory), Config{StallTimeout: time.Second, ResponseHeaderTimeout: 3 * time.Second, RequestDone: func(i *RequestInfo) { records <- i }})
	gone := make(chan struct{}, 4)
	nodes[0].waitActive(nodes[0].connect("here", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() { gone <- struct{}{} }()
		switch r.URL.Path {
		case "/flood":
			for err := error(nil); err == nil; {
				_, err = w.Write(make([]byte, 64<<10))
			}
		case "/upgrade":
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				return
			}
			defer conn.Close()
			io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
			<-r.Context().Done()
		case "/silent":
			io.Copy(io.Discard, r.Body)
			<-r.Context().Done()
		default:
			<-r.Context().Done()
		}
	})))
	nodes[0].waitAnnounced()
	for _, tt := range []struct{ name, path, request string }{
		{"upload", "/here/", "POST /here/ HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000000\r\n\r\n"},
		{"upgrade", "/here/upgrade", "GET /here/upgrade HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"},
		{"no answer", "/here/silent", "POST /here/silent HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx"},
		{"download", "/here/flood", ""},
	} {
		var got [2]string
		for i, s := range nodes {
			if tt.request == "" {
				if v := dialReadingViewer(t, s); v != nil {
					go io.Copy(io.Discard, v.Conn)
					v.request("GET", tt.path, true)
				}
			} else {
				conn, err := net.Dial("tcp", s.addr())
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				conn.SetDeadline(time.Now().Add(20 * time.Second))
				io.WriteString(conn, tt.request)
				go func() {
					for err := error(nil); err == nil && tt.name != "no answer"; {
						_, err = conn.Write(make([]byte, 64<<10))
					}
				}()
				go io.Copy(io.Discard, conn)
			}
			record := <-records
			<-gone
			got[i] = fmt.Sprint(record.Status, record.FailedHop, record.ErrorCode, record.Error)
		}
		if got[0] != got[1] {
			t.Errorf("%s: here %s, elsewhere %s", tt.name, got[0], got[1])
		}
		t.Log(tt.name, got[0])
	}
}
