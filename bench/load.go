package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// endpoint is where a contestant is reached.
type endpoint struct {
	Addr string `json:"addr"`           // host:port
	Path string `json:"path,omitempty"` // before the target's own path
	Host string `json:"host,omitempty"` // for the header Host; empty: Addr
	TLS  bool   `json:"tls,omitempty"`
}

// Kinds of load.
const (
	loadRequests = "requests" // requests one after the other on each connection
	loadDownload = "download" // one body on each connection
	loadUpload   = "upload"
	loadArrive   = "arrive" // uploads, as fast as they arrive at the target
	loadFair     = "fair"   // requests without and with a download beside them
	loadEcho     = "echo"   // websocket messages, each waiting for its echo
	loadEvents   = "events" // server-sent events
	loadSweep    = "sweep"  // one download from each endpoint, a few at a time
)

// loadSettings are those of the role load.
type loadSettings struct {
	Kind      string     `json:"kind"`
	Endpoints []endpoint `json:"endpoints"` // connections are spread over them
	Conns     int        `json:"conns"`
	Size      int64      `json:"size"` // of an answer, body or message

	Target string `json:"target"` // address of the target, for arrivals

	// Warmup comes before the measured time. Transfers have none; they end
	// when all is there, or after Time.
	Warmup time.Duration `json:"warmup"`
	Time   time.Duration `json:"time"`

	// CPU lists the processes whose CPU time is measured, by what they are.
	CPU map[string][]int `json:"cpu"`
}

// values maps the names of metrics to what was measured.
type values map[string]float64

// Metrics that more than one load has. CPU times get the name of the processes
// behind cpuPrefix.
const (
	metricRate  = "rate"
	metricP50   = "p50"
	metricP99   = "p99"
	metricBytes = "bytes_per_second"
	cpuPrefix   = "cpu_"
)

func runLoad(ctx context.Context, s loadSettings) error {
	kinds := map[string]func(context.Context, loadSettings) (values, error){
		loadRequests: measureRequests,
		loadDownload: measureTransfers,
		loadUpload:   measureTransfers,
		loadArrive:   measureArrivals,
		loadFair:     measureFairness,
		loadEcho:     measureEcho,
		loadEvents:   measureEvents,
		loadSweep:    measureSweep,
	}
	measure, ok := kinds[s.Kind]
	if !ok || len(s.Endpoints) == 0 || s.Conns < 1 {
		return errors.New("faulty settings")
	}
	v, err := measure(ctx, s)
	if err != nil {
		return err
	}
	return report(v)
}

// meter measures the CPU time that processes use from its start on.
type meter struct {
	pids   map[string][]int
	before map[string]time.Duration
	start  time.Time
}

func startMeter(pids map[string][]int) (*meter, error) {
	m := &meter{pids: pids, before: make(map[string]time.Duration)}
	for name, pids := range pids {
		t, err := cpuTime(pids)
		if err != nil {
			return nil, err
		}
		m.before[name] = t
	}
	m.start = time.Now()
	return m, nil
}

// stop puts the CPU time since the start into v, in microseconds for each of n
// operations, and returns how many seconds have passed.
func (m *meter) stop(v values, n float64) (float64, error) {
	seconds := time.Since(m.start).Seconds()
	for name, pids := range m.pids {
		t, err := cpuTime(pids)
		if err != nil {
			return 0, err
		}
		if n > 0 {
			v[cpuPrefix+name] = float64((t - m.before[name]).Microseconds()) / n
		}
	}
	return seconds, nil
}

// latencies puts percentiles of ds into v, in milliseconds, with suffix behind
// the names.
func latencies(v values, suffix string, ds []time.Duration) {
	ms := make([]float64, len(ds))
	for i, d := range ds {
		ms[i] = float64(d) / float64(time.Millisecond)
	}
	slices.Sort(ms)
	v[metricP50+suffix] = percentile(ms, 0.50)
	v[metricP99+suffix] = percentile(ms, 0.99)
}

