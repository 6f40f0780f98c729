package redisdir_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/websocktunnel/websocktunnel/cluster"
	"github.com/websocktunnel/websocktunnel/cluster/directorytest"
	"github.com/websocktunnel/websocktunnel/cluster/redisdir"
)

// TestRedis runs the suite behind a relay, which can break its connections.
func TestRedis(t *testing.T) {
	t.Parallel()
	s := start(t, program(t, "redis-server"), keepNothing...)
	directorytest.Run(t, func(t *testing.T) directorytest.Fixture {
		relay := newRelay(t, s.addr)
		f := fixture(t, redisdir.Config{URL: "redis://" + relay.Addr(), KeyPrefix: newPrefix()}, s)
		f.Break = relay.ResetAll
		f.Many = 0
		return f
	})
}

func TestValkey(t *testing.T) {
	t.Parallel()
	s := start(t, program(t, "valkey-server"), keepNothing...)
	directorytest.Run(t, func(t *testing.T) directorytest.Fixture {
		return fixture(t, redisdir.Config{URL: "redis://" + s.addr, KeyPrefix: newPrefix()}, s)
	})
}

// keepNothing is for servers that write nothing to disk.
var keepNothing = []string{"--save", "", "--appendonly", "no", "--repl-diskless-sync-delay", "0"}

var cases atomic.Int64

// newPrefix returns one for a case, where several share a store.
func newPrefix() string { return fmt.Sprintf("case-%d:", cases.Add(1)) }

// fixture returns a fixture whose entries and nodes are on one of the servers.
func fixture(t *testing.T, cfg redisdir.Config, servers ...*server) directorytest.Fixture {
	life := func(key string) time.Duration {
		for _, s := range servers {
			if ms, err := s.do(t, "PTTL", key).AsInt64(); err == nil && ms >= 0 {
				return time.Duration(ms) * time.Millisecond
			}
		}
		t.Errorf("%s has no life", key)
		return 0
	}
	return directorytest.Fixture{
		Directory: open(t, cfg),
		Other:     open(t, cfg),
		Many:      1000,
		EntryLife: func(id string) time.Duration { return life(cfg.KeyPrefix + "t:" + id) },
		NodeLife:  func(name string) time.Duration { return life(cfg.KeyPrefix + "n:" + name) },
	}
}

// TestRedisCluster runs the suite on three servers that share the keys.
func TestRedisCluster(t *testing.T) {
	t.Parallel()
	servers := startShards(t, program(t, "redis-server"), 3)
	directorytest.Run(t, func(t *testing.T) directorytest.Fixture {
		return fixture(t, redisdir.Config{
			URL:       "redis+cluster://" + servers[0].addr + "," + servers[1].addr,
			KeyPrefix: newPrefix(),
		}, servers...)
	})
}

const slots = 16384

// startShards starts a Redis Cluster without replicas.
func startShards(t *testing.T, path string, n int) []*server {
	t.Helper()
	servers := make([]*server, n)
	for i := range servers {
		s := start(t, path, "--cluster-enabled", "yes", "--cluster-port", "%bus", "--save", "")
		servers[i] = s
		s.must(t, "CLUSTER", "SET-CONFIG-EPOCH", strconv.Itoa(i+1))
		s.must(t, "CLUSTER", "ADDSLOTSRANGE", strconv.Itoa(i*slots/n), strconv.Itoa((i+1)*slots/n-1))
	}
	for _, s := range servers[1:] {
		servers[0].must(t, "CLUSTER", "MEET", "127.0.0.1", port(s.addr), s.bus)
	}
	for _, s := range servers {
		poll(t, "the servers form a cluster", func() bool {
			info, _ := s.do(t, "CLUSTER", "INFO").ToString()
			return strings.Contains(info, "cluster_state:ok") && strings.Contains(info, fmt.Sprintf("cluster_known_nodes:%d", n))
		})
	}
	return servers
}

