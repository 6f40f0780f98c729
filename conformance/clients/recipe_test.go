package clients

import (
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"github.com/websocktunnel/websocktunnel/conformance/internal/harness"
	"github.com/websocktunnel/websocktunnel/internal/tunneltest"
	"github.com/websocktunnel/websocktunnel/tunnelclient"
)

// TestRecipes does what docs/recipes.md says of programs that are targets below a
// path, with the programs' own clients where they have any.
func TestRecipes(t *testing.T) {
	for name, recipe := range map[string]func(*testing.T){
		"Docker registry": recipeRegistry,
		"Fossil":          recipeFossil,
		"Radicale":        recipeRadicale,
		"Subversion":      recipeSubversion,
		"Transmission":    recipeTransmission,
		"etcd":            recipeEtcd,
		"noVNC":           recipeNoVNC,
		"rclone":          recipeRclone,
		"tus":             recipeTus,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			recipe(t)
			table.Passed(t, name, "recipe", "path mode", notMade, "works")
		})
	}
}

// below runs a service, and a tunnel client for a target at a port of this machine.
// It returns the client URL, http://127.0.0.1:PORT/team-app.
func below(t *testing.T, port any, o tunnelclient.ProxyOptions) string {
	t.Helper()
	return harness.Start(t, harness.Options{}).Target("team-app", fmt.Sprint(port), o)
}

// ask makes a request and returns the answer, which must have this status, and its
// body.
func ask(t *testing.T, status int, method, url, body string, header ...string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	tr := &http.Transport{DisableKeepAlives: true}
	resp, err := tr.RoundTrip(r) // no redirect is followed
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != status {
		t.Fatalf("%s %s: %s, %v, want %d\n%s", method, url, resp.Status, err, status, b)
	}
	return resp, string(b)
}

// location returns the URL to which an answer leads.
func location(t *testing.T, resp *http.Response) string {
	t.Helper()
	u, err := resp.Location()
	if err != nil {
		t.Fatal(err)
	}
	return u.String()
}

// must runs a program that must succeed, and returns what it prints.
func must(t *testing.T, env []string, path string, args ...string) string {
	t.Helper()
	o := run(t, env, "", path, args...)
	if o.code != 0 {
		t.Fatalf("%s %q: exit status %d\n%s%s", filepath.Base(path), args, o.code, o.stdout, o.stderr)
	}
	return o.stdout
}

// An upload as docker push makes it: each step goes where the step before said.
func recipeRegistry(t *testing.T) {
	path := program(t, "docker-registry")
	table.Program("docker-registry", version(t, path, "--version"))
	dir, port := t.TempDir(), freePorts(t, 1)[0]
	config := filepath.Join(dir, "config.yml")
	text := fmt.Sprintf("version: 0.1\nstorage: {filesystem: {rootdirectory: %s}}\nhttp: {addr: '127.0.0.1:%v'}\n", dir, port)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	start(t, regexp.MustCompile(`listening on`), path, "serve", config)
	base := below(t, port, tunnelclient.ProxyOptions{RewriteRedirects: true})
	ask(t, 200, "GET", base+"/v2/", "")
	push := func(blob string) string {
		digest := fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(blob)))
		resp, _ := ask(t, 202, "POST", base+"/v2/app/blobs/uploads/", "")
		resp, _ = ask(t, 202, "PATCH", location(t, resp), blob, "Content-Type", "application/octet-stream")
		resp, _ = ask(t, 201, "PUT", location(t, resp)+"&digest="+url.QueryEscape(digest), "")
		if _, got := ask(t, 200, "GET", location(t, resp), ""); got != blob {
			t.Errorf("the blob came back as %q", got)
		}
		return fmt.Sprintf(`"digest":%q,"size":%d`, digest, len(blob))
	}
	manifest := fmt.Sprintf(`{"schemaVersion":2,"mediaType":"application/vnd.docker.distribution.manifest.v2+json","config":{"mediaType":"application/vnd.docker.container.image.v1+json",%s},"layers":[{"mediaType":"application/vnd.docker.image.rootfs.diff.tar.gzip",%s}]}`,
		push("{}"), push(strings.Repeat("layer", 1<<16)))
	for _, tag := range []string{"a", "b"} {
		resp, _ := ask(t, 201, "PUT", base+"/v2/app/manifests/"+tag, manifest, "Content-Type", "application/vnd.docker.distribution.manifest.v2+json")
		ask(t, 200, "GET", location(t, resp), "", "Accept", "application/vnd.docker.distribution.manifest.v2+json")
	}
}

