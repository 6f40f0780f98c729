package server

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"math/big"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/golang-jwt/jwt/v5"

	"github.com/websocktunnel/websocktunnel/internal/configerror"
)

var (
	tokenSecretA = []byte("secret-a-secret-a-secret-a-secret-a")
	tokenSecretB = []byte("secret-b-secret-b-secret-b-secret-b")
)

const (
	tokenNow  = int64(1_700_000_000)
	tokenID   = "team%2Fbuild-42"
	tokenHead = `{"alg":"HS256","typ":"JWT"}`
	day       = int64(24 * 3600)
)

// tokenClaims returns the JSON of good claims, changed by edits: pairs of a
// name and the JSON of its value; a value of "" leaves the claim out.
func tokenClaims(edits ...string) string {
	names := []string{"tid", "iat", "nbf", "exp"}
	values := map[string]string{
		"tid": `"` + tokenID + `"`,
		"iat": fmt.Sprint(tokenNow),
		"nbf": fmt.Sprint(tokenNow - 900),
		"exp": fmt.Sprint(tokenNow + 3600),
	}
	for i := 0; i < len(edits); i += 2 {
		if _, ok := values[edits[i]]; !ok {
			names = append(names, edits[i])
		}
		values[edits[i]] = edits[i+1]
	}
	var members []string
	for _, n := range names {
		if values[n] != "" {
			members = append(members, fmt.Sprintf("%q:%s", n, values[n]))
		}
	}
	return "{" + strings.Join(members, ",") + "}"
}

func tokenUnsigned(header, claims string) string {
	return base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + base64.RawURLEncoding.EncodeToString([]byte(claims))
}

func tokenMAC(h func() hash.Hash, secret []byte, signed string) []byte {
	m := hmac.New(h, secret)
	m.Write([]byte(signed))
	return m.Sum(nil)
}

// tokenSigned makes a token of any header and claims. It shares no code with
// MintToken.
func tokenSigned(secret []byte, header, claims string) string {
	u := tokenUnsigned(header, claims)
	return u + "." + base64.RawURLEncoding.EncodeToString(tokenMAC(sha256.New, secret, u))
}

// A tokenOracle says what the rules for tokens accept. It follows the text of
// the rules, with other means than the implementation: regular expressions,
// maps of decoded values and big integers.
type tokenOracle struct {
	secrets  [][]byte
	audience string
	now      int64
}

var (
	oracleToken  = regexp.MustCompile(`^([A-Za-z0-9_-]*)\.([^.]*)\.([A-Za-z0-9_-]*)$`)
	oracleNumber = regexp.MustCompile(`^([0-9]+)(?:\.([0-9]+))?(?:[eE]([+-]?[0-9]+))?$`)
)

// oracleSeconds returns the whole seconds of a NumericDate, and false for one that
// is no number, has a sign or is beyond 2^53.
func oracleSeconds(v any) (*big.Int, bool) {
	n, _ := v.(json.Number)
	parts := oracleNumber.FindStringSubmatch(string(n))
	if parts == nil {
		return nil, false
	}
	if strings.Trim(parts[1]+parts[2], "0") == "" {
		return new(big.Int), true
	}
	// A token has less than 10,000 digits: an exponent beyond that alone decides.
	if exp, _ := new(big.Int).SetString("0"+strings.TrimLeft(parts[3], "+-"), 10); exp.Cmp(big.NewInt(10_000)) > 0 {
		return new(big.Int), strings.HasPrefix(parts[3], "-")
	}
	exact, ok := new(big.Rat).SetString(string(n))
	if !ok {
		return nil, false
	}
	whole := new(big.Int).Quo(exact.Num(), exact.Denom())
	return whole, whole.Cmp(new(big.Int).Lsh(big.NewInt(1), 53)) <= 0
}

// signed returns the claims of a token whose form, header and signature are right.
func (o tokenOracle) signed(token string) ([]byte, bool) {
	parts := oracleToken.FindStringSubmatch(token)
	if len(token) > 8192 || parts == nil {
		return nil, false
	}
	var decoded [3][]byte
	for i, p := range parts[1:] {
		b, err := base64.RawURLEncoding.DecodeString(p)
		if canonical := err == nil && base64.RawURLEncoding.EncodeToString(b) == p; !canonical && i != 1 {
			return nil, false
		} else if canonical {
			decoded[i] = b
		}
	}
	header, ok := oracleObject(decoded[0])
	if !ok || header["alg"] != "HS256" {
		return nil, false
	}
	if _, ok := header["crit"]; ok {
		return nil, false
	}
	return decoded[1], slices.ContainsFunc(o.secrets, func(secret []byte) bool {
		return len(secret) > 0 && bytes.Equal(decoded[2], tokenMAC(sha256.New, secret, parts[1]+"."+parts[2]))
	})
}

