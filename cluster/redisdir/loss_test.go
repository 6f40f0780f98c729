package redisdir_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	miniserver "github.com/alicebob/miniredis/v2/server"

	"github.com/websocktunnel/websocktunnel/cluster"
	"github.com/websocktunnel/websocktunnel/cluster/redisdir"
	"github.com/websocktunnel/websocktunnel/internal/faultnet"
)

var anEntry = cluster.Entry{ID: "a", Gen: 5, Node: "n", Boot: "b", Instance: "i", Attempt: 1, Sig: "s"}

func withTimeout(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// TestStoreDown: a directory can be made while the store is down, and works as soon
// as it is there.
func TestStoreDown(t *testing.T) {
	t.Parallel()
	addr := freeAddr(t)
	for _, url := range []string{"redis://" + addr, "redis+cluster://" + addr, "redis+sentinel://" + addr + "/m"} {
		d := open(t, redisdir.Config{URL: url})
		ctx := withTimeout(t, patience)
		for range 3 {
			if _, err := d.Get(ctx, "a"); err == nil || errors.Is(err, cluster.ErrAbsent) || !strings.Contains(err.Error(), "refused") {
				t.Errorf("%s: Get: %v", url, err)
			}
			if err := d.Watch(ctx, func(cluster.Event) {}); err == nil || ctx.Err() != nil {
				t.Errorf("%s: Watch: %v", url, err)
			}
			if err := d.Ping(ctx); err == nil || ctx.Err() != nil {
				t.Errorf("%s: Ping: %v", url, err)
			}
		}
	}
	d := open(t, redisdir.Config{URL: "redis://" + addr})
	if err := d.Ping(t.Context()); err == nil {
		t.Error("Ping: no error")
	}
	m := miniredis.NewMiniRedis()
	if err := m.StartAddr(addr); err != nil {
		t.Skipf("the port is taken: %v", err)
	}
	t.Cleanup(m.Close)
	for range 2 {
		if err := d.Ping(t.Context()); err != nil {
			t.Errorf("Ping: %v", err)
		}
		m.Close()
		poll(t, "the loss is noticed", func() bool { return d.Ping(t.Context()) != nil })
		if err := m.Restart(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestStoreSilent: calls last no longer than their context, also those that are
// cancelled, and hold a bounded number of goroutines while the store is silent. When it
// speaks again all is well.
func TestStoreSilent(t *testing.T) {
	t.Parallel()
	relay := newRelay(t, miniredis.RunT(t).Addr())
	d := open(t, redisdir.Config{URL: "redis://" + relay.Addr()})
	if err := d.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, l := range relay.Links() {
		l.Down.Stall()
	}
	before := runtime.NumGoroutine()
	start := time.Now()
	var calls sync.WaitGroup
	for i := range 1000 {
		calls.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			want := context.DeadlineExceeded
			if i%2 == 0 {
				ctx, cancel = context.WithCancel(t.Context())
				time.AfterFunc(100*time.Millisecond, cancel)
				want = context.Canceled
			}
			defer cancel()
			if _, err := d.Get(ctx, "a"); !errors.Is(err, want) {
				t.Errorf("Get: %v", err)
			}
		})
	}
	calls.Wait()
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("calls with a limit of 0.1 s have taken %v", took)
	}
	if n := runtime.NumGoroutine() - before; n > 400 {
		t.Errorf("%d goroutines are left", n)
	}
	// The connection is given up within some seconds, and calls without a limit end.
	if _, err := d.Get(withTimeout(t, patience), "a"); err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Get without a limit: %v", err)
	}
	poll(t, "the store answers again", func() bool {
		_, err := d.Put(withTimeout(t, time.Second), []cluster.Entry{anEntry})
		return err == nil
	})
}

