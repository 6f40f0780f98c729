//go:build !unix

package reliability

import "testing"

// openFiles returns what is safe to assume where there is no limit to ask for.
func openFiles(*testing.T) int { return 1 << 14 }
