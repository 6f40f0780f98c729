package replay_test

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"go.uber.org/goleak"

	"github.com/websocktunnel/websocktunnel/internal/replay"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// text returns n bytes that differ from place to place.
func text(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i>>8) ^ byte(i)
	}
	return b
}

// TestEveryTryReadsTheWhole: however much of a kept body a try has read, the next
// one reads all of it.
func TestEveryTryReadsTheWhole(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	for _, size := range []int{0, 1, 4 << 10, 4<<10 + 1, 30 << 10, replay.Limit - 1, replay.Limit} {
		want := text(size)
		for name, src := range map[string]io.Reader{
			"whole":       bytes.NewReader(want),
			"with EOF":    iotest.DataErrReader(bytes.NewReader(want)),
			"small":       iotest.HalfReader(bytes.NewReader(want)),
			"breaks off":  io.MultiReader(bytes.NewReader(want), iotest.ErrReader(broken)),
			"byte a byte": iotest.OneByteReader(bytes.NewReader(want)),
		} {
			b := replay.New(src)
			for _, part := range []int{0, size / 3, size / 2, size} {
				if got, err := io.ReadAll(io.LimitReader(b, int64(part))); err != nil || !bytes.Equal(got, want[:part]) {
					t.Errorf("%s, %d bytes: %d of %d read, %v", name, size, len(got), part, err)
				}
				if !b.Rewind() {
					t.Fatalf("%s, %d bytes: no other try after %d", name, size, part)
				}
			}
			if got, _ := io.ReadAll(b); !bytes.Equal(got, want) {
				t.Errorf("%s: %d bytes of %d, or others", name, len(got), size)
			}
			if !b.Rewind() {
				t.Fatalf("%s, %d bytes: no other try after the end", name, size)
			}
			b.Settle()
			got, err := io.ReadAll(b)
			if name == "breaks off" {
				if !errors.Is(err, broken) {
					t.Errorf("%d bytes: %v", size, err)
				}
			} else if err != nil {
				t.Errorf("%s, %d bytes: %v", name, size, err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("%s: %d bytes of %d, or others", name, len(got), size)
			}
		}
	}
}

// TestTooMuchRead: what is not kept cannot be sent again, and passes whole.
func TestTooMuchRead(t *testing.T) {
	t.Parallel()
	want := text(3*replay.Limit + 7)
	b := replay.New(bytes.NewReader(want))
	head := make([]byte, replay.Limit)
	if _, err := io.ReadFull(b, head); err != nil || !b.Rewind() {
		t.Fatalf("no other try after %d bytes, %v", len(head), err)
	}
	head = make([]byte, replay.Limit+2)
	if _, err := io.ReadFull(b, head); err != nil {
		t.Fatal(err)
	}
	if b.Interrupt() || b.Rewind() {
		t.Error("another try, though not all is kept")
	}
	rest, err := io.ReadAll(b)
	if err != nil || !bytes.Equal(append(head, rest...), want) {
		t.Errorf("%d bytes of %d, or others, %v", len(head)+len(rest), len(want), err)
	}
}

// TestInterrupt: a try that waits for the source ends at once, and what the source
// gives after that is the next one's.
func TestInterrupt(t *testing.T) {
	t.Parallel()
	pr, pw := io.Pipe()
	b := replay.New(pr)
	go io.WriteString(pw, "ab")
	first := make([]byte, 2)
	if _, err := io.ReadFull(b, first); err != nil {
		t.Fatal(err)
	}
	over := make(chan error)
	go func() {
		_, err := b.Read(make([]byte, 10))
		over <- err
	}()
	if !b.Interrupt() {
		t.Fatal("it cannot be interrupted")
	}
	if err := <-over; !errors.Is(err, http.ErrBodyReadAfterClose) {
		t.Errorf("the Read that waited: %v", err)
	}
	if _, err := b.Read(first); !errors.Is(err, http.ErrBodyReadAfterClose) {
		t.Errorf("a Read after it: %v", err)
	}
	if !b.Rewind() {
		t.Fatal("no other try")
	}
	b.Settle()
	go func() {
		io.WriteString(pw, "cd")
		io.WriteString(pw, strings.Repeat("e", 100<<10))
		pw.Close()
	}()
	got, err := io.ReadAll(b)
	if want := "abcd" + strings.Repeat("e", 100<<10); string(got) != want || err != nil {
		t.Errorf("%d bytes of %d, or others, %v", len(got), len(want), err)
	}
	if b.Interrupt() || b.Rewind() {
		t.Error("another try after Settle")
	}
}

// sizes notes how much is asked for.
type sizes struct{ asked []int }

func (s *sizes) Read(p []byte) (int, error) {
	s.asked = append(s.asked, len(p))
	return len(p), nil
}

// TestPassesOn: the Reads of what is not kept go to the source as they are, each
// of them and not only the first.
func TestPassesOn(t *testing.T) {
	t.Parallel()
	src := new(sizes)
	b := replay.New(src)
	if _, err := io.ReadFull(b, make([]byte, replay.Limit+1)); err != nil {
		t.Fatal(err)
	}
	src.asked = nil
	for _, n := range []int{1, 100 << 10, 7} {
		if got, err := b.Read(make([]byte, n)); got != n || err != nil {
			t.Errorf("%d bytes of %d, %v", got, n, err)
		}
	}
	if want := []int{1, 100 << 10, 7}; !slices.Equal(src.asked, want) {
		t.Errorf("the source was asked for %v bytes, want %v", src.asked, want)
	}
}