func newRelay(t *testing.T, target string) *faultnet.Relay {
	t.Helper()
	r, err := faultnet.NewRelay(target, faultnet.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// TestStoreSlow: a store that takes a second for each answer is slow, not lost.
func TestStoreSlow(t *testing.T) {
	t.Parallel()
	relay := newRelay(t, miniredis.RunT(t).Addr())
	relay.SetFaults(faultnet.Faults{}, faultnet.Faults{Delay: time.Second})
	d := open(t, redisdir.Config{URL: "redis://" + relay.Addr()})
	ctx := withTimeout(t, patience)
	for range 2 {
		if _, err := d.Put(ctx, []cluster.Entry{anEntry}); err != nil {
			t.Errorf("Put: %v", err)
		}
	}
	if n := len(relay.Links()); n != 1 {
		t.Errorf("%d connections", n)
	}
}

// TestClosedWhileSilent: Close does not wait for a store that is silent longer than
// it takes to give the connections up.
func TestClosedWhileSilent(t *testing.T) {
	t.Parallel()
	relay := newRelay(t, miniredis.RunT(t).Addr())
	d := open(t, redisdir.Config{URL: "redis://" + relay.Addr()})
	watched := make(chan error, 1)
	ready := make(chan struct{})
	go func() { watched <- d.Watch(t.Context(), func(cluster.Event) { close(ready) }) }()
	<-ready
	for _, l := range relay.Links() {
		l.Down.Stall()
	}
	got := make(chan error, 1)
	go func() {
		_, err := d.Get(t.Context(), "a")
		got <- err
	}()
	start := time.Now()
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	if took := time.Since(start); took > 15*time.Second {
		t.Errorf("Close has taken %v", took)
	}
	if err := <-watched; err == nil || !strings.Contains(err.Error(), "closed") {
		t.Errorf("Watch: %v", err)
	}
	if err := <-got; err == nil || errors.Is(err, cluster.ErrAbsent) {
		t.Errorf("Get: %v", err)
	}
}

// TestDeafSubscription: the store answers, but messages do not come through.
func TestDeafSubscription(t *testing.T) {
	t.Parallel()
	m := miniredis.RunT(t)
	d := open(t, redisdir.Config{URL: "redis://" + m.Addr()})
	d.SetHeartbeat(20 * time.Millisecond)
	ready := make(chan struct{})
	watched := make(chan error, 1)
	var swallowed sync.Map
	go func() {
		watched <- d.Watch(t.Context(), func(cluster.Event) {
			select {
			case <-ready:
			default:
				close(ready)
			}
		})
	}()
	<-ready
	// A few heartbeats come through, and nothing happens.
	heard := make(chan struct{}, 100)
	m.Server().SetPreHook(func(c *miniserver.Peer, cmd string, args ...string) bool {
		if cmd == "PUBLISH" {
			heard <- struct{}{}
		}
		return false
	})
	for range 10 {
		<-heard
	}
	select {
	case err := <-watched:
		t.Fatalf("Watch has ended with a heartbeat: %v", err)
	default:
	}
	m.Server().SetPreHook(func(c *miniserver.Peer, cmd string, args ...string) bool {
		if cmd != "PUBLISH" {
			return false
		}
		swallowed.Store(args[0], true)
		c.WriteInt(1)
		return true
	})
	select {
	case err := <-watched:
		if err == nil || !strings.Contains(err.Error(), "heartbeat") {
			t.Errorf("Watch: %v", err)
		}
	case <-time.After(patience):
		t.Error("Watch does not notice")
	}
	n := 0
	swallowed.Range(func(any, any) bool { n++; return true })
	if n != 1 {
		t.Errorf("%d channels for heartbeats", n)
	}
}

// TestSilentSubscription: the connection of the subscription is dead, and nobody
// says so.
func TestSilentSubscription(t *testing.T) {
	t.Parallel()
	relay := newRelay(t, miniredis.RunT(t).Addr())
	d := open(t, redisdir.Config{URL: "redis://" + relay.Addr()})
	ready := make(chan struct{})
	watched := make(chan error, 1)
	go func() { watched <- d.Watch(withTimeout(t, patience), func(cluster.Event) { close(ready) }) }()
	<-ready
	start := time.Now()
	for _, l := range relay.Links() {
		l.Up.Stall()
		l.Down.Stall()
	}
	if err := <-watched; err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Watch: %v", err)
	}
	t.Logf("noticed after %v", time.Since(start))
}

// serve returns the address of a server that calls f for each connection, and closes
// it then.
func serve(t *testing.T, f func(net.Conn)) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	t.Cleanup(serving.Wait)
	t.Cleanup(func() { ln.Close() })
	serving.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer c.Close()
				f(c)
			})
		}
	})
	return ln.Addr().String()
}

// TestSecrets: no error has the password in it, not even where a server quotes the
// command that it has not understood.
func TestSecrets(t *testing.T) {
	t.Parallel()
	m := miniredis.RunT(t)
	m.RequireUserAuth("me", "right")
	quoting := serve(t, func(c net.Conn) {
		buf := make([]byte, 4096)
		for {
			n, err := c.Read(buf)
			if err != nil {
				return
			}
			answer := fmt.Sprintf("-ERR with args beginning with: %q\r\n", strings.Fields(string(buf[:n])))
			fmt.Fprint(c, strings.Repeat(answer, strings.Count(string(buf[:n]), "*")))
		}
	})
	for _, addr := range []string{m.Addr(), quoting} {
		d := open(t, redisdir.Config{URL: "redis://me:canary@" + addr})
		err := d.Ping(withTimeout(t, patience))
		if err == nil || strings.Contains(err.Error(), "canary") {
			t.Errorf("Ping: %v", err)
		}
	}
	if err := open(t, redisdir.Config{URL: "redis://me:right@" + m.Addr()}).Ping(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestObserve: the names of operations, each with its error.
func TestObserve(t *testing.T) {
	t.Parallel()
	m := miniredis.RunT(t)
	var mu sync.Mutex
	var seen []string
	cfg := redisdir.Config{URL: "redis://" + m.Addr(), Observe: func(op string, took time.Duration, err error) {
		mu.Lock()
		defer mu.Unlock()
		if took < 0 {
			t.Errorf("%s has taken %v", op, took)
		}
		if err != nil {
			op += "!"
		}
		seen = append(seen, op)
	}}
	d := open(t, cfg)
	ctx := t.Context()
	n := cluster.Node{Name: "n", Boot: "b"}
	_, _ = d.Get(ctx, "a")
	_, _ = d.Put(ctx, []cluster.Entry{anEntry})
	_, _ = d.Beat(ctx, n)
	_, _ = d.Nodes(ctx)
	_ = d.Leave(ctx, n)
	_ = d.Delete(ctx, []cluster.Entry{anEntry})
	watching, cancel := context.WithCancel(ctx)
	_ = d.Watch(watching, func(cluster.Event) { cancel() })
	m.Close()
	poll(t, "the loss is noticed", func() bool { _, err := d.Get(ctx, "a"); return err != nil })
	mu.Lock()
	defer mu.Unlock()
	got := strings.Join(seen, " ")
	const want = "connect get put beat nodes nodes leave delete watch! get"
	if !strings.HasPrefix(got, want) || !strings.HasSuffix(got, "get!") {
		t.Errorf("got %q\nwant %q and failed gets", got, want)
	}
}
