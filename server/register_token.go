package server

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/golang-jwt/jwt/v5"

	"github.com/websocktunnel/websocktunnel/internal/configerror"
	"github.com/websocktunnel/websocktunnel/internal/wire"
)

// This is the only file that knows JWTs (RFC 7519). Signing and the check of
// a signature are golang-jwt's. Its parser is not used: it decodes the claims
// before it has checked the signature, merges duplicate keys, and judges times
// by rules of its own.

const (
	// maxTokenSize is the length in bytes of the longest token looked at.
	maxTokenSize = 8 << 10

	// maxTokenLifetime bounds exp - nbf. No leeway applies to it.
	maxTokenLifetime = 31 * 24 * time.Hour

	// tokenLeeway is how wrong the issuer's clock may be: a token is good
	// from nbf - tokenLeeway until just before exp + tokenLeeway.
	tokenLeeway = 60 * time.Second
)

// Claims is what a token says.
type Claims struct {
	// ID is the client id that the token's holder may register. Required.
	ID string

	// TTL is how long the token is good, counted from NotBefore and rounded
	// up to whole seconds. Required; at most 31 days.
	TTL time.Duration

	// NotBefore is when the token begins to be good, rounded down to whole
	// seconds. The zero value means now.
	NotBefore time.Time

	// Audience names the service that the token is for. It must equal
	// Config.Audience of that service if that is set. The zero value leaves
	// the claim out.
	Audience string
}

// MintToken returns a JWT with claims c, signed with secret by HS256. If the
// secret is empty, or c breaks a rule that the service would refuse the token
// for, it returns a [*ConfigError] for each fault, joined ([errors.Join]), which
// never holds the secret.
func MintToken(secret []byte, c Claims) (string, error) {
	faults := configerror.New("server")
	if len(secret) == 0 {
		faults.Add("secret", "", "is empty: tokens must be signed")
	}
	iat := time.Now().Unix()
	nbf := c.check(iat, faults)
	if err := faults.Err(); err != nil {
		return "", err
	}
	exp := nbf + int64((c.TTL+time.Second-1)/time.Second)

	claims := jwt.MapClaims{"tid": c.ID, "iat": iat, "nbf": nbf, "exp": exp}
	if c.Audience != "" {
		claims["aud"] = c.Audience
	}
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString(secret)
	if err != nil {
		return "", fmt.Errorf("server: signing the token: %w", err)
	}
	if len(token) > maxTokenSize {
		faults.Add("Claims.Audience", "", fmt.Sprintf("is too long: with its %d bytes the token has %d, and at most %d are possible", len(c.Audience), len(token), maxTokenSize))
		return "", faults.Err()
	}
	return token, nil
}

// check notes the faults of c and returns the claim nbf of a token that is
// issued at iat.
func (c Claims) check(iat int64, faults *configerror.Faults) (nbf int64) {
	faults.AddID("Claims.ID", c.ID)
	switch {
	case c.TTL <= 0:
		faults.Add("Claims.TTL", shortDuration(c.TTL), "it must be positive")
	case c.TTL > maxTokenLifetime:
		faults.Add("Claims.TTL", shortDuration(c.TTL), "it must be at most "+shortDuration(maxTokenLifetime)+" (31 days)")
	}
	if !utf8.ValidString(c.Audience) {
		faults.Add("Claims.Audience", c.Audience, "it must be valid UTF-8")
	}
	nbf = iat
	if !c.NotBefore.IsZero() {
		nbf = c.NotBefore.Unix()
	}
	if nbf < 0 || nbf > maxClaimSeconds-int64(maxTokenLifetime/time.Second) {
		faults.Add("Claims.NotBefore", c.NotBefore.String(), "it must be in 1970 or later, and early enough that exp is at most 2^53 seconds")
	}
	return nbf
}

// shortDuration returns d as its user would write it: 745h, not 745h0m0s.
func shortDuration(d time.Duration) string {
	s := d.String()
	for _, end := range []string{"m0s", "h0m"} {
		if strings.HasSuffix(s, end) {
			s = s[:len(s)-2]
		}
	}
	return s
}

// A grant is what a good token entitles its holder to.
type grant struct {
	// id is the client id that may be registered.
	id string

	// issued is the claim iat, Unix seconds.
	issued int64

	// expires is the claim exp, without leeway.
	expires time.Time

	// fingerprint is the SHA-256 of the token. An accepted token has exactly
	// one spelling, so a fingerprint that is blocked blocks the token.
	fingerprint [sha256.Size]byte
}

