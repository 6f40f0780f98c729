package server

import (
	"net/http"
	"strings"
)

// The headers by which proxies and CDNs tell an application about its viewer or
// about the original request. An application believes them, so a viewer must not
// send them. docs/compatibility.md lists them for users.
//
// All are in lower case with dashes. See dashed for the spellings that count.
var (
	// claims are whole names.
	claims = nameSet(`
		client-address client-cert client-cert-chain client-ip clientip client-verify
		coming-from x-coming-from disguised-host
		front-end-https x-front-end-https
		http-client-ip https x-https x-http-host x-http-host-override x-http-destinationurl x-host x-host-override
		ms-aspnetcore-clientcert ms-aspnetcore-token ms-aspnetcore-winauthtoken
		pc-remote-addr proxy proxy-host proxy-url proxy-user
		real-host real-ip realip x-realip request-uri x-request-uri
		script-name x-script-name x-ingress-path
		sm-user sm-userdn sm-universalid
		ssl-cert url-scheme x-url-scheme x-scheme x-proto x-protocol x-secure x-sslproto
		x-anonymous-consumer x-client-address x-client-dn x-client-host x-client-ip x-clientip x-client-port
		x-client-proto x-client-scheme x-client-verify x-custom-ip-authorization x-jwt-assertion x-proxyuser-ip
		x-request-scheme x-sendfile-type x-sucuri-country x-true-ip x-vhm-host x-vhm-root x-waws-unencoded-url
	`)

	// claimPrefixes are beginnings of names.
	claimPrefixes = strings.Fields(`
		ali-cdn- cdn-src- cf- cloudfront- fastly-client fastly-ff fastly-orig fastly-ssl fastly-temp-xff
		fly-client- fly-region fly-replay-src geoip- incap- l5d- mellon- ngrok-auth- oidc- proxy-client-
		remote- shib- ssl-client- tailscale-user- true-client- wl-proxy- -ws
		x-accel- x-akamai- x-amzn-mtls- x-amzn-oidc- x-amzn-tls- x-appengine- x-appservice- x-arr- x-authenticated-
		x-authentik- x-auth-request- x-azure- x-cdn-src- x-clientcert x-consumer- x-credential- x-envoy-
		x-fd- x-forward x-geo- x-geoip x-goog-authenticated- x-goog-iap- x-ms-client-principal x-ms-token- x-nf- x-original x-originating-
		x-pomerium- x-proxy- x-real- x-remote- x-rewrite- x-ssl x-sucuri-client x-tls- x-vercel-ip- x-vercel-proxied-
		x-webauth-
	`)

	// claimParts make a claim of a name wherever they stand in it.
	claimParts = strings.Fields("forwarded client-ip clientip real-ip connecting-ip client-cert remote-addr remote-user")

	// viewersCredentials begin like claims, but a viewer sends them.
	viewersCredentials = nameSet("cf-access-client-id cf-access-client-secret cf-access-token")

	// ordinary are names, as net/http spells them, that most requests have. They are
	// none of the above, so dropClaims need not look each time.
	ordinary = map[string]bool{
		"Accept": true, "Accept-Encoding": true, "Accept-Language": true, "Authorization": true, "Cache-Control": true,
		"Connection": true, "Content-Length": true, "Content-Type": true, "Cookie": true, "Dnt": true, "If-Modified-Since": true,
		"If-None-Match": true, "Origin": true, "Pragma": true, "Priority": true, "Range": true, "Referer": true,
		"Sec-Ch-Ua": true, "Sec-Ch-Ua-Mobile": true, "Sec-Ch-Ua-Platform": true, "Sec-Fetch-Dest": true, "Sec-Fetch-Mode": true,
		"Sec-Fetch-Site": true, "Sec-Fetch-User": true, "Te": true, "Upgrade": true, "Upgrade-Insecure-Requests": true,
		"User-Agent": true,
	}

	// oddlySpelled are beginnings of claims that proxies themselves do not spell
	// with dashes alone: SM_USER, OIDC_CLAIM_email, $WSRA.
	oddlySpelled = []string{"sm-", "oidc-", "mellon-", "-ws"}
)

func nameSet(names string) map[string]bool {
	set := make(map[string]bool)
	for name := range strings.FieldsSeq(names) {
		set[name] = true
	}
	return set
}

// dashed returns name in lower case and with a dash for each byte that is
// neither a letter nor a digit, and whether there was such a byte but dashes.
// To many applications those are one name: CGI, WSGI and PHP make
// HTTP_X_REAL_IP of X-Real-IP, X_Real_Ip and x.real.ip.
func dashed(name string) (_ string, odd bool) {
	b := make([]byte, len(name), max(len(name), 64))
	for i := range len(name) {
		c := name[i]
		switch {
		case 'A' <= c && c <= 'Z':
			c += 'a' - 'A'
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '-':
		default:
			c, odd = '-', true
		}
		b[i] = c
	}
	return string(b), odd
}

// isClaim reports whether name, as dashed returns it, is that of a header by
// which a proxy speaks about the viewer or the original request.
func isClaim(name string) bool {
	if claims[name] {
		return true
	}
	if viewersCredentials[name] {
		return false
	}
	return hasOneOf(strings.HasPrefix, name, claimPrefixes) || hasOneOf(strings.Contains, name, claimParts)
}

func hasOneOf(has func(s, part string) bool, name string, parts []string) bool {
	for _, p := range parts {
		if has(name, p) {
			return true
		}
	}
	return false
}

// mayViewerSay reports whether a viewer, or the trusted proxy that it comes
// through, may send the target a header or trailer of this name.
//
// Of a trusted proxy's, odd spellings of claims are dropped nevertheless: the
// proxy sets the usual spelling and may let the viewer's other one through.
func mayViewerSay(name string, trusted bool) bool {
	name, odd := dashed(name)
	switch {
	case strings.HasPrefix(name, privatePrefix):
		return false
	case !isClaim(name):
		return true
	}
	return trusted && (!odd || hasOneOf(strings.HasPrefix, name, oddlySpelled))
}

// dropClaims deletes from h what a viewer, or a trusted proxy, may not tell the
// target.
func dropClaims(h http.Header, trusted bool) {
	for name := range h {
		if !ordinary[name] && !mayViewerSay(name, trusted) {
			delete(h, name)
		}
	}
}
