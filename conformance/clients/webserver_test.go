package clients

import (
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/websocktunnel/websocktunnel/conformance/internal/harness"
	"github.com/websocktunnel/websocktunnel/internal/tunneltest"
	"github.com/websocktunnel/websocktunnel/tunnelclient"
)

// webserver is a running server of static files.
type webserver struct {
	plain, tls, h2c string // targets; h2c may be empty
}

// files fills a directory that every user may read with what the web servers
// serve, and with a certificate and its key.
func files(t *testing.T) string {
	t.Helper()
	// Not t.TempDir, into which the servers' own users cannot look.
	dir, err := os.MkdirTemp("", "webserver")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	os.Chmod(dir, 0o755)
	write := func(name string, content []byte) {
		name = filepath.Join(dir, name)
		os.MkdirAll(filepath.Dir(name), 0o755)
		if err := os.WriteFile(name, content, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(name, time.Unix(1e9, 0), time.Unix(1e9, 0)); err != nil {
			t.Fatal(err)
		}
	}
	write("www/index.html", []byte("<!doctype html><title>index</title>"))
	write("www/file.txt", text)
	write("www/sub/index.html", []byte("<!doctype html><title>sub</title>"))
	write("www/empty.txt", nil)
	big := make([]byte, 8<<20)
	for i := range big {
		big[i] = byte(i>>16) ^ byte(i)
	}
	write("www/big.bin", big)
	cert, key := tunneltest.PEM(tunneltest.Certificate())
	write("server.crt", cert)
	write("server.key", key)
	return dir
}

// freePorts returns ports that were free a moment ago.
func freePorts(t *testing.T, n int) []any {
	t.Helper()
	ports := make([]any, n)
	for i := range ports {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		ports[i] = ln.Addr().(*net.TCPAddr).Port
	}
	return ports
}

func startNginx(t *testing.T) webserver {
	path := program(t, "nginx")
	table.Program("nginx", version(t, path, "-v"))
	dir := files(t)
	ports := freePorts(t, 2)
	user := ""
	if os.Geteuid() == 0 {
		user = "user root;" // else its workers could not read the key's directory on every system
	}
	config := fmt.Sprintf(`daemon off;
worker_processes 1;
error_log stderr notice;
pid %[1]s/pid;
%[2]s
events {}
http {
	access_log off;
	client_body_temp_path %[1]s/body;
	proxy_temp_path %[1]s/proxy;
	fastcgi_temp_path %[1]s/fastcgi;
	uwsgi_temp_path %[1]s/uwsgi;
	scgi_temp_path %[1]s/scgi;
	types { text/html html; text/plain txt; application/octet-stream bin; }
	gzip on;
	gzip_types text/plain;
	gzip_min_length 100;
	absolute_redirect off;
	server {
		listen 127.0.0.1:%[3]d;
		listen 127.0.0.1:%[4]d ssl http2;
		ssl_certificate %[1]s/server.crt;
		ssl_certificate_key %[1]s/server.key;
		root %[1]s/www;
		client_max_body_size 10k;
		location /moved { return 301 /file.txt; }
		location /gone { return 410; }
		location /teapot { return 418 "short\n"; }
	}
}
`, dir, user, ports[0], ports[1])
	name := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(name, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	start(t, regexp.MustCompile(`start worker process \d+`), path, "-e", "stderr", "-p", dir, "-c", name)
	return webserver{plain: fmt.Sprintf("http://127.0.0.1:%d", ports[0]), tls: fmt.Sprintf("https://localhost:%d", ports[1])}
}

func startApache(t *testing.T) webserver {
	dir := files(t)
	ports := runApache(t, dir, []string{"dir", "mime", "filter", "deflate", "alias", "http2", "setenvif"}, fmt.Sprintf(`
Protocols h2 h2c http/1.1
DocumentRoot %[1]s/www
DirectoryIndex index.html
FileETag MTime Size
LimitRequestBody 10000
TypesConfig /dev/null
AddType text/plain .txt
AddType text/html .html
AddOutputFilterByType DEFLATE text/plain
Redirect permanent /moved /file.txt
Redirect gone /gone
<Directory %[1]s/www>
	Require all granted
</Directory>
`, dir))
	return webserver{
		plain: fmt.Sprintf("http://127.0.0.1:%d", ports[0]),
		tls:   fmt.Sprintf("https://localhost:%d", ports[1]),
		h2c:   fmt.Sprintf("h2c://127.0.0.1:%d", ports[0]),
	}
}

// startApacheProxy runs Apache httpd as a proxy for CONNECT that wants a user
// and password. It returns its URLs, without these, for plain HTTP and TLS.
func startApacheProxy(t *testing.T, user, password string) (plain, overTLS *url.URL) {
	dir := files(t)
	hash := sha1.Sum([]byte(password))
	users := user + ":{SHA}" + base64.StdEncoding.EncodeToString(hash[:]) + "\n"
	if err := os.WriteFile(filepath.Join(dir, "users"), []byte(users), 0o644); err != nil {
		t.Fatal(err)
	}
	modules := []string{"proxy", "proxy_connect", "auth_basic", "authn_core", "authn_file", "authz_user"}
	ports := runApache(t, dir, modules, fmt.Sprintf(`
ProxyRequests On
AllowConnect 2-65535
<Proxy "*">
	AuthType Basic
	AuthName "the way out"
	AuthUserFile %s/users
	Require valid-user
</Proxy>
`, dir))
	return &url.URL{Scheme: "http", Host: fmt.Sprintf("127.0.0.1:%d", ports[0])},
		&url.URL{Scheme: "https", Host: fmt.Sprintf("localhost:%d", ports[1])}
}

// runApache runs Apache httpd with more modules and more configuration until
// the end of the test. It returns its ports, the one for plain HTTP first and
// then the one for TLS, with the certificate in dir.
func runApache(t *testing.T, dir string, more []string, config string) (ports []any) {
	t.Helper()
	path := program(t, "apache2", "httpd")
	table.Program("Apache", version(t, path, "-v"))
	modules := "/usr/lib/apache2/modules"
	if _, err := os.Stat(modules); err != nil {
		harness.Missing(t, modules)
	}
	ports = freePorts(t, 2)
	user := ""
	if os.Geteuid() == 0 {
		user = "User nobody\nGroup nogroup" // it refuses to be root
	}
	var load strings.Builder
	for _, m := range append([]string{"mpm_event", "authz_core", "ssl", "socache_shmcb"}, more...) {
		fmt.Fprintf(&load, "LoadModule %s_module %s/mod_%s.so\n", m, modules, m)
	}
	config = fmt.Sprintf(`%[5]s
ServerRoot %[1]s
PidFile %[1]s/pid
DefaultRuntimeDir %[1]s
ErrorLog /dev/stderr
LogLevel notice
ServerName localhost
%[2]s
StartServers 1
Listen 127.0.0.1:%[3]d
Listen 127.0.0.1:%[4]d
%[6]s
<VirtualHost 127.0.0.1:%[4]d>
	SSLEngine on
	SSLCertificateFile %[1]s/server.crt
	SSLCertificateKeyFile %[1]s/server.key
</VirtualHost>
`, dir, load.String(), ports[0], ports[1], user, config)
	name := filepath.Join(dir, "apache.conf")
	if err := os.WriteFile(name, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	start(t, regexp.MustCompile(`resuming normal operations`), path, "-f", name, "-D", "FOREGROUND", "-E", "/dev/stderr")
	return ports
}

// webRequests are made to every web server, directly and through a tunnel.
var webRequests = []struct {
	name, method, path, body string
	header                   http.Header
}{
	{name: "index", method: "GET", path: "/"},
	{name: "file", method: "GET", path: "/file.txt"},
	{name: "empty file", method: "GET", path: "/empty.txt"},
	{name: "HEAD", method: "HEAD", path: "/file.txt"},
	{name: "8 MiB", method: "GET", path: "/big.bin"},
	{name: "range", method: "GET", path: "/file.txt", header: http.Header{"Range": {"bytes=0-99"}}},
	{name: "last bytes", method: "GET", path: "/file.txt", header: http.Header{"Range": {"bytes=-7"}}},
	{name: "two ranges", method: "GET", path: "/file.txt", header: http.Header{"Range": {"bytes=0-9,20-29"}}},
	{name: "range of the wrong version", method: "GET", path: "/file.txt", header: http.Header{"Range": {"bytes=0-99"}, "If-Range": {`"x"`}}},
	{name: "range out of bounds", method: "GET", path: "/file.txt", header: http.Header{"Range": {"bytes=100000-"}}},
	{name: "gzip", method: "GET", path: "/file.txt", header: http.Header{"Accept-Encoding": {"gzip"}}},
	{name: "HEAD of gzip", method: "HEAD", path: "/file.txt", header: http.Header{"Accept-Encoding": {"gzip"}}},
	{name: "not modified", method: "GET", path: "/file.txt", header: http.Header{"If-Modified-Since": {"Sun, 09 Sep 2001 01:46:40 GMT"}}},
	{name: "directory", method: "GET", path: "/sub"},
	{name: "directory with query", method: "GET", path: "/sub?a=b"},
	{name: "redirect", method: "GET", path: "/moved"},
	{name: "gone", method: "GET", path: "/gone"},
	{name: "short", method: "GET", path: "/teapot"},
	{name: "not found", method: "GET", path: "/nothing"},
	{name: "HEAD of not found", method: "HEAD", path: "/nothing"},
	{name: "encoded path", method: "GET", path: "/sub/%2e%2e/file%2Etxt"},
	{name: "out of the root", method: "GET", path: "/../../etc/passwd"},
	{name: "POST to a file", method: "POST", path: "/file.txt", body: "x"},
	{name: "OPTIONS", method: "OPTIONS", path: "/file.txt"},
	{name: "PUT", method: "PUT", path: "/new.txt", body: "x"},
	{name: "DELETE", method: "DELETE", path: "/file.txt"},
	{name: "unknown method", method: "FROB", path: "/file.txt"},
	{name: "too large", method: "POST", path: "/file.txt", body: strings.Repeat("x", 20_000)},
}

var rangesBoundary = regexp.MustCompile(`(?m)^--[0-9a-f]+(--)?\r$`)

// TestWebservers: nginx and Apache httpd over plain HTTP and HTTPS, the latter
// with HTTP/2, and over cleartext HTTP/2 where the server knows it.
func TestWebservers(t *testing.T) {
	for name, startServer := range map[string]func(*testing.T) webserver{"nginx": startNginx, "Apache": startApache} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := startServer(t)
			for _, target := range []string{w.plain, w.tls, w.h2c} {
				if target == "" {
					continue
				}
				// Viewers speak the version that the tunnel client and the target speak.
				scheme, _, _ := strings.Cut(target, "://")
				version := map[string]string{"http": "http/1.1", "https": "h2", "h2c": "h2c"}[scheme]
				t.Run(scheme, func(t *testing.T) {
					s := harness.Start(t, harness.Options{TLS: scheme == "https"})
					p := pair{strings.Replace(target, "h2c:", "http:", 1), s.Target("id", target, tunnelclient.ProxyOptions{})}
					v := viewer(t, version)
					for _, tc := range webRequests {
						t.Run(tc.name, func(t *testing.T) {
							one := func(base string) string {
								req, err := http.NewRequest(tc.method, base+tc.path, strings.NewReader(tc.body))
								if err != nil {
									t.Fatal(err)
								}
								req.Header = tc.header.Clone()
								if req.Header == nil {
									req.Header = http.Header{}
								}
								if tc.body == "" {
									req.Body, req.ContentLength = nil, 0
								}
								req.Host = "viewer.example"
								a := exchange(t, v, req)
								a.header.Del("Date")
								if strings.HasPrefix(a.header.Get("Content-Type"), "multipart/byteranges") { // its boundary is random
									a.body = rangesBoundary.ReplaceAllString(a.body, "boundary")
									a.header.Set("Content-Type", "multipart/byteranges")
								}
								return a.String()
							}
							direct := one(p.direct)
							p.compare(t, direct, one(p.tunnelled))
							table.Passed(t, name, "as target: "+tc.name, scheme, finalStatus(direct), harness.Same)
						})
					}
				})
			}
		})
	}
}
