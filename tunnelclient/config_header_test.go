package tunnelclient_test

import (
	"net/http"
	"slices"
	"testing"

	"github.com/websocktunnel/websocktunnel/internal/wire"
	"github.com/websocktunnel/websocktunnel/tunnelclient"
)

// Config.Header is in the handshake request, beside what has to be there.
func TestHandshakeHeader(t *testing.T) {
	s := newFakeService(t)
	got := make(chan http.Header, 1)
	s.answer = func(w http.ResponseWriter, r *http.Request) {
		got <- r.Header
		w.WriteHeader(http.StatusBadRequest)
	}
	cfg := s.config(tunnelclient.StaticToken("t"))
	cfg.Header = http.Header{"cf-access-client-id": {" a "}, "Cookie": {"b=1", "c=2"}}
	c, err := tunnelclient.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Header.Set("X-Late", "1")
	if err := c.Serve(t.Context(), http.NotFoundHandler()); err == nil {
		t.Error("no error after a 400")
	}
	h := <-got
	for name, want := range map[string][]string{
		"Cf-Access-Client-Id": {"a"}, "Cookie": {"b=1", "c=2"}, "Authorization": {"Bearer t"}, wire.HeaderID: {testID}, "Upgrade": {"websocket"}, "X-Late": nil,
	} {
		if !slices.Equal(h[name], want) {
			t.Errorf("%s: %q, want %q", name, h[name], want)
		}
	}
}
