package websocket

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/websocktunnel/websocktunnel/conformance/internal/harness"
	"github.com/websocktunnel/websocktunnel/server"
	"github.com/websocktunnel/websocktunnel/tunnelclient"
)

// targets are echo servers, and tell what happens at each connection to
// whoever made it.
type targets struct {
	mu     sync.Mutex
	last   int
	events map[string]chan string
}

// expect returns a query that leads to a channel of events at the target. The
// last one is how the connection ended.
func (x *targets) expect() (query string, events chan string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.last++
	query = "n=" + strconv.Itoa(x.last)
	events = make(chan string, 100)
	x.events[query] = events
	return query, events
}

// handler serves echo by a library. The message "close CODE REASON" closes it,
// "drop" breaks it off, "ping PAYLOAD" makes the target send a ping first.
func (x *targets) handler(lib library) http.Handler {
	return lib.handler(func(r *http.Request, open func(options) conn) {
		x.mu.Lock()
		events := x.events[r.URL.RawQuery]
		x.mu.Unlock()
		c := open(options{seen: func(event string) { events <- event }})
		if c == nil {
			events <- "no websocket"
			return
		}
		defer c.drop()
		for {
			text, message, err := c.read()
			if err != nil {
				events <- err.Error()
				return
			}
			words := strings.SplitN(message, " ", 3)
			switch words[0] {
			case "close":
				code, _ := strconv.Atoi(words[1])
				events <- c.close(code, words[2])
				return
			case "drop":
				events <- "dropped"
				return
			case "ping":
				c.ping(words[1])
			}
			if err := c.write(text, message); err != nil {
				events <- err.Error()
				return
			}
		}
	})
}

// A step is what a viewer does with a websocket of its own, to be made
// directly and through tunnels.
type step struct {
	name    string
	deflate bool

	// run returns what the viewer saw. If want is not empty, that and what the
	// target saw has to contain it, directly too.
	run  func(v conn) (string, error)
	want string

	// until is what the viewer goes on exchanging messages for, after run:
	// libraries send pings when they like.
	until string
}

// echo sends messages and returns how they came back. A library that takes each
// frame for a message (x/net's) sends back more than it was sent.
func echo(text bool, messages ...string) func(conn) (string, error) {
	return func(v conn) (string, error) {
		var lengths []int
		for _, m := range messages {
			if err := v.write(text, m); err != nil {
				return "", err
			}
			more, err := readEcho(v, text, m)
			if err != nil {
				return "", err
			}
			lengths = append(lengths, more...)
		}
		return fmt.Sprint("echoed in messages of ", lengths), nil
	}
}

// readEcho returns the lengths of the messages that make up want.
func readEcho(v conn, text bool, want string) (lengths []int, err error) {
	rest := want
	for {
		gotText, m, err := v.read()
		if err != nil {
			return nil, err
		}
		lengths = append(lengths, len(m))
		if gotText != text || !strings.HasPrefix(rest, m) {
			return nil, fmt.Errorf("the echo of %d bytes differs within messages of %v", len(want), lengths)
		}
		if rest = rest[len(m):]; rest == "" {
			return lengths, nil
		}
	}
}

// sizes are messages of every form of length that a frame knows.
func sizes(unit string) (messages []string) {
	for _, n := range []int{1, 125, 126, 65535, 65536} {
		messages = append(messages, strings.Repeat(unit, n/len(unit)+1)[:n/len(unit)*len(unit)])
	}
	return append(messages, unit)
}

// codes are what a close frame may carry.
var codes = []int{1000, 1001, 1003, 1007, 1008, 1009, 1011, 1012, 1013, 3000, 3999, 4000, 4999}

func steps() []step {
	long := "Grüße, " + strings.Repeat("x", 114) // 123 bytes is the longest reason
	steps := []step{
		{name: "text", run: echo(true, sizes("ü")...)},
		{name: "binary", run: echo(false, sizes("\xff\x00")...)},
		{name: "binary of 4 MiB", run: echo(false, strings.Repeat("0123456789abcdef", 4<<20/16))},
		{name: "empty messages", run: echo(false, "", "a", "", "")},
		{name: "permessage-deflate", deflate: true, want: "permessage-deflate", run: echo(true, sizes("squeeze ")...)},
		{name: "fragments", run: func(v conn) (string, error) {
			frames := []string{strings.Repeat("a", 5000), "b", strings.Repeat("c", 70_000), "d"}
			if err := v.write(true, frames...); err != nil {
				return "", err
			}
			lengths, err := readEcho(v, true, strings.Join(frames, ""))
			return fmt.Sprint("echoed in messages of ", lengths), err
		}},
		{name: "ping by the viewer", want: "ping ", until: "pong ", run: func(v conn) (string, error) {
			if err := v.ping("from the viewer"); err != nil {
				return "", err
			}
			return echo(true, "so that both ends read", "on")(v)
		}},
		{name: "ping by the target", want: "pong ", until: "ping ", run: echo(true, "ping payload", "so that the target reads")},
	}
	for _, code := range append(codes, noStatus) {
		reason := fmt.Sprintf("%d: %s", code, long[:len(long)-6])
		if code == noStatus {
			reason = ""
		}
		want := closing{code, reason}.Error()
		steps = append(steps,
			step{name: fmt.Sprint("closed by the target, ", code), want: want, run: func(v conn) (string, error) {
				if err := v.write(true, fmt.Sprintf("close %d %s", code, reason)); err != nil {
					return "", err
				}
				return answered(v), nil
			}},
			step{name: fmt.Sprint("closed by the viewer, ", code), want: want, run: func(v conn) (string, error) {
				return v.close(code, reason), nil
			}})
	}
	want := closing{lost, ""}.Error()
	return append(steps,
		step{name: "dropped by the target", want: want, run: func(v conn) (string, error) {
			if err := v.write(true, "drop"); err != nil {
				return "", err
			}
			return answered(v), nil
		}},
		step{name: "dropped by the viewer", want: want, run: func(v conn) (string, error) {
			if _, err := echo(true, "first")(v); err != nil {
				return "", err
			}
			v.drop()
			return "", nil
		}})
}

