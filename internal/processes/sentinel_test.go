//go:build linux

package processes

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// watched is a primary and a replica of the store, and three sentinels that watch
// them.
type watched struct {
	t                *testing.T
	primary, replica *store
	url              string
}

const watchedName = "wst"

// startWatched starts them, and waits until the sentinels know each other and the
// replica follows.
func startWatched(t *testing.T) *watched {
	t.Helper()
	w := &watched{t: t, primary: startStore(t, newAddr())}
	ip, port, _ := net.SplitHostPort(w.primary.addr)
	addr := newAddr()
	replicaIP, _, _ := net.SplitHostPort(addr)
	w.replica = startStore(t, addr, "--replicaof", ip+" "+port, "--replica-announce-ip", replicaIP, "--repl-diskless-sync-delay", "0")
	var sentinels []*store
	var addrs []string
	// A replica that has not heard of its primary for ten times as long is none to take
	// its place.
	for range 3 {
		s := startSentinel(t, newAddr(), fmt.Sprintf(`sentinel monitor %s %s %s 2
sentinel down-after-milliseconds %[1]s 2000
sentinel failover-timeout %[1]s 6000
`, watchedName, ip, port))
		sentinels, addrs = append(sentinels, s), append(addrs, s.addr)
	}
	w.replica.tells("INFO replication", "master_link_status:up")
	for _, s := range sentinels {
		s.tells("INFO sentinel", "slaves=1,sentinels=3")
	}
	w.url = "redis+sentinel://" + strings.Join(addrs, ",") + "/" + watchedName
	return w
}

// startSentinel starts a sentinel, whose configuration is in a file that it writes
// itself as well.
func startSentinel(t *testing.T, addr, config string) *store {
	t.Helper()
	file := filepath.Join(t.TempDir(), "sentinel.conf")
	ip, _, _ := net.SplitHostPort(addr)
	if err := os.WriteFile(file, []byte(config+"sentinel announce-ip "+ip+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return startRedis(t, addr, `\+monitor`, file, "--sentinel")
}

// tells waits until the answer to a command has a text in it.
func (s *store) tells(command, text string) {
	s.t.Helper()
	var answer string
	for begun := time.Now(); time.Since(begun) < patience; <-time.After(20 * time.Millisecond) {
		if answer, _ = s.try(command); strings.Contains(answer, text) {
			return
		}
	}
	s.t.Fatalf("%s answers to %s: %q, without %q", s.addr, command, tail(answer, 2000), text)
}

// cut has the replica hear no more of the primary, though both live and the sentinels
// see them: what is written from now on is lost with the primary.
func (w *watched) cut() {
	w.t.Helper()
	// It connects again, but the primary does not know this user.
	w.replica.do("CONFIG SET masteruser nobody")
	w.replica.do("CONFIG SET masterauth nothing")
	w.primary.do("CLIENT KILL TYPE replica")
	w.replica.tells("INFO replication", "master_link_status:down")
}
