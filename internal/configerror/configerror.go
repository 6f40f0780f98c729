// Package configerror has the one error type with which the project's packages
// report a faulty Config or argument. Each public package that returns it
// gives it a name of its own, an alias.
package configerror

import (
	"errors"
	"net/url"
	"strconv"

	"github.com/websocktunnel/websocktunnel/internal/redact"
	"github.com/websocktunnel/websocktunnel/internal/wire"
)

// ConfigError says that one field of a Config, or one argument, breaks a rule.
// A function that checks several fields joins one ConfigError for each fault
// ([errors.Join]); [errors.As] finds the first.
type ConfigError struct {
	// Field is the Go name of the field or argument, such as "PublicURL",
	// "Secrets[1]" or "Claims.TTL".
	Field string

	// Value is what the field was set to. It is empty if the field was not set,
	// if Rule says what matters about it, or if it may be a secret. Of a URL it
	// leaves out user, password and query.
	Value string

	// Rule names the rule and what to do, in words that follow the field or the
	// value: "its scheme must be http or https", "is required".
	Rule string

	pkg string // the Go package that checked the field
}

// Error returns package, field, value and rule in one line.
func (e *ConfigError) Error() string {
	s := e.Field + " " + e.Reason()
	if e.pkg != "" {
		return e.pkg + ": " + s
	}
	return s
}

// Reason returns value and rule, for a caller that has another name for the
// field.
func (e *ConfigError) Reason() string {
	if e.Value == "" {
		return e.Rule
	}
	return strconv.Quote(e.Value) + ": " + e.Rule
}

// Faults collects the faults of a Config, so that all can be said at
// once. The zero value is ready to use; its errors name no package.
type Faults struct {
	pkg  string
	errs []error
}

// New returns an empty list whose errors name the Go package pkg.
func New(pkg string) *Faults { return &Faults{pkg: pkg} }

// Add notes a fault. value may be "", see [ConfigError].
func (f *Faults) Add(field, value, rule string) {
	f.errs = append(f.errs, &ConfigError{Field: field, Value: value, Rule: rule, pkg: f.pkg})
}

// AddID notes a fault if id may not be used as a client id.
func (f *Faults) AddID(field, id string) {
	switch rule := wire.IDRule(id); {
	case rule == "":
	case id == "" || len(id) > wire.MaxIDLength:
		f.Add(field, "", rule)
	default:
		f.Add(field, id, "it "+rule)
	}
}

// URL parses value and returns it, or nil after it has noted a fault. rule returns
// the rule that a URL breaks, or "". example is of a good one.
func (f *Faults) URL(field, value, example string, rule func(*url.URL) string) *url.URL {
	if value == "" {
		f.Add(field, "", "is required, such as "+example)
		return nil
	}
	u, err := url.Parse(value)
	broken := "it cannot be parsed as a URL" // the error quotes value, which may hold a password
	if err == nil {
		broken = rule(u)
	}
	if broken != "" {
		f.Add(field, redact.URL(value), broken)
		return nil
	}
	return u
}

// Err returns the faults joined, or nil if there are none.
func (f *Faults) Err() error { return errors.Join(f.errs...) }

// All returns every ConfigError that err is made of, in order.
func All(err error) []*ConfigError {
	switch e := err.(type) { //nolint:errorlint // this is the walk that errors.As would end at the first
	case nil:
		return nil
	case *ConfigError:
		return []*ConfigError{e}
	case interface{ Unwrap() []error }:
		var all []*ConfigError
		for _, part := range e.Unwrap() {
			all = append(all, All(part)...)
		}
		return all
	case interface{ Unwrap() error }:
		return All(e.Unwrap())
	}
	return nil
}
