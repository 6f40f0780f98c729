//go:build !linux && !darwin

package h2conn

func setNotSentLowat(uintptr, int) {}

const canWriteOnce = false

const canReadOnce = false

func readSocket(uintptr, []byte) (n int, ok bool, err error) { return 0, true, nil }

func (*onceWriter) write(uintptr) bool { return true }
