package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// wire returns two files of which each reads the packets written to the other.
func wire(t *testing.T) (a, b *os.File) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	a, b = os.NewFile(uintptr(fds[0]), "a"), os.NewFile(uintptr(fds[1]), "b")
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

// carried sends n packets of size bytes over a link, all at once, and returns
// what of them arrives, and how long the first and the last took.
func carried(t *testing.T, s lossyLinkSettings, n, size int) (packets [][]byte, first, last time.Duration) {
	t.Helper()
	in, from := wire(t)
	to, out := wire(t)
	done := make(chan struct{})
	go func() {
		defer close(done)
		carryPackets(t.Context(), s, to, from)
		to.Close()
	}()
	start := time.Now()
	go func() {
		defer in.Close()
		for i := range n {
			packet := bytes.Repeat([]byte{byte(i)}, size)
			if _, err := in.Write(packet); err != nil {
				t.Errorf("packet %d: %v", i, err)
				return
			}
		}
	}()
	for buf := make([]byte, 64<<10); ; {
		k, err := out.Read(buf)
		if err != nil || k == 0 {
			break
		}
		last = time.Since(start)
		if packets == nil {
			first = last
		}
		packets = append(packets, bytes.Clone(buf[:k]))
	}
	<-done
	return packets, first, last
}

func TestCarryPackets(t *testing.T) {
	t.Parallel()
	t.Run("delay, rate and order", func(t *testing.T) {
		t.Parallel()
		// 100 packets of 1 ms each.
		packets, first, last := carried(t, lossyLinkSettings{Delay: 50 * time.Millisecond, Rate: 1e6, Queue: time.Minute}, 100, 1000)
		if len(packets) != 100 {
			t.Fatalf("%d packets arrive, want 100", len(packets))
		}
		for i, p := range packets {
			if len(p) != 1000 || p[0] != byte(i) {
				t.Fatalf("packet %d has %d bytes and the number %d", i, len(p), p[0])
			}
		}
		if first < 51*time.Millisecond || last < 150*time.Millisecond {
			t.Errorf("the first takes %v and the last %v, want at least 51 and 150 ms", first, last)
		}
	})
	t.Run("a full queue drops", func(t *testing.T) {
		t.Parallel()
		// Of packets that take 100 ms each, no more than a few find room, however
		// slowly this test runs.
		packets, _, _ := carried(t, lossyLinkSettings{Rate: 10_000, Queue: 300 * time.Millisecond}, 200, 1000)
		if len(packets) < 3 || len(packets) > 100 {
			t.Errorf("%d of 200 packets arrive, want about 4", len(packets))
		}
	})
	t.Run("loss", func(t *testing.T) {
		t.Parallel()
		packets, _, _ := carried(t, lossyLinkSettings{Rate: 1e9, Queue: time.Hour, Loss: 0.1}, 5000, 100)
		// 500 are lost, with a standard deviation of 21.
		if lost := 5000 - len(packets); lost < 350 || lost > 650 {
			t.Errorf("%d of 5000 packets are lost, want about 500", lost)
		}
	})
}

// TestLossWorkload runs one with a link, where that is possible, and otherwise
// looks for the reason in the output.
func TestLossWorkload(t *testing.T) {
	bin := builds(t)
	js := filepath.Join(t.TempDir(), "out.json")
	stdout := measure(t, "--quick", "--time", "1s", "--only", "loss-small-1,loss-up-8", "--contestants", "http1,wst",
		"--bin", bin, "--json", js, "--loss", "0.5")
	if err := lossyLinkPossible(); err != nil {
		if want := "loss-small-1: not measured: " + err.Error(); !strings.Contains(stdout, want) {
			t.Errorf("the output lacks %q:\n%s", want, stdout)
		}
		t.Skip(err)
	}
	r := readResults(t, js)
	if len(r.Workloads) != 2 {
		t.Fatalf("%d workloads, want 2", len(r.Workloads))
	}
	for _, w := range r.Workloads {
		if len(w.Contestants) < 5 {
			t.Errorf("%s has %d contestants", w.Name, len(w.Contestants))
		}
		for _, c := range w.Contestants {
			if c.Error != "" || len(c.Rounds) != 1 {
				t.Errorf("%s: %s: %d rounds, error %q", w.Name, c.Name, len(c.Rounds), c.Error)
			}
			if w.Name == "loss-small-1" && c.Summary[metricP50].Median < 40 {
				t.Errorf("%s: a request takes %v ms over a link with a round trip of 40 ms", c.Name, c.Summary[metricP50].Median)
			}
		}
	}
}
