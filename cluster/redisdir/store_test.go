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

func TestRedis(t *testing.T)  { t.Parallel(); standalone(t, "redis-server") }
func TestValkey(t *testing.T) { t.Parallel(); standalone(t, "valkey-server") }

// keepNothing is for servers that write nothing to disk.
var keepNothing = []string{"--save", "", "--appendonly", "no", "--repl-diskless-sync-delay", "0"}

var cases atomic.Int64

// newPrefix returns one for a case, where several share a store.
func newPrefix() string { return fmt.Sprintf("case-%d:", cases.Add(1)) }

// standalone runs the suite on a server for each case, because some of them break all
// its connections.
func standalone(t *testing.T, name string) {
	path := program(t, name)
	directorytest.Run(t, func(t *testing.T) directorytest.Fixture {
		s := start(t, path, keepNothing...)
		cfg := redisdir.Config{URL: "redis://" + s.addr}
		f := fixture(t, cfg, s)
		f.Break = func() { s.must(t, "CLIENT", "KILL", "TYPE", "pubsub") }
		return f
	})
}

// fixture returns a fixture whose entries and nodes are on one of the servers.
func fixture(t *testing.T, cfg redisdir.Config, servers ...*server) directorytest.Fixture {
	prefix := cfg.KeyPrefix
	if prefix == "" {
		prefix = "wst:"
	}
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
		EntryLife: func(id string) time.Duration { return life(prefix + "t:" + id) },
		NodeLife:  func(name string) time.Duration { return life(prefix + "n:" + name) },
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

// TestSentinel: the suite, and a fail-over. What was stored stays, and a Watch ends.
func TestSentinel(t *testing.T) {
	t.Parallel()
	path := program(t, "redis-server")
	master := start(t, path, keepNothing...)
	replica := start(t, path, append(keepNothing, "--replicaof", "127.0.0.1 "+port(master.addr))...)
	sentinel := startSentinel(t, path, master)
	for _, s := range []*server{master, replica} {
		s.must(t, documented(t)...)
	}
	cfg := redisdir.Config{URL: "redis+sentinel://websocktunnel:password@" + sentinel.addr + "/mymaster"}
	t.Run("suite", func(t *testing.T) {
		directorytest.Run(t, func(t *testing.T) directorytest.Fixture {
			cfg := cfg
			cfg.KeyPrefix = "wst:" + newPrefix()
			return fixture(t, cfg, master)
		})
	})

	d := open(t, cfg)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	e := cluster.Entry{ID: "a", Gen: 1, Node: "n", Boot: "b"}
	if _, err := d.Put(ctx, []cluster.Entry{e}); err != nil {
		t.Fatal(err)
	}
	if n, err := master.must(t, "WAIT", "1", "10000").AsInt64(); err != nil || n != 1 {
		t.Fatalf("WAIT: %d replicas, %v", n, err)
	}
	watching := make(chan struct{})
	watched := make(chan error, 1)
	go func() {
		watched <- d.Watch(ctx, func(cluster.Event) { close(watching) })
	}()
	<-watching
	master.kill()
	if err := <-watched; err == nil || ctx.Err() != nil {
		t.Errorf("Watch: %v", err)
	}
	start := time.Now()
	poll(t, "an entry is stored after the fail-over", func() bool {
		try, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		_, err := d.Put(try, []cluster.Entry{{ID: "b", Gen: 1}})
		return err == nil
	})
	t.Logf("the fail-over took %v", time.Since(start))
	if got, err := d.Get(ctx, "a"); err != nil || got != e {
		t.Errorf("after the fail-over: %+v, %v", got, err)
	}
}

// startSentinel starts a sentinel that watches master, and waits until it knows its
// replica.
func startSentinel(t *testing.T, path string, master *server) *server {
	t.Helper()
	config := filepath.Join(t.TempDir(), "sentinel.conf")
	if err := os.WriteFile(config, []byte("sentinel monitor mymaster 127.0.0.1 "+port(master.addr)+" 1\n"+
		"sentinel down-after-milliseconds mymaster 500\n"+
		"sentinel failover-timeout mymaster 3000\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := start(t, path, config, "--sentinel")
	poll(t, "the sentinel has found the replica", func() bool {
		list, err := s.do(t, "SENTINEL", "REPLICAS", "mymaster").ToArray()
		if err != nil || len(list) != 1 {
			return false
		}
		r, err := list[0].AsStrMap()
		return err == nil && r["master-link-status"] == "ok" && r["flags"] == "slave"
	})
	return s
}
