package redisdir

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/redis/rueidis"

	"github.com/websocktunnel/websocktunnel/cluster"
)

const (
	// maxUnheard is how many events may wait for f. A Watch that falls behind ends,
	// and begins again.
	maxUnheard = 1024

	// heartbeat is how often a Watch sends itself a message, and missed how many of
	// them in a row may get lost.
	heartbeat = 3 * time.Second
	missed    = 3
)

var (
	errUnheard = errors.New("events came faster than they were heard")
	errNoBeat  = errors.New("the subscription has lost its heartbeat")
)

// Watch implements [cluster.Directory]. Besides the loss of its connection it notices,
// within 12 s, that nothing comes through it any more, and within 3 s that Sentinel
// has another master. f may block for as long as 1024 events
// take to come.
func (d *Directory) Watch(ctx context.Context, f func(cluster.Event)) error {
	start := time.Now()
	err := d.watch(ctx, f)
	err = fmt.Errorf("redisdir: watch: %w", err)
	d.observe("watch", start, err)
	return err
}

func (d *Directory) watch(ctx context.Context, f func(cluster.Event)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	client, err := d.connect(ctx)
	if err != nil {
		return err
	}
	s := &subscription{
		channel: d.channel(),
		own:     d.KeyPrefix + "hb:" + rand.Text(),
		events:  make(chan cluster.Event, maxUnheard),
		beats:   make(chan struct{}, 1),
		ready:   make(chan struct{}),
		ended:   make(chan error, 1),
	}
	if err := d.start(func() { s.run(ctx, d, client) }); err != nil {
		return err
	}
	select {
	case <-s.ready:
		f(cluster.Event{Kind: cluster.EventResync})
	case err := <-s.ended:
		return err
	case <-d.closing:
		return errClosed
	case <-ctx.Done():
		return ctx.Err()
	}

	tick := time.NewTicker(d.heartbeat)
	defer tick.Stop()
	silent := 0
	for {
		select {
		case e := <-s.events:
			f(e)
		case <-s.beats:
			silent = 0
		case <-tick.C:
			if silent++; silent > missed {
				return errNoBeat
			}
			if err := d.start(func() { d.publish(ctx, s) }); err != nil {
				return err
			}
		case err := <-s.ended:
			return err
		case <-d.closing:
			return errClosed
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// publish sends s a heartbeat. If that fails, Watch misses it. One that nobody gets went
// to another server than the one that s is subscribed to: Sentinel has replaced it,
// and it lives. In a Redis Cluster the number says nothing.
func (d *Directory) publish(ctx context.Context, s *subscription) {
	ctx, cancel := context.WithTimeout(ctx, d.heartbeat)
	defer cancel()
	heard, err := call(ctx, d, "heartbeat", func(c rueidis.Client) (int64, error) {
		return c.Do(context.Background(), c.B().Publish().Channel(s.own).Message("").Build()).AsInt64()
	})
	if err == nil && heard == 0 && d.kind != shards {
		s.end(errNoBeat)
	}
}

// A subscription is the connection of one Watch. Its hooks run in the goroutine that
// reads from the connection, and never block it.
type subscription struct {
	channel, own string

	events chan cluster.Event
	beats  chan struct{} // a heartbeat has come
	ready  chan struct{} // closed when both channels are subscribed to
	ended  chan error
}

// run subscribes, and returns when ctx or the connection ends.
func (s *subscription) run(ctx context.Context, d *Directory, client rueidis.Client) {
	dedicated, release := client.Dedicate()
	defer release()
	defer dedicated.Close()
	lost := dedicated.SetPubSubHooks(rueidis.PubSubHooks{OnMessage: s.message, OnSubscription: s.subscribed})
	subscribe := dedicated.B().Subscribe().Channel(s.channel, s.own).Build()
	if err := dedicated.Do(context.Background(), subscribe).Error(); err != nil {
		s.end(d.clean(err))
		return
	}
	select {
	case err := <-lost:
		s.end(d.clean(cmp.Or(err, io.ErrUnexpectedEOF)))
	case <-ctx.Done():
	}
}

func (s *subscription) subscribed(p rueidis.PubSubSubscription) {
	if p.Kind == "subscribe" && p.Count == 2 {
		close(s.ready)
	}
}

func (s *subscription) message(m rueidis.PubSubMessage) {
	if m.Channel == s.own {
		select {
		case s.beats <- struct{}{}:
		default:
		}
		return
	}
	e, ok := parseMessage(m.Message)
	if !ok {
		return
	}
	select {
	case s.events <- e:
	default:
		s.end(errUnheard)
	}
}

// end says why the subscription has ended. The first reason counts.
func (s *subscription) end(err error) {
	select {
	case s.ended <- err:
	default:
	}
}
