package clients

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/websocktunnel/websocktunnel/tunnelclient"
)

// TestNginxEndsConnections: nginx ends an HTTP/2 connection with GOAWAY after
// keepalive_requests requests. Of as many as come at a time none fails by that,
// whatever its method.
func TestNginxEndsConnections(t *testing.T) {
	path := program(t, "nginx")
	echo := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) }))
	t.Cleanup(echo.Close)
	for _, each := range []int{1000, 100} {
		t.Run(fmt.Sprint(each), func(t *testing.T) {
			dir := files(t)
			ports := freePorts(t, 2)
			user := ""
			if os.Geteuid() == 0 {
				user = "user root;" // see startNginx
			}
			config := fmt.Sprintf(`daemon off;
worker_processes 1;
worker_rlimit_nofile 20000;
error_log stderr notice;
pid %[1]s/pid;
%[2]s
events { worker_connections 10000; }
http {
	access_log off;
	client_body_temp_path %[1]s/body;
	proxy_temp_path %[1]s/proxy;
	fastcgi_temp_path %[1]s/fastcgi;
	uwsgi_temp_path %[1]s/uwsgi;
	scgi_temp_path %[1]s/scgi;
	keepalive_requests %[3]d;
	upstream echo { server %[4]s; keepalive 100; }
	server {
		listen 127.0.0.1:%[5]d http2 backlog=5000;
		listen 127.0.0.1:%[6]d ssl http2 backlog=5000;
		ssl_certificate %[1]s/server.crt;
		ssl_certificate_key %[1]s/server.key;
		location / { proxy_pass http://echo; proxy_http_version 1.1; proxy_set_header Connection ""; }
	}
}
`, dir, user, each, echo.Listener.Addr(), ports[0], ports[1])
			name := filepath.Join(dir, "nginx.conf")
			if err := os.WriteFile(name, []byte(config), 0o600); err != nil {
				t.Fatal(err)
			}
			start(t, regexp.MustCompile(`start worker process \d+`), path, "-e", "stderr", "-p", dir, "-c", name)
			for scheme, port := range map[string]any{"h2c": ports[0], "https": ports[1]} {
				t.Run(scheme, func(t *testing.T) {
					h, err := tunnelclient.ProxyTo(fmt.Sprintf("%s://127.0.0.1:%d", scheme, port), tunnelclient.ProxyOptions{InsecureSkipVerify: true})
					if err != nil {
						t.Fatal(err)
					}
					t.Cleanup(h.CloseIdleConnections)
					const requests = 3000
					var wg sync.WaitGroup
					failures := make(chan string, requests)
					for i := range requests {
						wg.Go(func() {
							body := fmt.Sprint("the body of request ", i)
							rec := httptest.NewRecorder()
							h.ServeHTTP(rec, httptest.NewRequest("POST", "/", strings.NewReader(body)))
							if rec.Code != http.StatusOK || rec.Body.String() != body {
								failures <- fmt.Sprintf("%d %q", rec.Code, rec.Body)
							}
						})
					}
					wg.Wait()
					if n := len(failures); n > 0 {
						t.Errorf("%d of %d failed, the first with %s", n, requests, <-failures)
					}
				})
			}
		})
	}
}