// A verifier judges tokens. It is safe for concurrent use.
type verifier struct {
	// secrets are the secrets that tokens may be signed with, one or two.
	// An empty secret matches nothing.
	secrets [][]byte

	// audience is required in the claim aud; if empty, aud is ignored.
	audience string

	// now is the clock. Nil means time.Now.
	now func() time.Time

	// hs256 checks signatures. Nil means jwt.SigningMethodHS256; tests count.
	hs256 jwt.SigningMethod
}

// verify checks token for use with the client id, which has passed
// [wire.CheckID]. The error is a *tokenFault if the signature is right. Its text
// is for the log alone: it says which rule was broken and holds neither the token
// nor the value of a claim.
func (v *verifier) verify(token, id string) (grant, error) {
	if len(token) > maxTokenSize {
		return grant{}, fmt.Errorf("token has more than %d bytes", maxTokenSize)
	}
	if strings.Count(token, ".") != 2 {
		return grant{}, errors.New("token does not have three parts")
	}
	head, rest, _ := strings.Cut(token, ".")
	body, sig, _ := strings.Cut(rest, ".")

	if err := checkHeader(head); err != nil {
		return grant{}, err
	}
	signature, err := decodeSegment(sig)
	if err != nil {
		return grant{}, errors.New("token signature is not base64url")
	}
	if !v.signedBy(token[:len(head)+1+len(body)], signature) {
		return grant{}, errors.New("token signature matches no secret")
	}

	// From here on the token is known to come from a holder of a secret.
	claimsJSON, err := decodeSegment(body)
	if err != nil {
		return grant{}, badClaim("token claims are not base64url")
	}
	claims, err := strictObject(claimsJSON)
	if err != nil {
		return grant{}, badClaim("token claims: " + err.Error())
	}
	g, err := v.judge(claims, id)
	if err != nil {
		return grant{}, err
	}
	g.fingerprint = sha256.Sum256([]byte(token))
	return g, nil
}

// checkHeader returns nil for a JOSE header (RFC 7515, section 4) that this
// service processes: alg is exactly HS256 and nothing is critical. Keys that
// the header offers (jwk, jku, x5u, kid, …) are not looked at: which secret
// signed a token is never the token's to say.
func checkHeader(segment string) error {
	b, err := decodeSegment(segment)
	if err != nil {
		return errors.New("token header is not base64url")
	}
	header, err := strictObject(b)
	if err != nil {
		return fmt.Errorf("token header: %w", err)
	}
	if alg, ok := stringValue(header["alg"]); !ok || alg != "HS256" {
		return errors.New("token algorithm is not HS256")
	}
	// Section 4.1.11: a recipient that does not implement an extension listed
	// in crit must refuse the token; this one implements none.
	if _, ok := header["crit"]; ok {
		return errors.New("token header has critical extensions")
	}
	return nil
}

// signedBy reports whether signature is the HS256 signature of signed by one
// of the secrets. Every secret is tried even after one has matched, so that
// the time taken does not tell which.
func (v *verifier) signedBy(signed string, signature []byte) bool {
	var hs256 jwt.SigningMethod = jwt.SigningMethodHS256
	if v.hs256 != nil {
		hs256 = v.hs256
	}
	matched := false
	for _, secret := range v.secrets {
		// Verify compares by hmac.Equal.
		err := hs256.Verify(signed, signature, secret)
		if err == nil && len(secret) > 0 {
			matched = true
		}
	}
	return matched
}

