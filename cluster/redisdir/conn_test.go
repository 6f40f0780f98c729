package redisdir_test

import (
	"strings"
	"testing"

	"github.com/websocktunnel/websocktunnel/cluster/redisdir"
)

// TestReplies: answers of a normal size pass, however they are cut into pieces.
func TestReplies(t *testing.T) {
	t.Parallel()
	const max = redisdir.MaxReply
	text := strings.Repeat("x", max)
	for _, c := range []struct {
		name, replies string
		want          bool
	}{
		{"nothing", "", true},
		{"a line", "+OK\r\n", true},
		{"several", "+OK\r\n:1\r\n$-1\r\n_\r\n#t\r\n,1.5\r\n*-1\r\n", true},
		{"a text", "$5\r\nhello\r\n+OK\r\n", true},
		{"an empty text", "$0\r\n\r\n+OK\r\n", true},
		{"a text that looks like a length", "$14\r\n\r\n$999999999\r\n\r\n+OK\r\n", true},
		{"a list", "*2\r\n$1\r\na\r\n$1\r\nb\r\n", true},
		{"a map and a push", "%1\r\n+a\r\n:1\r\n>3\r\n+message\r\n$1\r\nc\r\n$1\r\nm\r\n", true},
		{"the longest text", "$65536\r\n" + text + "\r\n+OK\r\n", true},
		{"a longer one", "$65537\r\n", false},
		{"behind one that is not", "$1\r\nx\r\n$65537\r\n", false},
		{"in a list", "*2\r\n$1\r\na\r\n$536870912\r\n", false},
		{"a verbatim text", "=65537\r\n", false},
		{"an error", "!65537\r\n", false},
		{"a list of too many", "*65537\r\n", false},
		{"a map of too many", "%65537\r\n", false},
		{"an overflow", "$99999999999999999999\r\n", false},
		{"more digits", "$000000000000000000000000000001\r\n", false},
		{"no number", "$?\r\n", false},
		{"no digits", "$\r\n", false},
		{"nothing at all", "$\n", false},
		{"an endless line", "+" + text, false},
		{"a long error", "-" + text[:1000] + "\r\n+OK\r\n", true},
	} {
		for _, size := range []int{1, 2, 3, 7, 1 << 20} {
			if got := redisdir.Allow(c.replies, size); got != c.want {
				t.Errorf("%s, in pieces of %d: allowed %v, want %v", c.name, size, got, c.want)
			}
		}
	}
}
