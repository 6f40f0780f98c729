//go:build linux

package processes

import (
	"bufio"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"
)

// floodVariable has this program be a flood: the settings of one, in JSON.
const floodVariable = "WST_TEST_FLOOD"

// floodSettings are those of a flood of requests for ids that nobody has.
type floodSettings struct {
	Addr      string // of the service
	PerSecond int    // requests, in all
	Conns     int    // each with an address of its own
	Time      time.Duration
}

// A flood is what one has come to.
type floodResult struct {
	Sent, Answered int
	Statuses       map[string]int
}

// startFlood floods from a process of its own, which has one processor at most. The
// function that it returns waits for the end.
func startFlood(t *testing.T, s floodSettings) func() floodResult {
	t.Helper()
	settings, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), floodVariable+"="+string(settings), "GOMAXPROCS=1")
	cmd.Stderr = os.Stderr
	var r floodResult
	done := make(chan error, 1)
	go func() {
		out, err := cmd.Output()
		if err == nil {
			err = json.Unmarshal(out, &r)
		}
		done <- err
	}()
	wait := sync.OnceValue(func() floodResult {
		if err := <-done; err != nil {
			t.Errorf("the flood: %v", err)
		}
		return r
	})
	t.Cleanup(func() { wait() })
	return wait
}

// flood is the process of startFlood. A request is sent when its time has come, whether
// those before have been answered or not, unless more than 100 wait on its connection.
func flood(settings string) error {
	var s floodSettings
	if err := json.Unmarshal([]byte(settings), &s); err != nil {
		return err
	}
	r := floodResult{Statuses: make(map[string]int)}
	var mu sync.Mutex
	var wg sync.WaitGroup
	end := time.Now().Add(s.Time)
	var failed error
	for i := range s.Conns {
		dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 255, byte(i>>8), byte(i))}}
		c, err := dialer.Dial("tcp", s.Addr)
		if err != nil {
			return err
		}
		wg.Go(func() {
			sent, statuses, err := floodOne(c, s, i, end)
			mu.Lock()
			defer mu.Unlock()
			r.Sent += sent
			for status, n := range statuses {
				r.Statuses[status] += n
				r.Answered += n
			}
			if err != nil {
				failed = err
			}
		})
	}
	wg.Wait()
	if failed != nil {
		return failed
	}
	return json.NewEncoder(os.Stdout).Encode(r)
}

// floodOne is the part of one connection.
func floodOne(c net.Conn, s floodSettings, number int, end time.Time) (sent int, statuses map[string]int, err error) {
	defer c.Close()
	waiting := make(chan struct{}, 100)
	var wg sync.WaitGroup
	statuses = make(map[string]int)
	_ = c.SetReadDeadline(end.Add(time.Second))
	wg.Go(func() {
		in := bufio.NewReader(c)
		for range waiting {
			resp, err := http.ReadResponse(in, nil)
			if err != nil {
				continue // the time is over
			}
			_, err = in.Discard(int(resp.ContentLength))
			if err == nil {
				statuses[resp.Status[:3]]++
			}
		}
	})
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	begun := time.Now().Add(-time.Duration(number) * 20 * time.Millisecond / time.Duration(s.Conns))
	var out []byte
	for now := range tick.C {
		if now.After(end) {
			break
		}
		due := int(now.Sub(begun).Seconds() * float64(s.PerSecond) / float64(s.Conns))
		out = out[:0]
	asking:
		for ; sent < due; sent++ {
			select {
			case waiting <- struct{}{}:
				out = fmt.Appendf(out, "GET /absent-%d-%d/ HTTP/1.1\r\nHost: tunnels\r\n\r\n", number, sent)
			default:
				break asking
			}
		}
		if _, err = c.Write(out); err != nil {
			break
		}
	}
	close(waiting)
	wg.Wait()
	return sent, maps.Clone(statuses), err
}
