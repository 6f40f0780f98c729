package tunnelclient_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/websocktunnel/websocktunnel/tunnelclient"
)

func TestStaticToken(t *testing.T) {
	if _, err := tunnelclient.StaticToken("").Token(t.Context()); !errors.Is(err, tunnelclient.ErrNoToken) {
		t.Errorf("empty: %v", err)
	}
	tok := tunnelclient.StaticToken("s3cret")
	if got, err := tok.Token(t.Context()); got != "s3cret" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	for _, s := range []string{fmt.Sprint(tok), fmt.Sprintf("%s %q %v %+v %#v", tok, tok, tok, tok, tok)} {
		if strings.Contains(s, "s3cret") {
			t.Errorf("printing shows the token: %s", s)
		}
	}
}

func TestTokenReader(t *testing.T) {
	long := strings.Repeat("x", 64<<10)
	for _, tt := range []struct {
		name, input, want, err string
	}{
		{"one line", "t1\n", "t1", ""},
		{"no newline", "t1", "t1", ""},
		{"white space", " \t t1 \r\n", "t1", ""},
		{"blank lines", "\n \r\n\nt1\n\n", "t1", ""},
		{"last wins", "t1\nt2\n", "t2", ""},
		{"longest", long[1:] + "\n", long[1:], ""},
		{"too long, then one", long + long + long + "\nt1\n", "t1", ""},
		{"too long only", long + "x", "", "longer than"},
		{"empty", "", "", "ended before"},
		{"blank only", "\n\n \n", "", "ended before"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			src := tunnelclient.TokenReader(strings.NewReader(tt.input))
			// When NextToken says that there will be no other, all is read.
			cur, err := "", error(nil)
			for tok := ""; err == nil; {
				if tok, err = src.NextToken(t.Context(), cur); err == nil {
					cur = tok
				}
			}
			got, err := src.Token(t.Context())
			if tt.err != "" {
				if !errors.Is(err, tunnelclient.ErrNoToken) || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("error %v, want one with %q", err, tt.err)
				}
				return
			}
			if got != tt.want || err != nil {
				t.Errorf("%.20q (%d bytes), %v", got, len(got), err)
			}
		})
	}
}

func TestTokenReaderFails(t *testing.T) {
	broken := errors.New("broken pipe by test")
	src := tunnelclient.TokenReader(io.MultiReader(strings.NewReader("\n"), &failingReader{broken}))
	if _, err := src.Token(t.Context()); !errors.Is(err, tunnelclient.ErrNoToken) || !errors.Is(err, broken) {
		t.Errorf("%v", err)
	}
}

type failingReader struct{ err error }

func (r *failingReader) Read([]byte) (int, error) { return 0, r.err }

// A line counts as soon as it has arrived, and waits end with their context.
func TestTokenReaderIsPrompt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pr, pw := io.Pipe()
		src := tunnelclient.TokenReader(pr)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := src.Token(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("before the first line: %v", err)
		}
		go io.WriteString(pw, "t1\n")
		if tok, err := src.Token(t.Context()); tok != "t1" || err != nil {
			t.Errorf("%q, %v", tok, err)
		}
		go func() {
			pass(time.Minute)
			io.WriteString(pw, "t1\nt2\n")
		}()
		if tok, err := src.NextToken(t.Context(), "t1"); tok != "t2" || err != nil {
			t.Errorf("%q, %v", tok, err)
		}
		pw.Close()
		if _, err := src.NextToken(t.Context(), "t2"); err == nil {
			t.Error("NextToken found another token after the end")
		}
		if tok, err := src.Token(t.Context()); tok != "t2" || err != nil {
			t.Errorf("after the end: %q, %v", tok, err)
		}
	})
}

func TestTokenFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	src := tunnelclient.TokenFile(path)
	tunnelclient.SetTokenFilePoll(src, time.Millisecond)
	write := func(content string) {
		t.Helper()
		if err := os.WriteFile(path+".new", []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	fails := func(rule string) {
		t.Helper()
		// Not ErrNoToken: the file may yet come.
		if _, err := src.Token(t.Context()); err == nil || errors.Is(err, tunnelclient.ErrNoToken) || !strings.Contains(err.Error(), rule) {
			t.Errorf("error %v, want one with %q", err, rule)
		}
	}
	fails("no such file")
	write("\n")
	fails("empty")
	write(strings.Repeat("x", 64<<10+1))
	fails("more than")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	fails("not a regular file")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}

	write(" t1\n")
	if tok, err := src.Token(t.Context()); tok != "t1" || err != nil {
		t.Errorf("%q, %v", tok, err)
	}
	write("t2") // same size, same second
	if tok, err := src.NextToken(t.Context(), "t1"); tok != "t2" || err != nil {
		t.Errorf("%q, %v", tok, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := src.NextToken(ctx, "t2"); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

// A mounted Kubernetes secret: token → ..data/token, ..data → a directory that
// is swapped.
func TestTokenFileSymlink(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("symbolic links need a privilege there")
	}
	dir := t.TempDir()
	for _, v := range []string{"1", "2"} {
		if err := os.Mkdir(filepath.Join(dir, "v"+v), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "v"+v, "token"), []byte("t"+v), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	link := func(target, name string) {
		t.Helper()
		if err := os.Symlink(target, filepath.Join(dir, name+".new")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(dir, name+".new"), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	link("v1", "..data")
	link("..data/token", "token")
	src := tunnelclient.TokenFile(filepath.Join(dir, "token"))
	tunnelclient.SetTokenFilePoll(src, time.Millisecond)
	if tok, err := src.Token(t.Context()); tok != "t1" || err != nil {
		t.Errorf("%q, %v", tok, err)
	}
	link("v2", "..data")
	if tok, err := src.NextToken(t.Context(), "t1"); tok != "t2" || err != nil {
		t.Errorf("%q, %v", tok, err)
	}
}
