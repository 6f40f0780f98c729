package scripttest

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"flag"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// startTarget runs the HTTP server of a script and returns its port.
func startTarget(env *testscript.Env) string {
	held := make(chan struct{})
	release := sync.OnceFunc(func() { close(held) })
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		env.T().Fatal(err)
	}
	port := strconv.Itoa(ln.Addr().(*net.TCPAddr).Port)
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/hold":
			fmt.Fprintln(w, "held")
			w.(http.Flusher).Flush()
			<-held
			fmt.Fprintln(w, "released")
		case "/release":
			release()
		case "/redirect":
			w.Header().Set("Set-Cookie", "a=b; Path=/app")
			http.Redirect(w, r, "http://localhost:"+port+"/login", http.StatusFound)
		default:
			fmt.Fprintf(w, "%s %s\nHost: %s\n", r.Method, r.RequestURI, r.Host)
			_ = r.Header.Write(w)
			fmt.Fprintln(w)
			_, _ = io.Copy(w, r.Body)
		}
	})}
	var wg sync.WaitGroup
	wg.Go(func() { _ = srv.Serve(ln) })
	env.Defer(func() {
		release()
		srv.Close()
		wg.Wait()
	})
	return port
}

func cmdHTTP(ts *testscript.TestScript, neg bool, args []string) {
	flags := flag.NewFlagSet("http", flag.ContinueOnError)
	method := flags.String("X", "GET", "")
	var headers []string
	flags.Func("H", "", func(line string) error {
		headers = append(headers, line)
		return nil
	})
	body := flags.String("d", "", "")
	ca := flags.String("ca", "", "")
	out := flags.String("o", "", "")
	addr := flags.String("addr", "", "")
	err := flags.Parse(args)
	must(ts, err == nil && flags.NArg() == 1, false, "http [-X METHOD] [-H HEADER] [-d BODY] [-ca FILE] [-o FILE] [-addr ADDR] URL")
	req, err := http.NewRequest(*method, flags.Arg(0), strings.NewReader(*body))
	ts.Check(err)
	for _, line := range headers {
		name, value, _ := strings.Cut(line, ": ")
		req.Header.Set(name, value)
	}
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: x509.NewCertPool()}, DisableKeepAlives: true}
	if *ca != "" {
		tr.TLSClientConfig.RootCAs.AppendCertsFromPEM([]byte(ts.ReadFile(*ca)))
	}
	if *addr != "" {
		tr.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, *addr)
		}
	}
	client := &http.Client{
		Transport:     tr,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	if *out == "" {
		client.Timeout = timeout
		err := roundTrip(client, req, ts.Stdout())
		if (err != nil) != neg {
			ts.Fatalf("the request's error is %v", err)
		}
		return
	}
	f := create(ts, *out)
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := roundTrip(client, req, f); err != nil {
			fmt.Fprintf(f, "\nerror: %v\n", err)
		} else {
			fmt.Fprintln(f, "\n[end]")
		}
	})
	ts.Defer(wg.Wait)
}

func roundTrip(client *http.Client, req *http.Request, w io.Writer) error {
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	fmt.Fprintf(w, "%s %s\n", resp.Proto, resp.Status)
	if err := resp.Header.Write(w); err != nil {
		return err
	}
	fmt.Fprintln(w)
	_, err = io.Copy(w, resp.Body)
	return err
}

func cmdSyslogd(ts *testscript.TestScript, neg bool, args []string) {
	must(ts, len(args) == 2, neg, "syslogd VAR FILE")
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	ts.Check(err)
	ts.Setenv(args[0], conn.LocalAddr().String())
	f := create(ts, args[1])
	var wg sync.WaitGroup
	wg.Go(func() {
		buf := make([]byte, 64<<10)
		for {
			n, _, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			fmt.Fprintf(f, "%s\n", bytes.TrimRight(buf[:n], "\n"))
		}
	})
	ts.Defer(func() {
		conn.Close()
		wg.Wait()
	})
}

