package main

import (
	"bytes"
	"encoding/base64"
	"strings"
)

// pem returns the PEM text that a variable or its twin holds, as it is or in
// base64, which has no line breaks and so fits into any environment. It returns
// nil if the variable is not set or, having noted that as a fault, holds
// something else.
func (s *settings) pem(name string) []byte {
	text := s.secret(name)
	if text == "" {
		return nil
	}
	if b, ok := decodePEM(text); ok {
		return b
	}
	if s.text(name+fileSuffix) != "" {
		name += fileSuffix
	}
	s.fault(name, "holds neither PEM nor base64 of PEM: it must begin with -----BEGIN, or with LS0tLS1CRUdJTi in base64")
	return nil
}

func decodePEM(text string) ([]byte, bool) {
	const begin = "-----BEGIN "
	if strings.Contains(text, begin) {
		return []byte(text), true
	}
	compact := strings.TrimRight(strings.Join(strings.Fields(text), ""), "=")
	b, err := base64.RawStdEncoding.DecodeString(compact)
	return b, err == nil && bytes.Contains(b, []byte(begin))
}