func (o tokenOracle) accepts(token, id string) bool {
	body, signed := o.signed(token)
	claims, ok := oracleObject(body)
	if !signed || !ok || claims["tid"] != id {
		return false
	}

	seconds := map[string]*big.Int{}
	for _, name := range []string{"iat", "nbf", "exp"} {
		i, ok := oracleSeconds(claims[name])
		if !ok {
			return false
		}
		seconds[name] = i
	}
	ttl := new(big.Int).Sub(seconds["exp"], seconds["nbf"])
	if ttl.Sign() <= 0 || ttl.Cmp(big.NewInt(31*day)) > 0 {
		return false
	}
	sinceNBF := new(big.Int).Sub(big.NewInt(o.now), seconds["nbf"])
	sinceExp := new(big.Int).Sub(big.NewInt(o.now), seconds["exp"])
	if sinceNBF.Cmp(big.NewInt(-60)) < 0 || sinceExp.Cmp(big.NewInt(60)) >= 0 {
		return false
	}

	if o.audience == "" {
		return true
	}
	switch aud := claims["aud"].(type) {
	case string:
		return aud == o.audience
	case []any:
		for _, a := range aud {
			if _, ok := a.(string); !ok {
				return false
			}
		}
		return slices.Contains(aud, any(o.audience))
	}
	return false
}

// oracleObject decodes a JSON object without duplicate names, at any depth.
func oracleObject(b []byte) (map[string]any, bool) {
	var object map[string]any
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	if !utf8.Valid(b) || !json.Valid(b) || dec.Decode(&object) != nil || object == nil {
		return nil, false
	}
	// Maps have each name once. So is there as much in it as in the text?
	again, err := json.Marshal(object)
	return object, err == nil && oracleTokens(again) == oracleTokens(b)
}

// oracleTokens counts the names, values and delimiters in valid JSON.
func oracleTokens(b []byte) int {
	dec := json.NewDecoder(bytes.NewReader(b))
	for n := 0; ; n++ {
		if _, err := dec.Token(); err != nil {
			return n
		}
	}
}

type tokenCase struct {
	name     string
	token    string
	id       string   // "" means tokenID
	secrets  [][]byte // nil means A and B
	audience string
	now      int64 // 0 means tokenNow
	want     bool
}

// claimCase is a case whose token is signed by A and has these claims.
func claimCase(name string, want bool, edits ...string) tokenCase {
	return tokenCase{name: name, token: tokenSigned(tokenSecretA, tokenHead, tokenClaims(edits...)), want: want}
}

// headerCase is a case whose token is signed by A and has this header.
func headerCase(name string, want bool, header string) tokenCase {
	return tokenCase{name: name, token: tokenSigned(tokenSecretA, header, tokenClaims()), want: want}
}

