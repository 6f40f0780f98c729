package accesslog

import (
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"

	"github.com/rs/zerolog"

	"github.com/websocktunnel/websocktunnel/internal/logevent"
	"github.com/websocktunnel/websocktunnel/server"
)

// Forms of a line, besides templates.
const (
	JSON     = "json"
	Combined = "combined" // of Apache and nginx, with three fields behind it
)

// Config configures a [Log].
type Config struct {
	// Format is JSON, Combined or a template: text in which {name} stands for a
	// field. Required.
	Format string

	// Paths writes whole paths, without the query. Otherwise what comes behind
	// the name of the tunnel is masked.
	Paths bool

	// Sample is the part of the requests that are logged, from 0 to 1. Those that
	// failed or got a status from 500 on are logged in any case.
	Sample float64

	// Node is the name of this node of a cluster, for its lines. Empty: there is none.
	Node string

	// Out takes the lines, one with each call, and must not block. Required.
	Out io.Writer
}

// Log writes lines. It may be used by several goroutines at a time.
type Log struct {
	cfg   Config
	json  zerolog.Logger
	parts []part // of a template
}

// New returns a Log, or the rule that cfg.Format breaks.
func New(cfg Config) (*Log, error) {
	l := &Log{cfg: cfg}
	var err error
	switch cfg.Format {
	case JSON:
		l.json = zerolog.New(cfg.Out)
	case Combined:
		l.parts, err = parseTemplate(`{remote} - - [{clf_time}] "{method} {path} {proto}" {status} {sent_bytes} "{referer}" "{user_agent}" {request_id} {error_code} {ending}`)
	default:
		l.parts, err = parseTemplate(cfg.Format)
	}
	return l, err
}

// Done writes the line about a request that is over.
func (l *Log) Done(i *server.RequestInfo) {
	if !l.wants(i) {
		return
	}
	path, referer := Path(i, l.cfg.Paths), l.referer(i.Referer)
	if l.cfg.Format == JSON {
		l.writeJSON(i, path, referer)
		return
	}
	b := buffers.Get().(*[]byte)
	line, e := (*b)[:0], entry{i, l.cfg.Node, path, referer}
	for _, p := range l.parts {
		line = append(line, p.text...)
		if p.field != nil {
			line = p.field(line, &e)
		}
	}
	line = append(line, '\n')
	_, _ = l.cfg.Out.Write(line)
	*b = line
	buffers.Put(b)
}

var buffers = sync.Pool{New: func() any { return new([]byte) }}

// wants reports whether there is to be a line about a request.
func (l *Log) wants(i *server.RequestInfo) bool {
	return l.cfg.Sample >= 1 || i.Status >= 500 || i.Broken || i.Status == 0 || rand.Float64() < l.cfg.Sample
}

func (l *Log) writeJSON(i *server.RequestInfo, path, referer string) {
	e := l.json.Log().Time("time", i.End).Str(logevent.Field, logevent.Request).Str("request_id", i.ID)
	if i.Viewer.IsValid() {
		e = e.Str("remote", i.Viewer.String())
	}
	e = optional(e, "id", i.Tunnel)
	e = e.Str("method", i.Method).Str("host", i.Host).Str("path", path)
	e = optional(e, "proto", i.Proto)
	e = optional(e, "node", l.cfg.Node)
	e = optional(e, "tunnel_node", i.TunnelNode)
	e = optional(e, "tunnel_proto", i.TunnelProto)
	e = optional(e, "target_proto", i.TargetProto)
	e = e.Int("status", i.Status)
	e = optional(e, "producer", i.Producer)
	e = optional(e, "failed_hop", i.FailedHop)
	e = optional(e, "error", i.Error)
	e = optional(e, "error_code", i.ErrorCode)
	e = e.Int64("received_bytes", i.Received).Int64("sent_bytes", i.Sent)
	if !i.Begun.IsZero() {
		e = e.Float64("first_byte_ms", milliseconds(i.Begun.Sub(i.Start)))
	}
	e = e.Float64("duration_ms", milliseconds(i.End.Sub(i.Start)))
	if i.Status == 101 {
		e = e.Bool("upgrade", true)
	}
	if i.Broken {
		e = e.Bool("broken", true)
	}
	e = optional(e, "user_agent", i.UserAgent)
	e = optional(e, "referer", referer)
	if l.cfg.Sample < 1 {
		e = e.Float64("sample", l.cfg.Sample)
	}
	e.Send()
}

func optional(e *zerolog.Event, name, value string) *zerolog.Event {
	if value == "" {
		return e
	}
	return e.Str(name, value)
}

// mask stands for what is not shown.
const mask = "/…"

// Path returns what a line says of a request's path: without whole, what comes behind
// the name of the tunnel is masked.
func Path(i *server.RequestInfo, whole bool) string {
	switch rest := strings.TrimPrefix(i.Path, i.Prefix); {
	case i.Path == "":
		return ""
	case whole, rest == "", rest == "/", rest == "*":
		return i.Path
	}
	return i.Prefix + mask
}

// referer returns what the line says of a Referer: never its query.
func (l *Log) referer(s string) string {
	s, _, _ = strings.Cut(s, "#")
	s, _, _ = strings.Cut(s, "?")
	scheme, rest, ok := strings.Cut(s, "://")
	if !ok {
		if s == "" || l.cfg.Paths && strings.HasPrefix(s, "/") {
			return s
		}
		return mask
	}
	host, path, hasPath := strings.Cut(rest, "/")
	if _, after, ok := strings.Cut(host, "@"); ok {
		host = after // not the password before it
	}
	switch {
	case !hasPath:
		return scheme + "://" + host
	case l.cfg.Paths || path == "":
		return scheme + "://" + host + "/" + path
	}
	return scheme + "://" + host + mask
}

// part is a piece of a template: text and the field behind it, if there is one.
type part struct {
	text  string
	field func(line []byte, e *entry) []byte
}

// parseTemplate reads a template.
func parseTemplate(s string) ([]part, error) {
	var parts []part
	if strings.ContainsAny(s, "\r\n") {
		return nil, fmt.Errorf("a template is one line")
	}
	for s != "" {
		text, rest, ok := strings.Cut(s, "{")
		if !ok {
			return append(parts, part{text: s}), nil
		}
		name, after, closed := strings.Cut(rest, "}")
		field := fields[name]
		if !closed {
			return nil, fmt.Errorf("{%.40s has no }", name)
		}
		if field == nil {
			return nil, fmt.Errorf("{%.40s} is no field: the fields are %s", name, fieldNames())
		}
		parts = append(parts, part{text, field})
		s = after
	}
	return parts, nil
}
