package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

// configVariable names the configuration file.
const configVariable = "CONFIG_FILE"

// maxConfigFile is the size of the largest configuration file in bytes.
const maxConfigFile = 4 << 20

// configFile is what a configuration file sets: YAML, with the names of variables
// as keys. A value is the text that stands in the file, not what YAML would take
// it for: a secret of digits keeps its zeros, and on stays on. So the rules for
// variables apply.
type configFile struct {
	path    string
	values  map[string]fileValue
	faults  []string
	broken  bool // it cannot be read, so that values are unknown
	exposed bool // other users of the machine can read it
}

// fileValue is one value and where it is.
type fileValue struct {
	text string
	line int
}

// readConfigFile reads the file that the variable called label names. Its faults
// are in the result.
func readConfigFile(path, label string) *configFile {
	f := &configFile{path: path, values: make(map[string]fileValue)}
	text, mode, err := readWhole(path, maxConfigFile)
	if err != nil {
		f.broken, f.faults = true, append(f.faults, fmt.Sprintf("%s %v", label, err))
		return f
	}
	f.exposed = mode.Perm()&0o004 != 0 && runtime.GOOS != "windows"
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	var doc, next yaml.Node
	switch err := decoder.Decode(&doc); {
	case errors.Is(err, io.EOF):
		return f // nothing is set
	case err != nil:
		f.addError(err)
		return f
	}
	switch err := decoder.Decode(&next); {
	case errors.Is(err, io.EOF):
	case err != nil:
		f.addError(err)
		return f
	default:
		f.add(next.Line, "a second document: the file must have one only, so remove the line ---")
	}
	f.read(&doc)
	return f
}

// read reads the whole document.
func (f *configFile) read(doc *yaml.Node) {
	if len(doc.Content) == 0 {
		return
	}
	top := doc.Content[0]
	switch {
	case top.Kind == yaml.ScalarNode && isNull(top):
		return
	case top.Kind != yaml.MappingNode:
		f.add(top.Line, "the file must have one setting a line, such as PORT: 8080")
		return
	}
	lines := make(map[string]int) // of the keys
	for i := 0; i+1 < len(top.Content); i += 2 {
		key, value := top.Content[i], top.Content[i+1]
		v, ok := f.known(key)
		if !ok {
			continue
		}
		if before, double := lines[key.Value]; double {
			f.add(key.Line, "%s is set in line %d already: set it only once", key.Value, before)
			continue
		}
		lines[key.Value] = key.Line
		if text, ok := f.text(key, value, v.list); ok {
			f.values[key.Value] = fileValue{text, key.Line}
		}
	}
}

// known returns the variable that key names. The faults do not quote what is no
// name, because it may be a secret in a wrong place.
func (f *configFile) known(key *yaml.Node) (variable, bool) {
	if !isPlain(key) {
		f.add(key.Line, "a name must stand before the colon, such as PORT: 8080")
		return variable{}, false
	}
	if key.Value == configVariable {
		f.add(key.Line, "%s cannot be set in the file itself", configVariable)
		return variable{}, false
	}
	for _, v := range variables {
		if key.Value == v.name {
			return v, true
		}
		if v.secret && key.Value == v.name+fileSuffix {
			v.list = false
			return v, true
		}
	}
	name := "a name"
	if len(key.Value) <= 40 && isVariableName(key.Value) {
		name = key.Value
	}
	hint := ": websocktunnel serve --help lists them"
	if meant := nearestVariable(key.Value); meant != "" {
		hint = fmt.Sprintf(": did you mean %s?", meant)
	}
	f.add(key.Line, "%s is not a variable of the service%s", name, hint)
	return variable{}, false
}

// isVariableName reports whether s has the form of the names of variables and
// flags.
func isVariableName(s string) bool {
	return strings.Trim(strings.ToUpper(s), "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") == ""
}

// text returns a value in the form that a variable has.
func (f *configFile) text(key, value *yaml.Node, list bool) (string, bool) {
	switch {
	case isPlain(value):
		if isNull(value) {
			return "", false // as a variable without a value
		}
		return value.Value, true
	case value.Kind == yaml.SequenceNode && list:
		var items []string
		for _, item := range value.Content {
			if !isPlain(item) {
				f.add(item.Line, "%s has an entry that is no single value", key.Value)
				return "", false
			}
			items = append(items, item.Value)
		}
		return strings.Join(items, ","), true
	case value.Kind == yaml.SequenceNode:
		f.add(key.Line, "%s has a list: it must be a single value", key.Value)
	case value.Kind == yaml.MappingNode:
		f.add(key.Line, "%s has names and values below it: it must be a single value", key.Value)
	default:
		f.add(key.Line, "%s has a tag, anchor or alias of YAML: put a value that begins with !, & or * in quotation marks", key.Value)
	}
	return "", false
}

// isPlain reports whether n is a value without YAML's tags, anchors and aliases, of
// which a value in the place of a secret may have the look.
func isPlain(n *yaml.Node) bool {
	return n.Kind == yaml.ScalarNode && n.Anchor == "" && n.Style&yaml.TaggedStyle == 0
}

// isNull reports whether n is there without a value.
func isNull(n *yaml.Node) bool {
	quoted := yaml.SingleQuotedStyle | yaml.DoubleQuotedStyle | yaml.LiteralStyle | yaml.FoldedStyle
	return n.Style&quoted == 0 && slices.Contains([]string{"", "~", "null", "Null", "NULL"}, n.Value)
}

func (f *configFile) add(line int, format string, args ...any) {
	f.faults = append(f.faults, fmt.Sprintf("%s:%d: %s", f.path, line, fmt.Sprintf(format, args...)))
}

// addError notes why the file is no YAML, without what such errors quote of it.
func (f *configFile) addError(err error) {
	f.broken = true
	var e *yaml.LoadError
	switch {
	case !errors.As(err, &e):
		f.faults = append(f.faults, f.path+": the file is not valid YAML")
	case e.Stage == yaml.ReaderStage:
		f.faults = append(f.faults, fmt.Sprintf("%s: not valid YAML, which is text in UTF-8: %s", f.path, e.Message))
	case e.Stage == yaml.ComposerStage:
		f.add(e.Mark.Line, "an alias of YAML: put a value that begins with * in quotation marks")
	default:
		rule := e.Message
		if e.ContextMsg != "" {
			rule += " " + e.ContextMsg
		}
		if at := e.ContextMark.Line; at > 0 && at < e.Mark.Line {
			rule += fmt.Sprintf(" that begins in line %d", at)
		}
		f.add(e.Mark.Line, "not valid YAML: %s", rule)
	}
}

// warnings returns sentences about what is probably not meant.
func (f *configFile) warnings() []string {
	if f == nil || !f.exposed {
		return nil
	}
	for _, v := range variables {
		value, set := f.values[v.name]
		if !set || !v.hides(value.text) {
			continue
		}
		instead := v.name + fileSuffix
		if v.url {
			instead = "CLUSTER_REDIS_PASSWORD" + fileSuffix
		}
		return []string{fmt.Sprintf("%s has %s in it, and other users of this machine can read the file: chmod 600 it, or use %s", f.path, v.name, instead)}
	}
	return nil
}
