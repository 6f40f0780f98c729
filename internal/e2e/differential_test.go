package e2e

import (
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/websocktunnel/websocktunnel/internal/tunneltest"
	"github.com/websocktunnel/websocktunnel/server"
	"github.com/websocktunnel/websocktunnel/tunnelclient"
)

// A way is by which versions of HTTP an exchange goes through the tunnel.
type way struct {
	name           string // column of the table
	viewer, target int
}

var ways = []way{
	{"HTTP/1.1 at both ends", 1, 1},
	{"HTTP/2 viewer", 2, 1},
	{"HTTP/2 target", 1, 2},
	{"HTTP/2 at both ends", 2, 2},
}

// serviceAdds are the headers that the contract says a target gets.
var serviceAdds = []string{
	"forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-forwarded-prefix",
	"x-websocktunnel-original-path", "cdn-loop", "x-websocktunnel-request-id", "x-request-id",
}

// TestDifferential makes every exchange directly, over HTTP/1.1, and through a
// tunnel in every way.
func TestDifferential(t *testing.T) {
	s := tunneltest.NewService(t, server.Config{})
	targets := make(map[int]*rawTarget)
	for version, serve := range map[int]func(*rawTarget, *testing.T, net.Conn){1: (*rawTarget).serveHTTP1, 2: (*rawTarget).serveHTTP2} {
		targets[version] = newRawTarget(t, serve)
	}
	s.Proxy("one", "http://"+targets[1].addr(), tunnelclient.ProxyOptions{})
	s.Proxy("two", "h2c://"+targets[2].addr(), tunnelclient.ProxyOptions{})

	var rows strings.Builder
	run := 0
	for _, x := range exchanges {
		if !strings.Contains(x.request, "\r\nHost:") {
			x.request = strings.Replace(x.request, "\r\n", "\r\nHost: viewer.example\r\n", 1)
		}
		if x.answer == "" {
			x.answer = plain200
		}
		results := make(map[way]string)
		t.Run(x.name, func(t *testing.T) {
			run++
			directTarget, directViewer := targets[1].observe(t, x.answer, func() []message {
				return askHTTP1(t, targets[1].addr(), x.request)
			})
			for _, w := range ways {
				if x.http1Viewer && w.viewer == 2 || x.http1Target && w.target == 2 {
					continue
				}
				ok := t.Run(w.name, func(t *testing.T) {
					ask, id := askHTTP1, "one"
					if w.viewer == 2 {
						ask = askHTTP2
					}
					if w.target == 2 {
						id = "two"
					}
					method, rest, _ := strings.Cut(x.request, " ")
					tunnelTarget, tunnelViewer := targets[w.target].observe(t, x.answer, func() []message {
						return ask(t, s.Addr, method+" /"+id+rest)
					})
					tunnelTarget.drop(serviceAdds...)
					check(t, "the target", w.target, false, directTarget, tunnelTarget, x.atTarget)
					if len(directViewer) != len(tunnelViewer) {
						t.Fatalf("the viewer got %d messages, and directly %d:\n%q", len(tunnelViewer), len(directViewer), tunnelViewer)
					}
					last := len(directViewer) - 1
					for i := range last {
						check(t, "the viewer, of an interim answer,", w.viewer, true, directViewer[i], tunnelViewer[i], x.atInterim)
					}
					check(t, "the viewer", w.viewer, true, directViewer[last], tunnelViewer[last], x.atViewer)
				})
				results[w] = map[bool]string{true: "same", false: "**different**"}[ok]
			}
		})
		rows.WriteString(tableRow(x, results))
	}
	if run == len(exchanges) { // not with -run
		checkTable(t, rows.String())
	}
}

// check compares what an end recorded with what it recorded directly. expected
// is what may, and has to, differ.
func check(t *testing.T, who string, version int, answer bool, direct, tunnelled message, expected []string) {
	t.Helper()
	if version == 2 {
		direct = direct.overHTTP2(answer)
	}
	// Each hop has its own.
	direct.drop("connection")
	tunnelled.drop("connection")
	if !answer {
		direct.drop("keep-alive")
	}
	var want []string
	for _, e := range expected {
		switch e[0] {
		case '0' + byte(version):
			want = append(want, e[1:])
		case '-', '+':
			want = append(want, e)
		}
	}
	got := compare(direct, tunnelled)
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("through the tunnel %s saw\n\t%s\nand that should differ from a direct exchange by\n\t%s\nbut differs by\n\t%s",
			who, strings.Join(tunnelled.lines(), "\n\t"), strings.Join(want, "\n\t"), strings.Join(got, "\n\t"))
	}
}
