package server_test

import (
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"time"

	"github.com/websocktunnel/websocktunnel/server"
)

// A service on a listener of its own.
func Example() {
	secret := []byte("at least 32 bytes, from a secret store")
	srv, err := server.New(server.Config{
		PublicURL: "https://tunnel.example.com",
		Secrets:   [][]byte{secret},
	})
	if err != nil {
		log.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() {
		if err := srv.Serve(ln); !errors.Is(err, server.ErrServerClosed) {
			log.Print(err)
		}
	}()
	defer srv.Close()

	resp, err := http.Get("http://" + ln.Addr().String() + "/__heartbeat__")
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
	defer http.DefaultClient.CloseIdleConnections()
	b, _ := io.ReadAll(resp.Body)
	fmt.Printf("%d %s", resp.StatusCode, b)
	// Output: 200 ok
}

// Go code in the process of the service reaches a tunnel without going
// through the network.
func ExampleServer_RoundTripper() {
	srv, err := server.New(server.Config{
		PublicURL: "https://tunnel.example.com",
		Secrets:   [][]byte{[]byte("at least 32 bytes, from a secret store")},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer srv.Close()

	client := &http.Client{Transport: srv.RoundTripper("build-42")}
	resp, err := client.Get("http://build-42/status")
	if errors.Is(err, server.ErrNoTunnel) {
		fmt.Println("build-42 is not connected")
		return
	}
	if err != nil {
		log.Fatal(err)
	}
	resp.Body.Close()
	// Output: build-42 is not connected
}

// Whoever holds the secret makes tokens.
func ExampleMintToken() {
	token, err := server.MintToken([]byte("at least 32 bytes, from a secret store"), server.Claims{
		ID:  "build-42",
		TTL: time.Hour,
	})
	if err != nil {
		log.Fatal(err)
	}
	_ = token // give it to the tunnel client, as WST_TOKEN for example

	_, err = server.MintToken([]byte("at least 32 bytes, from a secret store"), server.Claims{ID: "build 42", TTL: time.Hour})
	fmt.Println(err)
	// Output: server: Claims.ID "build 42": it has a character outside A-Z a-z 0-9 _ ~ . % -
}
