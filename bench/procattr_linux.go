package main

import (
	"os/exec"
	"syscall"
)

// detach puts the process into a group of its own, so that Ctrl-C reaches the
// controller alone, which then ends all in order; and lets the kernel kill the
// process if the controller dies without doing so.
func detach(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// kill ends the process and its children at once.
func kill(cmd *exec.Cmd) {
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
}

// dumpStacks makes a Go program print its goroutines to standard error and end.
func dumpStacks(cmd *exec.Cmd) error {
	return cmd.Process.Signal(syscall.SIGQUIT)
}

func setReceiveBuffer(fd uintptr, n int) error {
	return syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, n)
}
