package cluster

import (
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"math/big"
	"strconv"
	"time"
)

// MinSecret is how many bytes a secret of a cluster has to have at least.
const MinSecret = 16

// Keys are made of the secrets of a cluster, which all its nodes share and nobody
// else knows. They sign what nodes write into the directory, so that its other
// writers cannot direct a request to an address of theirs, and let nodes prove to
// each other that they belong together.
//
// The first secret signs; each of them is believed.
type Keys struct {
	sign [][]byte // keys for HMAC-SHA256
	node []ed25519.PrivateKey
	cert tls.Certificate
}

// NewKeys returns the keys of one secret or, during a rotation, two.
func NewKeys(secrets ...[]byte) (*Keys, error) {
	if len(secrets) == 0 {
		return nil, errors.New("cluster: at least one secret is required")
	}
	k := new(Keys)
	for _, s := range secrets {
		if len(s) < MinSecret {
			return nil, errors.New("cluster: a secret is too short: it must have at least " + strconv.Itoa(MinSecret) + " bytes")
		}
		sign, err := hkdf.Key(sha256.New, s, nil, "websocktunnel cluster 1: entries", sha256.Size)
		if err != nil {
			return nil, err
		}
		seed, err := hkdf.Key(sha256.New, s, nil, "websocktunnel cluster 1: nodes", ed25519.SeedSize)
		if err != nil {
			return nil, err
		}
		k.sign = append(k.sign, sign)
		k.node = append(k.node, ed25519.NewKeyFromSeed(seed))
	}
	var err error
	k.cert, err = certificate(k.node[0])
	return k, err
}

// certificate returns a certificate for key. Nobody looks at anything but the key.
func certificate(key ed25519.PrivateKey) (tls.Certificate, error) {
	template := x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "websocktunnel node"},
		NotBefore:    time.Unix(0, 0),
		NotAfter:     time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC), // RFC 5280, section 4.1.2.5: it does not expire
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, key.Public(), key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}

// TLS returns how nodes speak TLS with each other, as the dialling end or as the
// listening one. Each proves that it has the key of one of the secrets: names and
// dates of certificates mean nothing.
func (k *Keys) TLS() *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		Certificates:           []tls.Certificate{k.cert},
		ClientAuth:             tls.RequireAnyClientCert,
		InsecureSkipVerify:     true, //nolint:gosec // VerifyConnection does it
		SessionTicketsDisabled: true,
		VerifyConnection:       k.verify,
	}
}

var errStranger = errors.New("cluster: the other end does not know the cluster's secret")

func (k *Keys) verify(s tls.ConnectionState) error {
	if len(s.PeerCertificates) == 0 {
		return errStranger
	}
	key, ok := s.PeerCertificates[0].PublicKey.(ed25519.PublicKey)
	if !ok {
		return errStranger
	}
	for _, own := range k.node {
		if key.Equal(own.Public()) {
			return nil
		}
	}
	return errStranger
}

// SignEntry sets e.Sig.
func (k *Keys) SignEntry(e *Entry) { e.Sig = mac(k.sign[0], e.fields()) }

// CheckEntry reports whether a node of the cluster has signed e.
func (k *Keys) CheckEntry(e Entry) bool { return k.check(e.fields(), e.Sig) }

// SignNode sets n.Sig.
func (k *Keys) SignNode(n *Node) { n.Sig = mac(k.sign[0], n.fields()) }

// CheckNode reports whether a node of the cluster has signed n.
func (k *Keys) CheckNode(n Node) bool { return k.check(n.fields(), n.Sig) }

func (e *Entry) fields() []string {
	return []string{"entry", e.ID, strconv.FormatUint(e.Gen, 10), e.Node, e.Boot, e.Instance, strconv.FormatUint(e.Attempt, 10)}
}

func (n *Node) fields() []string {
	return []string{"node", n.Name, n.Boot, n.Addr, n.Version, string(n.State), strconv.Itoa(n.Tunnels), strconv.FormatInt(n.Beat.UnixMilli(), 10)}
}

func (k *Keys) check(fields []string, sig string) bool {
	for _, key := range k.sign {
		if hmac.Equal([]byte(sig), []byte(mac(key, fields))) {
			return true
		}
	}
	return false
}

// macBytes is how much of the HMAC is kept: 128 bits cannot be guessed.
const macBytes = 16

func mac(key []byte, fields []string) string {
	h := hmac.New(sha256.New, key)
	for _, f := range fields {
		var size [4]byte
		binary.BigEndian.PutUint32(size[:], uint32(len(f)))
		h.Write(size[:])
		h.Write([]byte(f))
	}
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil)[:macBytes])
}
