package tunnelclient_test

import (
	"net/http"
	"regexp"
	"strconv"
	"testing"
	"testing/synctest"

	"github.com/websocktunnel/websocktunnel/internal/wire"
	"github.com/websocktunnel/websocktunnel/tunnelclient"
)

// Each registration names the Client and has a higher number than those before it, those
// that were refused and those of an earlier Serve included. Another Client has another
// name.
func TestInstance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeService(t)
		names, attempts := make(chan []string, 10), make(chan []string, 10)
		s.answer = func(w http.ResponseWriter, r *http.Request) {
			names <- r.Header[wire.HeaderInstance]
			attempts <- r.Header[wire.HeaderAttempt]
			if len(attempts) < 3 {
				w.WriteHeader(http.StatusBadGateway)
				return
			}
			w.WriteHeader(http.StatusBadRequest) // final
		}
		form := regexp.MustCompile(`^[A-Za-z0-9_-]{22}$`)
		next := func(want int) string {
			t.Helper()
			name, attempt := <-names, <-attempts
			if len(name) != 1 || !form.MatchString(name[0]) || len(attempt) != 1 || attempt[0] != strconv.Itoa(want) {
				t.Fatalf("instance %q, attempt %q, want one of 22 characters and %d", name, attempt, want)
			}
			return name[0]
		}
		run := func(c *tunnelclient.Client) {
			t.Helper()
			if c.Serve(t.Context(), http.NotFoundHandler()) == nil {
				t.Error("no error after a 400")
			}
		}
		cfg := s.config(tunnelclient.StaticToken("t"))
		c, err := tunnelclient.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		run(c)
		name := next(1)
		for n := 2; n <= 3; n++ {
			if again := next(n); again != name {
				t.Errorf("attempt %d has the name %q instead of %q", n, again, name)
			}
		}
		run(c)
		for n := 4; n <= 6; n++ {
			if again := next(n); again != name {
				t.Errorf("attempt %d, of a later Serve, has the name %q instead of %q", n, again, name)
			}
		}
		other, err := tunnelclient.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		run(other)
		if next(1) == name {
			t.Error("two Clients have the same name")
		}
	})
}
