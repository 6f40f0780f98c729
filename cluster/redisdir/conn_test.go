package redisdir_test

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/alicebob/miniredis/v2"

	"github.com/websocktunnel/websocktunnel/cluster"
	"github.com/websocktunnel/websocktunnel/cluster/redisdir"
)

// frames has what a server may send, and how many answers that are, or -1 if it is
// too much.
var frames = []struct {
	name, bytes string
	want        int64
}{
	{"nothing", "", 0},
	{"a line", "+OK\r\n", 1},
	{"several", "+OK\r\n-ERR\r\n:1\r\n$-1\r\n_\r\n#t\r\n,1.5\r\n(1\r\n*-1\r\n", 9},
	{"an empty line", "+\r\n", 1},
	{"a text", "$5\r\nhello\r\n+OK\r\n", 2},
	{"an empty text", "$0\r\n\r\n+OK\r\n", 2},
	{"a text that looks like a length", "$14\r\n\r\n$999999999\r\n\r\n+OK\r\n", 2},
	{"a list", "*2\r\n$1\r\na\r\n$1\r\nb\r\n+OK\r\n", 2},
	{"lists in lists", "*2\r\n*1\r\n*1\r\n:1\r\n*0\r\n+OK\r\n", 2},
	{"a map", "%2\r\n+a\r\n:1\r\n+b\r\n*1\r\n:2\r\n+OK\r\n", 2},
	{"a set", "~1\r\n+a\r\n+OK\r\n", 2},
	{"no elements", "*0\r\n%0\r\n", 2},
	{"pushes", ">3\r\n+message\r\n$1\r\nc\r\n$1\r\nm\r\n>1\r\n*1\r\n:1\r\n+OK\r\n", 1},
	{"half a list", "*2\r\n+a\r\n", 0},
	{"half a text", "$5\r\nhello", 0},
	{"half a line", "+OK", 0},
	{"half an end", "+OK\r", 0},
	{"the longest text", "$65536\r\n" + strings.Repeat("x", 65536) + "\r\n+OK\r\n", 2},
	{"many texts", "*60\r\n" + strings.Repeat("$65536\r\n"+strings.Repeat("x", 65536)+"\r\n", 60) + "+OK\r\n", 2},
	{"a long line", "-" + strings.Repeat("x", 10_000) + "\r\n+OK\r\n", 2},

	{"a longer text", "$65537\r\n", -1},
	{"a long text behind a short one", "$1\r\nx\r\n$65537\r\n", -1},
	{"a long text in a list", "*2\r\n$1\r\na\r\n$536870912\r\n", -1},
	{"a long verbatim text", "=65537\r\n", -1},
	{"a long error", "!65537\r\n", -1},
	{"too many texts", "*90\r\n" + strings.Repeat("$65536\r\n"+strings.Repeat("x", 65536)+"\r\n", 90), -1},
	{"a list of too many", "*65537\r\n", -1},
	{"a map of too many", "%40000\r\n", -1},
	{"lists of too many", "*2\r\n*40000\r\n" + strings.Repeat("_\r\n", 40000) + "*40000\r\n", -1},
	{"too deep", strings.Repeat("*1\r\n", 70_000), -1},
	{"an overflow", "$99999999999999999999\r\n", -1},
	{"leading zeros", "$000000000000000000000000000001\r\n", -1},
	{"a negative text", "$-2\r\n", -1},
	{"a negative list", "*-2\r\n", -1},
	{"a negative map", "%-1\r\n", -1},
	{"no number", "$?\r\n", -1},
	{"no digits", "$\r\n", -1},
	{"a null that is longer", "_$9\r\n", -1},
	{"a bool that is longer", "#true\r\n", -1},
	{"attributes", "|1\r\n+a\r\n+b\r\n+OK\r\n", -1},
	{"chunks", "*?\r\n", -1},
	{"the end of chunks", ".\r\n", -1},
	{"no carriage return", "+OK\n", -1},
	{"nothing but an end", "\r\n", -1},
	{"nothing but a line feed", "\n", -1},
	{"another protocol", "HTTP/1.1 400 Bad Request\r\n", -1},
	{"an endless line", "+" + strings.Repeat("x", 70_000), -1},
}

