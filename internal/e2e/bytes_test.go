package e2e

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/websocktunnel/websocktunnel/internal/tunneltest"
	"github.com/websocktunnel/websocktunnel/server"
	"github.com/websocktunnel/websocktunnel/tunnelclient"
)

// TestPathBytes: the target gets the path and query that the viewer sent, byte
// for byte: every path of RFC 3986, and in a query whatever a line can hold.
// WST_LONG has more of them.
func TestPathBytes(t *testing.T) {
	n, seed := 1000, uint64(1)
	if os.Getenv("WST_LONG") != "" {
		n, seed = 100_000, rand.Uint64()
	}
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	const unreserved = "abcxyzABCXYZ0189-._~"
	pick := func(s string) string { i := rnd.IntN(len(s)); return s[i : i+1] }
	escape := func() string { return "%" + pick("0123456789abcdefABCDEF") + pick("0123456789abcdefABCDEF") }
	path := func() string {
		var b strings.Builder
		for range rnd.IntN(20) {
			switch rnd.IntN(5) {
			case 0:
				b.WriteString(pick("/."))
			case 1:
				b.WriteString(escape())
			case 2:
				b.WriteString(pick("!$&'()*+,;=:@"))
			default:
				b.WriteString(pick(unreserved))
			}
		}
		return "/" + b.String()
	}
	query := func() string {
		if rnd.IntN(4) == 0 {
			return ""
		}
		var b strings.Builder
		for range rnd.IntN(20) {
			switch rnd.IntN(4) {
			case 0:
				b.WriteString(pick("%;&=?/+#[]{}|\\^`\"<>"))
			case 1:
				b.WriteString(escape())
			case 2:
				b.WriteByte(byte(0x80 + rnd.IntN(0x80)))
			default:
				b.WriteString(pick(unreserved))
			}
		}
		return "?" + b.String()
	}

	s := tunneltest.NewService(t, server.Config{})
	target := newStrictTarget()
	s.Proxy("id", tunneltest.ServeConns(t, target.serveHTTP1).Addr().String(), tunnelclient.ProxyOptions{})
	c := dialRaw(t, s.Addr)
	br := bufio.NewReader(c)
	for range n {
		want := path() + query()
		c.SetDeadline(time.Now().Add(20 * time.Second))
		fmt.Fprintf(c, "GET /id%s HTTP/1.1\r\nHost: h\r\n\r\n", want)
		resp, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatalf("%q: %v", want, err)
		}
		io.Copy(io.Discard, resp.Body)
		if resp.StatusCode != http.StatusOK {
			t.Fatalf("%q: %d", want, resp.StatusCode)
		}
		if got := <-target.requests; got != saw("GET", want, "") {
			t.Fatalf("the target saw %q, want %q", got, want)
		}
	}
	target.report(t)
}
