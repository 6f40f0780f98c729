package wire

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// maxPing bounds what a service can tell a tunnel client: at least a second, so that
// pings are no burden, and at most this.
const maxPing = time.Minute

// FormatPing returns the value of HeaderPing, or "" if one of the times is not from
// 1 s to 1 min. Parts of a second are rounded up.
func FormatPing(interval, timeout time.Duration) string {
	if min(interval, timeout) < time.Second || max(interval, timeout) > maxPing {
		return ""
	}
	seconds := func(d time.Duration) int64 { return int64((d + time.Second - 1) / time.Second) }
	return fmt.Sprintf("interval=%d, timeout=%d", seconds(interval), seconds(timeout))
}

// ParsePing returns what a value of HeaderPing says. It reports false for what breaks
// the rules; members that it does not know are ignored.
func ParsePing(value string) (interval, timeout time.Duration, ok bool) {
	for member := range strings.SplitSeq(value, ",") {
		name, text, _ := strings.Cut(strings.Trim(member, " \t"), "=")
		var d *time.Duration
		switch name {
		case "interval":
			d = &interval
		case "timeout":
			d = &timeout
		default:
			continue
		}
		n, err := strconv.ParseUint(text, 10, 8)
		if err != nil || *d != 0 || n < 1 || n > uint64(maxPing/time.Second) {
			return 0, 0, false
		}
		*d = time.Duration(n) * time.Second
	}
	return interval, timeout, interval > 0 && timeout > 0
}