// TestSentinel runs the suite on a server that a sentinel watches, and kills it. What
// was stored stays, and a Watch ends.
func TestSentinel(t *testing.T) {
	t.Parallel()
	master, replica, url := startSentinel(t, program(t, "redis-server"))
	t.Run("suite", func(t *testing.T) {
		directorytest.Run(t, func(t *testing.T) directorytest.Fixture {
			return fixture(t, redisdir.Config{URL: url, KeyPrefix: "wst:" + newPrefix()}, master)
		})
	})

	d := open(t, redisdir.Config{URL: url})
	ctx := withTimeout(t, patience)
	if _, err := d.Put(ctx, []cluster.Entry{anEntry}); err != nil {
		t.Fatal(err)
	}
	poll(t, "the replica has the entry", func() bool {
		n, err := replica.do(t, "EXISTS", "wst:t:a").AsInt64()
		return err == nil && n == 1
	})
	watching := make(chan struct{})
	watched := make(chan error, 1)
	go func() {
		watched <- d.Watch(ctx, func(cluster.Event) { close(watching) })
	}()
	<-watching
	master.kill()
	start := time.Now()
	if err := <-watched; err == nil || ctx.Err() != nil {
		t.Errorf("Watch: %v", err)
	}
	stores(t, d, cluster.Entry{ID: "b", Gen: 1})
	t.Logf("the fail-over took %v", time.Since(start))
	if got, err := d.Get(ctx, "a"); err != nil || got != anEntry {
		t.Errorf("after the fail-over: %+v, %v", got, err)
	}
}

// stores waits until d can store an entry.
func stores(t *testing.T, d *redisdir.Directory, e cluster.Entry) {
	t.Helper()
	poll(t, "an entry is stored after the fail-over", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := d.Put(ctx, []cluster.Entry{e})
		return err == nil
	})
}

// TestSentinelSwitch: master and replica change places, and both live. A Watch goes on
// or ends: it does not miss anything without saying so.
func TestSentinelSwitch(t *testing.T) {
	t.Parallel()
	_, replica, url := startSentinel(t, program(t, "redis-server"))
	d := open(t, redisdir.Config{URL: url})
	d.SetHeartbeat(300 * time.Millisecond)
	ctx := withTimeout(t, patience)
	events := make(chan cluster.Event, 10_000)
	watched := make(chan error, 1)
	go func() {
		watched <- d.Watch(ctx, func(e cluster.Event) { events <- e })
	}()
	<-events
	_, sentinel, _ := strings.Cut(url, "@")
	sentinel, _, _ = strings.Cut(sentinel, "/")
	(&server{addr: sentinel}).must(t, "SENTINEL", "FAILOVER", "mymaster")
	// Sentinel makes the replica a master first. What the old one takes until it is
	// demoted is lost, and the client has to leave it before that: it is told.
	poll(t, "the replica is a master", func() bool {
		role, err := replica.do(t, "ROLE").ToArray()
		return err == nil && len(role) == 3 // that of a replica has more parts
	})
	e := cluster.Entry{ID: "b"}
	start := time.Now()
	poll(t, "the new master gets what is stored", func() bool {
		e.Gen++
		stores(t, d, e)
		n, err := replica.do(t, "EXISTS", "wst:t:b").AsInt64()
		return err == nil && n == 1
	})
	t.Logf("the switch took %v", time.Since(start))
	for {
		select {
		case got := <-events:
			if got.Entry != e {
				continue
			}
			t.Log("Watch has gone on")
		case err := <-watched:
			t.Logf("Watch has ended: %v", err)
			if err == nil || ctx.Err() != nil {
				t.Errorf("Watch: %v", err)
			}
		}
		return
	}
}

// startSentinel starts a master, a replica and a sentinel that watches them, and returns
// when those know each other. url has a user with the documented rights.
func startSentinel(t *testing.T, path string) (master, replica *server, url string) {
	t.Helper()
	master = start(t, path, keepNothing...)
	replica = start(t, path, append(keepNothing, "--replicaof", "127.0.0.1 "+port(master.addr))...)
	for _, s := range []*server{master, replica} {
		s.must(t, documented(t)...)
	}
	config := filepath.Join(t.TempDir(), "sentinel.conf")
	if err := os.WriteFile(config, []byte("sentinel monitor mymaster 127.0.0.1 "+port(master.addr)+" 1\n"+
		"sentinel down-after-milliseconds mymaster 500\n"+
		"sentinel failover-timeout mymaster 3000\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	sentinel := start(t, path, config, "--sentinel")
	poll(t, "the sentinel has found the replica", func() bool {
		list, err := sentinel.do(t, "SENTINEL", "REPLICAS", "mymaster").ToArray()
		if err != nil || len(list) != 1 {
			return false
		}
		r, err := list[0].AsStrMap()
		return err == nil && r["master-link-status"] == "ok" && r["flags"] == "slave"
	})
	return master, replica, "redis+sentinel://websocktunnel:password@" + sentinel.addr + "/mymaster"
}
