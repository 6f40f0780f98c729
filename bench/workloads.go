package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"text/tabwriter"
	"time"
)

// metric is one column of a workload's table.
type metric struct {
	Key    string  `json:"key"`
	Label  string  `json:"label"`
	Better string  `json:"better,omitempty"` // "more" or "less"; empty: neither
	Scale  float64 `json:"-"`                // what values are divided by when they are shown
}

// Values of metric.Better.
const (
	more = "more"
	less = "less"
)

// workload is one thing to measure.
type workload struct {
	name  string
	title string

	condition func(o options) string // what the title says besides; nil: nothing

	// metrics are the columns. Contestants are compared by the first.
	metrics []metric

	// yardstick is the contestant that the ratios are made with.
	yardstick string

	// rivals are the names of the contestants; nil means all but the single
	// proxy.
	rivals []string

	upgrades bool // those that carry websockets only
	secure   bool
	link     *relaySettings
	tunnels  int
	load     func(o options) loadSettings

	// prepare, if not nil, takes the place of load: it starts what the
	// contestant needs and returns the function to call in each round.
	prepare func(ctx context.Context, e *environment, o options, name string) (func(context.Context) (values, error), error)

	onRequest bool         // it is left out unless --only names it
	possible  func() error // why this machine cannot do it; nil: each can

	// variants, if not nil, are measured in place of rivals.
	variants func(o options) []contestant
}

var (
	cpuColumns = []metric{
		{Key: cpuPrefix + "service", Label: "service CPU µs", Better: less},
		{Key: cpuPrefix + "client", Label: "client CPU µs", Better: less},
	}
	requestColumns = append([]metric{
		{Key: metricRate, Label: "requests/s", Better: more},
		{Key: metricP50, Label: "p50 ms", Better: less},
		{Key: metricP99, Label: "p99 ms", Better: less},
	}, cpuColumns...)
	transferColumns = []metric{
		{Key: metricBytes, Label: "MB/s", Better: more, Scale: 1e6},
		{Key: cpuPrefix + "service", Label: "service CPU µs/MB", Better: less},
		{Key: cpuPrefix + "client", Label: "client CPU µs/MB", Better: less},
	}
	fairColumns = []metric{
		{Key: metricP99, Label: "p99 ms", Better: less},
		{Key: metricP50, Label: "p50 ms", Better: less},
		{Key: metricP50 + "_unloaded", Label: "p50 ms unloaded", Better: less},
		{Key: metricP99 + "_unloaded", Label: "p99 ms unloaded", Better: less},
		{Key: "added", Label: "added to p99 ms", Better: less},
		{Key: metricBytes, Label: "download MB/s", Better: more, Scale: 1e6},
	}
)

const mebibyte = 1 << 20

// quickly returns the second value with --quick, otherwise the first.
func quickly[T any](o options, full, quick T) T {
	if o.quick {
		return quick
	}
	return full
}

func warmup(o options) time.Duration {
	return quickly(o, 500*time.Millisecond, 100*time.Millisecond)
}

func small(conns int) func(options) loadSettings {
	return func(o options) loadSettings {
		return loadSettings{Kind: loadRequests, Conns: conns, Size: 1024, Warmup: warmup(o), Time: o.seconds}
	}
}

// transfer moves bodies of size bytes, with --quick a tenth of that.
func transfer(kind string, conns int, size int64, most time.Duration) func(options) loadSettings {
	return func(o options) loadSettings {
		return loadSettings{Kind: kind, Conns: conns, Size: quickly(o, size, size/10), Time: quickly(o, most, 2*time.Second)}
	}
}

var (
	// longLink has a round trip of 100 ms and all the bandwidth there is.
	longLink = &relaySettings{Delay: 50 * time.Millisecond}

	// slowLink has 20 Mbit/s, a round trip of 40 ms and a queue of 100 ms.
	slowLink = &relaySettings{Delay: 20 * time.Millisecond, Rate: 20e6 / 8, Queue: 100 * time.Millisecond}
)

var workloads []workload

