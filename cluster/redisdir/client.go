package redisdir

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/redis/rueidis"
)

const (
	// maxInFlight bounds the exchanges with the store that have not ended. One
	// whose caller has given up counts until the store has answered or the
	// connection is given up.
	maxInFlight = 256

	// pingInterval is how often a silent connection is tried, and answerTimeout
	// how long a try and a handshake may take: longer than a slow store needs.
	pingInterval  = time.Second
	answerTimeout = 3 * time.Second

	// bufferSize is that of each connection, in each direction. The client's own
	// default is 512 KiB.
	bufferSize = 32 << 10

	// refreshInterval is how often the client asks sentinels and shards who is in
	// charge, besides what they tell it by themselves.
	refreshInterval = 5 * time.Second
)

// An attempt to make the client, which several calls may wait for.
type attempt struct {
	done   chan struct{}
	client rueidis.Client
	err    error
}

// options returns s as the client has them.
func (s settings) options() rueidis.ClientOption {
	// Timeout bounds the handshake as well. dial has the limit for connecting.
	dialer := net.Dialer{Timeout: answerTimeout, KeepAlive: pingInterval}
	return rueidis.ClientOption{
		InitAddress: s.addrs,
		Username:    s.User,
		Password:    s.Password,
		SelectDB:    s.db,
		ClientName:  "websocktunnel",

		ClientSetInfo: rueidis.DisableClientSetInfo,
		TLSConfig:     s.TLS,
		Dialer:        dialer,
		DialCtxFn:     s.dial,
		Sentinel: rueidis.SentinelOption{
			MasterSet:               s.master,
			Username:                s.SentinelUser,
			Password:                s.SentinelPassword,
			TLSConfig:               s.TLS,
			Dialer:                  dialer,
			TopologyRefreshInterval: refreshInterval,
		},
		ClusterOption: rueidis.ClusterOption{
			ShardsRefreshInterval: refreshInterval,
			MaxMovedRedirections:  5,
		},
		ForceSingleClient: s.kind == standalone || s.kind == socket,

		// One connection to each server, which notices at once that it has ended.
		PipelineMultiplex:   -1,
		AlwaysPipelining:    true,
		RingScaleEachConn:   9, // 512, more than maxInFlight
		ReadBufferEachConn:  bufferSize,
		WriteBufferEachConn: bufferSize,
		ConnWriteTimeout:    answerTimeout,
		DisableCache:        true,
		DisableRetry:        true, // by whoever calls, who knows for how long it makes sense
	}
}

// dial connects to addr.
func (s settings) dial(ctx context.Context, addr string, dialer *net.Dialer, config *tls.Config) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, s.DialTimeout)
	defer cancel()
	network := "tcp"
	if s.kind == socket {
		network = "unix"
	}
	var nc net.Conn
	var err error
	if config == nil {
		nc, err = dialer.DialContext(ctx, network, addr)
	} else {
		nc, err = (&tls.Dialer{NetDialer: dialer, Config: config}).DialContext(ctx, network, addr)
	}
	if err != nil {
		return nil, err
	}
	return &conn{Conn: nc}, nil
}

// connect returns the client. It makes one if there is none yet, which needs the
// store. Once there, the client connects again by itself.
func (d *Directory) connect(ctx context.Context) (rueidis.Client, error) {
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return nil, errClosed
	}
	a := d.attempt
	if a == nil {
		a = &attempt{done: make(chan struct{})}
		d.attempt = a
		d.running.Go(func() { d.attemptTo(a) })
	}
	d.mu.Unlock()
	select {
	case <-a.done:
		return a.client, a.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// attemptTo makes the client. If it cannot, the next call begins another attempt.
func (d *Directory) attemptTo(a *attempt) {
	start := time.Now()
	a.client, a.err = rueidis.NewClient(d.options())
	if a.err == nil && d.kind == shards && a.client.Mode() != rueidis.ClientModeCluster {
		a.client.Close()
		a.client, a.err = nil, errNoCluster
	}
	a.err = d.clean(a.err)
	d.mu.Lock()
	if a.err != nil {
		d.attempt = nil
	}
	d.mu.Unlock()
	d.observe("connect", start, a.err)
	close(a.done)
}

var (
	errClosed    = errors.New("the directory is closed")
	errNoCluster = errors.New("the server is not part of a Redis Cluster: use a URL with redis or rediss")
	errShard     = errors.New("the server is part of a Redis Cluster: use a URL with redis+cluster or rediss+cluster")
)

// call calls f with the client and returns what f returns, or an error as soon as ctx
// ends. f has no context: a command that was sent cannot be taken back, and the
// connection that it waits for ends within a few seconds if the store is silent.
func call[T any](ctx context.Context, d *Directory, op string, f func(rueidis.Client) (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	start := time.Now()
	done := make(chan result, 1)
	var r result
	r.err = ctx.Err()
	if r.err == nil {
		var client rueidis.Client
		client, r.err = d.connect(ctx)
		if r.err == nil {
			r.err = d.begin(ctx, func() {
				value, err := f(client)
				done <- result{value, d.clean(err)}
			})
		}
	}
	if r.err == nil {
		select {
		case r = <-done:
		case <-ctx.Done():
			r.err = ctx.Err()
		}
	}
	if r.err != nil {
		r.err = fmt.Errorf("redisdir: %s: %w", op, r.err)
	}
	d.observe(op, start, r.err)
	return r.value, r.err
}

// begin starts f as soon as there is room.
func (d *Directory) begin(ctx context.Context, f func()) error {
	select {
	case d.inFlight <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	err := d.start(func() {
		defer func() { <-d.inFlight }()
		f()
	})
	if err != nil {
		<-d.inFlight
	}
	return err
}

// start runs f in a goroutine of its own, for which Close waits.
func (d *Directory) start(f func()) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return errClosed
	}
	d.running.Go(f)
	return nil
}

func (d *Directory) observe(op string, start time.Time, err error) {
	if d.Observe != nil {
		d.Observe(op, time.Since(start), err)
	}
}

// clean returns err, which the client has returned, without secrets and with what to
// do about it. Servers quote commands that they do not know, and the password is
// in one. Deadlines are the client's own.
func (d *Directory) clean(err error) error {
	if err == nil {
		return nil
	}
	if re, ok := rueidis.IsRedisErr(err); ok && d.kind != shards {
		if _, moved := re.IsMoved(); moved {
			return errShard
		}
	}
	if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) {
		return errSilent
	}
	for _, secret := range []string{d.Password, d.SentinelPassword} {
		if secret != "" && strings.Contains(err.Error(), secret) {
			return errors.New(strings.ReplaceAll(err.Error(), secret, "…"))
		}
	}
	return err
}

var errSilent = errors.New("the store does not answer")
