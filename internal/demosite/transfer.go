package demosite

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"time"
)

const (
	defaultDownload = 50_000_000
	maxDownload     = 1 << 30
)

// received says what an upload brought.
type received struct {
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
	// Seconds is how long the body took, as the target saw it.
	Seconds float64 `json:"seconds"`
}

// serveUpload counts and hashes the body and keeps none of it.
func serveUpload(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	hash := sha256.New()
	size, err := io.Copy(hash, r.Body)
	if err != nil {
		http.Error(w, "the upload broke off", http.StatusBadRequest)
		return
	}
	writeJSON(w, http.StatusOK, received{
		Bytes:   size,
		SHA256:  hex.EncodeToString(hash.Sum(nil)),
		Seconds: time.Since(start).Seconds(),
	})
}

// serveDownload sends as many bytes as the query asks for.
func serveDownload(w http.ResponseWriter, r *http.Request) {
	size := int64(defaultDownload)
	if query := r.URL.Query(); query.Has("bytes") {
		var err error
		size, err = strconv.ParseInt(query.Get("bytes"), 10, 64)
		if err != nil || size < 0 || size > maxDownload {
			http.Error(w, fmt.Sprintf("bytes must be a number from 0 to %d", maxDownload), http.StatusBadRequest)
			return
		}
	}
	h := w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Content-Disposition", `attachment; filename="demo.bin"`)
	h.Set("Content-Length", strconv.FormatInt(size, 10))
	h.Set("Accept-Ranges", "none")
	if r.Method == http.MethodHead {
		return
	}
	for block := noise(); size > 0; {
		n, err := w.Write(block[:min(size, int64(len(block)))])
		if err != nil {
			return // The viewer has gone.
		}
		size -= int64(n)
	}
}

// noise is a block that no compression on the way makes smaller. It is always
// the same, so that a test can tell whether a download is whole.
var noise = sync.OnceValue(func() []byte {
	block := make([]byte, 256<<10)
	_, _ = rand.NewChaCha8([32]byte{}).Read(block) // It never fails.
	return block
})
