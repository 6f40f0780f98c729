package clients

import (
	"bufio"
	"crypto/sha256"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

// answer is all that a viewer sees of one.
type answer struct {
	status  int // without the reason, which is not carried: docs/compatibility.md
	header  http.Header
	body    string
	trailer http.Header
	interim []string
}

func (a answer) String() string {
	var b strings.Builder
	fmt.Fprintln(&b, strings.Join(a.interim, "\n"))
	fmt.Fprintln(&b, a.status)
	a.header.Write(&b)
	fmt.Fprintf(&b, "\n%.1000s\n%d bytes, %x\n", a.body, len(a.body), sha256.Sum256([]byte(a.body)))
	a.trailer.Write(&b)
	return b.String()
}

// finalStatus returns the status in an answer's String.
func finalStatus(s string) string { return onlyStatus.FindString(s) }

var onlyStatus = regexp.MustCompile(`(?m)^[2-5]\d\d$`)

// exchange makes a request and reads the whole answer.
func exchange(t testing.TB, v *http.Client, req *http.Request) answer {
	t.Helper()
	var a answer
	req = req.WithContext(httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
		Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
			var b strings.Builder
			http.Header(h).Write(&b)
			a.interim = append(a.interim, fmt.Sprint(code, "\n", b.String()))
			return nil
		},
	}))
	resp, err := v.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Error(err)
	}
	a.status, a.header, a.body, a.trailer = resp.StatusCode, resp.Header, string(body), resp.Trailer
	for _, name := range []string{"Connection", "Keep-Alive", "Upgrade"} { // hop by hop
		a.header.Del(name)
	}
	return a
}

// hammer makes many GETs, some at a time, none of which may fail.
func hammer(t *testing.T, url, want string) {
	t.Helper()
	v := viewer(t, "http/1.1")
	var mu sync.Mutex
	failures := map[string]int{}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 100 {
				resp, err := v.Get(url)
				if err != nil {
					t.Error(err)
					return
				}
				body, err := bufio.NewReader(resp.Body).Peek(len(want) + 1)
				resp.Body.Close()
				if string(body) != want {
					mu.Lock()
					failures[fmt.Sprint(resp.StatusCode, " ", resp.Header.Get("Proxy-Status"), " ", err)]++
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	for _, what := range slices.Sorted(maps.Keys(failures)) {
		t.Errorf("%d of 800 failed: %s", failures[what], what)
	}
}