// judge applies the rules for claims and returns what they grant. The error is a
// *tokenFault. The times come last: a token that is not valid yet has no other
// fault, so that it pays to wait.
func (v *verifier) judge(claims map[string]json.RawMessage, id string) (grant, error) {
	tid, ok := stringValue(claims["tid"])
	if !ok {
		return grant{}, badClaim("token claim tid is missing or not a string")
	}
	// iat only says which of two tokens is newer.
	var times [3]int64
	for i, name := range []string{"iat", "nbf", "exp"} {
		var err error
		if times[i], err = numericDate(claims, name); err != nil {
			return grant{}, badClaim(err.Error())
		}
	}
	iat, nbf, exp := times[0], times[1], times[2]

	// All are within 0 to 2^53, so nothing below can overflow.
	const lifetime, leeway = int64(maxTokenLifetime / time.Second), int64(tokenLeeway / time.Second)
	now := time.Now
	if v.now != nil {
		now = v.now
	}
	at := now().Unix()
	switch {
	case exp <= nbf:
		return grant{}, badClaim("token claim exp is not after nbf")
	case exp-nbf > lifetime:
		return grant{}, badClaim("token is good for more than 31 days")
	case tid != id:
		return grant{}, &tokenFault{reason: wire.TokenID, told: "the token is for another client id (claim tid)", text: "token claim tid is not the client id"}
	case v.audience != "" && !audienceHas(claims["aud"], v.audience):
		return grant{}, &tokenFault{reason: wire.TokenAudience, told: "the token is not for this service (claim aud)", text: "token claim aud does not name this service"}
	case at < nbf-leeway:
		return grant{}, validFrom(nbf, at)
	case at >= exp+leeway:
		return grant{}, expiredAt(exp, at)
	}
	return grant{id: id, issued: iat, expires: time.Unix(exp, 0)}, nil
}

// decodeSegment decodes base64url without padding (RFC 7515, section 2), and
// only the one canonical spelling of it: with stray trailing bits or the line
// breaks that encoding/base64 skips, one token could be written in many ways,
// and a token that an operator has blocked would pass in another.
func decodeSegment(s string) ([]byte, error) {
	if strings.ContainsAny(s, "\r\n") {
		return nil, errors.New("line break in base64url")
	}
	return base64.RawURLEncoding.Strict().DecodeString(s)
}

// strictObject returns the members of the JSON object b by their exact names.
// Unlike json.Unmarshal it refuses duplicate names, at any depth, and invalid
// UTF-8 (RFC 7519, section 4, and RFC 8259, section 8.1), on which parsers
// disagree.
func strictObject(b []byte) (map[string]json.RawMessage, error) {
	if !utf8.Valid(b) || !json.Valid(b) {
		return nil, errors.New("not valid JSON")
	}
	if trimmed := bytes.TrimLeft(b, " \t\r\n"); trimmed[0] != '{' {
		return nil, errors.New("not a JSON object")
	}
	if !uniqueNames(b) {
		return nil, errors.New("duplicate name")
	}
	// Into a map names go as they are: only those of struct fields are matched
	// without regard to case.
	var members map[string]json.RawMessage
	if err := json.Unmarshal(b, &members); err != nil {
		return nil, errors.New("not valid JSON")
	}
	return members, nil
}

// uniqueNames reports whether no object in the valid JSON b, at any depth, has
// two members of one name.
func uniqueNames(b []byte) bool {
	dec := json.NewDecoder(bytes.NewReader(b))
	type level struct {
		names map[string]bool // nil in an array
		value bool            // in an object: what comes next is a value
	}
	var levels []level
	for {
		t, err := dec.Token()
		if err != nil {
			return errors.Is(err, io.EOF)
		}
		if d, ok := t.(json.Delim); ok && (d == '}' || d == ']') {
			levels = levels[:len(levels)-1]
			continue
		}
		if n := len(levels); n > 0 && levels[n-1].names != nil {
			in := &levels[n-1]
			if name, ok := t.(string); ok && !in.value {
				if in.names[name] {
					return false
				}
				in.names[name] = true
				in.value = true
				continue
			}
			in.value = false
		}
		switch t {
		case json.Delim('{'):
			levels = append(levels, level{names: make(map[string]bool)})
		case json.Delim('['):
			levels = append(levels, level{})
		}
	}
}

// stringValue returns the JSON string v, and false if v is none.
func stringValue(v json.RawMessage) (string, bool) {
	var s string
	if len(v) == 0 || v[0] != '"' || json.Unmarshal(v, &s) != nil {
		return "", false
	}
	return s, true
}

// audienceHas reports whether the claim aud, a string or a list of strings
// (RFC 7519, section 4.1.3), names want.
func audienceHas(aud json.RawMessage, want string) bool {
	if one, ok := stringValue(aud); ok {
		return one == want
	}
	var list []json.RawMessage
	if len(aud) == 0 || aud[0] != '[' || json.Unmarshal(aud, &list) != nil {
		return false
	}
	found := false
	for _, v := range list {
		one, ok := stringValue(v)
		if !ok {
			return false
		}
		found = found || one == want
	}
	return found
}
