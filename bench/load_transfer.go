package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// transferBuffer is what a viewer reads and writes at a time.
const transferBuffer = 128 << 10

// measureTransfers moves one body of Size bytes on each connection and measures
// from the requests to the end of the last one, or until Time is over. It counts
// the bytes moved by then; for uploads, the bytes written.
func measureTransfers(ctx context.Context, s loadSettings) (values, error) {
	var moved atomic.Int64
	var wg sync.WaitGroup
	errs := make(chan error, s.Conns)
	conns := make([]*httpConn, s.Conns)
	for i := range conns {
		c, err := dialHTTP(ctx, s.endpoint(i))
		if err != nil {
			return nil, err
		}
		defer c.close()
		conns[i] = c
		// A first request makes proxies on the way open their connections.
		if err := c.get(s.endpoint(i).request("GET", "/bytes?n=1", ""), 1); err != nil {
			return nil, err
		}
	}
	m, err := startMeter(s.CPU)
	if err != nil {
		return nil, err
	}
	end := m.start.Add(s.Time)
	for i, c := range conns {
		_ = c.conn.SetDeadline(end)
		e := s.endpoint(i)
		wg.Go(func() {
			var err error
			if s.Kind == loadUpload {
				err = c.upload(e, s.Size, &moved)
			} else {
				err = c.download(e.request("GET", fmt.Sprintf("/bytes?n=%d", s.Size), ""), &moved)
			}
			// The end of the time is no failure, it only cuts the body.
			if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
				errs <- err
			}
		})
	}
	wg.Wait()
	v := values{}
	n := float64(moved.Load())
	seconds, err := m.stop(v, n/1e6)
	if err != nil {
		return nil, err
	}
	select {
	case err := <-errs:
		return nil, err
	default:
	}
	if n == 0 {
		return nil, fmt.Errorf("nothing was moved within %v", s.Time)
	}
	v[metricBytes] = n / seconds
	return v, ctx.Err()
}

