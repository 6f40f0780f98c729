package e2e

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/http2/hpack"

	"github.com/websocktunnel/websocktunnel/internal/tunneltest"
	"github.com/websocktunnel/websocktunnel/server"
)

// exampleBlock is a header block of docs/protocol.md, section 12.
type exampleBlock struct {
	bytes  []byte
	fields []string // "name: value", as the document says what the bytes mean
	more   string   // which headers are left out; empty if none are
	length int      // of the frame; -1 if the document leaves it out
}

// exampleBlocks returns the header blocks below the heading, those of the service
// (S) and those of the tunnel client (C) apart.
func exampleBlocks(t *testing.T, heading string) (blocks map[byte][]exampleBlock) {
	t.Helper()
	doc, err := os.ReadFile("../../docs/protocol.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, ok := strings.Cut(string(doc), "\n### "+heading)
	if !ok {
		t.Fatalf("docs/protocol.md has no section %s", heading)
	}
	text, _, _ = strings.Cut(text, "\n### ")
	blocks = make(map[byte][]exampleBlock)
	var b *exampleBlock
	var who byte
	flush := func() {
		if b != nil && len(b.bytes) > 0 {
			blocks[who] = append(blocks[who], *b)
		}
		b = nil
	}
	hexes := func(s string) []byte {
		p, err := hex.DecodeString(strings.NewReplacer(" ", "", "|", "").Replace(s))
		if err != nil {
			t.Fatalf("%s: %q: %v", heading, s, err)
		}
		return p
	}
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		words := strings.Fields(line)
		switch {
		case !strings.HasPrefix(line, "       "):
			flush()
			if strings.HasPrefix(line, "S:") || strings.HasPrefix(line, "C:") {
				who, words = line[0], words[1:]
			}
			if slices.Contains(words, "HEADERS,") {
				b = &exampleBlock{length: -1}
				if words[0] != "…" {
					n := hexes(strings.Join(words[:3], ""))
					b.length = int(n[0])<<16 | int(n[1])<<8 | int(n[2])
				}
			}
		case b == nil || len(words) == 0:
		case words[0] == "…":
			b.more = strings.Join(words[1:], " ")
		default:
			n := 0
			for n < len(words) && strings.Trim(words[n], "0123456789abcdef") == "" {
				n++
			}
			b.bytes = append(b.bytes, hexes(strings.Join(words[:n], ""))...)
			if note := strings.Join(words[n:], " "); strings.Contains(note, ": ") {
				b.fields = append(b.fields, note)
			}
		}
	}
	flush()
	return blocks
}

// TestProtocolExamples: the bytes in docs/protocol.md mean what stands beside them,
// and are what the service sends today.
func TestProtocolExamples(t *testing.T) {
	all := make(map[string]map[byte][]exampleBlock)
	for _, heading := range []string{"12.3", "12.5", "12.6", "12.7"} {
		all[heading] = exampleBlocks(t, heading)
		for who, blocks := range all[heading] {
			dec := hpack.NewDecoder(4096, nil)
			for i, b := range blocks {
				if who == 'C' {
					dec = hpack.NewDecoder(4096, nil) // each is the first of a connection
				}
				ff, err := dec.DecodeFull(b.bytes)
				if err != nil {
					t.Errorf("%s, block %d of %c: %v", heading, i, who, err)
				}
				var got []string
				for _, f := range ff {
					got = append(got, f.Name+": "+f.Value)
				}
				if !slices.Equal(got, b.fields) {
					t.Errorf("%s, block %d of %c: the bytes mean\n\t%s\nand the document says\n\t%s", heading, i, who, strings.Join(got, "\n\t"), strings.Join(b.fields, "\n\t"))
				}
				if b.more == "" && b.length != len(b.bytes) {
					t.Errorf("%s, block %d of %c: %d bytes, and the frame says %d", heading, i, who, len(b.bytes), b.length)
				}
			}
		}
	}

	handshake := "GET /build-42/ws HTTP/1.1\r\nHost: tunnel.example.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: chat\r\n\r\n"
	for _, tt := range []struct {
		heading, request string
	}{
		{"12.3", "GET /build-42/hello?x=1 HTTP/1.1\r\nHost: tunnel.example.com\r\nUser-Agent: curl/8.5.0\r\nAccept: */*\r\n\r\n"},
		{"12.6", handshake},
		{"12.7", "POST /build-42/up HTTP/1.1\r\nHost: tunnel.example.com\r\nConnection: Upgrade\r\nUpgrade: echo\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"},
	} {
		t.Run(tt.heading, func(t *testing.T) {
			s := tunneltest.NewService(t, server.Config{})
			seen := make(chan []string, 1)
			startMini(t, s, "build-42", func(st *miniStream) {
				list := []string{":authority: " + st.authority, ":method: " + st.method, ":path: " + st.path, ":scheme: http"}
				for k, vv := range st.header {
					list = append(list, fmt.Sprintf("%s: %s", strings.ToLower(k), vv[0]))
				}
				seen <- list
				st.answer("404", "")
			})
			c, err := net.Dial("tcp", strings.TrimPrefix(s.URL, "http://"))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			io.WriteString(c, tt.request)
			got := await(t, seen)
			if resp, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil || resp.StatusCode != http.StatusNotFound {
				t.Errorf("the viewer got %v, %v", resp, err)
			}
			b := all[tt.heading]['S'][0]
			for _, f := range b.fields {
				if !slices.Contains(got, f) {
					t.Errorf("the document has %q, and the service does not send it", f)
				}
			}
			for _, f := range got {
				name, _, _ := strings.Cut(f, ": ")
				leftOut := name == "cdn-loop" || name == "x-request-id" || name == "x-websocktunnel-request-id" || b.more != "" && (strings.HasPrefix(name, "x-forwarded-") || name == "forwarded" || name == "x-websocktunnel-original-path")
				if !leftOut && !slices.Contains(b.fields, f) {
					t.Errorf("the service sends %q, and the document does not have it", f)
				}
			}
		})
	}
}
