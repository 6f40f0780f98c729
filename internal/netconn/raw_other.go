//go:build !linux && !darwin

package netconn

import "errors"

const canRaw = false

// ReadNow is for unix systems.
func ReadNow(uintptr, []byte) (int, error) { return 0, errors.ErrUnsupported }

// WriteNow is for unix systems.
func WriteNow(uintptr, []byte) (int, error) { return 0, errors.ErrUnsupported }
