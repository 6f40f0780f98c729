package main

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

// The test binary is what the controller starts in other roles.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && (os.Args[1] == "role" || os.Args[1] == "enter") {
		main()
		return
	}
	goleak.VerifyTestMain(m)
}
