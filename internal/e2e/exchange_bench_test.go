package e2e_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/websocktunnel/websocktunnel/internal/tunneltest"
	"github.com/websocktunnel/websocktunnel/server"
	"github.com/websocktunnel/websocktunnel/tunnelclient"
)

// BenchmarkExchange is a request with an answer of 1 KiB, from a viewer whose
// own part costs next to nothing, through service, tunnel client and target, all
// in this process. Its figures are the cost of all of them together.
func BenchmarkExchange(b *testing.B) {
	b.Run("plain", func(b *testing.B) { benchmarkExchange(b, server.Config{}) })
	b.Run("metrics", func(b *testing.B) {
		m, err := server.NewMetrics(server.MetricsConfig{Registerer: prometheus.NewRegistry()})
		if err != nil {
			b.Fatal(err)
		}
		benchmarkExchange(b, server.Config{Metrics: m})
	})
	b.Run("record", func(b *testing.B) {
		benchmarkExchange(b, server.Config{RequestDone: func(*server.RequestInfo) {}})
	})
}

func benchmarkExchange(b *testing.B, cfg server.Config) {
	svc := tunneltest.NewService(b, cfg)
	body := strings.Repeat("x", 1024)
	svc.Target("bench", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		_, _ = io.WriteString(w, body)
	}), tunnelclient.ProxyOptions{})
	b.ReportAllocs()
	b.SetParallelism(16)
	b.RunParallel(func(pb *testing.PB) {
		c, err := (&net.Dialer{}).DialContext(b.Context(), "tcp", svc.Addr)
		if err != nil {
			b.Error(err)
			return
		}
		defer c.Close()
		br := bufio.NewReader(c)
		request := []byte("GET /bench/ HTTP/1.1\r\nHost: " + svc.Addr + "\r\nUser-Agent: bench\r\n\r\n")
		for pb.Next() {
			if err := exchangeOnce(c, br, request); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

// exchangeOnce sends request and reads an answer that names its length.
func exchangeOnce(c net.Conn, br *bufio.Reader, request []byte) error {
	if _, err := c.Write(request); err != nil {
		return err
	}
	length := 0
	for {
		line, err := br.ReadSlice('\n')
		if err != nil {
			return err
		}
		if len(line) <= 2 {
			break
		}
		const name = "Content-Length: "
		if len(line) > len(name) && strings.EqualFold(string(line[:len(name)]), name) {
			length, err = strconv.Atoi(strings.TrimSpace(string(line[len(name):])))
			if err != nil {
				return err
			}
		}
	}
	_, err := br.Discard(length)
	return err
}
