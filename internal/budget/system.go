package budget

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
)

// DefaultLimit is the default of a limit, for Parse.
const DefaultLimit = "80%"

// Default returns the limit in bytes where none is set: the runtime's, if GOMEMLIMIT
// or the program has set that, and otherwise DefaultLimit. It is 0 if the machine's
// memory is not known.
func Default() int64 {
	if n := debug.SetMemoryLimit(-1); n != math.MaxInt64 {
		return n
	}
	n, _ := Parse(DefaultLimit) // it is valid
	return n
}

// units of Parse, longest names first.
var units = [...]struct {
	name  string
	bytes float64
}{
	{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40},
	{"kB", 1e3}, {"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12},
	{"K", 1 << 10}, {"M", 1 << 20}, {"G", 1 << 30}, {"T", 1 << 40},
	{"B", 1}, {"", 1},
}

// minLimit is the least limit that leaves room for any work.
const minLimit = 64 << 20

// Parse understands a limit of memory as people write it: a number with a unit
// ("512MiB", "2G", "1.5GB"), a part of the memory that the process may have
// ("80%"), or "off", which is 0. Nothing at all means Default. Where the
// memory is not known, a percentage is 0 too.
func Parse(s string) (int64, error) {
	text := strings.TrimSpace(s)
	if text == "" {
		return Default(), nil
	}
	if strings.EqualFold(text, "off") {
		return 0, nil
	}
	fault := fmt.Errorf("%.40q: it must be a size of at least 64MiB such as 512MiB or 2GiB, a percentage of the machine's memory such as 80%%, or off", s)
	if digits, ok := strings.CutSuffix(text, "%"); ok {
		percent, err := strconv.ParseFloat(digits, 64)
		if err != nil || !(percent > 0 && percent <= 100) {
			return 0, fault
		}
		return int64(float64(Available()) * percent / 100), nil
	}
	for _, u := range units {
		digits, ok := strings.CutSuffix(text, u.name)
		if !ok {
			continue
		}
		n, err := strconv.ParseFloat(strings.TrimSpace(digits), 64)
		if err != nil || math.IsNaN(n) || n*u.bytes < minLimit || n*u.bytes > math.MaxInt64/2 {
			return 0, fault
		}
		return int64(n * u.bytes), nil
	}
	return 0, fault
}

// Available returns how many bytes of memory this process may have: the least
// limit of its control groups, or the machine's memory; 0 if neither is known.
func Available() int64 { return availableIn("/") }

// availableIn is Available for a file system under root.
func availableIn(root string) int64 {
	least := int64(math.MaxInt64)
	take := func(path string) {
		if n := readLimit(path); n > 0 {
			least = min(least, n)
		}
	}
	own, _ := os.ReadFile(filepath.Join(root, "proc/self/cgroup"))
	for line := range strings.Lines(string(own)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) != 3 {
			continue
		}
		dir, file := "", ""
		switch {
		case parts[0] == "0" && parts[1] == "":
			dir, file = "sys/fs/cgroup", "memory.max"
		case strings.Contains(","+parts[1]+",", ",memory,"):
			dir, file = "sys/fs/cgroup/memory", "memory.limit_in_bytes"
		default:
			continue
		}
		// A limit counts for all groups below, and in a container the path is
		// often one of the host's, which is not there.
		for path := filepath.Clean("/" + parts[2]); ; path = filepath.Dir(path) {
			take(filepath.Join(root, dir, path, file))
			if path == "/" {
				break
			}
		}
	}
	take(filepath.Join(root, "proc/meminfo"))
	if least == math.MaxInt64 {
		return 0
	}
	return least
}

// readLimit reads a limit of a control group, or MemTotal of meminfo. It returns
// 0 if there is none.
func readLimit(path string) int64 {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	if filepath.Base(path) != "meminfo" {
		n, _ := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64) // "max" is no number
		return n
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "MemTotal:"); ok {
			n, _ := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
			return n << 10
		}
	}
	return 0
}
