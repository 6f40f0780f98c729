package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// The workloads on a link that loses packets. Each contestant has a link of its
// own. What a tunnel over N websockets carries is measured with --connections, and with
// N tunnels over which the viewers spread their requests.

// lossyLink has 100 Mbit/s, a round trip of 40 ms and a queue of 100 ms.
func lossyLink(o options, congestion string) lossyLinkSettings {
	return lossyLinkSettings{
		Delay: 20 * time.Millisecond, Rate: 100e6 / 8, Queue: 100 * time.Millisecond,
		Loss: o.loss / 100, Congestion: congestion,
	}
}

// Congestion controls of the kernel. Cubic is what almost all machines use; where
// the kernel has BBR, it is measured as well.
const (
	cubic = "cubic"
	bbr   = "bbr"
)

// lossVariant is a contestant on a link that loses packets.
type lossVariant struct {
	base       string // name of the contestant
	tunnels    int
	congestion string

	connections int // websockets of the one tunnel; zero: one
}

func (v lossVariant) name() string {
	name := v.base
	if v.tunnels > 0 {
		name = fmt.Sprintf("%s@%d", name, v.tunnels)
	}
	if v.connections > 0 {
		name += fmt.Sprintf("x%d", v.connections)
	}
	if v.congestion != cubic {
		name += "+" + v.congestion
	}
	return name
}

func (v lossVariant) contestant() contestant {
	label := contestantNamed(v.base).label
	if v.tunnels > 1 {
		label += fmt.Sprintf(", %d tunnels", v.tunnels)
	}
	if v.connections > 0 {
		label += fmt.Sprintf(", --connections %d", v.connections)
	}
	if v.congestion != cubic {
		label += ", " + strings.ToUpper(v.congestion)
	}
	return contestant{name: v.name(), label: label}
}

func lossVariants(o options) []lossVariant {
	var variants []lossVariant
	for _, congestion := range []string{cubic, bbr} {
		tunnels := []int{1, 2, 4, 8}
		if congestion == bbr {
			if !congestionAllowed(bbr) {
				continue
			}
			tunnels = []int{1, 4}
		}
		for _, name := range []string{nameTarget, nameHTTP1, nameH2C, nameYamux} {
			variants = append(variants, lossVariant{base: name, congestion: congestion})
		}
		for _, name := range []string{nameOurs, nameOursB} {
			if name == nameOursB && o.binB == "" {
				continue
			}
			for _, n := range tunnels {
				variants = append(variants, lossVariant{base: name, tunnels: n, congestion: congestion})
			}
			if name == nameOurs && congestion == cubic {
				for _, n := range []int{4, 8} {
					variants = append(variants, lossVariant{base: name, tunnels: 1, congestion: congestion, connections: n})
				}
			}
		}
	}
	return slices.DeleteFunc(variants, func(v lossVariant) bool { return !wants(o.against, v.base) })
}

// lossWorkload is a workload on a link that loses packets.
func lossWorkload(name, title string, metrics []metric, load func(options) loadSettings) workload {
	return workload{
		name: name, title: title + ", on a link that loses packets",
		condition: func(o options) string {
			return fmt.Sprintf("100 Mbit/s, round trip of 40 ms, queue of 100 ms, %v %% of the packets lost", o.loss)
		},
		metrics: metrics, yardstick: lossVariant{base: nameOurs, tunnels: 1, congestion: cubic}.name(),
		onRequest: true, possible: lossyLinkPossible,
		variants: func(o options) []contestant {
			var list []contestant
			for _, v := range lossVariants(o) {
				list = append(list, v.contestant())
			}
			return list
		},
		prepare: func(ctx context.Context, e *environment, o options, name string) (func(context.Context) (values, error), error) {
			all := lossVariants(o)
			i := slices.IndexFunc(all, func(v lossVariant) bool { return v.name() == name })
			if i < 0 {
				return nil, fmt.Errorf("there is no %q", name)
			}
			return prepareLoss(ctx, e, o, all[i], load(o))
		},
	}
}

// prepareLoss starts a contestant at the ends of a link of its own.
func prepareLoss(ctx context.Context, e *environment, o options, v lossVariant, load loadSettings) (func(context.Context) (values, error), error) {
	var ends lossyLinkEnds
	if _, err := e.role(ctx, "lossy-link", lossyLink(o, v.congestion), &ends); err != nil {
		return nil, err
	}
	e = e.between(ends)
	e.tunnels, e.connections = v.tunnels, v.connections
	var target listening
	if _, err := e.behind().role(ctx, "target", targetSettings{}, &target); err != nil {
		return nil, err
	}
	e.target = target.Addr
	running, err := contestantNamed(v.base).start(ctx, e)
	if err != nil {
		return nil, err
	}
	load.Target = e.target
	return e.loader(running, load), nil
}

func lossWorkloads() []workload {
	const most = 5 * time.Second // a body that takes longer is cut
	return []workload{
		lossWorkload("loss-down-1", "one download of 20 MiB", transferColumns, transfer(loadDownload, 1, 20*mebibyte, most)),
		lossWorkload("loss-down-8", "8 parallel downloads of 20 MiB", transferColumns, transfer(loadDownload, 8, 20*mebibyte, most)),
		lossWorkload("loss-up-8", "8 parallel uploads, as they arrive at the target", transferColumns, func(o options) loadSettings {
			return loadSettings{Kind: loadArrive, Conns: 8, Size: 1 << 40, Warmup: time.Second, Time: quickly(o, most-time.Second, 2*time.Second)}
		}),
		lossWorkload("loss-small-1", "answers of 1 KiB, 1 connection kept alive", requestColumns, small(1)),
		lossWorkload("loss-small-32", "answers of 1 KiB, 32 connections kept alive", requestColumns, small(32)),
		lossWorkload("loss-fair", "answers of 1 KiB beside an endless download, with several tunnels in another one", fairColumns, func(o options) loadSettings {
			return loadSettings{Kind: loadFair, Conns: 1, Size: 1024, Warmup: quickly(o, 2*time.Second, time.Second), Time: quickly(o, 2*o.seconds, time.Second)}
		}),
	}
}
