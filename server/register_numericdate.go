package server

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// maxClaimSeconds is the largest time in a claim: 2^53, up to which every
// JSON implementation represents integers exactly (RFC 8259, section 6).
const maxClaimSeconds = 1 << 53

// numericDate returns the claim of that name in whole seconds since 1970. It must
// be a JSON number (RFC 7519, section 2: NumericDate), without a sign and at most
// 2^53. Fractions and exponents are possible, as issuers write them that keep
// time in floating point; fractions of a second are cut off, so that the limits
// on tokens hold to the second. The arithmetic is on digits and therefore exact,
// and its cost depends on the length of the number only, not on its exponent.
func numericDate(claims map[string]json.RawMessage, name string) (int64, error) {
	v, ok := claims[name]
	if !ok {
		return 0, fmt.Errorf("token claim %s is missing", name)
	}
	if len(v) == 0 || v[0] < '0' || '9' < v[0] {
		return 0, fmt.Errorf("token claim %s is not a number of seconds without a sign", name)
	}
	// The JSON is valid, so what begins with a digit is a number.
	mantissa, exponent := string(v), int64(0)
	if i := strings.IndexAny(mantissa, "eE"); i >= 0 {
		// Out of range, it becomes the nearest value of 32 bits: far beyond any
		// length that a mantissa can have.
		exponent, _ = strconv.ParseInt(mantissa[i+1:], 10, 32)
		mantissa = mantissa[:i]
	}
	whole, fraction, _ := strings.Cut(mantissa, ".")
	all := whole + fraction
	digits := strings.TrimLeft(all, "0")
	// How many of the digits stand before the point, once it has moved.
	before := int64(len(whole)) + exponent - int64(len(all)-len(digits))
	switch {
	case digits == "" || before <= 0:
		return 0, nil
	case before > int64(len("9007199254740992")):
		return 0, errClaimRange(name)
	case before < int64(len(digits)):
		digits = digits[:before]
	default:
		digits += strings.Repeat("0", int(before)-len(digits))
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n > maxClaimSeconds {
		return 0, errClaimRange(name)
	}
	return n, nil
}

func errClaimRange(name string) error {
	return fmt.Errorf("token claim %s is out of range: it must be at most 2^53", name)
}
