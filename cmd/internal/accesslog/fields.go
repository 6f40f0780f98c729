package accesslog

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/websocktunnel/websocktunnel/server"
)

// entry is what a line is made of.
type entry struct {
	*server.RequestInfo
	node          string
	path, referer string // as they may be shown
}

// fields are what a template may name, by name.
var fields = map[string]func(line []byte, e *entry) []byte{
	"time":           func(b []byte, e *entry) []byte { return e.End.AppendFormat(b, "2006-01-02T15:04:05.000Z07:00") },
	"clf_time":       func(b []byte, e *entry) []byte { return e.End.AppendFormat(b, "02/Jan/2006:15:04:05 -0700") },
	"request_id":     func(b []byte, e *entry) []byte { return escape(b, e.ID) },
	"remote":         appendRemote,
	"id":             func(b []byte, e *entry) []byte { return escape(b, e.Tunnel) },
	"method":         func(b []byte, e *entry) []byte { return escape(b, e.Method) },
	"host":           func(b []byte, e *entry) []byte { return escape(b, e.Host) },
	"path":           func(b []byte, e *entry) []byte { return escape(b, e.path) },
	"proto":          func(b []byte, e *entry) []byte { return escape(b, e.Proto) },
	"node":           func(b []byte, e *entry) []byte { return escape(b, e.node) },
	"tunnel_node":    func(b []byte, e *entry) []byte { return escape(b, e.TunnelNode) },
	"tunnel_proto":   func(b []byte, e *entry) []byte { return escape(b, e.TunnelProto) },
	"target_proto":   func(b []byte, e *entry) []byte { return escape(b, e.TargetProto) },
	"status":         func(b []byte, e *entry) []byte { return strconv.AppendInt(b, int64(e.Status), 10) },
	"producer":       func(b []byte, e *entry) []byte { return escape(b, e.Producer) },
	"failed_hop":     func(b []byte, e *entry) []byte { return escape(b, e.FailedHop) },
	"error":          func(b []byte, e *entry) []byte { return escape(b, e.Error) },
	"error_code":     func(b []byte, e *entry) []byte { return escape(b, e.ErrorCode) },
	"received_bytes": func(b []byte, e *entry) []byte { return strconv.AppendInt(b, e.Received, 10) },
	"sent_bytes":     func(b []byte, e *entry) []byte { return strconv.AppendInt(b, e.Sent, 10) },
	"first_byte_ms":  appendFirstByte,
	"duration_ms":    func(b []byte, e *entry) []byte { return appendMilliseconds(b, e.End.Sub(e.Start)) },
	"broken":         func(b []byte, e *entry) []byte { return strconv.AppendBool(b, e.Broken) },
	"ending":         func(b []byte, e *entry) []byte { return escape(b, ending(e)) },
	"user_agent":     func(b []byte, e *entry) []byte { return escape(b, e.UserAgent) },
	"referer":        func(b []byte, e *entry) []byte { return escape(b, e.referer) },
}

// fieldNames returns the names of all fields, for errors.
func fieldNames() string {
	return "{" + strings.Join(slices.Sorted(maps.Keys(fields)), "} {") + "}"
}

func appendRemote(b []byte, e *entry) []byte {
	if !e.Viewer.IsValid() {
		return append(b, '-')
	}
	return e.Viewer.AppendTo(b)
}

// ending says what a status does not: that an answer broke off, or that the connection
// went on as another protocol's.
func ending(e *entry) string {
	switch {
	case e.Broken:
		return "broken"
	case e.Status == 101:
		return "upgrade"
	}
	return ""
}

func appendFirstByte(b []byte, e *entry) []byte {
	if e.Begun.IsZero() {
		return append(b, '-')
	}
	return appendMilliseconds(b, e.Begun.Sub(e.Start))
}

// milliseconds returns d to three digits behind the point.
func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func appendMilliseconds(b []byte, d time.Duration) []byte {
	return strconv.AppendFloat(b, milliseconds(d), 'f', 3, 64)
}

// escape appends what a viewer may have chosen, so that it cannot end a field or a
// line: bytes other than printable ASCII, and quotes and backslashes, as \xHH.
func escape(b []byte, s string) []byte {
	if s == "" {
		return append(b, '-')
	}
	if masked, ok := strings.CutSuffix(s, mask); ok {
		return append(escape(b, masked+"/"), "..."...)
	}
	const digits = "0123456789abcdef"
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			b = append(b, '\\', 'x', digits[c>>4], digits[c&15])
		} else {
			b = append(b, c)
		}
	}
	return b
}