func recipeFossil(t *testing.T) {
	path := program(t, "fossil")
	table.Program("Fossil", version(t, path, "version"))
	dir, port := t.TempDir(), freePorts(t, 1)[0]
	env := []string{"HOME=" + dir, "USER=ann"}
	repository := filepath.Join(dir, "app.fossil")
	must(t, env, path, "init", "-A", "ann", repository)
	must(t, env, path, "user", "password", "ann", "secret", "-R", repository)
	base := below(t, port, tunnelclient.ProxyOptions{})
	start(t, regexp.MustCompile(`Listening for HTTP`), "/usr/bin/env", env[0], path, "server", "--port", fmt.Sprint(port), "--localhost", "--baseurl", base, repository)

	resp, _ := ask(t, 302, "GET", base+"/", "")
	if _, page := ask(t, 200, "GET", location(t, resp), ""); !strings.Contains(page, base+"/") || strings.Contains(page, `href="/style.css`) {
		t.Errorf("the start page has other links: %s", page)
	}
	u, err := url.Parse(base)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword("ann", "secret")
	clone := filepath.Join(dir, "clone.fossil")
	must(t, env, path, "clone", u.String(), clone)
	work := filepath.Join(dir, "work")
	must(t, env, path, "open", clone, "--workdir", work, "--nosync")
	if err := os.WriteFile(filepath.Join(work, "file"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	must(t, env, path, "add", "--chdir", work, "file")
	must(t, env, path, "commit", "--chdir", work, "-m", "a change", "--no-warnings", "--nosync")
	must(t, env, path, "push", u.String(), "--once", "-R", clone)
	if log := must(t, env, path, "timeline", "-R", repository); !strings.Contains(log, "a change") {
		t.Errorf("the commit did not arrive: %s", log)
	}
}

func recipeRadicale(t *testing.T) {
	path := program(t, "radicale")
	table.Program("Radicale", version(t, path, "--version"))
	port := freePorts(t, 1)[0]
	start(t, regexp.MustCompile(`server ready|Listening on`), path, "--config", "", "--server-hosts", fmt.Sprintf("127.0.0.1:%v", port), "--storage-filesystem-folder", t.TempDir(), "--auth-type", "none", "--logging-level", "info")
	base := below(t, port, tunnelclient.ProxyOptions{RequestHeader: http.Header{"X-Script-Name": {"/team-app"}}})
	resp, _ := ask(t, 302, "GET", base+"/", "")
	if got := location(t, resp); got != base+"/.web" {
		t.Errorf("redirected to %s", got)
	}
	const user = "Basic dTpw" // u:p
	ask(t, 201, "MKCALENDAR", base+"/u/c/", "", "Authorization", user)
	ask(t, 201, "PUT", base+"/u/c/e.ics", "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:x\r\nBEGIN:VEVENT\r\nUID:e\r\nDTSTAMP:20260101T000000Z\r\nDTSTART:20260101T000000Z\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n", "Authorization", user)
	_, found := ask(t, 207, "PROPFIND", base+"/u/c/", "", "Authorization", user, "Depth", "1")
	if !strings.Contains(found, "<href>/team-app/u/c/e.ics</href>") {
		t.Errorf("found %s", found)
	}
	ask(t, 201, "MOVE", base+"/u/c/e.ics", "", "Authorization", user, "Destination", base+"/u/c/f.ics")
}

func recipeSubversion(t *testing.T) {
	svn, admin := program(t, "svn"), program(t, "svnadmin")
	table.Program("Subversion", version(t, svn, "--version"))
	if _, err := os.Stat("/usr/lib/apache2/modules/mod_dav_svn.so"); err != nil {
		harness.Missing(t, "mod_dav_svn")
	}
	dir := files(t)
	repository := filepath.Join(dir, "repository")
	must(t, nil, admin, "create", repository)
	must(t, nil, "/bin/chmod", "-R", "a+rwX", repository)
	ports := runApache(t, dir, []string{"dav", "dav_svn"}, fmt.Sprintf(`
<Location /team-app>
	DAV svn
	SVNPath %s
	Require all granted
</Location>
`, repository))
	base := below(t, ports[0], tunnelclient.ProxyOptions{KeepPrefix: true})
	work := filepath.Join(t.TempDir(), "work")
	config := "--config-dir=" + t.TempDir()
	must(t, nil, svn, config, "checkout", base, work)
	if err := os.WriteFile(filepath.Join(work, "file"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	must(t, nil, svn, config, "add", filepath.Join(work, "file"))
	must(t, nil, svn, config, "commit", "-m", "a change", work)
	must(t, nil, svn, config, "copy", "-m", "a copy", base+"/file", base+"/copy")
	must(t, nil, svn, config, "update", work)
	if got, err := os.ReadFile(filepath.Join(work, "copy")); err != nil || string(got) != string(text) {
		t.Errorf("the copy has %d bytes, %v", len(got), err)
	}
	if log := must(t, nil, svn, config, "log", base); !strings.Contains(log, "a change") || !strings.Contains(log, "a copy") {
		t.Errorf("log %s", log)
	}
}

func recipeTransmission(t *testing.T) {
	path := program(t, "transmission-daemon")
	table.Program("Transmission", version(t, path, "-V"))
	port := freePorts(t, 1)[0]
	start(t, regexp.MustCompile(`Serving RPC and Web`), path, "--foreground", "--config-dir", t.TempDir(), "--port", fmt.Sprint(port), "--rpc-bind-address", "127.0.0.1", "--no-auth", "--no-portmap", "--no-dht", "--no-lpd", "--no-utp", "--peerport", fmt.Sprint(freePorts(t, 1)[0]))
	base := below(t, port, tunnelclient.ProxyOptions{RewriteRedirects: true, HostHeader: "localhost"})
	resp, _ := ask(t, 301, "GET", base+"/", "")
	web := location(t, resp)
	if web != base+"/transmission/web/" {
		t.Errorf("redirected to %s", web)
	}
	_, page := ask(t, 200, "GET", web, "")
	if strings.Contains(page, `src="/`) {
		t.Errorf("the page has absolute paths: %s", page)
	}
	resp, _ = ask(t, 409, "POST", base+"/transmission/rpc", "{}")
	_, session := ask(t, 200, "POST", base+"/transmission/rpc", `{"method":"session-get"}`, "X-Transmission-Session-Id", resp.Header.Get("X-Transmission-Session-Id"))
	if !strings.Contains(session, `"result":"success"`) {
		t.Errorf("session %s", session)
	}
}

// Of one port etcd serves gRPC and, over HTTP/1.1, JSON for browsers.
func recipeEtcd(t *testing.T) {
	path := program(t, "etcd")
	table.Program("etcd", version(t, path, "--version"))
	ports := freePorts(t, 2)
	clients, peers := fmt.Sprintf("http://127.0.0.1:%v", ports[0]), fmt.Sprintf("http://127.0.0.1:%v", ports[1])
	start(t, regexp.MustCompile(`ready to serve client requests`), path, "--data-dir", t.TempDir(), "--listen-client-urls", clients, "--advertise-client-urls", clients,
		"--listen-peer-urls", peers, "--initial-advertise-peer-urls", peers, "--initial-cluster", "default="+peers)
	base := below(t, ports[0], tunnelclient.ProxyOptions{})
	ask(t, 200, "POST", base+"/v3/kv/put", `{"key":"YQ==","value":"Yg=="}`)
	if _, got := ask(t, 200, "POST", base+"/v3/kv/range", `{"key":"YQ=="}`); !strings.Contains(got, `"value":"Yg=="`) {
		t.Errorf("read %s", got)
	}
}

func recipeRclone(t *testing.T) {
	path := program(t, "rclone")
	table.Program("rclone", version(t, path, "version"))
	dir, port := t.TempDir(), freePorts(t, 1)[0]
	env := []string{"RCLONE_CONFIG=" + filepath.Join(t.TempDir(), "rclone.conf")}
	start(t, regexp.MustCompile(`WebDav Server started`), path, "serve", "webdav", dir, "--addr", fmt.Sprintf("127.0.0.1:%v", port), "--baseurl", "/team-app")
	base := below(t, port, tunnelclient.ProxyOptions{KeepPrefix: true})
	local := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(local, text, 0o600); err != nil {
		t.Fatal(err)
	}
	remote := func(name string) string { return ":webdav,url='" + base + "':" + name }
	must(t, env, path, "copyto", local, remote("sub/file"))
	must(t, env, path, "moveto", remote("sub/file"), remote("moved"))
	if got := must(t, env, path, "cat", remote("moved")); got != string(text) {
		t.Errorf("the file has %d bytes", len(got))
	}
	if got := must(t, env, path, "lsf", remote("")); !strings.Contains(got, "moved\n") {
		t.Errorf("found %q", got)
	}
}

// An upload in two parts, each to where the server said.
func recipeTus(t *testing.T) {
	path := node(t)
	dir := t.TempDir()
	port := start(t, regexp.MustCompile(`listening (\d+)`), path, "testdata/node/tus.mjs", dir)[1]
	base := below(t, port, tunnelclient.ProxyOptions{RewriteRedirects: true})
	resp, _ := ask(t, 201, "POST", base+"/files", "", "Tus-Resumable", "1.0.0", "Upload-Length", "6")
	upload := location(t, resp)
	if !strings.HasPrefix(upload, base+"/files/") {
		t.Errorf("the upload is at %s", upload)
	}
	for offset, part := range []string{"abc", "def"} {
		offset := fmt.Sprint(offset * 3)
		resp, _ := ask(t, 200, "HEAD", upload, "", "Tus-Resumable", "1.0.0")
		if got := resp.Header.Get("Upload-Offset"); got != offset {
			t.Errorf("offset %q, want %q", got, offset)
		}
		ask(t, 204, "PATCH", upload, part, "Tus-Resumable", "1.0.0", "Upload-Offset", offset, "Content-Type", "application/offset+octet-stream")
	}
	if b, err := os.ReadFile(filepath.Join(dir, filepath.Base(upload))); err != nil || string(b) != "abcdef" {
		t.Errorf("the file is %q, %v", b, err)
	}
}

// noVNC's page, and a VNC server's first words through websockify.
func recipeNoVNC(t *testing.T) {
	path := program(t, "websockify")
	table.Program("websockify", version(t, path, "--version"))
	const pages = "/usr/share/novnc"
	if _, err := os.Stat(pages); err != nil {
		harness.Missing(t, pages)
	}
	const greeting = "RFB 003.008\n"
	vnc := tunneltest.Listen(t)
	served := make(chan struct{})
	go func() {
		defer close(served)
		conn, err := vnc.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		io.WriteString(conn, greeting)
		io.Copy(io.Discard, conn)
	}()
	t.Cleanup(func() { vnc.Close(); <-served })
	port := freePorts(t, 1)[0]
	start(t, regexp.MustCompile(`proxying from`), "/usr/bin/env", "PYTHONUNBUFFERED=1", path, "--web", pages, fmt.Sprintf("127.0.0.1:%v", port), vnc.Addr().String())
	base := below(t, port, tunnelclient.ProxyOptions{})
	if _, page := ask(t, 200, "GET", base+"/vnc.html?path=team-app/websockify", ""); strings.Contains(page, `src="/`) {
		t.Errorf("the page has absolute paths: %s", page)
	}
	ws, _, err := websocket.Dial(t.Context(), base+"/websockify", &websocket.DialOptions{Subprotocols: []string{"binary"}})
	if err != nil {
		t.Fatal(err)
	}
	defer ws.CloseNow()
	if _, got, err := ws.Read(t.Context()); err != nil || string(got) != greeting {
		t.Errorf("got %q, %v", got, err)
	}
}
