//go:build !linux

package main

import (
	"errors"
	"os/exec"
)

// The controller refuses to start on other systems; these let it compile.

func detach(*exec.Cmd) {}

func kill(cmd *exec.Cmd) { _ = cmd.Process.Kill() }

func dumpStacks(*exec.Cmd) error { return errors.ErrUnsupported }

func setReceiveBuffer(uintptr, int) error { return nil }
