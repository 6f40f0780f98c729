package clients

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/coder/websocket"
)

// addedByService are the request headers that contract.md has the service add.
var addedByService = []string{
	"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Prefix", "X-Websocktunnel-Original-Path", "Cdn-Loop",
	"X-Websocktunnel-Request-Id", "X-Request-Id",
}

// text is what the site serves as a file.
var text = []byte(strings.Repeat("All happy families are alike. ", 2000))

// site is a target with a path for each thing that viewers here ask for. It
// never says when or where it answers, so that its answers can be compared.
func site() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/file", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Etag", `"v1"`)
		http.ServeContent(w, r, "file.txt", time.Unix(1e9, 0), bytes.NewReader(text))
	})
	mux.HandleFunc("/gzip", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Vary", "Accept-Encoding")
		w.Header().Set("Content-Type", "text/plain")
		if !strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
			w.Write(text)
			return
		}
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		z.Write(text)
		z.Close()
	})
	mux.HandleFunc("/status/{code}", func(w http.ResponseWriter, r *http.Request) {
		code, _ := strconv.Atoi(r.PathValue("code"))
		w.Header().Set("X-Odd", "a, b")
		w.Header().Add("X-Odd", "c")
		w.Header().Set("Www-Authenticate", `Basic realm="a"`)
		w.WriteHeader(code)
		if code >= 200 && code != http.StatusNoContent && code != http.StatusNotModified {
			fmt.Fprintln(w, "status", code)
		}
	})
	mux.HandleFunc("/redirect", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Location", r.Header.Get("X-Forwarded-Prefix")+"/echo/redirected")
		io.Copy(io.Discard, r.Body)
		code, _ := strconv.Atoi(r.URL.Query().Get("code"))
		w.WriteHeader(max(code, http.StatusFound))
	})
	mux.HandleFunc("/trailers", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Trailer", "X-Sum")
		fmt.Fprintln(w, "body")
		w.(http.Flusher).Flush() // else net/http finds the length, and with it no place for trailers
		w.Header().Set("X-Sum", "announced")
		w.Header().Set(http.TrailerPrefix+"X-Late", "not announced")
	})
	mux.HandleFunc("/hints", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Link", "</style.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		w.WriteHeader(http.StatusProcessing)
		fmt.Fprintln(w, "hinted")
	})
	mux.HandleFunc("/chunks", func(w http.ResponseWriter, _ *http.Request) {
		for i := range 5 {
			fmt.Fprintln(w, "chunk", i)
			w.(http.Flusher).Flush()
		}
	})
	// Refuses an upload without looking at it.
	mux.HandleFunc("/refuse", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusRequestEntityTooLarge)
		fmt.Fprintln(w, "too large")
	})
	mux.HandleFunc("/cookies", func(w http.ResponseWriter, r *http.Request) {
		http.SetCookie(w, &http.Cookie{Name: "seen", Value: "1"})
		fmt.Fprintf(w, "%q\n", r.Header["Cookie"])
	})
	mux.HandleFunc("/auth", func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); user != "u" || password != "p" {
			w.Header().Set("Www-Authenticate", `Basic realm="site"`)
			w.WriteHeader(http.StatusUnauthorized)
		}
	})
	mux.HandleFunc("/broken", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		w.Write([]byte("ten bytes."))
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	})
	mux.HandleFunc("/ws", echoMessages)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header()["Date"] = nil
		if strings.HasPrefix(r.URL.Path, "/echo/") {
			echo(w, r) // past the mux, which redirects paths that are not clean
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// echo answers with the request as it came, without what the service adds.
func echo(w http.ResponseWriter, r *http.Request) {
	hash := sha256.New()
	n, err := io.Copy(hash, r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	// HTTP/2 tells these in other ways, and hop by hop.
	for _, name := range append(addedByService, "Connection", "Te", "Upgrade", "Http2-Settings") {
		r.Header.Del(name)
	}
	b, _ := json.MarshalIndent(struct {
		Method, Target, Host string
		Header, Trailer      http.Header
		ContentLength, Bytes int64
		SHA256               string
	}{r.Method, r.RequestURI, r.Host, r.Header, r.Trailer, r.ContentLength, n, fmt.Sprintf("%x", hash.Sum(nil))}, "", " ")
	w.Header().Set("Content-Type", "application/json")
	w.Write(append(b, '\n'))
}

// echoMessages is a websocket echo server. The message "close CODE REASON"
// closes it, "drop" breaks it off.
func echoMessages(w http.ResponseWriter, r *http.Request) {
	if r.URL.Query().Has("refuse") {
		w.Header().Set("Www-Authenticate", `Bearer realm="ws"`)
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprintln(w, "refused")
		return
	}
	http.SetCookie(w, &http.Cookie{Name: "ws", Value: "1"})
	c, err := websocket.Accept(w, r, &websocket.AcceptOptions{
		InsecureSkipVerify: true,
		Subprotocols:       []string{"chat.v2", "chat.v1"},
		CompressionMode:    websocket.CompressionContextTakeover,
	})
	if err != nil {
		return
	}
	defer c.CloseNow()
	if r.URL.Query().Has("hello") { // for viewers that only listen
		c.Write(r.Context(), websocket.MessageText, []byte("hello"))
		return
	}
	c.SetReadLimit(-1)
	for {
		kind, p, err := c.Read(r.Context())
		if err != nil {
			return
		}
		words := strings.SplitN(string(p), " ", 3)
		switch {
		case words[0] == "close" && len(words) == 3:
			code, _ := strconv.Atoi(words[1])
			c.Close(websocket.StatusCode(code), words[2])
			return
		case words[0] == "drop":
			return
		}
		if c.Write(r.Context(), kind, p) != nil {
			return
		}
	}
}

// sortedLines puts the header lines of one or more messages into an order
// that can be compared: the service sorts by name.
func sortedLines(block string) string {
	var out []string
	for message := range strings.SplitSeq(strings.ReplaceAll(block, "\r\n", "\n"), "\n\n") {
		lines := strings.Split(strings.TrimSpace(message), "\n")
		if len(lines) > 1 {
			for i, line := range lines[1:] {
				name, value, _ := strings.Cut(line, ":")
				lines[1+i] = strings.ToLower(name) + ":" + value
			}
			slices.SortStableFunc(lines[1:], func(a, b string) int {
				na, _, _ := strings.Cut(a, ":")
				nb, _, _ := strings.Cut(b, ":")
				return strings.Compare(na, nb)
			})
		}
		out = append(out, strings.Join(lines, "\n"))
	}
	return strings.Join(out, "\n\n")
}