// make makes the step with the target at url.
func (s step) make(t *testing.T, viewer library, x *targets, url string) string {
	t.Helper()
	query, events := x.expect()
	var mu sync.Mutex
	var seen []string
	c, answer := viewer.dial(t, url+"?"+query, options{deflate: s.deflate, seen: func(event string) {
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, event)
	}})
	has := func(event string) bool {
		mu.Lock()
		defer mu.Unlock()
		return slices.ContainsFunc(seen, func(e string) bool { return strings.HasPrefix(e, event) })
	}
	said, err := s.run(c)
	for begun := time.Now(); err == nil && s.until != "" && !has(s.until); {
		if time.Since(begun) > patience {
			t.Fatalf("%s: the viewer saw no %s", url, s.until)
		}
		_, err = echo(true, "go on")(c)
	}
	if err == nil && s.until != "" {
		_, err = echo(true, "and what answers it arrives too")(c)
	}
	c.drop()
	if err != nil {
		t.Fatalf("%s: %v", url, err)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s\nthe viewer: %s\n", answer, said)
	mu.Lock()
	fmt.Fprintf(&b, "the viewer saw %q\n", seen)
	mu.Unlock()
	for late := time.After(patience); ; {
		select {
		case event := <-events:
			fmt.Fprintf(&b, "the target saw %s\n", event)
			if strings.HasPrefix(event, "ping ") || strings.HasPrefix(event, "pong ") {
				continue
			}
			return b.String()
		case <-late:
			t.Fatalf("%s: the target does not know that the websocket has ended", url)
		}
	}
}

// TestLibraries: each library as viewer with each as target, which is served
// by the tunnel client itself or by a server behind it, in both inner forms of
// an upgrade, compared with the direct exchange.
func TestLibraries(t *testing.T) {
	x := &targets{events: make(map[string]chan string)}
	type way struct{ name, url string }
	ways := make(map[string][]way) // by target
	for _, lib := range libraries {
		srv := httptest.NewServer(x.handler(lib))
		t.Cleanup(srv.Close)
		ways[lib.name] = []way{{"direct", strings.Replace(srv.URL, "http", "ws", 1) + "/id"}}
		table.Program(lib.name, harness.ModuleVersion(t, lib.module))
	}
	for form, fallback := range map[string]bool{"extended CONNECT": false, "fallback": true} {
		// Cookies would be confined to the tunnel's path, and so differ.
		s := harness.Start(t, harness.Options{Server: server.Config{
			NoExtendedConnect: fallback, DisablePathIsolation: true,
		}})
		for _, lib := range libraries {
			id := strings.ReplaceAll(lib.name, "/", ".")
			behind := s.Target(id, strings.Replace(strings.TrimSuffix(ways[lib.name][0].url, "/id"), "ws", "http", 1), tunnelclient.ProxyOptions{})
			inside := s.Client(id+".inside", x.handler(lib))
			ways[lib.name] = append(ways[lib.name],
				way{"server, " + form, strings.Replace(behind, "http", "ws", 1)},
				way{"handler, " + form, strings.Replace(inside, "http", "ws", 1)})
		}
		for info := range s.Tunnels() {
			if info.ExtendedConnect == fallback {
				t.Fatalf("extended CONNECT inside: %t", info.ExtendedConnect)
			}
		}
	}
	t.Run("pairs", func(t *testing.T) {
		for _, viewer := range libraries {
			for _, target := range libraries {
				t.Run(viewer.name+" to "+target.name, func(t *testing.T) {
					t.Parallel()
					for _, s := range steps() {
						if s.deflate && (!viewer.deflate || !target.deflate) || s.name == "fragments" && !viewer.frames {
							continue
						}
						t.Run(s.name, func(t *testing.T) {
							direct := s.make(t, viewer, x, ways[target.name][0].url)
							if !strings.Contains(strings.ToLower(direct), strings.ToLower(s.want)) {
								t.Fatalf("no %q directly:\n%s", s.want, direct)
							}
							for _, way := range ways[target.name][1:] {
								if got := s.make(t, viewer, x, way.url); got != direct {
									t.Errorf("%s:\n%s\ndirectly:\n%s", way.name, got, direct)
								}
							}
							result := "echoed"
							if rest, ok := strings.CutPrefix(s.want, "closed "); ok {
								result, _, _ = strings.Cut(rest, " ")
							}
							table.Passed(t, viewer.name, s.name, target.name, result, harness.Same)
						})
					}
				})
			}
		}
	})
}
