package cliapp

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/rs/zerolog"
)

// The form of Mozilla's JSON log format 2.0, with all that a line has.
func TestMozlog(t *testing.T) {
	var b bytes.Buffer
	log := zerolog.New(LogMozlog.formatTo(&b, "websocktunnel", false)).With().Timestamp().Logger()
	before := time.Now().UnixNano()
	log.Warn().Str("event", "refused").Int("status", 401).Uint64("large", 1<<63).Err(errors.New("<no>")).Msg("registration\nrefused")
	if bytes.Count(b.Bytes(), []byte("\n")) != 1 || !bytes.Contains(b.Bytes(), []byte(`"error":"<no>"`)) || !bytes.Contains(b.Bytes(), []byte(`"large":9223372036854775808`)) {
		t.Errorf("got %q", &b)
	}
	var got map[string]any
	if err := json.Unmarshal(b.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if at := got["Timestamp"].(float64); at < float64(before) || at > float64(time.Now().UnixNano()) {
		t.Errorf("Timestamp is %f", at)
	}
	host, _ := os.Hostname()
	for name, want := range map[string]any{
		"Type": "app.log", "Logger": "websocktunnel", "Hostname": host, "EnvVersion": "2.0", "Severity": 4.0, "Pid": float64(os.Getpid()),
	} {
		if got[name] != want {
			t.Errorf("%s is %v, want %v", name, got[name], want)
		}
	}
	fields := got["Fields"].(map[string]any)
	if len(got) != 8 || len(fields) != 5 || fields["msg"] != "registration\nrefused" || fields["event"] != "refused" || fields["status"] != 401.0 {
		t.Errorf("got %v", got)
	}
}

// What systemd reads: the severity in digits, and one line for each.
func TestSyslogLines(t *testing.T) {
	var b bytes.Buffer
	log := zerolog.New(LogSyslog.formatTo(&b, "websocktunnel", false)).Level(zerolog.TraceLevel).With().Timestamp().Logger()
	log.Trace().Msg("a")
	log.Debug().Msg("b")
	log.Info().Str("id", "x").Msg("c\nd")
	log.Warn().Str("stack", "e\nf").Send()
	log.Error().Msg("g")
	LogDropped(log, 3)
	want := "<7>a\n<7>b\n<6>c\\nd id=x\n<4>stack=\"e\\nf\"\n<3>g\n<4>log lines dropped dropped_lines=3 event=log_dropped\n"
	if b.String() != want {
		t.Errorf("got\n%swant\n%s", &b, want)
	}
}