// The list is made in init because its functions refer to it.
func init() {
	workloads = []workload{
		{name: "small-1", title: "answers of 1 KiB, 1 connection kept alive", metrics: requestColumns, yardstick: nameH2C, load: small(1)},
		{name: "small-32", title: "answers of 1 KiB, 32 connections kept alive", metrics: requestColumns, yardstick: nameH2C, load: small(32)},
		{name: "small-256", title: "answers of 1 KiB, 256 connections kept alive", metrics: requestColumns, yardstick: nameH2C, load: small(256)},
		{name: "down-1", title: "one download of 300 MiB", metrics: transferColumns, yardstick: nameH2C, load: transfer(loadDownload, 1, 300*mebibyte, 10*time.Second)},
		{name: "down-8", title: "8 parallel downloads of 60 MiB", metrics: transferColumns, yardstick: nameH2C, load: transfer(loadDownload, 8, 60*mebibyte, 10*time.Second)},
		{name: "up-1", title: "one upload of 300 MiB", metrics: transferColumns, yardstick: nameH2C, load: transfer(loadUpload, 1, 300*mebibyte, 10*time.Second)},
		{name: "up-8", title: "8 parallel uploads of 60 MiB", metrics: transferColumns, yardstick: nameH2C, load: transfer(loadUpload, 8, 60*mebibyte, 10*time.Second)},
		{name: "rtt-down", title: "one download of 100 MiB, round trip of 100 ms", metrics: transferColumns, yardstick: nameH2C, link: longLink, load: transfer(loadDownload, 1, 100*mebibyte, 12*time.Second)},
		{name: "rtt-up", title: "one upload of 100 MiB, round trip of 100 ms", metrics: transferColumns, yardstick: nameH2C, link: longLink, load: transfer(loadUpload, 1, 100*mebibyte, 12*time.Second)},
		{
			name: "fair", title: "answers of 1 KiB beside an endless download, 20 Mbit/s, round trip of 40 ms, queue of 100 ms",
			metrics:   fairColumns,
			yardstick: nameH2C, link: slowLink,
			load: func(o options) loadSettings {
				return loadSettings{Kind: loadFair, Conns: 1, Size: 1024, Warmup: quickly(o, 3*time.Second, time.Second), Time: quickly(o, 2*o.seconds, time.Second)}
			},
		},
		{
			name: "echo", title: "websocket echo of 128 bytes, 100 viewers",
			metrics: append([]metric{
				{Key: metricRate, Label: "messages/s", Better: more},
				{Key: metricP50, Label: "p50 ms", Better: less},
				{Key: metricP99, Label: "p99 ms", Better: less},
			}, cpuColumns...),
			yardstick: nameProxy, upgrades: true,
			rivals: []string{nameTarget, nameProxy, nameHTTP1, nameYamux, nameOurs, nameOursB, "frp", "piko", "chisel"},
			load: func(o options) loadSettings {
				return loadSettings{Kind: loadEcho, Conns: 100, Size: 128, Warmup: warmup(o), Time: o.seconds}
			},
		},
		{name: "tls", title: "answers of 1 KiB, 32 connections kept alive, TLS to the viewers and through the tunnel", metrics: requestColumns, yardstick: nameH2C, secure: true, load: small(32)},
		{
			name: "events", title: "server-sent events, one each 200 ms to each of 500 viewers, over 4 tunnels",
			metrics: append([]metric{
				{Key: metricP99, Label: "age p99 ms", Better: less},
				{Key: metricP50, Label: "age p50 ms", Better: less},
				{Key: metricRate, Label: "events/s"},
			}, cpuColumns...),
			yardstick: nameH2C, tunnels: 4,
			load: func(o options) loadSettings {
				return loadSettings{Kind: loadEvents, Conns: 500, Warmup: warmup(o), Time: max(o.seconds, 2*eventsEvery)}
			},
		},
		{
			name: "idle", title: "tunnels that are connected and carry nothing (--tunnels)",
			metrics: []metric{
				{Key: "rss", Label: "RSS KiB/tunnel", Better: less, Scale: 1024},
				{Key: "rss_after", Label: "RSS KiB/tunnel after a download each", Better: less, Scale: 1024},
				{Key: "goroutines", Label: "goroutines/tunnel", Better: less},
				{Key: "cpu", Label: "% of a core for all", Better: less},
			},
			rivals: []string{nameOurs, nameOursB}, prepare: prepareIdle,
		},
		{
			name: "storm", title: "all tunnels reconnect to a service that was killed and started again (--tunnels)",
			metrics: []metric{
				{Key: "back95", Label: "s until 95 % are back", Better: less},
				{Key: "back", Label: "s until all are back", Better: less},
				{Key: "cpu", Label: "service CPU s", Better: less},
			},
			rivals: []string{nameOurs, nameOursB}, prepare: prepareStorm,
		},
		{
			name: "growth", title: "answers of 1 KiB, 32 connections kept alive, beside idle tunnels",
			metrics:   append([]metric{cpuColumns[0]}, requestColumns[0]),
			yardstick: growthName(nameOurs, 1), variants: growthVariants, prepare: prepareGrowth,
		},
	}
	workloads = append(workloads, lossWorkloads()...)
}