func cmdConnectproxy(ts *testscript.TestScript, neg bool, args []string) {
	flags := flag.NewFlagSet("connectproxy", flag.ContinueOnError)
	user := flags.String("user", "", "")
	cert := flags.String("tls", "", "")
	host := flags.String("host", "", "")
	err := flags.Parse(args)
	must(ts, err == nil && flags.NArg() == 2, neg, "connectproxy [-user USER:PASSWORD] [-tls CERT] [-host NAME=ADDR] VAR FILE")
	want := "Basic " + base64.StdEncoding.EncodeToString([]byte(*user))
	name, addr, _ := strings.Cut(*host, "=")
	ln := listen(ts, flags.Arg(0), *cert, nil)
	f := create(ts, flags.Arg(1))
	srv := &http.Server{ErrorLog: log.New(io.Discard, "", 0), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(f, r.Method, r.Host, r.Header.Get("Proxy-Authorization"))
		to := r.Host
		if h, _, err := net.SplitHostPort(to); err == nil && h == name {
			to = addr
		}
		switch {
		case *user != "" && r.Header.Get("Proxy-Authorization") != want:
			w.Header().Set("Proxy-Authenticate", `Basic realm="out"`)
			w.WriteHeader(http.StatusProxyAuthRequired)
			return
		case r.Method != http.MethodConnect:
			w.WriteHeader(http.StatusMethodNotAllowed)
			return
		}
		up, err := net.Dial("tcp", to)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		down, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			up.Close()
			return
		}
		_, _ = io.WriteString(down, "HTTP/1.1 200 OK\r\n\r\n")
		relay(down, rw, up)
	})}
	var wg sync.WaitGroup
	wg.Go(func() { _ = srv.Serve(ln) })
	ts.Defer(func() {
		srv.Close()
		wg.Wait()
	})
}

func cmdTLSfront(ts *testscript.TestScript, neg bool, args []string) {
	must(ts, len(args) == 4, neg, "tlsfront VAR CERT CLIENT-CA ADDR")
	clients := x509.NewCertPool()
	clients.AppendCertsFromPEM([]byte(ts.ReadFile(args[2] + ".pem")))
	ln := listen(ts, args[0], args[1], clients)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			down, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				// The handshake first: a client without a certificate learns it from the front.
				if err := down.(*tls.Conn).HandshakeContext(context.Background()); err != nil {
					down.Close()
					return
				}
				up, err := net.Dial("tcp", args[3])
				if err != nil {
					down.Close()
					return
				}
				relay(down, down, up)
			})
		}
	})
	// The processes that hold connections end before.
	ts.Defer(func() {
		ln.Close()
		wg.Wait()
	})
}

// listen sets a variable to the address it listens at, over TLS if cert is not
// empty, and then with certificates of clients if their authority is given.
func listen(ts *testscript.TestScript, variable, cert string, clients *x509.CertPool) net.Listener {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	ts.Setenv(variable, ln.Addr().String())
	if cert == "" {
		return ln
	}
	pair, err := tls.X509KeyPair([]byte(ts.ReadFile(cert+".pem")), []byte(ts.ReadFile(cert+".key")))
	ts.Check(err)
	cfg := &tls.Config{Certificates: []tls.Certificate{pair}, ClientCAs: clients}
	if clients != nil {
		cfg.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return tls.NewListener(ln, cfg)
}

// relay copies both ways until either side ends, and closes both.
func relay(down net.Conn, from io.Reader, up net.Conn) {
	var wg sync.WaitGroup
	wg.Go(func() {
		_, _ = io.Copy(up, from)
		up.Close()
	})
	_, _ = io.Copy(down, up)
	down.Close()
	wg.Wait()
}

func cmdGencert(ts *testscript.TestScript, neg bool, args []string) {
	must(ts, len(args) >= 1, neg, "gencert NAME [HOST…]")
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ts.Check(err)
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(time.Now().UnixNano()),
		Subject:               pkix.Name{CommonName: args[0]},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(time.Hour),
		DNSNames:              append([]string{"localhost", "service.test"}, args[1:]...),
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA:                  true,
		BasicConstraintsValid: true,
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	ts.Check(err)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	ts.Check(err)
	write := func(name, kind string, b []byte) {
		ts.Check(os.WriteFile(ts.MkAbs(name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}), 0o600))
	}
	write(args[0]+".pem", "CERTIFICATE", cert)
	write(args[0]+".key", "PRIVATE KEY", der)
}

func cmdSetfile(ts *testscript.TestScript, neg bool, args []string) {
	encode := len(args) == 3 && args[0] == "-base64"
	if encode {
		args = args[1:]
	}
	must(ts, len(args) == 2, neg, "setfile [-base64] VAR FILE")
	text := strings.TrimRight(ts.ReadFile(args[1]), "\n")
	if encode {
		text = base64.StdEncoding.EncodeToString([]byte(text + "\n"))
	}
	ts.Setenv(args[0], text)
}