// repeat runs one operation after the other on each connection and measures
// those that end after the warm-up and before the end. prepare makes the i-th
// connection, and returns its operation and what closes it.
func repeat(ctx context.Context, s loadSettings, prepare func(ctx context.Context, i int) (op func() error, end func(), err error)) (values, error) {
	type outcome struct {
		took []time.Duration
		err  error
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var begin, finish = make(chan struct{}), make(chan struct{})
	outcomes := make(chan outcome, s.Conns)
	for i := range s.Conns {
		go func() {
			var o outcome
			defer func() { outcomes <- o }()
			op, end, err := prepare(ctx, i)
			if err != nil {
				o.err = err
				return
			}
			defer end()
			for measured := false; ; {
				start := time.Now()
				if o.err = op(); o.err != nil {
					return
				}
				select {
				case <-finish:
					return
				default:
				}
				if measured {
					o.took = append(o.took, time.Since(start))
					continue
				}
				select {
				case <-begin:
					measured = true
				default:
				}
			}
		}()
	}

	// An operation that fails ends the measurement: a rate that includes errors
	// cannot be compared.
	early := func(o outcome) error {
		if o.err == nil {
			o.err = errors.New("a connection ended before the measurement")
		}
		return o.err
	}
	wait := func(d time.Duration) error {
		t := time.NewTimer(d)
		defer t.Stop()
		select {
		case <-t.C:
			return nil
		case o := <-outcomes:
			return early(o)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if err := wait(s.Warmup); err != nil {
		return nil, err
	}
	m, err := startMeter(s.CPU)
	if err != nil {
		return nil, err
	}
	close(begin)
	if err := wait(s.Time); err != nil {
		return nil, err
	}
	v := values{}
	close(finish)
	// The CPU time is taken before anything is counted, so that both cover
	// the same time.
	used := values{}
	seconds, err := m.stop(used, 1)
	if err != nil {
		return nil, err
	}

	var all []time.Duration
	for range s.Conns {
		select {
		case o := <-outcomes:
			if o.err != nil {
				return nil, o.err
			}
			all = append(all, o.took...)
		case <-time.After(30 * time.Second):
			return nil, errors.New("an operation took more than 30 s")
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("nothing was done within %v", s.Time)
	}
	for name, micros := range used {
		v[name] = micros / float64(len(all))
	}
	v[metricRate] = float64(len(all)) / seconds
	latencies(v, "", all)
	return v, nil
}

func (s loadSettings) endpoint(i int) endpoint { return s.Endpoints[i%len(s.Endpoints)] }

// measureRequests asks for bodies of Size bytes.
func measureRequests(ctx context.Context, s loadSettings) (values, error) {
	return repeat(ctx, s, func(ctx context.Context, i int) (func() error, func(), error) {
		e := s.endpoint(i)
		c, err := dialHTTP(ctx, e)
		if err != nil {
			return nil, nil, err
		}
		req := e.request("GET", fmt.Sprintf("/bytes?n=%d", s.Size), "")
		return func() error { return c.get(req, s.Size) }, c.close, nil
	})
}

// measureEcho sends websocket messages of Size bytes.
func measureEcho(ctx context.Context, s loadSettings) (values, error) {
	return repeat(ctx, s, func(ctx context.Context, i int) (func() error, func(), error) {
		e := s.endpoint(i)
		c, err := dialHTTP(ctx, e)
		if err != nil {
			return nil, nil, err
		}
		if err := c.upgrade(e); err != nil {
			c.close()
			return nil, nil, err
		}
		message := appendFrame(nil, make([]byte, s.Size), true)
		return func() error {
			if _, err := c.conn.Write(message); err != nil {
				return err
			}
			payload, err := readFrame(c.r)
			if err == nil && int64(len(payload)) != s.Size {
				err = fmt.Errorf("echo of %d bytes, want %d", len(payload), s.Size)
			}
			return err
		}, c.close, nil
	})
}