func workloadNames() []string {
	var names []string
	for _, w := range workloads {
		names = append(names, w.name)
	}
	return names
}

func listWorkloads(out io.Writer) {
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, w := range workloads {
		fmt.Fprintf(t, "%s\t%s\n", w.name, w.title)
	}
	t.Flush()
}

// asked reports whether the options ask for the workload.
func (w workload) asked(o options) bool {
	if len(o.only) == 0 {
		return !w.onRequest
	}
	return wants(o.only, w.name)
}

// can reports why this machine cannot measure the workload.
func (w workload) can() error {
	if w.possible == nil {
		return nil
	}
	return w.possible()
}

// field returns the contestants of a workload, with those that are not wanted,
// cannot do it or are not installed left out.
func (w workload) field(o options) []contestant {
	if w.variants != nil {
		return w.variants(o)
	}
	var field []contestant
	for _, c := range contestants {
		switch {
		case !wants(o.against, c.name),
			w.rivals == nil && c.name == nameProxy,
			!wants(w.rivals, c.name),
			w.upgrades && !c.upgrades,
			w.secure && !c.secure,
			c.name == nameOursB && o.binB == "",
			!c.installed():
		default:
			field = append(field, c)
		}
	}
	return field
}

// ready starts a contestant and returns a function that measures it once.
func (w workload) ready(ctx context.Context, e *environment, o options, c contestant) (func(context.Context) (values, error), error) {
	if w.prepare != nil {
		return w.prepare(ctx, e, o, c.name)
	}
	running, err := c.start(ctx, e)
	if err != nil {
		return nil, err
	}
	return e.loader(running, w.load(o)), nil
}

// loader returns a function that puts load on a contestant once.
func (e *environment) loader(c *contender, s loadSettings) func(context.Context) (values, error) {
	s.Endpoints = c.endpoints
	s.CPU = c.cpu()
	return func(ctx context.Context) (values, error) { return e.measure(ctx, s) }
}

// measure runs one load.
func (e *environment) measure(ctx context.Context, s loadSettings) (values, error) {
	p, err := e.role(ctx, "load", s, nil)
	if err != nil {
		return nil, err
	}
	defer p.kill()
	line, err := p.line(ctx, s.Warmup+2*s.Time+2*time.Minute)
	if err != nil {
		return nil, err
	}
	v := values{}
	return v, p.decode(line, &v)
}

// prepareIdle measures a crowd at rest, with a new service in each round.
func prepareIdle(_ context.Context, e *environment, o options, name string) (func(context.Context) (values, error), error) {
	return func(ctx context.Context) (v values, err error) {
		e := e.fresh()
		defer e.end()
		port, err := freePort()
		if err != nil {
			return nil, err
		}
		service, err := e.startService(ctx, name, newSecret(), port)
		if err != nil {
			return nil, err
		}
		settle := quickly(o, 10*time.Second, time.Second)
		if err := pause(ctx, time.Second); err != nil {
			return nil, err
		}
		empty, err := residentMemory(service.pid())
		if err != nil {
			return nil, err
		}
		if _, err := e.startCrowd(ctx, service, o.tunnels); err != nil {
			return nil, err
		}
		if err := pause(ctx, settle); err != nil {
			return nil, err
		}

		v = values{}
		each := func(key string) error {
			rss, err := residentMemory(service.pid())
			v[key] = (rss - empty) / float64(o.tunnels)
			return err
		}
		// Long enough that each tunnel is asked for a sign of life twice.
		m, err := startMeter(map[string][]int{"service": {service.pid()}})
		if err != nil {
			return nil, err
		}
		if err := pause(ctx, quickly(o, 30*time.Second, 2*time.Second)); err != nil {
			return nil, err
		}
		used := values{}
		seconds, err := m.stop(used, 1)
		if err != nil {
			return nil, err
		}
		v["cpu"] = used[cpuPrefix+"service"] / 1e6 / seconds * 100
		if err := each("rss"); err != nil {
			return nil, err
		}

		sweep := loadSettings{Kind: loadSweep, Conns: 8, Size: mebibyte, Time: time.Duration(o.tunnels) * 20 * time.Millisecond}
		for i := range o.tunnels {
			sweep.Endpoints = append(sweep.Endpoints, endpoint{Addr: service.addr, Path: "/" + crowdID(i), TLS: e.secure})
		}
		if _, err := e.measure(ctx, sweep); err != nil {
			return nil, err
		}
		if err := pause(ctx, settle); err != nil {
			return nil, err
		}
		if err := each("rss_after"); err != nil {
			return nil, err
		}

		n, err := service.goroutines(ctx)
		v["goroutines"] = float64(n) / float64(o.tunnels)
		return v, err
	}, nil
}

