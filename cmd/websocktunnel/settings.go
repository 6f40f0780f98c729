package main

import (
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/websocktunnel/websocktunnel/cmd/internal/cliapp"
)

// maxSecretFile is the size of the largest file that a secret or key is read
// from.
const maxSecretFile = 1 << 20

// settings reads variables and collects their faults.
type settings struct {
	lookup lookup // without white space around the values
	faults cliapp.Faults
	faulty map[string]bool   // the variables that have a fault
	odd    map[string]string // what to say about white space and quotes, by variable
	files  map[string]string // what files of secrets hold, by variable
}

func newSettings(look lookup) *settings {
	s := &settings{faulty: make(map[string]bool), odd: make(map[string]string), files: make(map[string]string)}
	s.lookup = func(name string) (string, origin) {
		value, from := look(name)
		return s.trimmed(name, value), from
	}
	return s
}

// trimmed returns value without the white space around it, which is never meant:
// echo, YAML and files with CRLF leave it there. Of a secret only line breaks go,
// because spaces may be part of it, and that is worth a warning: signers of tokens
// must have the same secret.
func (s *settings) trimmed(name, value string) string {
	clean := strings.TrimSpace(value)
	if slices.Contains(secretNames[:], name) {
		clean = strings.Trim(value, "\r\n")
		if clean != value {
			s.odd[name] = "has line breaks at its beginning or end, which are not part of the secret; signers of tokens must leave them out too"
		}
	}
	if clean == "" && value != "" {
		s.odd[name] = "holds only white space and counts as not set"
	}
	if n := len(clean); n > 1 && strings.ContainsAny(clean[:1], "\"'") && clean[n-1] == clean[0] {
		s.odd[name] = "is in quotation marks, which count as part of the value: remove them if they are not meant"
	}
	return clean
}

// fault notes that the variable of that name breaks a rule. It names the flag or
// the place in a file too if that is where the value came from.
func (s *settings) fault(name, format string, args ...any) {
	s.faulty[name] = true
	s.faults.Add("%s %s", s.label(name), fmt.Sprintf(format, args...))
}

// label returns the name of a variable for a fault, with its flag or its place in a
// file if that is where the value came from.
func (s *settings) label(name string) string {
	switch _, from := s.lookup(name); from.kind {
	case byFlag:
		return fmt.Sprintf("%s (flag --%s)", name, flagName(name))
	case byFile:
		return fmt.Sprintf("%s (%s)", name, from.at)
	}
	return name
}

// configFaults notes the faults that a package of this project has found in its
// Config. variables has the variable for each field, "" for one whose fault is
// noted already. A variable that has a fault gets no second one.
func (s *settings) configFaults(err error, variables map[string]string) {
	s.faults.AddConfig(err, func(field string) string {
		field, _, _ = strings.Cut(field, "[") // Secrets[1]
		name, ok := variables[field]
		switch {
		case !ok:
			return field // a rule that has no variable
		case name == "" || s.faulty[name]:
			return ""
		}
		return s.label(name)
	})
}

// text returns the value of a variable, "" if it is not set.
func (s *settings) text(name string) string {
	value, _ := s.lookup(name)
	return value
}

// choice returns the value of a variable that must be one of values. The first is
// the default.
func (s *settings) choice(name string, values ...string) string {
	value := s.text(name)
	if value == "" {
		return values[0]
	}
	for _, v := range values {
		if strings.EqualFold(value, v) {
			return v
		}
	}
	s.fault(name, "%q: it must be %s", value, strings.Join(values, " or "))
	return values[0]
}

// on reports whether a switch is on.
func (s *settings) on(name string, def bool) bool {
	switch value := s.text(name); strings.ToLower(value) {
	case "":
	case "on", "1", "true", "yes":
		return true
	case "off", "0", "false", "no":
		return false
	default:
		s.fault(name, "%q: it must be on or off", value)
	}
	return def
}

