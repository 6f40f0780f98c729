// Package cliapp has what the project's commands share: how they run, how they
// report faults, and how they write to a terminal.
package cliapp
