package cliapp

import "time"

// SignalEcho is for how long after a signal another one counts as the same.
// timeout(1) signals a program and then its whole group, and where a parent
// passes on the Ctrl-C of a terminal, as npm does, the program gets two.
const SignalEcho = 100 * time.Millisecond
