package main

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/websocktunnel/websocktunnel/cmd/internal/pemtext"
)

// certificatePoll is how often the certificate's files are read. They are small,
// and comparing their content, not their times, also finds a renamed link and a
// copy with the old time.
const certificatePoll = 2 * time.Second

// certificate is the one that the service shows. If it came from files, it follows
// them, so that a renewed one needs no restart. Open connections keep the
// certificate that they began with.
type certificate struct {
	current atomic.Pointer[tls.Certificate]

	// For one caller of poll or adopt at a time.
	certFile, keyFile string // "" where the PEM did not come from a file
	certPEM, keyPEM   []byte // what does not
	seen              string // what the last poll found
	judged            string // the pair in force, or the last one refused
}

// newCertificate makes the certificate of PEM that the variables hold, or that
// the files named hold.
func newCertificate(cert, key []byte, certFile, keyFile string) (*certificate, error) {
	pair, err := parsePair(cert, key)
	if err != nil {
		return nil, err
	}
	c := &certificate{certFile: followed(certFile), keyFile: followed(keyFile), certPEM: cert, keyPEM: key}
	c.current.Store(pair)
	c.judged = join(cert, key)
	return c, nil
}

// followed returns file, or "" if it cannot be read again: opening a pipe would
// wait for a writer.
func followed(file string) string {
	if info, err := os.Stat(file); err == nil && !info.Mode().IsRegular() {
		return ""
	}
	return file
}

// parsePair returns the certificate that belongs to the key.
func parsePair(cert, key []byte) (*tls.Certificate, error) {
	pair, err := tls.X509KeyPair(cert, key)
	switch {
	case err == nil:
	case bytes.Contains(key, []byte("-----BEGIN ENCRYPTED PRIVATE KEY-----")), bytes.Contains(key, []byte("Proc-Type: 4,ENCRYPTED")):
		return nil, errors.New("the private key is encrypted: it must have no passphrase")
	default:
		return nil, errors.New(strings.TrimPrefix(err.Error(), "tls: "))
	}
	return &pair, nil
}

// config returns the TLS configuration of the service.
func (c *certificate) config() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.current.Load(), nil },
	}
}

// expired returns when the certificate in force has expired, or false.
func (c *certificate) expired(now time.Time) (time.Time, bool) {
	leaf := c.current.Load().Leaf
	if leaf == nil || !now.After(leaf.NotAfter) {
		return time.Time{}, false
	}
	return leaf.NotAfter, true
}

// expiry returns when the certificate in force expires.
func (c *certificate) expiry() time.Time {
	if leaf := c.current.Load().Leaf; leaf != nil {
		return leaf.NotAfter
	}
	return time.Time{}
}

// covers reports whether the certificate in force is for host.
func (c *certificate) covers(host string) bool {
	leaf := c.current.Load().Leaf
	return leaf != nil && leaf.VerifyHostname(host) == nil
}

// followsFiles reports whether there are files to read again.
func (c *certificate) followsFiles() bool { return c.certFile != "" || c.keyFile != "" }

// poll checks whether the files have changed, and uses a new pair. Files that do
// not match change nothing and are logged once. Files that changed since the last
// poll may be half written, so they wait for the next.
func (c *certificate) poll(log zerolog.Logger) {
	cert, key, found, err := c.read()
	settled := found == c.seen
	c.seen = found
	if !settled || found == c.judged {
		return
	}
	c.judged = found
	c.judge(cert, key, err, log)
}

// adopt puts the pair of other in force, and follows the files that other does. It
// reports whether that is another pair.
func (c *certificate) adopt(other *certificate, log zerolog.Logger) bool {
	c.certFile, c.keyFile, c.certPEM, c.keyPEM = other.certFile, other.keyFile, other.certPEM, other.keyPEM
	c.seen, c.judged = other.judged, other.judged
	return c.use(other.current.Load(), log)
}

// read reads the files. found is what they hold, or why they cannot be read.
func (c *certificate) read() (cert, key []byte, found string, err error) {
	cert, certErr := readPEM(c.certFile, c.certPEM)
	key, keyErr := readPEM(c.keyFile, c.keyPEM)
	if err := errors.Join(certErr, keyErr); err != nil {
		return nil, nil, err.Error(), err
	}
	return cert, key, join(cert, key), nil
}

// judge puts the pair of cert and key in force if it is one and not there yet.
// err is why they could not be read.
func (c *certificate) judge(cert, key []byte, err error, log zerolog.Logger) {
	var pair *tls.Certificate
	if err == nil {
		pair, err = parsePair(cert, key)
	}
	if err != nil {
		log.Warn().Err(err).Msg("certificate files changed but do not match; keeping the old pair")
		return
	}
	c.use(pair, log)
}

// use puts pair in force, and reports whether it was not yet.
func (c *certificate) use(pair *tls.Certificate, log zerolog.Logger) bool {
	if bytes.Equal(bytes.Join(pair.Certificate, nil), bytes.Join(c.current.Load().Certificate, nil)) {
		return false // back to what it was
	}
	c.current.Store(pair)
	level := zerolog.InfoLevel
	if _, ok := c.expired(time.Now()); ok {
		level = zerolog.WarnLevel // not_after tells
	}
	log.WithLevel(level).Str("serial", fmt.Sprintf("%x", pair.Leaf.SerialNumber)).Time("not_after", pair.Leaf.NotAfter).Strs("names", pair.Leaf.DNSNames).
		Msg("using the new TLS certificate")
	return true
}

// readPEM returns the PEM in a file, or value if there is none to read. The
// error does not quote what the file holds.
func readPEM(file string, value []byte) ([]byte, error) {
	if file == "" {
		return value, nil
	}
	text, err := readSecret(file)
	if err != nil {
		return nil, err
	}
	b, ok := pemtext.Decode(text)
	if !ok {
		return nil, fmt.Errorf("%q holds neither PEM nor base64 of PEM", file)
	}
	return b, nil
}

func join(cert, key []byte) string { return string(cert) + "\x00" + string(key) }
