package buildinfo_test

import (
	"encoding/json"
	"runtime/debug"
	"testing"

	"github.com/websocktunnel/websocktunnel/internal/buildinfo"
)

func TestMerge(t *testing.T) {
	t.Parallel()
	vcs := []debug.BuildSetting{
		{Key: "vcs.revision", Value: "c0ffee"},
		{Key: "vcs.time", Value: "2026-01-02T03:04:05Z"},
		{Key: "vcs.modified", Value: "false"},
	}
	dirty := append(vcs[:2:2], debug.BuildSetting{Key: "vcs.modified", Value: "true"})
	own := func(version string, settings []debug.BuildSetting) *debug.BuildInfo {
		return &debug.BuildInfo{Main: debug.Module{Path: buildinfo.Module, Version: version}, Settings: settings}
	}
	embedded := func(dep debug.Module) *debug.BuildInfo {
		return &debug.BuildInfo{
			Main:     debug.Module{Path: "example.org/app", Version: "v9.9.9"},
			Deps:     []*debug.Module{{Path: "example.org/other", Version: "v7.0.0"}, &dep},
			Settings: vcs,
		}
	}

	for _, tc := range []struct {
		name     string
		told     buildinfo.Info
		recorded *debug.BuildInfo
		want     buildinfo.Info
	}{
		{
			name: "nothing known",
			want: buildinfo.Info{Version: "devel", Commit: "unknown", Build: "unknown"},
		},
		{
			name:     "the linker was told everything",
			told:     buildinfo.Info{Version: "v1.2.3", Commit: "abc", Build: "job 7"},
			recorded: own("v0.0.1", vcs),
			want:     buildinfo.Info{Version: "v1.2.3", Commit: "abc", Build: "job 7"},
		},
		{
			name:     "go build in a clone",
			recorded: own("(devel)", vcs),
			want:     buildinfo.Info{Version: "devel", Commit: "c0ffee", Build: "2026-01-02T03:04:05Z"},
		},
		{
			name:     "go build in a changed clone",
			recorded: own("v1.2.4-0.20260102030405-c0ffee+dirty", dirty),
			want:     buildinfo.Info{Version: "v1.2.4-0.20260102030405-c0ffee+dirty", Commit: "c0ffee-dirty", Build: "2026-01-02T03:04:05Z"},
		},
		{
			name:     "go install with a version",
			recorded: own("v1.2.3", nil),
			want:     buildinfo.Info{Version: "v1.2.3", Commit: "unknown", Build: "unknown"},
		},
		{
			name:     "embedded: the program's own version and commit are not ours",
			recorded: embedded(debug.Module{Path: buildinfo.Module, Version: "v1.2.3"}),
			want:     buildinfo.Info{Version: "v1.2.3", Commit: "unknown", Build: "unknown"},
		},
		{
			name: "embedded and replaced",
			recorded: embedded(debug.Module{
				Path: buildinfo.Module, Version: "v1.2.3",
				Replace: &debug.Module{Path: "../fork"},
			}),
			want: buildinfo.Info{Version: "devel", Commit: "unknown", Build: "unknown"},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			if got := buildinfo.Merge(tc.told, tc.recorded); got != tc.want {
				t.Errorf("got %+v, want %+v", got, tc.want)
			}
		})
	}
}

func TestGet(t *testing.T) {
	t.Parallel()
	body, err := json.Marshal(buildinfo.Get())
	if err != nil {
		t.Fatal(err)
	}
	var fields map[string]string
	if err := json.Unmarshal(body, &fields); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"version", "commit", "build"} {
		if fields[key] == "" {
			t.Errorf("%s: no %q", body, key)
		}
	}
	if len(fields) != 3 {
		t.Errorf("%s: want exactly version, commit, build", body)
	}
}
