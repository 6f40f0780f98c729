package server

import (
	"net/http"
	"strings"
	"testing"
)

// TestClaims: of what proxies say about a viewer, a viewer can say nothing, in
// any spelling that an application takes for the same.
func TestClaims(t *testing.T) {
	for name := range strings.FieldsSeq(`
		Forwarded Forwarded-For Forwarded-Proto X-Forwarded X-Forwarded-For X-Forwarded-Ssl X-Forwarded-Scheme X-Forwarded-Protocol
		X-Forwarded-Server X-Forwarded-User X-Forwarded-Email X-Forwarded-Groups X-Forwarded-Access-Token X-Forwarded-Preferred-Username
		X-Forwarded-Client-Cert X-Forwarded-Tls-Client-Cert X-Forwarded-By X-Forwarded-Path X-Forwarded-Uri X-Forwarded-Method
		X-Forwarded-Port X-Forwarded-Prefix X-Forwarded-Anything X-Forward-For X-Forwarder-For X-Original-Forwarded-For
		X-Vercel-Forwarded-For Fly-Forwarded-Proto CloudFront-Forwarded-Proto
		X-Real-IP Real-IP X-Real-Port X-Client-IP Client-IP X-ClientIP X-Cluster-Client-IP Cluster-Client-IP True-Client-IP
		CF-Connecting-IP CF-Connecting-IPv6 CF-Visitor CF-IPCountry CF-Access-Authenticated-User-Email DO-Connecting-IP
		Fastly-Client-IP Fastly-SSL Fly-Client-IP Incap-Client-IP Ali-Cdn-Real-Ip WL-Proxy-Client-IP WL-Proxy-SSL Proxy-Client-IP
		X-Sucuri-ClientIP X-Azure-ClientIP X-Azure-FDID X-NF-Client-Connection-IP X-AppEngine-User-IP X-Appengine-Cron CloudFront-Viewer-Address
		X-Envoy-External-Address X-Envoy-Internal L5d-Remote-Ip X-ProxyUser-Ip X-Originating-IP X-Remote-Addr Remote-Addr X-True-IP
		X-Original-URL X-Original-Host X-Original-URI X-Original-Method X-Original-Proto X-Rewrite-URL X-Host X-HTTP-Host-Override
		X-Script-Name X-Ingress-Path X-Waws-Unencoded-Url Disguised-Host
		Front-End-Https X-Url-Scheme X-Scheme X-ARR-SSL X-AppService-Proto
		X-SSL X-SSL-Client-Cert X-SSL-Client-Verify SSL-Client-Verify Ssl-Client-Subject-Dn X-Client-Cert Client-Cert Client-Cert-Chain
		X-ARR-ClientCert MS-ASPNETCORE-CLIENTCERT X-Amzn-Mtls-Clientcert
		Remote-User Remote-Groups X-Remote-User X-Remote-Group X-Remote-Extra-Scopes X-Auth-Request-Email X-WEBAUTH-USER X-Authentik-Username
		X-Goog-Authenticated-User-Email X-Goog-IAP-JWT-Assertion X-Amzn-Oidc-Identity X-Amzn-Oidc-Data X-MS-CLIENT-PRINCIPAL
		X-MS-CLIENT-PRINCIPAL-NAME X-Pomerium-Claim-Email Tailscale-User-Login X-Consumer-Username X-Anonymous-Consumer
		SM_USER OIDC_CLAIM_email Mellon_name $WSRA $WSRU
		X-Accel-Mapping X-Sendfile-Type Proxy
		X-Websocktunnel-Id X-Websocktunnel-Anything
	`) {
		for _, spelled := range []string{
			name, strings.ToLower(name), strings.ToUpper(name), http.CanonicalHeaderKey(name),
			strings.ReplaceAll(name, "-", "_"), strings.ReplaceAll(name, "-", "."), strings.ReplaceAll(name, "-", "!"), strings.Replace(name, "-", "_", 1),
		} {
			if mayViewerSay(spelled, false) || ordinary[spelled] {
				t.Errorf("a viewer may send %s", spelled)
			}
			ours := strings.HasPrefix(name, "X-Websocktunnel-")
			odd := strings.ContainsAny(spelled, "_.!") && strings.Contains(name, "-")
			if got, want := mayViewerSay(spelled, true), !ours && !odd; got != want {
				t.Errorf("a trusted proxy may send %s: %v, want %v", spelled, got, want)
			}
		}
	}
	for name := range strings.FieldsSeq(`
		Accept Authorization Cookie Host Origin Referer User-Agent Via CDN-Loop Max-Forwards Proxy-Connection Date Expect From Range
		X-Request-Id X-Correlation-Id X-Requested-With X-Csrf-Token X-Api-Key X-Auth-Token X-Auth-User X-Http-Method-Override X-Client-Info
		X-Client-Version X-Client-Data X-Custom X_Custom X-Amz-Date X-Amz-Security-Token X-Amzn-Trace-Id X-Ms-Version X-Ms-Blob-Type
		X-B3-Traceid Traceparent Tracestate Baggage X-Cloud-Trace-Context X-Upload-Content-Type Upload-Offset Tus-Resumable Sec-Websocket-Key
		Sec-Websocket-Protocol Grpc-Timeout Content-Type Last-Event-Id Destination Depth Overwrite Fly-Prefer-Region Fastly-Key
		CF-Access-Client-Id CF-Access-Client-Secret Cf-Access-Token X-Goog-Api-Key X-Goog-Upload-Command X-Vercel-Protection-Bypass
		Ngrok-Skip-Browser-Warning Impersonate-User X-Vault-Token X-Gitlab-Event X-Hub-Signature-256 Stripe-Signature Docker-Content-Digest
		X-Plex-Token X-Emby-Authorization X-Transmission-Session-Id Mcp-Session-Id X-Stainless-Os Anthropic-Version Idempotency-Key
	`) {
		if !mayViewerSay(name, false) {
			t.Errorf("a viewer may not send %s", name)
		}
	}
}

func TestDropClaims(t *testing.T) {
	sent := func() http.Header {
		return http.Header{"X-Forwarded-Ssl": {"on"}, "Client-Ip": {"6.6.6.6"}, "X.original.url": {"/admin"}, "Proxy": {"evil:80"}, "Accept": {"a"}, "X-Custom": {"b"}, "X-Websocktunnel-Upgrade": {"c"}}
	}
	h := sent()
	dropClaims(h, false)
	if len(h) != 2 || h.Get("Accept") != "a" || h.Get("X-Custom") != "b" {
		t.Errorf("of a viewer arrives %v", h)
	}
	h = sent()
	dropClaims(h, true)
	if len(h) != 5 || h["X.original.url"] != nil || h["X-Websocktunnel-Upgrade"] != nil {
		t.Errorf("of a trusted proxy arrives %v", h)
	}
}

func BenchmarkDropClaims(b *testing.B) {
	h := http.Header{}
	for name := range ordinary {
		h.Set(name, "x")
	}
	h.Set("X-Csrf-Token", "x")
	h.Set("X-Requested-With", "x")
	b.ReportAllocs()
	for b.Loop() {
		dropClaims(h, false)
	}
}
