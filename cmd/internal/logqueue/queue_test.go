package logqueue_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/websocktunnel/websocktunnel/cmd/internal/logqueue"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func note(n uint64) []byte { return fmt.Appendf(nil, "dropped %d\n", n) }

// gate is a writer that blocks while it is shut, and fails while it has an
// error.
type gate struct {
	mu       sync.Mutex
	open     *sync.Cond
	shut     bool
	err      error
	most     int // bytes that a write that fails takes
	attempts int
	got      bytes.Buffer
}

func newGate() *gate {
	g := &gate{}
	g.open = sync.NewCond(&g.mu)
	return g
}

func (g *gate) Write(p []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.attempts++
	for g.shut {
		g.open.Wait()
	}
	if g.err != nil {
		n, _ := g.got.Write(p[:min(g.most, len(p))])
		return n, g.err
	}
	return g.got.Write(p)
}

func (g *gate) set(f func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	f()
	g.open.Broadcast()
}

func (g *gate) text() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.got.String()
}

func write(t *testing.T, q *logqueue.Queue, format string, args ...any) {
	t.Helper()
	line := fmt.Sprintf(format, args...)
	if n, err := q.Write([]byte(line)); n != len(line) || err != nil {
		t.Fatalf("Write = %d, %v; want %d, nil", n, err, len(line))
	}
}

func TestOrder(t *testing.T) {
	g := newGate()
	q := logqueue.New(g, note)
	var want strings.Builder
	for i := range 3000 {
		write(t, q, "line %d\n", i)
		fmt.Fprintf(&want, "line %d\n", i)
	}
	if !q.Close(time.Minute) {
		t.Fatal("Close has not waited")
	}
	if g.text() != want.String() {
		t.Errorf("got %d bytes, not the %d that were written", len(g.text()), want.Len())
	}
	write(t, q, "late\n")
	if q.Dropped() != 1 {
		t.Errorf("Dropped() = %d after one late line", q.Dropped())
	}
}

// Many write at once: all lines are whole, and each writer's own are in order.
func TestConcurrentWriters(t *testing.T) {
	g := newGate()
	q := logqueue.New(g, note)
	var writers sync.WaitGroup
	for w := range 8 {
		writers.Go(func() {
			for i := range 400 {
				fmt.Fprintf(q, "%d %d\n", w, i)
			}
		})
	}
	writers.Wait()
	if !q.Close(time.Minute) {
		t.Fatal("Close has not waited")
	}
	var next [8]int
	for line := range strings.Lines(g.text()) {
		var w, i int
		if _, err := fmt.Sscanf(line, "%d %d\n", &w, &i); err != nil || next[w] != i {
			t.Fatalf("line %q: %v; want number %d of that writer", line, err, next[w])
		}
		next[w]++
	}
	for w, n := range next {
		if n != 400 {
			t.Errorf("writer %d: %d lines", w, n)
		}
	}
}

// checkGaps checks that the numbers of lines ascend, and that each note stands
// where its lines are missing.
func checkGaps(t *testing.T, text string, total int) (missing, notes int) {
	t.Helper()
	next := 0
	for line := range strings.Lines(text) {
		var n int
		if _, err := fmt.Sscanf(line, "dropped %d\n", &n); err == nil {
			next += n
			missing += n
			notes++
			continue
		}
		if _, err := fmt.Sscanf(line, "line %d ", &n); err != nil || !strings.HasSuffix(line, "\n") {
			t.Fatalf("odd line %q: %v", line, err)
		}
		if n != next {
			t.Fatalf("line %d comes where %d should", n, next)
		}
		next++
	}
	if next != total {
		t.Fatalf("%d lines are accounted for, want %d", next, total)
	}
	return missing, notes
}

