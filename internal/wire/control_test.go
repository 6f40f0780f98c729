package wire_test

import (
	"encoding/json"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/websocktunnel/websocktunnel/internal/wire"
)

// The exact text of every message that docs/protocol.md specifies.
func TestControlText(t *testing.T) {
	yes, no := true, false
	for _, c := range []struct {
		message wire.Control
		text    string
	}{
		{wire.Control{Type: wire.TypeToken, Token: "a.b.c"}, `{"type":"token","token":"a.b.c"}`},
		{wire.Control{Type: wire.TypeToken, OK: &yes, Exp: 1700000000}, `{"type":"token","ok":true,"exp":1700000000}`},
		{wire.Control{Type: wire.TypeToken, OK: &no}, `{"type":"token","ok":false}`},
		{wire.Control{Type: wire.TypeGoaway, Reason: wire.ReasonDraining, ReconnectAfterMS: 1500}, `{"type":"goaway","reason":"draining","reconnect_after_ms":1500}`},
		{wire.Control{Type: wire.TypeGoaway, Reason: wire.ReasonOverloaded}, `{"type":"goaway","reason":"overloaded"}`},
		{wire.Control{Type: wire.TypeGoaway, Reason: wire.ReasonExpired}, `{"type":"goaway","reason":"expired"}`},
		{wire.Control{Type: wire.TypeGoaway}, `{"type":"goaway"}`},
	} {
		if got := string(c.message.Encode()); got != c.text {
			t.Errorf("encoded: %s, want %s", got, c.text)
		}
		got, err := wire.ParseControl([]byte(c.text))
		if err != nil {
			t.Errorf("%s: %v", c.text, err)
		} else if !reflect.DeepEqual(got, c.message) {
			t.Errorf("%s: parsed as %+v", c.text, got)
		}
	}
}

func TestParseControl(t *testing.T) {
	pad := func(size int) string {
		const frame = `{"type":"goaway","x":""}`
		return strings.Replace(frame, `""`, `"`+strings.Repeat("x", size-len(frame))+`"`, 1)
	}
	for _, text := range []string{
		`{"type":"token","later":{"deep":[1]},"token":"a.b.c"}`,
		`{"type":"from-a-later-version","x":1}`,
		" {\n\"type\" : \"goaway\" } ",
		pad(wire.MaxControlMessage),
	} {
		if c, err := wire.ParseControl([]byte(text)); err != nil || c.Type == "" {
			t.Errorf("%.100s: %+v, %v", text, c, err)
		}
	}

	const secret = "eyJhbGciOiJIUzI1NiJ9.eyJ0aWQiOiJ4In0.c2lnbmF0dXJl"
	for _, text := range []string{
		"", " ", "null", "1", `"token"`, "[]", "{}", "x", secret,
		`{"type":""}`,
		`{"token":"` + secret + `"}`,
		`{"type":"token","token":"` + secret,
		`{"type":"token","token":"` + secret + `"}{}`,
		`{"type":"token","token":["` + secret + `"]}`,
		`{"type":["` + secret + `"]}`,
		`{"type":"token","ok":"` + secret + `"}`,
		`{"type":"token","exp":"` + secret + `"}`,
		`{"type":"token","exp":1.5}`,
		`{"type":"token","exp":1e300}`,
		`{"` + secret + `":}`,
		pad(wire.MaxControlMessage + 1),
		strings.Repeat("[", wire.MaxControlMessage),
		"\x00\xff",
	} {
		c, err := wire.ParseControl([]byte(text))
		if err == nil {
			t.Errorf("%.100s: parsed as %+v", text, c)
			continue
		}
		if !reflect.DeepEqual(c, wire.Control{}) {
			t.Errorf("%.100s: an error, and yet %+v", text, c)
		}
		for part := range strings.SplitSeq(secret, ".") {
			if strings.Contains(err.Error(), part) {
				t.Errorf("the error quotes the token: %v", err)
			}
		}
	}
}

func TestReconnectAfter(t *testing.T) {
	for ms, want := range map[int64]time.Duration{
		0: 0, 1: time.Millisecond, 1500: 1500 * time.Millisecond, -1: 0, math.MinInt64: 0,
		3_600_000: time.Hour, 3_600_001: time.Hour, math.MaxInt64: time.Hour,
	} {
		if got := (wire.Control{ReconnectAfterMS: ms}).ReconnectAfter(); got != want {
			t.Errorf("%d ms: %v, want %v", ms, got, want)
		}
	}
}

func FuzzParseControl(f *testing.F) {
	for _, s := range []string{`{"type":"token","token":"a.b.c"}`, `{"type":"goaway","reason":"draining","reconnect_after_ms":5}`, `{"type":"token","ok":false}`, `{}`, `null`, `{"TYPE":"x","type":"y"}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := wire.ParseControl(b)
		if err != nil {
			return
		}
		if !json.Valid(b) || len(b) > wire.MaxControlMessage || c.Type == "" {
			t.Fatalf("%q parsed as %+v", b, c)
		}
		encoded := c.Encode()
		if len(encoded) > wire.MaxControlMessage {
			return // escaping can make it longer than it came
		}
		again, err := wire.ParseControl(encoded)
		if err != nil || !reflect.DeepEqual(again, c) {
			t.Errorf("%+v, encoded and parsed: %+v, %v", c, again, err)
		}
	})
}
