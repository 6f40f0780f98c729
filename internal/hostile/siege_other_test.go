//go:build !linux

package hostile

func attackMain() bool { return false }
