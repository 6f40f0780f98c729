package target_test

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/websocktunnel/websocktunnel/internal/wire"
	"github.com/websocktunnel/websocktunnel/target"
)

// These tests are for Linux, where all of 127.0.0.0/8 is this machine's.

// resolver returns one that knows app.test only, under these addresses.
func resolver(t *testing.T, addrs ...string) *net.Resolver {
	t.Helper()
	var wg sync.WaitGroup
	t.Cleanup(wg.Wait)
	return &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		near, far := net.Pipe()
		wg.Go(func() {
			defer far.Close()
			// As over TCP: a length of two bytes before each message.
			var length [2]byte
			if _, err := io.ReadFull(far, length[:]); err != nil {
				return
			}
			b := make([]byte, int(length[0])<<8|int(length[1]))
			if _, err := io.ReadFull(far, b); err != nil {
				return
			}
			var m dnsmessage.Message
			if err := m.Unpack(b); err != nil || len(m.Questions) != 1 {
				t.Errorf("question %v, %v", m, err)
				return
			}
			q := m.Questions[0]
			m.Response, m.Additionals = true, nil
			known := addrs
			if q.Name.String() != "app.test." {
				m.RCode = dnsmessage.RCodeNameError
				known = nil
			}
			for _, s := range known {
				ip := netip.MustParseAddr(s)
				h := dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 1}
				switch {
				case q.Type == dnsmessage.TypeA && ip.Is4():
					m.Answers = append(m.Answers, dnsmessage.Resource{Header: h, Body: &dnsmessage.AResource{A: ip.As4()}})
				case q.Type == dnsmessage.TypeAAAA && ip.Is6():
					m.Answers = append(m.Answers, dnsmessage.Resource{Header: h, Body: &dnsmessage.AAAAResource{AAAA: ip.As16()}})
				}
			}
			out, err := m.Pack()
			if err != nil {
				t.Error(err)
				return
			}
			far.Write(append([]byte{byte(len(out) >> 8), byte(len(out))}, out...))
		})
		return near, nil
	}}
}

// dialled makes d note where it connects to.
func dialled(d *net.Dialer) (addrs func() []string) {
	var mu sync.Mutex
	var got []string
	d.Control = func(_, addr string, _ syscall.RawConn) error {
		mu.Lock()
		defer mu.Unlock()
		got = append(got, addr)
		return nil
	}
	return func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(got)
	}
}

// TestTargetAddresses: a name is tried at all of its addresses, and the target
// sees the request once.
func TestTargetAddresses(t *testing.T) {
	hole := blackhole(t)
	_, holePort, _ := net.SplitHostPort(hole)
	for _, tt := range []struct {
		name   string
		addrs  []string
		listen string
		port   string // else a free one
		tried  int
		fails  string
	}{
		{"first refuses", []string{"127.0.0.2", "127.0.0.1"}, "127.0.0.1", "", 2, ""},
		{"IPv6 refuses", []string{"::1", "127.0.0.1"}, "127.0.0.1", "", 2, ""},
		{"IPv4 refuses", []string{"127.0.0.1", "::1"}, "::1", "", 1, ""}, // IPv6 comes first anyway
		{"first is silent", []string{"127.0.0.1", "127.0.0.2"}, "127.0.0.2", holePort, 2, ""},
		{"all refuse", []string{"127.0.0.2", "::1", "127.0.0.3"}, "127.0.0.1", "", 3, "connection_refused"},
		{"no address", nil, "127.0.0.1", "", 0, "dns_error"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ln, err := net.Listen("tcp", net.JoinHostPort(tt.listen, cmp.Or(tt.port, "0")))
			if err != nil {
				t.Skip("this machine lacks the address: ", err)
			}
			requests := 0
			srv := &httptest.Server{Listener: ln, Config: &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				requests++
				io.WriteString(w, "here")
			})}}
			srv.Start()
			defer srv.Close()
			_, port, _ := net.SplitHostPort(ln.Addr().String())
			d := target.NewDialer()
			d.Resolver = resolver(t, tt.addrs...)
			d.FallbackDelay = 10 * time.Second // a busy machine is not to try two families at once
			if tt.port != "" {
				d.Timeout = 6 * time.Second // which addresses share
			}
			tried := dialled(d)
			var o target.Options
			o.SetDialer(d)
			rec := httptest.NewRecorder()
			proxyTo(t, "http://app.test:"+port, o).ServeHTTP(rec, httptest.NewRequest(http.MethodPost, "/", strings.NewReader("body")))
			switch {
			case tt.fails != "":
				if rec.Code != 502 || rec.Header().Get(wire.HeaderError) != tt.fails || requests != 0 {
					t.Errorf("%d with %v, and %d requests at the target", rec.Code, rec.Header(), requests)
				}
			case rec.Code != 200 || rec.Body.String() != "here" || requests != 1:
				t.Errorf("%d %q, and %d requests at the target", rec.Code, rec.Body, requests)
			}
			if got := tried(); len(got) != tt.tried {
				t.Errorf("tried %q, want %d", got, tt.tried)
			}
		})
	}
}

// TestTargetUnresponsive: a target that does not even take the connection.
func TestTargetUnresponsive(t *testing.T) {
	if got := target.NewDialer().Timeout; got != 10*time.Second {
		t.Errorf("targets have %v to take a connection", got)
	}
	addr := blackhole(t)
	var o target.Options
	d := target.NewDialer()
	d.Timeout = 300 * time.Millisecond
	o.SetDialer(d)
	ways(t, proxyTo(t, addr, o), func(t *testing.T, srv *httptest.Server) {
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			req, err := http.NewRequest(method, srv.URL, strings.NewReader("body"))
			if err != nil {
				t.Fatal(err)
			}
			resp, err := viewer(t).Do(req)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if kind := resp.Header.Get(wire.HeaderError); resp.StatusCode != 502 || kind != "connection_timeout" {
				t.Errorf("%s: %d, %q", method, resp.StatusCode, kind)
			}
		}
	})
}

// blackhole returns an address of 127.0.0.1 that takes no connection and
// refuses none: its queue of connections is full.
func blackhole(t *testing.T) string {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(fd) })
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	sa, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	addr := fmt.Sprintf("127.0.0.1:%d", sa.(*syscall.SockaddrInet4).Port)
	for range 10 {
		c, err := net.DialTimeout("tcp", addr, 200*time.Millisecond)
		if err != nil {
			return addr
		}
		t.Cleanup(func() { c.Close() })
	}
	t.Skip("this system's queues of connections do not get full")
	return ""
}
