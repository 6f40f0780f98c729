package grpc

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/interop"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/orca"
	"google.golang.org/grpc/reflection"

	"github.com/websocktunnel/websocktunnel/conformance/internal/harness"
	"github.com/websocktunnel/websocktunnel/internal/tunneltest"
	"github.com/websocktunnel/websocktunnel/tunnelclient"
)

const (
	tunnelID       = "grpc-1"
	maxMessageSize = 16 << 20
	callTimeout    = 60 * time.Second // so that nothing hangs; no call should take that long
)

// long says that there is time.
func long() bool { return os.Getenv("WST_LONG") != "" }

// times returns n, or ten times as much if there is time.
func times(n int) int {
	if long() {
		return 10 * n
	}
	return n
}

// A way is how a viewer's calls get to a target.
type way struct {
	name   string
	direct bool   // without a tunnel
	tls    bool   // between viewer and service
	target string // "h2c", "https" or "handler"
}

var ways = []way{
	{name: "direct", direct: true, target: "h2c"},
	{name: "h2c to h2c", target: "h2c"},
	{name: "h2c to https", target: "https"},
	{name: "h2c to handler", target: "handler"},
	{name: "tls to h2c", tls: true, target: "h2c"},
	{name: "tls to https", tls: true, target: "https"},
	{name: "tls to handler", tls: true, target: "handler"},
}

// env is one way that has been opened.
type env struct {
	way
	*probe
	addr   string // where viewers connect
	prefix string // of every path
	conn   *grpc.ClientConn
}

// everyWay runs f on each way, in parallel.
func everyWay(t *testing.T, f func(t *testing.T, e *env)) {
	for _, w := range ways {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			test, _, _ := strings.Cut(t.Name(), "/")
			w.passed(t, test)
			f(t, open(t, w))
		})
	}
}

// open starts everything that w needs.
func open(t *testing.T, w way) *env {
	t.Helper()
	e := &env{way: w, probe: newProbe()}
	opts := []grpc.ServerOption{grpc.MaxRecvMsgSize(maxMessageSize), orca.CallMetricsServerOption(nil)}
	if w.target == "https" {
		opts = append(opts, grpc.Creds(credentials.NewServerTLSFromCert(new(tunneltest.Certificate()))))
	}
	srv := grpc.NewServer(opts...)
	testgrpc.RegisterTestServiceServer(srv, interop.NewTestServer())
	srv.RegisterService(&probeDesc, e.probe)
	reflection.Register(srv)
	t.Cleanup(srv.Stop)

	target := ""
	if w.target != "handler" {
		ln := tunneltest.Listen(t)
		done := make(chan error, 1)
		go func() { done <- srv.Serve(ln) }()
		t.Cleanup(func() {
			srv.Stop()
			if err := <-done; err != nil {
				t.Errorf("the target's Serve returned %v", err)
			}
		})
		target = ln.Addr().String()
	}
	if w.direct {
		e.addr = target
	} else {
		s := harness.Start(t, harness.Options{TLS: w.tls})
		e.addr = s.Addr
		var viewerURL string
		if w.target == "handler" {
			viewerURL = s.Client(tunnelID, srv)
		} else {
			viewerURL = s.Target(tunnelID, w.target+"://"+target, tunnelclient.ProxyOptions{})
		}
		u, err := url.Parse(viewerURL)
		if err != nil {
			t.Fatal(err)
		}
		e.prefix = u.EscapedPath()
	}
	e.conn = e.dial(t)
	return e
}

// dial opens another channel. gRPC knows no URLs, only methods; that every
// method begins with the tunnel's path is the work of two interceptors.
func (e *env) dial(t *testing.T, opts ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	creds := insecure.NewCredentials()
	if e.tls {
		creds = credentials.NewTLS(tunneltest.ClientTLS())
	}
	opts = append(opts,
		grpc.WithTransportCredentials(creds),
		grpc.WithUnaryInterceptor(func(ctx context.Context, method string, in, out any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
			return invoke(ctx, e.prefix+method, in, out, cc, opts...)
		}),
		grpc.WithStreamInterceptor(func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, streamer grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
			return streamer(ctx, desc, cc, e.prefix+method, opts...)
		}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessageSize)),
	)
	conn, err := grpc.NewClient("passthrough:///"+e.addr, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// roundTripper returns what speaks HTTP/2 to viewers' address without gRPC.
func (e *env) roundTripper(t *testing.T) http.RoundTripper {
	tr := &http2.Transport{DisableCompression: true, TLSClientConfig: tunneltest.ClientTLS()}
	if !e.tls {
		tr.AllowHTTP = true
		tr.DialTLSContext = func(ctx context.Context, network, addr string, _ *tls.Config) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, addr)
		}
	}
	t.Cleanup(tr.CloseIdleConnections)
	return tr
}

// url returns the URL of a method.
func (e *env) url(method string) string {
	if e.tls {
		return "https://" + e.addr + e.prefix + method
	}
	return "http://" + e.addr + e.prefix + method
}

func callContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), callTimeout)
	t.Cleanup(cancel)
	return ctx
}
