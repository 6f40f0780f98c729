//go:build !linux && !darwin

package h2conn

func setNotSentLowat(uintptr, int) {}

const canWriteOnce = false

const canReadOnce = false

func readSocket(uintptr, []byte) (n int, ok bool) { return 0, true }

func (*onceWriter) write(uintptr) bool { return true }
