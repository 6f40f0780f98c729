package h2spec

import (
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/summerwind/h2spec/client"
	"github.com/summerwind/h2spec/config"
	"github.com/summerwind/h2spec/generic"
	"github.com/summerwind/h2spec/hpack"
	"github.com/summerwind/h2spec/http2"
	"github.com/summerwind/h2spec/spec"

	"github.com/websocktunnel/websocktunnel/conformance/internal/harness"
)

const (
	// timeout is how long a case waits for something to happen: h2spec's own
	// default. Most cases that see nothing within it fail, a few pass.
	timeout = 2 * time.Second

	// maxHeaderLen is the length of the header that a case sends to fill frames.
	// h2spec's default of 4000 makes five of them larger than the smallest limit
	// on frames; that of viewers' connections is 64 KiB. One has still to fit into a frame of 16 KiB.
	maxHeaderLen = 16000

	// parallel is how many cases run at a time. They mostly wait.
	parallel = 16
)

// testCase is one case of either part of the suite.
type testCase struct {
	id   string // section and number, as h2spec's command line has it
	desc string
	run  func() error
}

// serverCases returns the cases for a server, which dial as c says.
func serverCases(c *config.Config) []testCase {
	var cases []testCase
	var walk func(g *spec.TestGroup)
	walk = func(g *spec.TestGroup) {
		for i, tc := range append(slices.Clip(g.Tests), g.StrictTests...) {
			cases = append(cases, testCase{fmt.Sprintf("%s/%d", g.ID(), i+1), tc.Desc, func() error {
				conn, err := spec.Dial(c)
				if err != nil {
					return fmt.Errorf("dialling: %w", err)
				}
				defer conn.Close()
				return tc.Run(c, conn)
			}})
		}
		for _, sub := range g.Groups {
			walk(sub)
		}
	}
	for _, g := range []*spec.TestGroup{generic.Spec(), http2.Spec(), hpack.Spec()} {
		walk(g)
	}
	return cases
}

// clientCases returns the cases for a client; connect makes one that sends a
// request, and returns the connection that it uses and what ends the client.
func clientCases(connect func() (conn net.Conn, stop func())) []testCase {
	c := &config.Config{Host: "127.0.0.1", Path: "/", Timeout: timeout, MaxHeaderLen: maxHeaderLen}
	var cases []testCase
	var walk func(g *spec.ClientTestGroup)
	walk = func(g *spec.ClientTestGroup) {
		for _, tc := range g.Tests {
			cases = append(cases, testCase{fmt.Sprintf("%s/%d", g.ID(), tc.Seq), tc.Desc, func() error {
				nc, stop := connect()
				defer stop() // not before: a closed connection passes as an answer to many a fault
				defer nc.Close()
				conn, err := spec.Accept(c, nc)
				if err != nil {
					return err
				}
				return tc.Run(c, conn)
			}})
		}
		for _, sub := range g.Groups {
			walk(sub)
		}
	}
	walk(client.Spec())
	return cases
}

// run runs all cases, and then has a subtest for each that fails if its result
// is not the one expected for subject.
func run(t *testing.T, subject subject, cases []testCase) {
	t.Helper()
	if len(cases) == 0 {
		t.Fatal("no cases")
	}
	errs := make([]error, len(cases))
	slots := make(chan struct{}, parallel)
	var done sync.WaitGroup
	for i, tc := range cases {
		slots <- struct{}{}
		done.Go(func() {
			defer func() { <-slots }()
			defer func() {
				if p := recover(); p != nil { // h2spec does where it saw no event at all
					errs[i] = fmt.Errorf("panic: %v", p)
				}
			}()
			errs[i] = tc.run()
		})
	}
	done.Wait()

	passed, failed, skipped := 0, 0, 0
	unused := maps.Clone(exclusions)
	for i, tc := range cases {
		excluded, isExcluded := exclusions[tc.id]
		isExcluded = isExcluded && excluded.in&subject != 0
		delete(unused, tc.id)
		t.Run(tc.id, func(t *testing.T) {
			switch err := errs[i]; {
			case err == spec.ErrSkipped:
				skipped++
				t.Skip(tc.desc, ": h2spec skips this")
			case err == nil && isExcluded:
				t.Errorf("%s: passes, but is excluded: %s", tc.desc, excluded.reason)
			case err == nil:
				passed++
			case isExcluded:
				failed++
				t.Skipf("%s: excluded: %s\n%v", tc.desc, excluded.reason, err)
			default:
				t.Errorf("%s: %v", tc.desc, err)
			}
		})
	}
	result := fmt.Sprintf("of %d cases %d passed, %d excluded, %d skipped by h2spec", len(cases), passed, failed, skipped)
	t.Log(result)
	table.Program("h2spec", harness.ModuleVersion(t, "github.com/summerwind/h2spec"))
	for ours, control := range controls {
		switch subject {
		case ours:
			table.Passed(t, "h2spec", names[ours], names[control], "", result)
		case control:
			table.Passed(t, "h2spec", names[ours], names[control], result, "")
		}
	}
	for id, x := range unused {
		if x.in&subject != 0 {
			t.Errorf("excluded case %s does not exist", id)
		}
	}
}

// configFor returns h2spec's configuration for a server at url.
func configFor(t *testing.T, url string) *config.Config {
	t.Helper()
	scheme, rest, _ := strings.Cut(url, "://")
	addr, path, _ := strings.Cut(rest, "/")
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	return &config.Config{
		Host: host, Port: n, Path: "/" + path, TLS: scheme == "https", Insecure: true,
		Timeout: timeout, MaxHeaderLen: maxHeaderLen, Strict: true,
	}
}

// answer is what the suite asks for: it wants a body of some bytes. What it
// sends is read first, or an early answer would hide what is wrong with that.
func answer(w http.ResponseWriter, r *http.Request) {
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		panic(http.ErrAbortHandler)
	}
	w.Header().Set("Content-Type", "text/plain")
	fmt.Fprintln(w, "an answer of some bytes")
}
