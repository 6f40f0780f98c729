package e2e

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/websocktunnel/websocktunnel/internal/tunneltest"
	"github.com/websocktunnel/websocktunnel/server"
	"github.com/websocktunnel/websocktunnel/tunnelclient"
)

// proxyTarget is a target that passes requests on to next, with change made to
// each.
func proxyTarget(t *testing.T, next string, change func(h http.Header)) (addr string, passed *atomic.Int32) {
	t.Helper()
	passed = new(atomic.Int32)
	tr := &http.Transport{DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, next)
	}}
	srv := httptest.NewServer(&httputil.ReverseProxy{Transport: tr, Rewrite: func(pr *httputil.ProxyRequest) {
		passed.Add(1)
		pr.Out.URL.Scheme, pr.Out.URL.Host = "http", "next"
		change(pr.Out.Header)
	}})
	t.Cleanup(func() { srv.Close(); tr.CloseIdleConnections() })
	return srv.Listener.Addr().String(), passed
}

// TestLoop: the target of a tunnel is the service itself, or leads back to it. Each
// request took all slots of the tunnel.
func TestLoop(t *testing.T) {
	t.Parallel()
	s := tunneltest.NewService(t, server.Config{ViewerDomain: "tunnels.test"})
	s.Proxy("straight", s.Addr, tunnelclient.ProxyOptions{})
	s.Proxy("kept", s.Addr, tunnelclient.ProxyOptions{KeepPrefix: true})
	for id, change := range map[string]func(http.Header){
		"stripper": func(h http.Header) { h.Del("Via") },
		"firsts": func(h http.Header) {
			for k := range h {
				h[k] = h[k][:1]
			}
		},
		"lasts": func(h http.Header) {
			for k, v := range h {
				h[k] = v[len(v)-1:]
			}
		},
		"joins": func(h http.Header) {
			for k, v := range h {
				h[k] = []string{strings.Join(v, ",")}
			}
		},
		"adds": func(h http.Header) { h.Add("CDN-Loop", "example; id=1") },
	} {
		addr, _ := proxyTarget(t, s.Addr, change)
		s.Proxy(id, addr, tunnelclient.ProxyOptions{KeepPrefix: true})
	}

	v := viewerAt(t, s, nil)
	h2 := viewerAt(t, s, nil)
	h2.Transport.(*http.Transport).Protocols = new(http.Protocols)
	h2.Transport.(*http.Transport).Protocols.SetUnencryptedHTTP2(true)
	for _, base := range []string{
		"http://straight.tunnels.test", s.URL + "/straight/straight/straight", "http://kept.tunnels.test", s.URL + "/kept",
		s.URL + "/stripper", "http://stripper.tunnels.test", "http://firsts.tunnels.test", "http://lasts.tunnels.test", "http://joins.tunnels.test", "http://adds.tunnels.test",
	} {
		for _, forged := range [][]string{nil, {`"`}, {`a"b`, `"`}, {""}, {"other", "other; q=\"x"}, {strings.Repeat("x, ", 500)}} {
			for _, client := range []*http.Client{v, h2} {
				r := request(t, "GET", base+"/x", nil)
				r.Header["Cdn-Loop"] = forged
				resp := roundTrip(t, client, r)
				body := tunneltest.ReadAll(t, resp)
				if resp.StatusCode != http.StatusLoopDetected || !strings.HasPrefix(resp.Header.Get("Proxy-Status"), `websocktunnel; error=proxy_loop_detected; details="WT-LOOP`) || !strings.Contains(body, "round") {
					t.Errorf("%s, %s with %q: %s %q %q", resp.Proto, base, forged, resp.Status, resp.Header, body)
				}
			}
			r := request(t, "GET", base+"/x", nil)
			r.Header["Cdn-Loop"] = forged
			r.Header.Set("Connection", "Upgrade")
			r.Header.Set("Upgrade", "websocket")
			resp := roundTrip(t, v, r)
			resp.Body.Close()
			if resp.StatusCode != http.StatusLoopDetected {
				t.Errorf("upgrade at %s with %q: %s", base, forged, resp.Status)
			}
		}
	}
}

// Two services may stand in a chain, but the chain may not come back.
func TestLoopThroughAnotherService(t *testing.T) {
	t.Parallel()
	first := tunneltest.NewService(t, server.Config{})
	second := tunneltest.NewService(t, server.Config{})
	first.Proxy("a", second.Addr, tunnelclient.ProxyOptions{})
	target := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.URL.Path) }))
	defer target.Close()
	second.Proxy("b", target.URL, tunnelclient.ProxyOptions{})
	second.Proxy("back", first.Addr, tunnelclient.ProxyOptions{})
	v := tunneltest.NewViewer(t)
	for path, want := range map[string]string{"/a/b/x": "200 /x", "/a/back/a/b/x": "508", "/a/back/c": "508"} {
		resp := roundTrip(t, v, request(t, "GET", first.URL+path, nil))
		if got := resp.Status[:3] + " " + tunneltest.ReadAll(t, resp); !strings.HasPrefix(got, want) {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
}

// A viewer who knows the service's name, which a target can tell, fails its own
// requests with it and nobody else's. What it sends under the header beside that
// arrives.
func TestForgedLoop(t *testing.T) {
	t.Parallel()
	s := tunneltest.NewService(t, server.Config{})
	target := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, strings.Join(r.Header.Values("CDN-Loop"), "|"))
	}))
	defer target.Close()
	s.Proxy("id", target.URL, tunnelclient.ProxyOptions{})
	v := tunneltest.NewViewer(t)
	ask := func(values ...string) (int, string) {
		r := request(t, "GET", s.URL+"/id/", nil)
		r.Header["Cdn-Loop"] = values
		resp := roundTrip(t, v, r)
		return resp.StatusCode, tunneltest.ReadAll(t, resp)
	}
	status, name := ask()
	if status != 200 || !strings.HasPrefix(name, "websocktunnel-") || strings.ContainsAny(name, ", |;") {
		t.Fatalf("%d, CDN-Loop %q", status, name)
	}
	for range 3 {
		if status, _ := ask("x, " + name + "; q=1"); status != http.StatusLoopDetected {
			t.Errorf("with its own name: %d", status)
		}
		for _, others := range [][]string{{"websocktunnel-x"}, {"a; b=1", "c"}, {`"`}, {name[:len(name)-1]}} {
			if status, got := ask(others...); status != 200 || got != strings.Join(append(others, name), ", ") {
				t.Errorf("with %q: %d, CDN-Loop %q", others, status, got)
			}
		}
	}
}
