package cliapp

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/rs/zerolog"
)

// LogFormat is the form of the lines of a log.
type LogFormat string

// The forms of lines.
const (
	LogConsole LogFormat = "console" // for people
	LogJSON    LogFormat = "json"    // as zerolog makes them
	LogMozlog  LogFormat = "mozlog"  // Mozilla's JSON log format 2.0
	LogSyslog  LogFormat = "syslog"  // for people, behind <N>, the severity, as systemd reads it
)

// LogLevels are the names of the levels of a log, the finest first.
func LogLevels() []string { return []string{"trace", "debug", "info", "warn", "error"} }

// formatTo returns a writer for a [zerolog.Logger] that writes lines of this form to
// out, one call for each. colour is for LogConsole.
func (f LogFormat) formatTo(out io.Writer, program string, colour bool) io.Writer {
	switch f {
	case LogJSON:
		return out
	case LogMozlog:
		host, _ := os.Hostname()
		return &mozlogWriter{out: out, logger: program, host: host, pid: os.Getpid()}
	case LogSyslog:
		return &priorityWriter{out}
	}
	return zerolog.ConsoleWriter{Out: out, NoColor: !colour, TimeFormat: time.DateTime}
}

// Severity translates a level to that of syslog (RFC 5424, section 6.2.1).
func Severity(level zerolog.Level) int {
	switch level {
	case zerolog.TraceLevel, zerolog.DebugLevel:
		return 7
	case zerolog.WarnLevel:
		return 4
	case zerolog.ErrorLevel:
		return 3
	case zerolog.FatalLevel, zerolog.PanicLevel:
		return 2
	}
	return 6
}

// mozlogWriter makes lines of Mozilla's JSON log format 2.0 of zerolog's.
type mozlogWriter struct {
	out          io.Writer
	logger, host string
	pid          int
}

// mozlog is one line.
type mozlog struct {
	Timestamp  int64 // nanoseconds since 1970
	Type       string
	Logger     string
	Hostname   string
	EnvVersion string
	Severity   int
	Pid        int
	Fields     map[string]any
}

func (w *mozlogWriter) Write(p []byte) (int, error) {
	fields := make(map[string]any)
	d := json.NewDecoder(bytes.NewReader(p))
	d.UseNumber() // numbers stay as they are written
	if err := d.Decode(&fields); err != nil {
		return w.out.Write(p)
	}
	text, _ := fields[zerolog.LevelFieldName].(string)
	level, _ := zerolog.ParseLevel(text)
	if message, ok := fields[zerolog.MessageFieldName]; ok {
		fields["msg"] = message
	}
	for _, name := range []string{zerolog.LevelFieldName, zerolog.TimestampFieldName, zerolog.MessageFieldName} {
		delete(fields, name)
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(mozlog{
		Timestamp: time.Now().UnixNano(), Type: "app.log", Logger: w.logger, Hostname: w.host, EnvVersion: "2.0",
		Severity: Severity(level), Pid: w.pid, Fields: fields,
	}); err != nil {
		return w.out.Write(p)
	}
	if _, err := w.out.Write(b.Bytes()); err != nil {
		return 0, err
	}
	return len(p), nil
}

// priorityWriter makes lines for people of zerolog's, without a time, which the
// journal of systemd adds, and with the severity as sd-daemon(3) has it.
type priorityWriter struct{ out io.Writer }

func (w *priorityWriter) Write(p []byte) (int, error) {
	var line struct {
		Level string `json:"level"`
	}
	_ = json.Unmarshal(p, &line)
	level, _ := zerolog.ParseLevel(line.Level)
	var b bytes.Buffer
	c := zerolog.ConsoleWriter{Out: &b, NoColor: true, PartsExclude: []string{zerolog.TimestampFieldName, zerolog.LevelFieldName}}
	if _, err := c.Write(p); err != nil {
		b.Reset()
		b.Write(p)
	}
	text := bytes.ReplaceAll(bytes.TrimRight(b.Bytes(), "\n"), []byte("\n"), []byte(`\n`))
	if _, err := w.out.Write(fmt.Appendf(nil, "<%d>%s\n", Severity(level), text)); err != nil {
		return 0, err
	}
	return len(p), nil
}