func TestFull(t *testing.T) {
	for _, test := range []struct {
		name   string
		length int // of a line
		kept   int // at most
	}{
		{"lines", 10, 4097},
		{"bytes", 10_000, 2 << 20 / 10_000},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newGate()
				g.shut = true
				q := logqueue.New(g, note)
				pad := strings.Repeat("x", test.length)
				const total = 10_000
				for i := range total {
					write(t, q, "line %d %s\n", i, pad)
					if i == 0 {
						synctest.Wait() // the writer has it
					}
				}
				dropped := int(q.Dropped())
				if kept := total - dropped; kept > test.kept || kept < test.kept/2 {
					t.Errorf("%d lines are kept, want at most %d", kept, test.kept)
				}
				// The number is told although no other line comes.
				g.set(func() { g.shut = false })
				synctest.Wait()
				if missing, notes := checkGaps(t, g.text(), total); missing != dropped || notes != 1 {
					t.Errorf("%d notes of %d lines in all, want one of %d", notes, missing, dropped)
				}
				// And all goes on.
				write(t, q, "line %d \n", total)
				synctest.Wait()
				checkGaps(t, g.text(), total+1)
				if !q.Close(0) && !q.Close(time.Second) {
					t.Error("Close has not waited")
				}
			})
		})
	}
}

// A reader that is slow all the time gets few long gaps.
func TestSlowReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, w := io.Pipe()
		q := logqueue.New(w, note)
		var got bytes.Buffer
		var reading sync.WaitGroup
		reading.Go(func() {
			b := make([]byte, 4096)
			for {
				n, err := r.Read(b)
				if err != nil {
					return
				}
				got.Write(b[:n])
				<-time.After(time.Millisecond)
			}
		})
		const total = 50_000
		for i := range total {
			write(t, q, "line %d \n", i)
			if i%4 == 0 {
				<-time.After(time.Millisecond)
			}
		}
		if !q.Close(time.Hour) {
			t.Error("Close has not waited")
		}
		w.Close()
		reading.Wait()
		missing, notes := checkGaps(t, got.String(), total)
		if missing != int(q.Dropped()) || notes == 0 || notes > 30 {
			t.Errorf("%d notes of %d lines; %d were dropped", notes, missing, q.Dropped())
		}
	})
}

// Whatever the reader does, Close takes no longer than it may.
func TestCloseIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		g.shut = true
		q := logqueue.New(g, note)
		write(t, q, "line 0 \n")
		began := time.Now()
		if q.Close(time.Second) {
			t.Error("Close says that all has been written")
		}
		if d := time.Since(began); d != time.Second {
			t.Errorf("Close took %v", d)
		}
		g.set(func() { g.shut = false })
		if !q.Close(time.Second) {
			t.Error("a second Close has not waited")
		}
		checkGaps(t, g.text(), 1)
	})
}

// A reader that has gone costs one attempt for each line, and lines only.
func TestWriteFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		g.err = syscall.EPIPE
		q := logqueue.New(g, note)
		for i := range 100 {
			write(t, q, "line %d \n", i)
		}
		synctest.Wait()
		<-time.After(time.Hour)
		if q.Dropped() != 100 || g.attempts != 100 {
			t.Errorf("%d lines dropped with %d attempts, want 100 with 100", q.Dropped(), g.attempts)
		}
		g.set(func() { g.err = nil })
		write(t, q, "line 100 \n")
		synctest.Wait()
		if missing, _ := checkGaps(t, g.text(), 101); missing != 100 {
			t.Errorf("the note says %d, want 100:\n%s", missing, g.text())
		}
		q.Close(time.Second)
	})
}

// What a full disk or a signal cut off is completed before the next line.
func TestPartialWrite(t *testing.T) {
	for _, err := range []error{syscall.ENOSPC, syscall.EAGAIN, errors.New("odd")} {
		t.Run(err.Error(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newGate()
				g.err, g.most = err, 4
				q := logqueue.New(g, note)
				write(t, q, "line 0 and more\n")
				synctest.Wait()
				g.set(func() { g.err = nil })
				write(t, q, "line 1 \n")
				if !q.Close(time.Second) {
					t.Error("Close has not waited")
				}
				if missing, _ := checkGaps(t, g.text(), 2); missing != 0 || q.Dropped() != 0 {
					t.Errorf("%d lines missing, %d dropped:\n%s", missing, q.Dropped(), g.text())
				}
			})
		})
	}
}

// A line that no queue can hold is counted at once.
func TestHugeLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		q := logqueue.New(g, note)
		write(t, q, "%s", strings.Repeat("x", 3<<20))
		synctest.Wait()
		if g.text() != "dropped 1\n" {
			t.Errorf("got %.100q", g.text())
		}
		write(t, q, "next\n")
		q.Close(time.Second)
		if g.text() != "dropped 1\nnext\n" {
			t.Errorf("got %.100q", g.text())
		}
	})
}