// download reads a body and adds to moved what has come.
func (c *httpConn) download(req []byte, moved *atomic.Int64) error {
	if _, err := c.conn.Write(req); err != nil {
		return err
	}
	a, err := c.readAnswer()
	if err != nil {
		return err
	}
	if a.status != 200 {
		return c.unexpected(a)
	}
	body := c.body(a)
	buf := make([]byte, transferBuffer)
	for {
		n, err := body.Read(buf)
		moved.Add(int64(n))
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// upload sends a body of size bytes and waits for the answer.
func (c *httpConn) upload(e endpoint, size int64, moved *atomic.Int64) error {
	req := e.request("POST", "/sink", fmt.Sprintf("Content-Type: application/octet-stream\r\nContent-Length: %d\r\n", size))
	if _, err := c.conn.Write(req); err != nil {
		return err
	}
	buf := make([]byte, transferBuffer)
	for size > 0 {
		n, err := c.conn.Write(buf[:min(size, transferBuffer)])
		moved.Add(int64(n))
		size -= int64(n)
		if err != nil {
			return err
		}
	}
	a, err := c.readAnswer()
	if err == nil && a.status != 204 {
		err = c.unexpected(a)
	}
	return err
}

// measureArrivals uploads on each connection and measures how many bytes of that
// the target gets within Time. What viewers have written says little where a
// slow link is behind large buffers. The bodies of Size bytes must not end by then.
func measureArrivals(ctx context.Context, s loadSettings) (values, error) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	ended := make(chan error, s.Conns)
	for i := range s.Conns {
		e := s.endpoint(i)
		c, err := dialHTTP(ctx, e)
		if err != nil {
			return nil, err
		}
		defer c.close()
		if err := c.get(e.request("GET", "/bytes?n=1", ""), 1); err != nil {
			return nil, err
		}
		wg.Go(func() {
			var written atomic.Int64
			ended <- c.upload(e, s.Size, &written)
		})
	}
	asked, err := dialHTTP(ctx, endpoint{Addr: s.Target})
	if err != nil {
		return nil, err
	}
	defer asked.close()
	if err := pause(ctx, s.Warmup); err != nil {
		return nil, err
	}
	before, err := asked.arrived(s.Target)
	if err != nil {
		return nil, err
	}
	m, err := startMeter(s.CPU)
	if err != nil {
		return nil, err
	}
	if err := pause(ctx, s.Time); err != nil {
		return nil, err
	}
	after, err := asked.arrived(s.Target)
	if err != nil {
		return nil, err
	}
	select {
	case err := <-ended:
		return nil, fmt.Errorf("an upload has ended: %w", errors.Join(err, io.ErrUnexpectedEOF))
	default:
	}
	v := values{}
	n := float64(after.Bytes - before.Bytes)
	if n == 0 {
		return nil, fmt.Errorf("nothing arrived within %v", s.Time)
	}
	if _, err := m.stop(v, n/1e6); err != nil {
		return nil, err
	}
	v[metricBytes] = n / (float64(after.Nanoseconds-before.Nanoseconds) / 1e9)
	return v, nil
}

// arrivals is what a target says about the bodies of requests.
type arrivals struct {
	Bytes       int64 `json:"bytes"` // since it runs
	Nanoseconds int64 `json:"nanoseconds"`
}

// arrived asks a target.
func (c *httpConn) arrived(host string) (arrivals, error) {
	var got arrivals
	if _, err := c.conn.Write(endpoint{Addr: host}.request("GET", "/arrived", "")); err != nil {
		return got, err
	}
	a, err := c.readAnswer()
	if err != nil {
		return got, err
	}
	if a.status != 200 {
		return got, c.unexpected(a)
	}
	text, err := io.ReadAll(c.body(a))
	if err != nil {
		return got, err
	}
	return got, json.Unmarshal(text, &got)
}

// measureFairness makes requests for Size bytes, one each 20 ms, for Time
// without and for Time with an endless download through the same tunnel. Where
// there are several, the download has one to itself.
func measureFairness(ctx context.Context, s loadSettings) (values, error) {
	e, beside := s.endpoint(0), s.endpoint(1)
	v := values{}
	unloaded, err := probe(ctx, beside, s)
	if err != nil {
		return nil, err
	}
	latencies(v, "_unloaded", unloaded)

	c, err := dialHTTP(ctx, e)
	if err != nil {
		return nil, err
	}
	defer c.close()
	var moved atomic.Int64
	ended := make(chan error, 1)
	go func() { ended <- c.download(e.request("GET", "/endless", ""), &moved) }()
	// The queue must have filled before anything is measured.
	if err := pause(ctx, s.Warmup); err != nil {
		return nil, err
	}
	before, start := moved.Load(), time.Now()
	loaded, err := probe(ctx, beside, s)
	if err != nil {
		return nil, fmt.Errorf("beside a download: %w", err)
	}
	v[metricBytes] = float64(moved.Load()-before) / time.Since(start).Seconds()
	select {
	case err := <-ended:
		return nil, fmt.Errorf("the endless download has ended: %w", errors.Join(err, io.ErrUnexpectedEOF))
	default:
	}
	latencies(v, "", loaded)
	v["added"] = v[metricP99] - v[metricP99+"_unloaded"]
	return v, nil
}

// probe returns how long requests take that are made one after the other.
func probe(ctx context.Context, e endpoint, s loadSettings) ([]time.Duration, error) {
	c, err := dialHTTP(ctx, e)
	if err != nil {
		return nil, err
	}
	defer c.close()
	req := e.request("GET", fmt.Sprintf("/bytes?n=%d", s.Size), "")
	// A request that waits longer than this has failed.
	if err := c.conn.SetDeadline(time.Now().Add(s.Time + 30*time.Second)); err != nil {
		return nil, err
	}
	if err := c.get(req, s.Size); err != nil { // opens the connections behind
		return nil, err
	}
	var took []time.Duration
	for end := time.Now().Add(s.Time); time.Now().Before(end); {
		start := time.Now()
		if err := c.get(req, s.Size); err != nil {
			return nil, err
		}
		took = append(took, time.Since(start))
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return nil, err
		}
	}
	return took, nil
}

// measureSweep downloads Size bytes from each endpoint once, Conns at a time.
func measureSweep(ctx context.Context, s loadSettings) (values, error) {
	todo := make(chan endpoint)
	errs := make(chan error, s.Conns)
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for range s.Conns {
		wg.Go(func() {
			for e := range todo {
				c, err := dialHTTP(ctx, e)
				if err == nil {
					err = c.get(e.request("GET", fmt.Sprintf("/bytes?n=%d", s.Size), ""), s.Size)
					c.close()
				}
				if err != nil && !errors.Is(err, net.ErrClosed) {
					errs <- fmt.Errorf("%s: %w", e.Path, err)
					cancel()
					return
				}
			}
		})
	}
send:
	for _, e := range s.Endpoints {
		select {
		case todo <- e:
		case <-ctx.Done():
			break send
		}
	}
	close(todo)
	wg.Wait()
	select {
	case err := <-errs:
		return nil, err
	default:
		return values{}, ctx.Err()
	}
}
