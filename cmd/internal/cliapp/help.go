package cliapp

import (
	"io"
	"strings"
	"unicode/utf8"

	"github.com/urfave/cli/v3"
)

// setHelp makes urfave/cli print help that fits a terminal.
func setHelp() {
	cli.FlagStringer = flagHelp
	cli.HelpPrinter = func(w io.Writer, template string, data any) {
		cli.HelpPrinterCustom(w, template, data, map[string]any{"wrap": indentLines})
	}
}

const (
	helpWidth  = 80 // columns
	helpIndent = 7  // columns before the text of a flag
)

// flagHelp returns the help for a flag: its names and variable, and its text
// below. urfave/cli would put all of it in one line, however long.
func flagHelp(flag cli.Flag) string {
	doc, ok := flag.(cli.DocGenerationFlag)
	if !ok {
		return flag.String()
	}
	value, text := valueName(doc.GetUsage())
	var names []string
	for _, name := range flag.Names() {
		if len(name) > 1 {
			name = "-" + name
		}
		names = append(names, "-"+name)
	}
	var head strings.Builder
	head.WriteString(strings.Join(names, ", "))
	if doc.TakesValue() && value != "" {
		head.WriteString(" " + value)
	}
	for _, name := range doc.GetEnvVars() {
		head.WriteString(" [$" + name + "]")
	}
	if def := doc.GetDefaultText(); def != "" && doc.IsDefaultVisible() {
		text += " (default: " + def + ")"
	}
	return head.String() + fill(text, helpWidth, helpIndent)
}

// indentLines indents all lines of text but the first. It leaves alone what
// flagHelp has made, which the templates put at column 6.
func indentLines(text string, column int) string {
	if column == 6 {
		return text
	}
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		if i > 0 && line != "" {
			lines[i] = strings.Repeat(" ", column) + line
		}
	}
	return strings.Join(lines, "\n")
}

// valueName returns the name of a flag's value, which stands between backquotes in
// its usage, and the usage without the backquotes.
func valueName(usage string) (name, text string) {
	before, rest, ok := strings.Cut(usage, "`")
	name, after, closed := strings.Cut(rest, "`")
	if !ok || !closed {
		return "", usage
	}
	text = before + name + after
	if name != strings.ToUpper(name) { // a word, not URL
		name = strings.ToLower(name)
	}
	return name, text
}

// fill returns text in indented lines of at most width columns, with a line break
// before each.
func fill(text string, width, indent int) string {
	var b strings.Builder
	column := width
	for word := range strings.FieldsSeq(text) {
		n := utf8.RuneCountInString(word)
		if column+1+n > width {
			b.WriteString("\n" + strings.Repeat(" ", indent))
			column = indent + n
		} else {
			b.WriteString(" ")
			column += 1 + n
		}
		b.WriteString(word)
	}
	return b.String()
}
