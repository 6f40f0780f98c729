//go:build !linux && !darwin

package h2conn

func setNotSentLowat(uintptr, int) {}
