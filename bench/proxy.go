package main

import (
	"context"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"time"
)

// proxySettings are those of the role proxy: one httputil.ReverseProxy.
type proxySettings struct {
	TLS certFiles `json:"tls"` // for its own listener

	// Upstream is where requests go, an http or https URL; with HTTP2, over
	// HTTP/2 alone, without TLS for http.
	Upstream string `json:"upstream"`
	HTTP2    bool   `json:"http2"`
}

// runProxy is a plain reverse proxy. Everything has its default, except that it
// keeps its idle connections and accepts HTTP/2 without TLS.
func runProxy(ctx context.Context, s proxySettings) error {
	upstream, err := url.Parse(s.Upstream)
	if err != nil {
		return err
	}
	transport := &http.Transport{
		TLSClientConfig:     insecureTLS(),
		MaxIdleConnsPerHost: 1024,
		DisableCompression:  true,
		Protocols:           new(http.Protocols),
	}
	if s.HTTP2 {
		transport.Protocols.SetHTTP2(true)
		transport.Protocols.SetUnencryptedHTTP2(true)
	} else {
		transport.Protocols.SetHTTP1(true)
	}
	srv := &http.Server{Handler: reverseProxy(upstream, transport), ReadHeaderTimeout: time.Minute, Protocols: new(http.Protocols)}
	srv.Protocols.SetHTTP1(true)
	srv.Protocols.SetHTTP2(true)
	srv.Protocols.SetUnencryptedHTTP2(true)
	return serve(ctx, srv, s.TLS)
}

func reverseProxy(upstream *url.URL, transport http.RoundTripper) *httputil.ReverseProxy {
	return &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(upstream)
			r.SetXForwarded()
		},
		Transport: transport,
		ErrorLog:  log.New(io.Discard, "", 0),
	}
}

// targetTransport connects to a target directly.
func targetTransport() *http.Transport {
	return &http.Transport{
		DialContext:         (&net.Dialer{}).DialContext,
		MaxIdleConnsPerHost: 1024,
		DisableCompression:  true,
	}
}