func tokenMatrix(t testing.TB) []tokenCase {
	t.Helper()
	var cases []tokenCase
	add := func(c ...tokenCase) { cases = append(cases, c...) }
	good := tokenSigned(tokenSecretA, tokenHead, tokenClaims())
	sec := func(n int64) string { return fmt.Sprint(n) }

	// What issuers really send.
	add(
		tokenCase{name: "good", token: good, want: true},
		// The form of the predecessor's issuer, jsonwebtoken on Node.
		claimCase("issuer of the predecessor", true, "aud", `"proj"`, "sub", `"static/x"`, "iss", `"taskcluster-auth"`,
			"exp", sec(tokenNow+96*3600), "nbf", sec(tokenNow-900)),
		claimCase("unknown claims", true, "x", `{"tid":"other","y":[{"tid":1},{"tid":2}]}`, "jti", `"7"`),
		tokenCase{name: "whitespace in JSON", token: tokenSigned(tokenSecretA, " {\n\"alg\" :\t\"HS256\" } ",
			strings.NewReplacer(":", " : ", ",", " ,\n").Replace(tokenClaims())), want: true},
		claimCase("tid with JSON escapes", true, "tid", `"team\u00252Fbuild-42"`),
	)

	// Algorithms and header members.
	add(
		headerCase("alg alone", true, `{"alg":"HS256"}`),
		headerCase("alg with JSON escape", true, `{"alg":"\u0048S256"}`),
		headerCase("key headers ignored", true, `{"alg":"HS256","kid":"../../dev/null","jku":"https://evil.example","x5u":"https://evil.example","jwk":{"kty":"oct","k":"AA"},"x5c":["AA"]}`),
		headerCase("typ ignored", true, `{"alg":"HS256","typ":"at+jwt","cty":"JWT"}`),
	)
	for _, alg := range []string{`"none"`, `"None"`, `"NONE"`, `"nOnE"`, `""`, `"HS384"`, `"HS512"`, `"RS256"`, `"ES256"`, `"PS256"`,
		`"EdDSA"`, `"hs256"`, `"Hs256"`, `"HS256 "`, `" HS256"`, `"HS256\u0000"`, `"HS-256"`, `256`, `null`, `true`, `["HS256"]`, `{"alg":"HS256"}`} {
		add(headerCase("alg "+alg+" signed by HS256", false, `{"alg":`+alg+`}`))
		u := tokenUnsigned(`{"alg":`+alg+`}`, tokenClaims())
		add(tokenCase{name: "alg " + alg + " unsigned", token: u + "."})
	}
	for name, h := range map[string]string{
		"alg missing": `{"typ":"JWT"}`, "alg in capitals": `{"ALG":"HS256"}`, "empty": ``, "empty object": `{}`, "null": `null`,
		"array": `["HS256"]`, "string": `"HS256"`, "garbage": `\x00\xff`, "cut off": `{"alg":"HS256"`, "two objects": `{"alg":"HS256"}{}`,
		"trailing comma": `{"alg":"HS256",}`, "comment": `{"alg":"HS256"/**/}`, "byte order mark": "\ufeff" + `{"alg":"HS256"}`,
		"invalid UTF-8": "{\"alg\":\"HS256\",\"x\":\"\xff\"}", "crit": `{"alg":"HS256","crit":["exp"]}`, "crit empty": `{"alg":"HS256","crit":[]}`,
		"crit null": `{"alg":"HS256","crit":null}`, "crit b64": `{"alg":"HS256","crit":["b64"],"b64":false}`,
		"duplicate alg": `{"alg":"HS256","alg":"HS256"}`, "duplicate alg, none first": `{"alg":"none","alg":"HS256"}`,
		"duplicate alg, none last": `{"alg":"HS256","alg":"none"}`, "duplicate alg by escape": `{"alg":"HS256","\u0061lg":"none"}`,
		"duplicate, nested": `{"alg":"HS256","jwk":{"kty":"oct","kty":"oct"}}`, "duplicate, nested deeply": `{"alg":"HS256","x":[0,[{"a":{"b":1,"c":{},"b":1}}]]}`,
		"duplicate typ": `{"alg":"HS256","typ":"JWT","typ":"JWT"}`, "deep": strings.Repeat("[", 4000),
	} {
		add(headerCase("header "+name, false, h))
	}
	u := func(alg string) string { return tokenUnsigned(`{"alg":"`+alg+`"}`, tokenClaims()) }
	withSig := func(u string, sig []byte) string { return u + "." + base64.RawURLEncoding.EncodeToString(sig) }
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256([]byte(u("RS256")))
	rsaSig, err := rsa.SignPKCS1v15(rand.Reader, rsaKey, crypto.SHA256, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	digest = sha256.Sum256([]byte(u("ES256")))
	r, s, err := ecdsa.Sign(rand.Reader, ecKey, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	ecSig := append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
	add(
		tokenCase{name: "HS384 rightly signed", token: withSig(u("HS384"), tokenMAC(sha512.New384, tokenSecretA, u("HS384")))},
		tokenCase{name: "HS512 rightly signed", token: withSig(u("HS512"), tokenMAC(sha512.New, tokenSecretA, u("HS512")))},
		tokenCase{name: "HS512 under alg HS256", token: withSig(u("HS256"), tokenMAC(sha512.New, tokenSecretA, u("HS256")))},
		tokenCase{name: "RS256 rightly signed", token: withSig(u("RS256"), rsaSig)},
		tokenCase{name: "ES256 rightly signed", token: withSig(u("ES256"), ecSig)},
	)

	// Secrets.
	sets := map[string][][]byte{"A": {tokenSecretA}, "B": {tokenSecretB}, "A,B": {tokenSecretA, tokenSecretB}, "B,A": {tokenSecretB, tokenSecretA},
		"none": {}, "empty": {nil}, "A,empty": {tokenSecretA, {}}, "empty,B": {{}, tokenSecretB}}
	keys := map[string][]byte{"A": tokenSecretA, "B": tokenSecretB, "wrong": []byte("wrong"), "empty": {},
		"A cut": tokenSecretA[:len(tokenSecretA)-1], "A in base64": []byte(base64.StdEncoding.EncodeToString(tokenSecretA))}
	for set, secrets := range sets {
		for key, secret := range keys {
			want := (key == "A" || key == "B") && strings.Contains(set, key)
			add(tokenCase{name: "secrets " + set + ", signed by " + key, token: tokenSigned(secret, tokenHead, tokenClaims()), secrets: secrets, want: want})
		}
	}

	// Signatures and the form of the whole.
	head, rest, _ := strings.Cut(good, ".")
	body, sig, _ := strings.Cut(rest, ".")
	sigBytes, _ := base64.RawURLEncoding.DecodeString(sig)
	flipped := bytes.Clone(sigBytes)
	flipped[0] ^= 1
	// A signature has 32 bytes, so its last character carries two spare bits.
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	spare := sig[:len(sig)-1] + string(alphabet[strings.IndexByte(alphabet, sig[len(sig)-1])|1])
	for name, token := range map[string]string{
		"empty": "", "dots": "..", "64 KiB of dots": strings.Repeat(".", 64<<10), "8 KiB of dots": strings.Repeat(".", 8<<10),
		"one part": head, "two parts": head + "." + body, "four parts": good + ".", "four parts, first empty": "." + good, "five parts (JWE)": good + ".a.b",
		"no signature": head + "." + body + ".", "bit flipped": head + "." + body + "." + base64.RawURLEncoding.EncodeToString(flipped),
		"signature cut": head + "." + body + "." + base64.RawURLEncoding.EncodeToString(sigBytes[:31]), "signature longer": head + "." + body + "." + base64.RawURLEncoding.EncodeToString(append(sigBytes[:32:32], 0)),
		"signature padded": good + "=", "signature with spare bits": head + "." + body + "." + spare,
		"signature with line break": good[:len(good)-4] + "\n" + good[len(good)-4:], "signature ends in line break": good + "\r\n",
		"space before": " " + good, "space after": good + " ", "Bearer before": "Bearer " + good, "NUL after": good + "\x00", "quoted": `"` + good + `"`,
		"other claims, same signature": head + "." + base64.RawURLEncoding.EncodeToString([]byte(tokenClaims("tid", `"other"`))) + "." + sig,
		"other header, same signature": base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"HS256"}`)) + "." + body + "." + sig,
		"garbage":                      "!!!.???.###", "JSON serialisation": `{"payload":"` + body + `","signatures":[]}`,
	} {
		add(tokenCase{name: "form: " + name, token: token})
	}
	for _, size := range []int{8190, 8191, 8192, 8193, 8194, 8195} {
		token := good
		for pad := 5000; len(token) < size; pad++ {
			token = tokenSigned(tokenSecretA, tokenHead, tokenClaims("pad", `"`+strings.Repeat("x", pad)+`"`))
		}
		add(tokenCase{name: fmt.Sprintf("size at least %d, is %d", size, len(token)), token: token, want: len(token) <= 8192})
	}

	// Claims as a whole.
	for name, claims := range map[string]string{"empty": "", "empty object": "{}", "null": "null", "array": "[]", "string": `"x"`, "number": "1",
		"garbage": "\x00\x01", "cut off": tokenClaims()[:20], "twice": tokenClaims() + tokenClaims(), "trailing comma": strings.Replace(tokenClaims(), "}", ",}", 1),
		"invalid UTF-8": strings.Replace(tokenClaims(), "}", ",\"x\":\"\xff\"}", 1), "nested": `{"claims":` + tokenClaims() + `}`} {
		add(tokenCase{name: "claims: " + name, token: tokenSigned(tokenSecretA, tokenHead, claims)})
	}
	add(tokenCase{name: "claims: not base64url", token: func() string {
		u := head + ".!!!!"
		return withSig(u, tokenMAC(sha256.New, tokenSecretA, u))
	}()})

	// Each claim missing, of another type, in another case, or twice.
	wrong := []string{`null`, `true`, `{}`, `[]`, `""`, `[1]`}
	wrongTime := append([]string{`"1700000000"`, `"1.7e9"`, `-1`, `-0`, `-0.0`, `-0e5`, `-1.7e9`, `-1.5`, `1e300`, `1E+16`, `9007199254740993`, `9007199254740993.5`,
		`1e999999999`, `1e9999999999999999999999`, `0.1e30`, `9007199254740993000e-3`, `18446744073709551616`, `18446744073709551616.0`, `99999999999999999999999999`, `-9223372036854775808`, `"2023-11-14T22:13:20Z"`}, wrong...)
	for _, claim := range []string{"tid", "iat", "nbf", "exp"} {
		add(claimCase(claim+" missing", false, claim, ""))
		add(claimCase(claim+" in capitals", false, claim, "", strings.ToUpper(claim), strings.Trim(regexp.MustCompile(`"` + claim + `":([^,}]*)`).FindStringSubmatch(tokenClaims())[1], " ")))
		values := wrongTime
		if claim == "tid" {
			values = append([]string{`42`, `["` + tokenID + `"]`, `"` + strings.ToUpper(tokenID) + `"`, `"team%2fbuild-42"`, `"team/build-42"`, `"` + tokenID + ` "`,
				`"` + tokenID + `\u0000"`, `"other"`}, wrong...)
		}
		for _, v := range values {
			add(claimCase(claim+" is "+v, false, claim, v))
		}
		is := regexp.MustCompile(`"` + claim + `":[^,}]*`).FindString(tokenClaims())
		for _, second := range []string{is, `"` + claim + `":"other"`, `"\u00` + fmt.Sprintf("%x", claim[0]) + claim[1:] + `":null`} {
			add(
				tokenCase{name: claim + " twice, good first: " + second, token: tokenSigned(tokenSecretA, tokenHead, strings.Replace(tokenClaims(), "}", ","+second+"}", 1))},
				tokenCase{name: claim + " twice, good last: " + second, token: tokenSigned(tokenSecretA, tokenHead, strings.Replace(tokenClaims(), "{", "{"+second+",", 1))},
			)
		}
	}
	add(
		claimCase("another claim twice", false, "x", `1,"x":1`),
		claimCase("a name twice, nested", false, "x", `{"tid":"a","tid":"a"}`),
		claimCase("a name twice, nested in a list", false, "x", `[1,{"a":[],"b":{},"a":null}]`),
		claimCase("a name twice, by escape, nested", false, "x", `{"a":{"b":1,"\u0062":2}}`),
		claimCase("a name in two objects", true, "x", `[{"a":1},{"a":1,"b":{"a":1}}]`),
		claimCase("a name that is also a value", true, "x", `{"a":"b","b":"a","c":["a","a"]}`),
		claimCase("iat in the far future", true, "iat", sec(tokenNow+1000*day)),
		claimCase("iat is 0", true, "iat", "0"),
		claimCase("iat is 2^53", true, "iat", "9007199254740992"),
		claimCase("iat is 2^53+1", false, "iat", "9007199254740993"),
		claimCase("iat is 2^53 and a fraction", true, "iat", "9007199254740992.999"),
		claimCase("exp is 2^53", false, "exp", "9007199254740992"),
		tokenCase{name: "id is empty", token: good, id: "\x00"},
		tokenCase{name: "id in other case", token: good, id: strings.ToLower(tokenID)},
		tokenCase{name: "id decoded", token: good, id: "team/build-42"},
	)

	// Times.
	for _, d := range []int64{-61, -60, -59, -1, 0, 1, 59, 60, 61} {
		add(
			claimCase(fmt.Sprintf("nbf at now%+d s", d), d <= 60, "nbf", sec(tokenNow+d)),
			claimCase(fmt.Sprintf("exp at now%+d s", d), d > -60, "exp", sec(tokenNow+d)),
		)
	}
	// Numbers as issuers write them (RFC 7519, section 2): time.time(),
	// Date.now()/1000, %e. Whole seconds count.
	for _, form := range []string{"%d.0", "%d.25", "%d.999999999999999999999", "%de0", "%dE+0", "%d000e-3", "%d000.75e-3", "0.%de10", "%d.5e0",
		"%d" + strings.Repeat("0", 1000) + "e-1000", "0." + strings.Repeat("0", 1000) + "%de1010", "%d." + strings.Repeat("9", 1000)} {
		number := func(n int64) string { return fmt.Sprintf(form, n) }
		name := form
		if len(name) > 40 {
			name = fmt.Sprintf("%.20s… (%d characters)", form, len(form))
		}
		add(
			claimCase("iat as "+name, true, "iat", number(tokenNow)),
			claimCase("nbf as "+name, true, "nbf", number(tokenNow)),
			claimCase("exp as "+name, true, "exp", number(tokenNow+3600)),
			claimCase("all as "+name, true, "iat", number(tokenNow), "nbf", number(tokenNow), "exp", number(tokenNow+31*day)),
			claimCase("exp at now-60 s as "+name, false, "exp", number(tokenNow-60)),
			claimCase("exp at now-59 s as "+name, true, "exp", number(tokenNow-59)),
			claimCase("nbf at now+60 s as "+name, true, "nbf", number(tokenNow+60)),
			claimCase("nbf at now+61 s as "+name, false, "nbf", number(tokenNow+61)),
			claimCase("31 days and 1 s as "+name, false, "nbf", number(tokenNow), "exp", number(tokenNow+31*day+1)),
			claimCase("exp in the second of nbf as "+name, false, "nbf", sec(tokenNow), "exp", number(tokenNow)),
		)
	}
	for _, v := range []string{"0.0", "0e0", "0e99999999999999999999", "0.000E-7", "1e-99999999999999999999", "5e-324", "0.9", "1.7e9", "1e3"} {
		add(
			claimCase("iat is "+v, true, "iat", v),
			claimCase("nbf is "+v, v == "1.7e9", "nbf", v),
			claimCase("exp is "+v, v == "1.7e9", "exp", v),
		)
	}
	for _, v := range []string{"1700000000.", ".5", "01700000000", "1.7e", "1.7e+", "+1700000000", "0x6553f100", "1_700_000_000", "NaN", "Infinity"} {
		add(claimCase("iat is no JSON: "+v, false, "iat", v))
	}
	for _, d := range []int64{-1, 0, 1} {
		add(
			claimCase(fmt.Sprintf("31 days%+d s, just begun", d), d <= 0, "nbf", sec(tokenNow), "exp", sec(tokenNow+31*day+d)),
			claimCase(fmt.Sprintf("31 days%+d s, nearly over", d), d <= 0, "nbf", sec(tokenNow-31*day), "exp", sec(tokenNow+d)),
			claimCase(fmt.Sprintf("exp at nbf%+d s", d), d > 0, "nbf", sec(tokenNow), "exp", sec(tokenNow+d)),
			claimCase(fmt.Sprintf("32 days%+d s", d), false, "nbf", sec(tokenNow), "exp", sec(tokenNow+32*day+d)),
		)
	}
	add(
		tokenCase{name: "clock at 1970", token: good, now: 1},
		tokenCase{name: "clock at 2^53", token: good, now: 1 << 53},
		tokenCase{name: "token of 1970, clock at 1970", token: tokenSigned(tokenSecretA, tokenHead, tokenClaims("nbf", "0", "exp", "10")), now: 5, want: true},
		tokenCase{name: "token at the end of range, clock too", token: tokenSigned(tokenSecretA, tokenHead, tokenClaims("nbf", "9007199254740991", "exp", "9007199254740992")), now: 1 << 53, want: true},
	)

	// Audience.
	for aud, want := range map[string]bool{``: false, `"me"`: true, `"other"`: false, `"ME"`: false, `"me "`: false, `""`: false, `["me"]`: true,
		`["other","me"]`: true, `["other"]`: false, `[]`: false, `[["me"]]`: false, `["me",1]`: false, `["me",null]`: false, `{"me":true}`: false, `null`: false, `7`: false} {
		token := tokenSigned(tokenSecretA, tokenHead, tokenClaims("aud", aud))
		add(
			tokenCase{name: "audience set, aud is " + aud, token: token, audience: "me", want: want},
			tokenCase{name: "audience not set, aud is " + aud, token: token, want: true},
		)
	}
	return cases
}

// checkFault: which rule a token breaks is told if its signature is right, and
// only then; and what is told quotes nothing of it but times.
func checkFault(t *testing.T, err error, o tokenOracle, token string) {
	t.Helper()
	var f *tokenFault
	claims, signed := o.signed(token)
	if errors.As(err, &f) != signed {
		t.Fatalf("refused with %#v; the signature is right: %v", err, signed)
	}
	if f == nil {
		return
	}
	members, _ := oracleObject(claims)
	for _, name := range []string{"tid", "aud"} {
		if value, _ := members[name].(string); len(value) > 8 && strings.Contains(f.told, value) {
			t.Errorf("%q quotes %s", f.told, name)
		}
	}
	if f.told == "" || len(f.told) > 200 || strings.ContainsAny(f.told, "\r\n") {
		t.Errorf("told %q", f.told)
	}
}

func TestVerifyMatrix(t *testing.T) {
	cases := tokenMatrix(t)
	if len(cases) < 480 {
		t.Fatalf("the matrix has %d cases", len(cases))
	}
	names := map[string]bool{}
	for _, c := range cases {
		if names[c.name] {
			t.Errorf("two cases are named %q", c.name)
		}
		names[c.name] = true
		if c.id == "" {
			c.id = tokenID
		}
		if c.secrets == nil {
			c.secrets = [][]byte{tokenSecretA, tokenSecretB}
		}
		if c.now == 0 {
			c.now = tokenNow
		}
		t.Run(c.name, func(t *testing.T) {
			if got := (tokenOracle{c.secrets, c.audience, c.now}).accepts(c.token, c.id); got != c.want {
				t.Errorf("oracle: accepted %v, want %v", got, c.want)
			}
			// Late within the second, as a real clock mostly is.
			v := &verifier{secrets: c.secrets, audience: c.audience, now: func() time.Time { return time.Unix(c.now, 999_999_999) }}
			g, err := v.verify(c.token, c.id)
			if (err == nil) != c.want {
				t.Fatalf("verify: error %v, want accepted %v", err, c.want)
			}
			if err != nil {
				checkFault(t, err, tokenOracle{c.secrets, c.audience, c.now}, c.token)
				if g != (grant{}) {
					t.Errorf("refused, yet the grant is %v", g)
				}
				for part := range strings.SplitSeq(c.token, ".") {
					if len(part) > 3 && strings.Contains(err.Error(), part) {
						t.Errorf("error quotes the token: %v", err)
					}
				}
				if strings.Contains(err.Error(), tokenID) || strings.Contains(err.Error(), fmt.Sprint(tokenNow)) {
					t.Errorf("error quotes a claim: %v", err)
				}
				return
			}
			if g.id != c.id || g.fingerprint != sha256.Sum256([]byte(c.token)) {
				t.Errorf("grant is %v", g)
			}
		})
	}
	t.Logf("%d cases", len(cases))
}

// TestVerifyTimes holds the verifier against the oracle for every combination
// of times on and beside the boundaries, as numbers and as what is none.
func TestVerifyTimes(t *testing.T) {
	var seconds []string
	for _, d := range []int64{-31*day - 61, -31 * day, -3600, -61, -60, -59, 0, 59, 60, 61, 31*day - 61, 31 * day, 31*day + 1} {
		seconds = append(seconds, fmt.Sprint(tokenNow+d))
	}
	seconds = append(seconds, "0", "9007199254740991", "9007199254740992", "9007199254740993", "9223372036854775807", "-9223372036854775808",
		"1e300", "-1", fmt.Sprintf("%d.0", tokenNow), fmt.Sprintf("%de0", tokenNow), fmt.Sprintf(`"%d"`, tokenNow), "null",
		fmt.Sprintf("%d.999", tokenNow-60), fmt.Sprintf("%d.001", tokenNow+60), fmt.Sprintf("%d.5e-1", 10*(tokenNow+31*day)), "9007199254740991.5", "9.007199254740992e15", "1e400000000", "1e-400000000")
	tokens, accepted := 0, 0
	for _, nbf := range seconds {
		for _, exp := range seconds {
			token := tokenSigned(tokenSecretB, tokenHead, tokenClaims("nbf", nbf, "exp", exp))
			tokens++
			for _, now := range []int64{tokenNow, 0, 1 << 53} {
				secrets := [][]byte{tokenSecretA, tokenSecretB}
				v := &verifier{secrets: secrets, now: func() time.Time { return time.Unix(now, 0) }}
				_, err := v.verify(token, tokenID)
				if want := (tokenOracle{secrets, "", now}).accepts(token, tokenID); (err == nil) != want {
					t.Errorf("nbf %s, exp %s, now %d: error %v, the oracle accepts: %v", nbf, exp, now, err, want)
				}
				if err == nil {
					accepted++
				}
			}
		}
	}
	if tokens < 500 || accepted < 20 {
		t.Errorf("%d tokens, %d times accepted: that tests little", tokens, accepted)
	}
	t.Logf("%d tokens, each at 3 times; %d times accepted", tokens, accepted)
}

// countingMethod counts the signatures that are checked.
type countingMethod struct {
	jwt.SigningMethod
	checked int
}

func (m *countingMethod) Verify(signed string, sig []byte, key any) error {
	m.checked++
	return m.SigningMethod.Verify(signed, sig, key)
}

// TestVerifyTriesEverySecret, so that the time taken does not tell which of
// them signed a token, and none for what cannot be a token.
func TestVerifyTriesEverySecret(t *testing.T) {
	for name, tc := range map[string]struct {
		token string
		want  int
	}{
		"signed by the first":       {tokenSigned(tokenSecretA, tokenHead, tokenClaims()), 2},
		"signed by the second":      {tokenSigned(tokenSecretB, tokenHead, tokenClaims()), 2},
		"signed by another":         {tokenSigned([]byte("another"), tokenHead, tokenClaims()), 2},
		"claims that are no JSON":   {tokenSigned([]byte("another"), tokenHead, "{"), 2},
		"algorithm none":            {tokenUnsigned(`{"alg":"none"}`, tokenClaims()) + ".", 0},
		"four parts":                {tokenSigned(tokenSecretA, tokenHead, tokenClaims()) + ".", 0},
		"longer than the limit":     {tokenSigned(tokenSecretA, tokenHead, tokenClaims("pad", `"`+strings.Repeat("x", 8<<10)+`"`)), 0},
		"64 KiB of dots":            {strings.Repeat(".", 64<<10), 0},
		"the limit in dots":         {strings.Repeat(".", 8<<10), 0},
		"signature is no base64url": {tokenUnsigned(tokenHead, tokenClaims()) + ".!", 0},
	} {
		m := &countingMethod{SigningMethod: jwt.SigningMethodHS256}
		v := &verifier{secrets: [][]byte{tokenSecretA, tokenSecretB}, now: func() time.Time { return time.Unix(tokenNow, 0) }, hs256: m}
		v.verify(tc.token, tokenID)
		if m.checked != tc.want {
			t.Errorf("%s: %d signatures checked, want %d", name, m.checked, tc.want)
		}
	}
}

// TestVerifyOversize: what is too long to be a token, or has too many parts,
// costs nothing that grows with it.
func TestVerifyOversize(t *testing.T) {
	v := &verifier{secrets: [][]byte{tokenSecretA, tokenSecretB}}
	for name, token := range map[string]string{
		"dots": strings.Repeat(".", 64<<10), "dots within the limit": strings.Repeat(".", maxTokenSize),
		"a good token, too long": tokenSigned(tokenSecretA, tokenHead, tokenClaims("pad", `"`+strings.Repeat("x", 1<<20)+`"`)),
	} {
		if n := testing.AllocsPerRun(100, func() { v.verify(token, tokenID) }); n > 8 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

// TestVerifyTimingOfSecrets: which secret signed a token cannot be told by the
// clock. It is a measurement, and wants a machine that does nothing else.
func TestVerifyTimingOfSecrets(t *testing.T) {
	if os.Getenv("WST_LONG") == "" {
		t.Skip("a measurement: with WST_LONG=1")
	}
	v := &verifier{secrets: [][]byte{tokenSecretA, tokenSecretB}, now: func() time.Time { return time.Unix(tokenNow, 0) }}
	tokens := [2]string{tokenSigned(tokenSecretA, tokenHead, tokenClaims()), tokenSigned(tokenSecretB, tokenHead, tokenClaims())}
	var took [2][]time.Duration
	for range 50_000 {
		for i, token := range tokens { // in turns: what disturbs disturbs both
			begin := time.Now()
			if _, err := v.verify(token, tokenID); err != nil {
				t.Fatal(err)
			}
			took[i] = append(took[i], time.Since(begin))
		}
	}
	var median [2]float64
	for i := range took {
		slices.Sort(took[i])
		median[i] = float64(took[i][len(took[i])/2])
	}
	t.Logf("medians: %.0f ns and %.0f ns", median[0], median[1])
	if ratio := median[0] / median[1]; ratio < 0.95 || ratio > 1.05 {
		t.Errorf("tokens signed by the first secret take %.3f times as long as those by the second", ratio)
	}
}

func TestVerifyExpires(t *testing.T) {
	v := &verifier{secrets: [][]byte{tokenSecretA}, now: func() time.Time { return time.Unix(tokenNow, 0) }}
	g, err := v.verify(tokenSigned(tokenSecretA, tokenHead, tokenClaims()), tokenID)
	if err != nil {
		t.Fatal(err)
	}
	if want := time.Unix(tokenNow+3600, 0); !g.expires.Equal(want) {
		t.Errorf("expires at %v, want exp itself, %v", g.expires, want)
	}
}

// No change to a single character of a good token may leave it good: blocked
// tokens are known by their hash.
func TestVerifyOneSpelling(t *testing.T) {
	good := tokenSigned(tokenSecretA, tokenHead, tokenClaims())
	v := &verifier{secrets: [][]byte{tokenSecretA}, now: func() time.Time { return time.Unix(tokenNow, 0) }}
	if _, err := v.verify(good, tokenID); err != nil {
		t.Fatal(err)
	}
	for i := range len(good) {
		for _, c := range []byte("ABQgwz019-_+/=. \r\n\x00") {
			for _, changed := range []string{good[:i] + string(c) + good[i+1:], good[:i] + string(c) + good[i:], good[:i] + good[i+1:]} {
				if changed == good {
					continue
				}
				if _, err := v.verify(changed, tokenID); err == nil {
					t.Fatalf("accepted with a change at byte %d of %d (%q)", i, len(good), c)
				}
			}
		}
	}
}

func TestMintToken(t *testing.T) {
	start := time.Now()
	for _, c := range []struct {
		name   string
		secret []byte
		claims Claims
		want   string // part of the error, "" for success
	}{
		{"plain", tokenSecretA, Claims{ID: "build-42", TTL: time.Hour}, ""},
		{"audience", tokenSecretA, Claims{ID: "build-42", TTL: time.Hour, Audience: `me & <"you">`}, ""},
		{"escaped id", tokenSecretA, Claims{ID: "a%2Fb~._-", TTL: time.Hour}, ""},
		{"longest", tokenSecretA, Claims{ID: "x", TTL: 31 * 24 * time.Hour}, ""},
		{"shortest", tokenSecretA, Claims{ID: "x", TTL: 1}, ""},
		{"short secret", []byte("x"), Claims{ID: "x", TTL: time.Hour}, ""},
		{"back-dated", tokenSecretA, Claims{ID: "x", TTL: time.Hour, NotBefore: start.Add(-15 * time.Minute)}, ""},
		{"no secret", nil, Claims{ID: "x", TTL: time.Hour}, "secret is empty"},
		{"no id", tokenSecretA, Claims{TTL: time.Hour}, "Claims.ID is empty"},
		{"bad id", tokenSecretA, Claims{ID: "a/b", TTL: time.Hour}, `"a/b"`},
		{"reserved id", tokenSecretA, Claims{ID: "__version__", TTL: time.Hour}, "reserved"},
		{"no TTL", tokenSecretA, Claims{ID: "x"}, `Claims.TTL "0s"`},
		{"negative TTL", tokenSecretA, Claims{ID: "x", TTL: -1}, "positive"},
		{"long TTL", tokenSecretA, Claims{ID: "x", TTL: 31*24*time.Hour + 1}, "31 days"},
		{"before 1970", tokenSecretA, Claims{ID: "x", TTL: time.Hour, NotBefore: time.Unix(-1, 0)}, "NotBefore"},
		{"far future", tokenSecretA, Claims{ID: "x", TTL: time.Hour, NotBefore: time.Unix(1<<62, 0)}, "NotBefore"},
		{"bad audience", tokenSecretA, Claims{ID: "x", TTL: time.Hour, Audience: "\xff"}, "UTF-8"},
		{"long audience", tokenSecretA, Claims{ID: "x", TTL: time.Hour, Audience: strings.Repeat("x", 7000)}, "Claims.Audience is too long"},
	} {
		t.Run(c.name, func(t *testing.T) {
			token, err := MintToken(c.secret, c.claims)
			if c.want != "" {
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Fatalf("error is %v, want one that contains %q", err, c.want)
				}
				if all := configerror.All(err); len(all) != 1 || strings.Contains(err.Error(), string(tokenSecretA)) {
					t.Errorf("%d faults in %v, want one, without the secret", len(all), err)
				}
				if token != "" {
					t.Errorf("an error, and yet a token")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			v := &verifier{secrets: [][]byte{tokenSecretB, c.secret}, audience: c.claims.Audience}
			g, err := v.verify(token, c.claims.ID)
			if err != nil {
				t.Fatalf("the service refuses it: %v", err)
			}
			if !(tokenOracle{v.secrets, v.audience, time.Now().Unix()}).accepts(token, c.claims.ID) {
				t.Error("the oracle refuses it")
			}
			from := c.claims.NotBefore
			if from.IsZero() {
				from = start
			}
			// Whole seconds, and the test itself took some time.
			if early, late := from.Add(c.claims.TTL-time.Second), time.Now().Add(c.claims.TTL+time.Second); g.expires.Before(early) || g.expires.After(late) {
				t.Errorf("expires at %v, want between %v and %v", g.expires, early, late)
			}
		})
	}
}

// FuzzVerify holds the verifier against the oracle, with tokens that are
// garbage as a whole and with rightly signed ones of any header and claims.
func FuzzVerify(f *testing.F) {
	for _, c := range tokenMatrix(f) {
		var header, claims []byte
		if parts := strings.Split(c.token, "."); len(parts) == 3 {
			header, _ = base64.RawURLEncoding.DecodeString(parts[0])
			claims, _ = base64.RawURLEncoding.DecodeString(parts[1])
		}
		f.Add(c.token, header, claims, tokenID, c.audience, tokenNow)
	}
	f.Fuzz(func(t *testing.T, token string, header, claims []byte, id, audience string, now int64) {
		if now < -1<<53 || now > 1<<54 {
			return
		}
		secrets := [][]byte{tokenSecretA, tokenSecretB}
		v := &verifier{secrets: secrets, audience: audience, now: func() time.Time { return time.Unix(now, 0) }}
		o := tokenOracle{secrets, audience, now}
		for _, token := range []string{token, tokenSigned(tokenSecretB, string(header), string(claims)), tokenSigned(tokenSecretA, tokenHead, string(claims))} {
			g, err := v.verify(token, id)
			if want := o.accepts(token, id); (err == nil) != want {
				t.Fatalf("verify of %q: %v; the oracle accepts: %v", token, err, want)
			}
			if err != nil {
				checkFault(t, err, o, token)
			}
			if err == nil && g.id != id {
				t.Fatalf("granted %q, asked for %q", g.id, id)
			}
		}
	})
}
