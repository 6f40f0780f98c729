// Package buildinfo says which build of the project is running, for the
// version commands, /__version__ and the log.
package buildinfo

import (
	"runtime/debug"
	"sync"
)

// Module is the path of the project's Go module.
const Module = "github.com/websocktunnel/websocktunnel"

// Set by the linker: ci/build.sh passes -X for each.
var version, commit, build string

// Info names one build. No field is ever empty.
type Info struct {
	// Version is the release, or what git describe made of the commit;
	// "devel" where nothing is known.
	Version string `json:"version"`
	// Commit is the full hash of the commit, with "-dirty" behind it if the
	// tree had other changes; "unknown" where nothing is known.
	Commit string `json:"commit"`
	// Build tells apart builds of one commit: the time of the commit (RFC
	// 3339) unless the build said otherwise, for example with the URL
	// of a CI job; "unknown" where nothing is known.
	Build string `json:"build"`
}

// Get returns what the linker was told and, for what it was not told, what the
// go command recorded.
func Get() Info { return get() }

var get = sync.OnceValue(func() Info {
	recorded, _ := debug.ReadBuildInfo()
	return merge(Info{version, commit, build}, recorded)
})

// merge fills the empty fields of told from recorded, which may be nil.
func merge(told Info, recorded *debug.BuildInfo) Info {
	if recorded == nil {
		recorded = &debug.BuildInfo{}
	}
	if told.Version == "" {
		told.Version = moduleVersion(recorded)
	}
	if recorded.Main.Path == Module {
		settings := make(map[string]string, len(recorded.Settings))
		for _, s := range recorded.Settings {
			settings[s.Key] = s.Value
		}
		if told.Commit == "" && settings["vcs.revision"] != "" {
			told.Commit = settings["vcs.revision"]
			if settings["vcs.modified"] == "true" {
				told.Commit += "-dirty"
			}
		}
		if told.Build == "" {
			told.Build = settings["vcs.time"]
		}
	}
	if told.Version == "" || told.Version == "(devel)" {
		told.Version = "devel"
	}
	if told.Commit == "" {
		told.Commit = "unknown"
	}
	if told.Build == "" {
		told.Build = "unknown"
	}
	return told
}

// moduleVersion finds the project among what was built: as the main module, or
// as a dependency of a program that embeds its packages.
func moduleVersion(recorded *debug.BuildInfo) string {
	if recorded.Main.Path == Module {
		return recorded.Main.Version
	}
	for _, dep := range recorded.Deps {
		if dep.Path != Module {
			continue
		}
		if dep.Replace != nil {
			return dep.Replace.Version
		}
		return dep.Version
	}
	return ""
}
