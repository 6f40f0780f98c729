//go:build !linux && !darwin

package h2conn

func setNotSentLowat(uintptr, int) {}

func writeOnce(func() []byte, *int) func(uintptr) bool { return nil }
