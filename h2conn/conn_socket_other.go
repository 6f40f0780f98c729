//go:build !linux && !darwin

package h2conn

func setNotSentLowat(uintptr, int) {}

const canWriteOnce = false

const canReadOnce = false

func (*onceWriter) write(uintptr) bool { return true }
