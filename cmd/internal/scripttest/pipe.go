package scripttest

import (
	"io"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// pipe is an output of a program that nobody reads.
type pipe struct {
	r, w *os.File
	to   *os.File // where the bytes go
}

func newPipe(ts *testscript.TestScript, to *os.File) *pipe {
	r, w, err := os.Pipe()
	ts.Check(err)
	shrink(w)
	ts.Defer(func() { r.Close() })
	return &pipe{r: r, w: w, to: to}
}

func pipeOf(ts *testscript.TestScript, name string) *pipe {
	p := named(ts, name)
	if p.pipe == nil {
		ts.Fatalf("%s was not started with -unread", name)
	}
	return p.pipe
}

func cmdDrain(ts *testscript.TestScript, neg bool, args []string) {
	must(ts, len(args) == 1, neg, "drain NAME")
	p := pipeOf(ts, args[0])
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(p.to, p.r)
	}()
	ts.Defer(func() {
		p.r.Close()
		<-done
	})
}

func cmdLeave(ts *testscript.TestScript, neg bool, args []string) {
	must(ts, len(args) == 1, neg, "leave NAME")
	ts.Check(pipeOf(ts, args[0]).r.Close())
}

// cmdMany makes one request after the other, each of which has to be answered
// in time.
func cmdMany(ts *testscript.TestScript, neg bool, args []string) {
	const usage = "many COUNT STATUS URL"
	must(ts, len(args) == 3, neg, usage)
	count, err := strconv.Atoi(args[0])
	ts.Check(err)
	client := &http.Client{Transport: &http.Transport{}, Timeout: 10 * time.Second}
	defer client.CloseIdleConnections()
	for i := range count {
		resp, err := client.Get(args[2])
		ts.Check(err)
		_, err = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		ts.Check(err)
		if strconv.Itoa(resp.StatusCode) != args[1] {
			ts.Fatalf("request %d: status %d, want %s", i, resp.StatusCode, args[1])
		}
	}
}
