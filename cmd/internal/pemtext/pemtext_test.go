package pemtext_test

import (
	"crypto/ecdsa"
	"crypto/tls"
	"encoding/base64"
	"strings"
	"testing"

	"github.com/websocktunnel/websocktunnel/cmd/internal/pemtext"
)

// A certificate and its key, made for this test alone.
const (
	testCert = `-----BEGIN CERTIFICATE-----
MIIBdjCCARugAwIBAgIUf8NtIC0U35e+mrNboTcparj0d7MwCgYIKoZIzj0EAwIw
DzENMAsGA1UEAwwEdGVzdDAgFw0yNjExMjIyMDU3MzJaGA8yMTI2MTAyOTIwNTcz
MlowDzENMAsGA1UEAwwEdGVzdDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABDZI
S19UXLChCiXqtQO7HLjE0yGdqgcG4fksMXagX+5jdgJrTqOIN504YKmAwMTSXATS
W/4/agjl9XnWPA8qVVSjUzBRMB0GA1UdDgQWBBQG+c9GuJoD5VfoqnQiiQzWb+3p
ojAfBgNVHSMEGDAWgBQG+c9GuJoD5VfoqnQiiQzWb+3pojAPBgNVHRMBAf8EBTAD
AQH/MAoGCCqGSM49BAMCA0kAMEYCIQDy6zvpsXLqICWfaaPc73188uploamikHCw
01cdEpR8CQIhAL1IyH0jGeSJb+bh+TSa7wIj/VdRPcfkZQxkLO6aoh+r
-----END CERTIFICATE-----
`
	testKey = `-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg6p0CRSSeFgkEqD58
PFskpSmXQgjKJtQbsB5ssZCFf7ShRANCAAQ2SEtfVFywoQol6rUDuxy4xNMhnaoH
BuH5LDF2oF/uY3YCa06jiDedOGCpgMDE0lwE0lv+P2oI5fV51jwPKlVU
-----END PRIVATE KEY-----
`
)

func TestDecode(t *testing.T) {
	one := base64.StdEncoding.EncodeToString([]byte(testCert))
	for name, text := range map[string]string{
		"PEM":                testCert,
		"PEM with CRLF":      strings.ReplaceAll(testCert, "\n", "\r\n"),
		"PEM, no last break": strings.TrimSpace(testCert),
		"text before PEM":    "subject: x\n" + testCert,
		"escaped":            strings.ReplaceAll(testCert, "\n", `\n`),
		"escaped CRLF":       strings.ReplaceAll(testCert, "\n", `\r\n`),
		"escaped and broken": strings.ReplaceAll(testCert, "\n", `\n`) + "\n",
		"escaped in part":    strings.Replace(testCert, "-----\n", `-----\n`, 1),
		"escaped in base64":  base64.StdEncoding.EncodeToString([]byte(strings.ReplaceAll(testCert, "\n", `\n`))),
		"base64":             one,
		"without padding":    strings.TrimRight(one, "="),
		"in lines":           one[:76] + "\n" + one[76:152] + "\r\n" + one[152:] + "\n",
		"indented":           "  " + one[:80] + "\n  " + one[80:],
	} {
		b, ok := pemtext.Decode(text)
		if !ok {
			t.Errorf("%s: refused", name)
			continue
		}
		if _, err := tls.X509KeyPair(b, []byte(testKey)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, text := range map[string]string{
		"empty": "", "garbage": "canary", "base64 of something else": base64.StdEncoding.EncodeToString([]byte("canary")),
		"base64 twice": base64.StdEncoding.EncodeToString([]byte(one)), "cut within base64": one[:21], "URL alphabet": base64.URLEncoding.EncodeToString([]byte("???>>>" + testCert)),
	} {
		if b, ok := pemtext.Decode(text); ok || b != nil {
			t.Errorf("%s: %q, %v", name, b, ok)
		}
	}
}

// FuzzDecode: PEM comes out as it went in, plain or in any form of base64; what
// comes out is PEM; and what makes a pair with a key has that key's other half.
func FuzzDecode(f *testing.F) {
	key, err := tls.X509KeyPair([]byte(testCert), []byte(testKey))
	if err != nil {
		f.Fatal(err)
	}
	public := &key.PrivateKey.(*ecdsa.PrivateKey).PublicKey
	f.Add(testCert, uint8(64))
	f.Add(testKey, uint8(0))
	f.Add(base64.StdEncoding.EncodeToString([]byte(testCert)), uint8(76))
	f.Add(base64.RawStdEncoding.EncodeToString([]byte(testKey)), uint8(1))
	f.Add(strings.ReplaceAll(testCert, "\n", `\n`), uint8(64))
	f.Fuzz(func(t *testing.T, text string, width uint8) {
		want := text // its line breaks are line breaks
		if strings.Contains(text, `-----\n`) || strings.Contains(text, `-----\r\n`) {
			want = strings.ReplaceAll(strings.ReplaceAll(text, `\r\n`, "\n"), `\n`, "\n")
		}
		got, ok := pemtext.Decode(text)
		if ok != strings.Contains(string(got), "-----BEGIN ") || len(got) > len(text) {
			t.Errorf("%q: %q, %v", text, got, ok)
		}
		if pair, err := tls.X509KeyPair(got, []byte(testKey)); err == nil {
			if k, ok := pair.Leaf.PublicKey.(*ecdsa.PublicKey); !ok || !k.Equal(public) {
				t.Errorf("%q makes a pair with the key of another certificate", text)
			}
		}
		if strings.Contains(text, "-----BEGIN ") != (string(got) == want && text != "") {
			t.Errorf("%q became %q", text, got)
		}
		// A round trip, in lines of any length.
		for _, encoding := range []*base64.Encoding{base64.StdEncoding, base64.RawStdEncoding} {
			encoded := encoding.EncodeToString([]byte(text))
			for i := int(width); width > 0 && i < len(encoded); i += int(width) + 1 {
				encoded = encoded[:i] + "\n" + encoded[i:]
			}
			back, ok := pemtext.Decode(encoded)
			if ok != strings.Contains(text, "-----BEGIN ") || ok && string(back) != want {
				t.Errorf("%q came back as %q, %v", text, back, ok)
			}
		}
	})
}