// goroutines ends the process and returns how many goroutines it had.
func (p *process) goroutines(ctx context.Context) (int, error) {
	if err := dumpStacks(p.cmd); err != nil {
		return 0, err
	}
	select {
	case <-p.done:
	case <-time.After(30 * time.Second):
		return 0, p.failed(errors.New("did not end within 30 s of SIGQUIT"))
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	log, err := os.ReadFile(p.log)
	if err != nil {
		return 0, err
	}
	n := countGoroutines(log)
	if n == 0 {
		return 0, p.failed(errors.New("printed no goroutines"))
	}
	return n, nil
}

// prepareStorm measures how soon a crowd is back after its service was killed.
func prepareStorm(_ context.Context, e *environment, o options, name string) (func(context.Context) (values, error), error) {
	return func(ctx context.Context) (values, error) {
		e := e.fresh()
		defer e.end()
		port, err := freePort()
		if err != nil {
			return nil, err
		}
		secret := newSecret()
		service, err := e.startService(ctx, name, secret, port)
		if err != nil {
			return nil, err
		}
		crowd, err := e.startCrowd(ctx, service, o.tunnels)
		if err != nil {
			return nil, err
		}
		service.kill()
		if err := crowd.wait(ctx, func(n int) bool { return n == 0 }); err != nil {
			return nil, err
		}
		service, err = e.startService(ctx, name, secret, port)
		if err != nil {
			return nil, err
		}
		start := time.Now()
		v := values{}
		err = crowd.wait(ctx, func(n int) bool {
			if _, ok := v["back95"]; !ok && n*100 >= o.tunnels*95 {
				v["back95"] = time.Since(start).Seconds()
			}
			return n == o.tunnels
		})
		if err != nil {
			return nil, err
		}
		v["back"] = time.Since(start).Seconds()
		used, err := cpuTime([]int{service.pid()})
		v["cpu"] = used.Seconds()
		return v, err
	}, nil
}

// growthName is the name of one of our builds beside a number of tunnels.
func growthName(name string, tunnels int) string { return fmt.Sprintf("%s@%d", name, tunnels) }

// settleTime is how long a service takes to see tunnels as lasting, and to give its heap room
// for them.
const settleTime = 70 * time.Second

func growthSizes(o options) []int { return quickly(o, []int{1, 100, 1000, 10000}, []int{1, 100}) }

func growthVariants(o options) []contestant {
	var variants []contestant
	for _, name := range []string{nameOurs, nameOursB} {
		if name == nameOursB && o.binB == "" || !wants(o.against, name) {
			continue
		}
		for _, n := range growthSizes(o) {
			variants = append(variants, contestant{
				name:  growthName(name, n),
				label: fmt.Sprintf("%s, connected tunnels: %d", contestantNamed(name).label, n),
			})
		}
	}
	return variants
}

// prepareGrowth starts a service with as many tunnels as the variant's name
// says, one of which has a tunnel client of its own.
func prepareGrowth(ctx context.Context, e *environment, o options, variant string) (func(context.Context) (values, error), error) {
	for _, name := range []string{nameOurs, nameOursB} {
		for _, n := range growthSizes(o) {
			if growthName(name, n) != variant {
				continue
			}
			port, err := freePort()
			if err != nil {
				return nil, err
			}
			service, err := e.startService(ctx, name, newSecret(), port)
			if err != nil {
				return nil, err
			}
			if n > 1 {
				if _, err := e.startCrowd(ctx, service, n-1); err != nil {
					return nil, err
				}
			}
			if n == slices.Max(growthSizes(o)) {
				if err := pause(ctx, quickly(o, settleTime, 0)); err != nil {
					return nil, err
				}
			}
			running, err := e.withClients(ctx, name, service)
			if err != nil {
				return nil, err
			}
			return e.loader(running, small(32)(o)), nil
		}
	}
	return nil, fmt.Errorf("there is no %q", variant)
}
