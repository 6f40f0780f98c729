// Package cliapp is what the project's commands have in common: how they run,
// how they tell what is wrong, and how they write to a terminal.
package cliapp
