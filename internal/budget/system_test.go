package budget

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	for text, want := range map[string]int64{
		"512MiB": 512 << 20, "512M": 512 << 20, "512 MiB": 512 << 20, " 2GiB\n": 2 << 30, "1.5GB": 1_500_000_000,
		"off": 0, "OFF": 0, "67108864": 64 << 20, "67108864B": 64 << 20, "100000kB": 100_000_000, "1TiB": 1 << 40,
		"50%": Available() / 2, "": Available() / 5 * 4,
	} {
		got, err := Parse(text)
		if slack := got - want; err != nil || slack < -8 || slack > 8 {
			t.Errorf("Parse(%q) = %d, %v; want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"0", "-1", "63MiB", "0%", "101%", "-5%", "NaN", "nan%", "1e400", "12XB", "MiB", "%", "on", "512 MiB MiB", "1e30GiB"} {
		if n, err := Parse(text); err == nil || !strings.Contains(err.Error(), "512MiB") {
			t.Errorf("Parse(%q) = %d, %v; want an error that shows what is right", text, n, err)
		}
	}
}

func TestAvailable(t *testing.T) {
	for name, test := range map[string]struct {
		files map[string]string
		want  int64
	}{
		"nothing known": {nil, 0},
		"machine":       {map[string]string{"proc/meminfo": "MemTotal:       2048 kB\nMemFree: 1 kB\n"}, 2048 << 10},
		"version 2": {map[string]string{
			"proc/meminfo": "MemTotal: 4096 kB\n", "proc/self/cgroup": "0::/a/b\n",
			"sys/fs/cgroup/a/memory.max": "1000000\n", "sys/fs/cgroup/a/b/memory.max": "max\n",
		}, 1000000},
		"version 1": {map[string]string{
			"proc/meminfo": "MemTotal: 4096 kB\n", "proc/self/cgroup": "5:cpu,cpuacct:/x\n4:memory:/docker/1\n",
			"sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n", "sys/fs/cgroup/memory/docker/1/memory.limit_in_bytes": "2000000\n",
		}, 2000000},
		"in a container": {map[string]string{
			"proc/meminfo": "MemTotal: 4096 kB\n", "proc/self/cgroup": "0::/not/here\n", "sys/fs/cgroup/memory.max": "3000000\n",
		}, 3000000},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			for path, text := range test.files {
				file := filepath.Join(root, path)
				if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if got := availableIn(root); got != test.want {
				t.Errorf("%d, want %d", got, test.want)
			}
		})
	}
}