// integer returns the value of a variable that must be a number from low to
// high.
func (s *settings) integer(name string, def, low, high int) int {
	value := s.text(name)
	if value == "" {
		return def
	}
	n, err := strconv.Atoi(value)
	if err != nil || n < low || n > high {
		s.fault(name, "%q: it must be a number from %d to %d", value, low, high)
		return def
	}
	return n
}

// countOrOff returns the value of a variable that must be a positive number or
// off. As in server.Config, zero means the default and negative off.
func (s *settings) countOrOff(name string) int {
	value := s.text(name)
	if strings.EqualFold(value, "off") {
		return -1
	}
	n, err := strconv.Atoi(value)
	if value != "" && (err != nil || n < 1 || n > math.MaxInt32) {
		s.fault(name, "%q: it must be a number from 1 to %d, or off", value, math.MaxInt32)
		return 0
	}
	return n
}

// duration returns the value of a variable that must be a time. As in
// server.Config, zero means the default and negative off.
func (s *settings) duration(name string) time.Duration {
	value := s.text(name)
	if value == "" {
		return 0
	}
	if strings.EqualFold(value, "off") {
		return -1
	}
	d, err := time.ParseDuration(value)
	if err != nil {
		var seconds uint64
		if seconds, err = strconv.ParseUint(value, 10, 32); err == nil {
			d = time.Duration(seconds) * time.Second
		}
	}
	switch {
	case err != nil || d < 0:
		s.fault(name, "%q: it must be a time such as 90s or 5m, a number of seconds, or off", value)
		return 0
	case d == 0:
		return -1
	}
	return d
}

// secret returns the value of a variable, or of the file that its twin names;
// "" if neither is set. The value never gets into a fault.
func (s *settings) secret(name string) string {
	twin := name + fileSuffix
	value, from := s.lookup(name)
	file := s.fileOf(name)
	if file == "" {
		if other, fromToo := s.lookup(twin); value != "" && other != "" && from.kind == fromToo.kind {
			s.fault(name, "is set, and %s is too: set only one of them", twin)
		}
		return value
	}
	text, err := readSecret(file)
	if err != nil {
		s.fault(twin, "%v", err)
	}
	s.files[name] = text
	return text
}

// fileOf returns the file that a secret comes from, or "" if it comes from the
// variable itself, or is not set.
func (s *settings) fileOf(name string) string {
	value, from := s.lookup(name)
	file, fileFrom := s.lookup(name + fileSuffix)
	if value != "" && from.kind >= fileFrom.kind {
		return "" // of two of a kind the value wins
	}
	return file
}

// isSet reports whether a variable or its twin is set, to any value.
func (s *settings) isSet(name string) bool {
	return s.text(name) != "" || s.text(name+fileSuffix) != ""
}

// readSecret returns the content of a file, without the line break at its end that
// editors and echo leave there.
func readSecret(path string) (string, error) {
	b, _, err := readWhole(path, maxSecretFile)
	if err != nil {
		return "", err
	}
	text := strings.TrimRight(string(b), "\r\n")
	if text == "" {
		return "", fmt.Errorf("%q: the file is empty", path)
	}
	return text, nil
}

// piped has what was in pipes, by path: a pipe can be read once, and opening it again
// would wait for a writer.
var piped sync.Map

// readWhole returns the content of a file of at most limit bytes, and its mode.
func readWhole(path string, limit int64) ([]byte, fs.FileMode, error) {
	if b, ok := piped.Load(path); ok {
		return b.([]byte), 0, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, fmt.Errorf("cannot be read: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, 0, fmt.Errorf("cannot be read: %w", err)
	}
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	switch {
	case err != nil:
		return nil, 0, fmt.Errorf("cannot be read: %w", err)
	case int64(len(b)) > limit:
		return nil, 0, fmt.Errorf("%q: the file must not be larger than %d bytes", path, limit)
	}
	if !info.Mode().IsRegular() {
		piped.Store(path, b)
	}
	return b, info.Mode(), nil
}
