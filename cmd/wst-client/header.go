package main

import (
	"net/http"
	"os"
	"strings"

	"github.com/urfave/cli/v3"

	"github.com/websocktunnel/websocktunnel/cmd/internal/cliapp"
)

// headers returns the headers of a repeatable flag, each of which is "Name: value"
// or @ and the name of a file with such lines. Faults show no values, nor what may
// be one.
func headers(cmd *cli.Command, flag string, faults *cliapp.Faults) http.Header {
	h := http.Header{}
	for _, arg := range cmd.StringSlice(flag) {
		file, ok := strings.CutPrefix(arg, "@")
		if !ok {
			if !addHeader(h, arg) {
				faults.Add("--%s: it must be 'Name: value', or @FILE with one such line for each header", flag)
			}
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			faults.Add("--%s: %v", flag, err)
			continue
		}
		n := 0
		for line := range strings.Lines(string(text)) {
			n++
			if strings.TrimSpace(line) != "" && !addHeader(h, line) {
				faults.Add("--%s: line %d of %s must be Name: value", flag, n, file)
			}
		}
	}
	return h
}

// addHeader adds a line "Name: value" to h, if it is one.
func addHeader(h http.Header, line string) bool {
	name, value, ok := strings.Cut(line, ":")
	name = strings.TrimSpace(name)
	if !ok || name == "" {
		return false
	}
	h.Add(name, strings.TrimSpace(value))
	return true
}
