package main

import "github.com/websocktunnel/websocktunnel/cmd/internal/pemtext"

// pem returns the PEM text that a variable or its twin holds, as it is or in
// base64. It returns nil if the variable is not set or, having noted that as a
// fault, holds something else.
func (s *settings) pem(name string) []byte {
	text := s.secret(name)
	if text == "" {
		return nil
	}
	if b, ok := pemtext.Decode(text); ok {
		return b
	}
	const rule = "holds neither PEM nor base64 of PEM: it must begin with -----BEGIN, or with LS0tLS1CRUdJTi in base64"
	if s.fileOf(name) != "" {
		s.fault(name+fileSuffix, rule)
	} else {
		s.fault(name, rule+"; for a file name, use %s", name+fileSuffix)
	}
	return nil
}
