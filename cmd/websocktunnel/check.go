package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"unicode"

	"github.com/urfave/cli/v3"

	"github.com/websocktunnel/websocktunnel/cmd/internal/cliapp"
	"github.com/websocktunnel/websocktunnel/internal/admin"
)

// checked is what serve --check --json prints.
type checked struct {
	Settings []admin.Setting `json:"settings"`
	Warnings []string        `json:"warnings"`
	Faults   []string        `json:"faults"`
}

// checkFlags are the flags of serve that are no settings.
func checkFlags() []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "check", Usage: "Print the settings, where each comes from, and what is wrong with them. Start nothing. Exit status 0, or 2 if there are faults.", Local: true},
		&cli.BoolFlag{Name: "json", Usage: "With --check: print that as JSON.", Local: true},
	}
}

// check prints the configuration c and returns err, which is what is wrong with it.
func check(out io.Writer, asJSON bool, c config, err error) error {
	result := checked{Settings: c.admin.settings, Warnings: c.warnings, Faults: []string{}}
	var faults *cliapp.UsageError
	if errors.As(err, &faults) {
		result.Faults = faults.Lines
	}
	if asJSON {
		if result.Settings == nil {
			result.Settings = []admin.Setting{}
		}
		if result.Warnings == nil {
			result.Warnings = []string{}
		}
		e := json.NewEncoder(out)
		e.SetEscapeHTML(false)
		e.SetIndent("", "  ")
		if e := e.Encode(result); e != nil {
			return e
		}
		if err != nil {
			return cli.Exit("", cliapp.ExitUsage)
		}
		return nil
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for i, s := range result.Settings {
		if i == 0 {
			fmt.Fprintln(w, "SETTING\tVALUE\tSOURCE")
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", s.Name, shown(s.Value), s.Source)
	}
	if e := w.Flush(); e != nil {
		return e
	}
	for _, text := range result.Warnings {
		fmt.Fprintf(os.Stderr, "websocktunnel: warning: %s\n", text)
	}
	if err == nil {
		_, err = fmt.Fprintln(out, "\nThe configuration has no faults.")
	}
	return err
}

// shown returns a value for the table.
func shown(value string) string {
	if value == "" {
		return "-"
	}
	if strings.ContainsFunc(value, unicode.IsControl) {
		return fmt.Sprintf("%q", value)
	}
	return value
}