// countingWriter counts the writes.
type countingWriter struct {
	*gate
	writes int
}

func (c *countingWriter) Write(p []byte) (int, error) {
	c.writes++
	return c.gate.Write(p)
}

// Lines of a batch are written together, in order with all others, and none waits for
// long.
func TestBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &countingWriter{gate: newGate()}
		q := logqueue.New(out, note)
		b := q.Batch()
		fmt.Fprintf(b, "line 0 \n")
		synctest.Wait()
		checkGaps(t, out.text(), 1) // at once: there was none for long
		for i := 1; i < 101; i++ {
			fmt.Fprintf(b, "line %d \n", i)
		}
		synctest.Wait()
		checkGaps(t, out.text(), 1)
		<-time.After(101 * time.Millisecond)
		synctest.Wait()
		checkGaps(t, out.text(), 101)
		if out.writes != 2 {
			t.Errorf("%d writes", out.writes)
		}
		fmt.Fprintf(b, "line 101 \n")
		write(t, q, "line 102 \n")
		synctest.Wait()
		checkGaps(t, out.text(), 103) // one that is no batch does not wait
		for i := 103; i < 3103; i++ {
			fmt.Fprintf(b, "line %d %s\n", i, strings.Repeat("x", 100))
		}
		synctest.Wait()
		if got := strings.Count(out.text(), "\n"); got < 2500 {
			t.Errorf("%d of the lines of a full batch are written", got)
		}
		if !q.Flush(time.Second) {
			t.Error("Flush has not waited")
		}
		checkGaps(t, out.text(), 3103)
		fmt.Fprintf(b, "line 3103 \n")
		if !q.Close(time.Second) {
			t.Error("Close has not waited")
		}
		checkGaps(t, out.text(), 3104)
		if out.writes > 100 || q.Dropped() != 0 { // how many depends on when the goroutines run
			t.Errorf("%d writes, %d lines dropped", out.writes, q.Dropped())
		}
		if !q.Flush(time.Second) {
			t.Error("Flush of a closed queue waits")
		}
	})
}

// Each line of a batch counts, where a batch is dropped or written in part.
func TestBatchLoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, most := range []int{0, 3, 9, 12, 18} { // nothing, within lines, and at the ends of some
			g := newGate()
			g.shut = true
			q := logqueue.New(g, note)
			b := q.Batch()
			const total = 10_000
			for i := range total {
				fmt.Fprintf(b, "line %d \n", i)
				if i == 0 {
					synctest.Wait() // the writer has it
				}
			}
			if kept := total - int(q.Dropped()); kept < 2000 || kept > 4097 {
				t.Errorf("%d lines are kept", kept)
			}
			g.set(func() { g.shut, g.err, g.most = false, syscall.ENOSPC, most })
			synctest.Wait()
			g.set(func() { g.err = nil })
			write(t, q, "line %d \n", total)
			if !q.Flush(time.Second) {
				t.Error("Flush has not waited")
			}
			if missing, _ := checkGaps(t, g.text(), total+1); missing != int(q.Dropped()) {
				t.Errorf("%d bytes at a time: the notes say %d, %d were dropped", most, missing, q.Dropped())
			}
			q.Close(time.Second)
		}
	})
}

// BenchmarkWrite is what a line costs all goroutines, with the write to a file.
func BenchmarkWrite(b *testing.B) {
	line := []byte(strings.Repeat("x", 350) + "\n")
	for name, of := range map[string]func(*logqueue.Queue) io.Writer{
		"each":  func(q *logqueue.Queue) io.Writer { return q },
		"batch": func(q *logqueue.Queue) io.Writer { return q.Batch() },
	} {
		b.Run(name, func(b *testing.B) {
			f, err := os.OpenFile(filepath.Join(b.TempDir(), "log"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
			if err != nil {
				b.Fatal(err)
			}
			defer f.Close()
			q := logqueue.New(f, note)
			w := of(q)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				w.Write(line)
				if i%1000 == 999 {
					q.Flush(time.Minute) // nothing is dropped
				}
			}
			q.Close(time.Minute)
		})
	}
}
