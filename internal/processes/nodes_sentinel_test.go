//go:build linux

package processes

import (
	"fmt"
	"syscall"
	"testing"
	"time"
)

// TestStoreFailsOver (F12): the primary of the store is lost, with what the replica
// has not heard of: tunnels that have come, moved to another node and gone. No tunnel
// is lost, nothing fails that is at the node asked or known there, and no node says that
// a tunnel which is there is not.
func TestStoreFailsOver(t *testing.T) {
	needProcesses(t)
	for _, how := range []string{"killed", "stopped"} {
		t.Run(how, func(t *testing.T) {
			if !long() {
				t.Parallel()
			}
			failOver(t, how)
		})
	}
}

// failOver is TestStoreFailsOver for a primary that is killed, or stands still and comes
// to itself when the replica has taken its place.
func failOver(t *testing.T, how string) {
	w := startWatched(t)
	c := newCluster(t, 6, clusterOptions{store: w.url, env: []string{"STARTUP_WAIT=off"}})
	// One node comes after the replica has been cut off, and so knows of no tunnel.
	fresh, knowing := c.nodes[2], c.nodes[:2]
	fresh.signal(syscall.SIGTERM)
	fresh.exits(0, patience)
	c.back(time.Now(), urls(knowing, c.clients), patience)
	moves := startClient(t, here, "http://"+knowing[0].addr, "moves", c.tg.addr)
	goes := startClient(t, here, "http://"+knowing[0].addr, "goes", c.tg.addr)
	c.back(time.Now(), urls(knowing, []*tunnelClient{moves, goes}), patience)
	// All of that the replica knows.
	<-time.After(100 * time.Millisecond)
	w.replica.tells("EXISTS wst:t:goes", ":1")

	w.cut()
	moves.kill()
	moves = startClient(t, here, "http://"+knowing[1].addr, "moves", c.tg.addr)
	goes.kill()
	late := startClient(t, here, "http://"+knowing[0].addr, "late", c.tg.addr)
	c.clients = append(c.clients, moves, late)
	c.back(time.Now(), urls(knowing, c.clients), patience)
	fresh.service = startService(t, fresh.addr, fresh.opts)
	c.meets(fresh)
	if n := w.replica.do("EXISTS wst:t:late"); n != ":0" {
		t.Fatalf("the replica has heard of what came after the cut: %s", n)
	}

	sessions := c.sessions()
	l := newLoad(t, urls(knowing, c.clients))
	l.requests(pick(50, 200))
	l.always(l.websocket)
	l.always(l.upload)
	gone := []*tunnelClient{{id: "goes"}, {id: "nowhere"}}
	nowhere := watchStatus(t, c, urls(c.nodes, gone))
	<-time.After(time.Second)
	lost := time.Now()
	if how == "killed" {
		w.primary.kill()
	} else {
		w.primary.freeze()
	}
	unknown := watchStatus(t, c, urls([]*node{fresh}, c.clients))
	w.replica.tells("INFO replication", "role:master")
	returned := time.Now()
	mended := "not waited for"
	if long() {
		whole := c.whole(storeBound)
		settled := c.answer(404, urls(c.nodes, gone), returned, storeBound)
		mended = fmt.Sprintf("all tunnels served by all nodes after %v, ids that are nowhere got 404 after %v", ms(whole), ms(settled))
		// The old one comes back, empty if it was killed, and is no primary any more.
		if how == "killed" {
			w.primary.again()
		} else {
			w.primary.signal(syscall.SIGCONT)
		}
		w.primary.tells("INFO replication", "role:slave")
		w.primary.tells("EXISTS wst:t:late", ":1")
		c.whole(storeBound)
	} else {
		<-time.After(3 * time.Second) // of load
	}
	l.stop()
	only(t, "a tunnel of which the node could not know", unknown(), 200, 503)
	only(t, "an id that is nowhere", nowhere(), 404, 503)
	if n := c.sessions() - sessions; n != 0 {
		t.Errorf("there were %d new sessions: tunnels were lost", n)
	}
	summary(t, "the replica took over %v after the primary was lost; %s; %s; answers for tunnels that the node could not know: %v; for ids that are nowhere: %v",
		ms(returned.Sub(lost)), mended, l.report(t), unknown(), nowhere())
	none(t, "requests that came twice", c.tg.twice())
}
