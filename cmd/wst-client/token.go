package main

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
)

// tokenFault returns why text cannot be a token of the service, or "". It does
// not quote text. Whether the token is valid, only the service can tell.
func tokenFault(text string) string {
	if text == "" {
		return "the token is empty"
	}
	if strings.ContainsAny(text[:1], `"'`+"`") {
		return "the token is in quotes: remove them"
	}
	if rest, ok := strings.CutPrefix(text, "Bearer "); ok && rest != "" {
		return "the token begins with Bearer: leave that out"
	}
	if strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		return "the token has a space, control or non-ASCII character"
	}
	parts := strings.Split(text, ".")
	var header struct{ Alg string }
	if len(parts) != 3 || decodePart(parts[0], &header) != nil {
		return `it is not a token, but perhaps the secret: a token has three parts with dots between, as "websocktunnel token" prints it`
	}
	if header.Alg != "HS256" {
		return fmt.Sprintf("the token is of the wrong kind: the service takes HS256, and this one has %.20q", header.Alg)
	}
	var claims struct{ TID *string }
	if decodePart(parts[1], &claims) != nil || claims.TID == nil {
		return "the token is of the wrong kind: it has no tid claim, which names the client id"
	}
	return ""
}

// decodePart decodes a part of a JWT into v.
func decodePart(part string, v any) error {
	b, err := base64.RawURLEncoding.DecodeString(part)
	if err != nil {
		return err
	}
	return json.Unmarshal(b, v)
}
