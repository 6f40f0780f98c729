package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// eventsEvery is how often each viewer gets an event.
const eventsEvery = 200 * time.Millisecond

// measureEvents reads server-sent events and how old they are when they come.
func measureEvents(ctx context.Context, s loadSettings) (values, error) {
	var begun, finished atomic.Bool
	var wg sync.WaitGroup
	var mu sync.Mutex
	var all []time.Duration
	errs := make(chan error, s.Conns)
	reading := make(chan struct{}, s.Conns)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for i := range s.Conns {
		wg.Go(func() {
			ages, err := readEvents(ctx, s.endpoint(i), &begun, &finished, func() { reading <- struct{}{} })
			if err != nil && !finished.Load() {
				errs <- err
			}
			mu.Lock()
			defer mu.Unlock()
			all = append(all, ages...)
		})
	}
	for range s.Conns {
		select {
		case <-reading:
		case err := <-errs:
			return nil, err
		case <-time.After(20 * time.Second):
			return nil, fmt.Errorf("not all of %d event streams began within 20 s", s.Conns)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if err := pause(ctx, s.Warmup); err != nil {
		return nil, err
	}
	m, err := startMeter(s.CPU)
	if err != nil {
		return nil, err
	}
	begun.Store(true)
	if err := pause(ctx, s.Time); err != nil {
		return nil, err
	}
	finished.Store(true)
	v := values{}
	seconds, err := m.stop(v, 1)
	if err != nil {
		return nil, err
	}
	cancel()
	wg.Wait()
	select {
	case err := <-errs:
		return nil, err
	default:
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("no event came within %v", s.Time)
	}
	for name := range s.CPU {
		v[cpuPrefix+name] /= float64(len(all))
	}
	v[metricRate] = float64(len(all)) / seconds
	latencies(v, "", all)
	return v, nil
}

// readEvents returns the ages of the events that come between begun and
// finished. It calls reading once the stream has begun.
func readEvents(ctx context.Context, e endpoint, begun, finished *atomic.Bool, reading func()) ([]time.Duration, error) {
	c, err := dialHTTP(ctx, e)
	if err != nil {
		return nil, err
	}
	defer c.close()
	if _, err := c.conn.Write(e.request("GET", "/events?every="+eventsEvery.String(), "")); err != nil {
		return nil, err
	}
	a, err := c.readAnswer()
	if err != nil {
		return nil, err
	}
	if a.status != 200 {
		return nil, c.unexpected(a)
	}
	reading()
	var ages []time.Duration
	lines := bufio.NewScanner(c.body(a))
	for lines.Scan() {
		data, ok := bytes.CutPrefix(lines.Bytes(), []byte("data: "))
		if !ok {
			continue
		}
		sent, err := strconv.ParseInt(string(data), 10, 64)
		if err != nil {
			return ages, err
		}
		if finished.Load() {
			return ages, nil
		}
		if begun.Load() {
			ages = append(ages, time.Duration(time.Now().UnixNano()-sent))
		}
	}
	if err := lines.Err(); err != nil {
		return ages, err
	}
	return ages, fmt.Errorf("an event stream has ended")
}
