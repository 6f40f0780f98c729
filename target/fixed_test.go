package target

import (
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
)

// TestNoProxyToTarget: a proxy of the environment is for the way to the
// service. What net/http makes of the environment does not hold for loopback
// addresses, so that a test with a target here would prove nothing.
func TestNoProxyToTarget(t *testing.T) {
	for _, addr := range []string{"8080", "http://app", "https://app", "h2c://app", "unix:///run/app.sock"} {
		p, err := New(addr, Options{})
		if err != nil {
			t.Fatal(err)
		}
		for name, tr := range map[string]*http.Transport{"plain": p.plain, "upgrades": p.upgrades} {
			if tr.Proxy != nil || tr.OnProxyConnectResponse != nil || tr.DialContext == nil {
				t.Errorf("%s: the transport for %s asks a proxy", addr, name)
			}
			if tr.DialTLSContext != nil || tr.Dial != nil || tr.DialTLS != nil { //nolint:staticcheck // deprecated, and to be nil
				t.Errorf("%s: the transport for %s has a second way to connect", addr, name)
			}
		}
	}
}

// TestURLChoosesNoTarget: a handler in front may have made any URL.
func TestURLChoosesNoTarget(t *testing.T) {
	got := make(chan string, 1)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { got <- r.RequestURI }))
	defer srv.Close()
	bait, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer bait.Close()
	evil := bait.Addr().String()
	h, err := New(srv.URL, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer h.CloseIdleConnections()
	for _, tc := range []struct {
		u    url.URL
		uri  string
		want string
	}{
		{url.URL{Scheme: "http", Host: evil, Path: "/x"}, "/x", "/x"},
		{url.URL{Scheme: "https", Host: evil, Path: "/x"}, "http://" + evil + "/x", "/x"},
		{url.URL{Scheme: "http", Opaque: "//" + evil + "/x"}, "/x", "/"},
		{url.URL{Opaque: "//" + evil + "/x", Path: "/y"}, "/y", "/y"},
		{url.URL{Scheme: "http", Host: evil, User: url.UserPassword("u", "p"), Path: "/x"}, "/x", "/x"},
		{url.URL{Path: "//" + evil + "/x"}, "//" + evil + "/x", "//" + evil + "/x"},
	} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		u := tc.u
		r.URL, r.RequestURI, r.Host = &u, tc.uri, evil
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, r)
		if rec.Code != http.StatusOK {
			t.Errorf("%+v: %d", tc.u, rec.Code)
			continue
		}
		if uri := <-got; uri != tc.want {
			t.Errorf("%+v: the target saw %q, want %q", tc.u, uri, tc.want)
		}
	}
}
