package configerror_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/websocktunnel/websocktunnel/internal/configerror"
)

func TestFaults(t *testing.T) {
	t.Parallel()
	f := configerror.New("server")
	if err := f.Err(); err != nil {
		t.Fatalf("no faults: %v", err)
	}
	f.Add("PublicURL", "ftp://x", "its scheme must be http or https")
	f.Add("Secrets", "", "is required")
	f.Add("ID", "a\nb", "it must be one line")
	err := fmt.Errorf("starting: %w", errors.Join(f.Err(), errors.New("other")))
	const want = `starting: server: PublicURL "ftp://x": its scheme must be http or https` + "\n" +
		"server: Secrets is required\n" +
		`server: ID "a\nb": it must be one line` + "\n" +
		"other"
	if err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}

	var first *configerror.ConfigError
	if !errors.As(err, &first) || first.Field != "PublicURL" || first.Value != "ftp://x" {
		t.Errorf("errors.As found %+v", first)
	}
	var fields []string
	for _, e := range configerror.All(err) {
		fields = append(fields, e.Field)
	}
	if got := strings.Join(fields, " "); got != "PublicURL Secrets ID" {
		t.Errorf("All found %s", got)
	}
	if all := configerror.All(errors.New("other")); all != nil {
		t.Errorf("All found %v in another error", all)
	}
}

func TestErrorOfOthers(t *testing.T) {
	t.Parallel()
	e := &configerror.ConfigError{Field: "Path", Value: "x", Rule: "it must be absolute"}
	if got, want := e.Error(), `Path "x": it must be absolute`; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestAddID(t *testing.T) {
	t.Parallel()
	f := configerror.New("server")
	for _, id := range []string{"good", "", "a/b", strings.Repeat("x", 257)} {
		f.AddID("ID", id)
	}
	const want = "server: ID is empty: it must have 1 to 256 characters\n" +
		`server: ID "a/b": it has a character outside A-Z a-z 0-9 _ ~ . % -` + "\n" +
		"server: ID has 257 characters: it must have 1 to 256"
	if err := f.Err(); err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
}
