package docs_test

import (
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestLogEvents: docs/log.md has each event of the log, once, and no others, and the
// code uses each. An event's name is a constant of internal/logevent, or stands in
// the call that logs it.
func TestLogEvents(t *testing.T) {
	const table = "../logevent/logevent.go"
	source, err := os.ReadFile(table)
	if err != nil {
		t.Fatal(err)
	}
	constants := make(map[string]string) // name of the event, by that of the constant
	for _, m := range regexp.MustCompile(`(?m)^\t(\w+) += "(\w+)"`).FindAllStringSubmatch(string(source), -1) {
		constants[m[1]] = m[2]
	}
	used := make(map[string]bool)
	use := regexp.MustCompile(`\blogevent\.(\w+)\b|Str\("event", "(\w+)"\)`)
	for _, dir := range []string{"server", "target", "h2conn", "tunnelclient", "internal", "cmd"} {
		err := filepath.WalkDir("../../"+dir, func(path string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || path == "../../internal/logevent/logevent.go" {
				return err
			}
			code, err := os.ReadFile(path)
			for _, m := range use.FindAllStringSubmatch(string(code), -1) {
				if m[2] != "" {
					used[m[2]] = true
				} else if m[1] != "Field" {
					used[constants[m[1]]] = true
				}
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, event := range constants {
		if !used[event] {
			t.Errorf("nothing logs the event %s", event)
		}
	}
	text, err := os.ReadFile("../../docs/log.md")
	if err != nil {
		t.Fatal(err)
	}
	var documented []string
	for line := range strings.Lines(string(text)) {
		if cells := strings.Split(line, "|"); len(cells) > 4 {
			for _, m := range regexp.MustCompile("`(\\w+)`").FindAllStringSubmatch(cells[1], -1) {
				if m[1] != "event" {
					documented = append(documented, m[1])
				}
			}
		}
	}
	slices.Sort(documented)
	if want := slices.Sorted(maps.Keys(used)); !slices.Equal(documented, want) {
		t.Errorf("docs/log.md has the events\n%v, and the code logs\n%v", documented, want)
	}
}

// TestLogLinesOfTunnels: every line about a tunnel or the service, in package server,
// has an event.
func TestLogLinesOfTunnels(t *testing.T) {
	files, err := filepath.Glob("../../server/*.go")
	if err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile(`\b(?:log\(\)|log|\))\.(?:Debug|Info|Warn|Error|WithLevel)\([a-z]*\)(.*)`)
	found := 0
	for _, file := range files {
		code, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		for _, m := range line.FindAllStringSubmatch(string(code), -1) {
			if found++; !strings.HasPrefix(m[1], ".Str(logevent.Field, logevent.") && !strings.Contains(m[1], `"from", "net/http"`) {
				t.Errorf("%s logs without an event: %s", file, m[0])
			}
		}
	}
	if found < 15 {
		t.Errorf("only %d lines were found: the pattern does not fit any more", found)
	}
}