// TestFraming: the same, however it is cut into pieces.
func TestFraming(t *testing.T) {
	t.Parallel()
	for _, f := range frames {
		for _, size := range []int{1, 2, 3, 7, 1000, 1 << 20} {
			if size < 1000 && len(f.bytes) > 100_000 {
				continue
			}
			if got := redisdir.Frames(f.bytes, size); got != f.want {
				t.Errorf("%s, in pieces of %d: %d answers, want %d", f.name, size, got, f.want)
			}
		}
	}
}

func FuzzFraming(f *testing.F) {
	for _, frame := range frames {
		if len(frame.bytes) < 100 {
			f.Add(frame.bytes, 3)
		}
	}
	f.Fuzz(func(t *testing.T, s string, size int) {
		if whole, parts := redisdir.Frames(s, len(s)+1), redisdir.Frames(s, max(size, 1)); whole != parts {
			t.Errorf("%q: %d answers, and %d in pieces of %d", s, whole, parts, size)
		}
	})
}

// TestOddServer: a server that answers more than it was asked, or nonsense, costs a
// connection and no more.
func TestOddServer(t *testing.T) {
	t.Parallel()
	const hello = "%1\r\n$5\r\nproto\r\n:3\r\n"
	for _, f := range append(frames, []struct {
		name, bytes string
		want        int64
	}{
		{"more answers than questions", hello + strings.Repeat("+OK\r\n", 100), 0},
		{"pushes that nobody has asked for", hello + ">1\r\n+x\r\n>0\r\n>2\r\n*0\r\n:1\r\n>3\r\n+message\r\n+a\r\n+b\r\n+OK\r\n", 0},
		{"a goodbye to everything", hello + ">3\r\n+unsubscribe\r\n+a\r\n:0\r\n>3\r\n$9\r\nsubscribe\r\n+x\r\n:1\r\n:1\r\n:2\r\n", 0},
	}...) {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			addr := answer(t, f.bytes)
			for _, url := range []string{"redis://" + addr, "redis+cluster://" + addr, "redis+sentinel://" + addr + "/m"} {
				d := open(t, redisdir.Config{URL: url})
				ctx := withTimeout(t, patience)
				_, _ = d.Get(ctx, "a")
				_, _ = d.Put(ctx, []cluster.Entry{anEntry, {ID: "b"}})
				_, _ = d.Beat(ctx, cluster.Node{Name: "a"})
				_, _ = d.Nodes(ctx)
				if err := d.Ping(ctx); err == nil {
					t.Errorf("%s: Ping: no error", url)
				}
				if err := d.Watch(ctx, func(cluster.Event) {}); err == nil {
					t.Errorf("%s: Watch: no error", url)
				}
				if ctx.Err() != nil {
					t.Errorf("%s: %v", url, ctx.Err())
				}
			}
		})
	}
}

// answer returns the address of a server that sends the same to everybody who has
// sent something, and then ends the connection.
func answer(t *testing.T, bytes string) string {
	t.Helper()
	return serve(t, func(c net.Conn) {
		buf := make([]byte, 4096)
		if _, err := c.Read(buf); err == nil {
			fmt.Fprint(c, bytes)
		}
	})
}

// TestUnauthenticated: a store that asks for a password only after the handshake is an
// error. The client takes its answer to a command about subscriptions for a fault in the
// protocol, and panics.
func TestUnauthenticated(t *testing.T) {
	t.Parallel()
	m := miniredis.RunT(t) // which lets everybody say HELLO
	m.RequireAuth("secret")
	for _, url := range []string{"redis://" + m.Addr(), "redis+sentinel://" + m.Addr() + "/main"} {
		if err := all(withTimeout(t, patience), open(t, redisdir.Config{URL: url})); err == nil || !strings.Contains(err.Error(), "NOAUTH") {
			t.Errorf("%s: %v", url, err)
		}
	}
}
