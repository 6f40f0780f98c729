package reliability

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/websocktunnel/websocktunnel/internal/tunneltest"
	"github.com/websocktunnel/websocktunnel/server"
	"github.com/websocktunnel/websocktunnel/tunnelclient"
)

// A crowd is many tunnel clients in a process of their own: with the service
// in the same one, each tunnel would need two of its file descriptors. The
// process is this test program with crowdAddr and crowdSize in its environment.
const (
	crowdAddr = "WST_CROWD_ADDR" // of the service
	crowdSize = "WST_CROWD_SIZE"
)

// startCrowd starts n tunnel clients named t0, t1, …, and returns what stops
// them in good order. They connect 200 at a time.
func startCrowd(t *testing.T, s *service, n int) (stop func()) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), crowdAddr+"="+s.Addr, crowdSize+"="+strconv.Itoa(n))
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	stop = sync.OnceFunc(func() {
		stdin.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("the tunnel clients' process: %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// runCrowd is the process of a crowd. It ends with its standard input.
func runCrowd() error {
	if _, err := raiseOpenFiles(); err != nil {
		return err
	}
	n, err := strconv.Atoi(os.Getenv(crowdSize))
	if err != nil {
		return fmt.Errorf("%s: %w", crowdSize, err)
	}
	dial := dialTo(os.Getenv(crowdAddr))
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	failed := make(chan error, n)
	turns := make(chan struct{}, 200)
	running.Go(func() {
		for i := range n {
			select {
			case turns <- struct{}{}:
			case <-ctx.Done():
				return
			}
			connected := sync.OnceFunc(func() { <-turns })
			c, err := crowdClient(fmt.Sprint("t", i), dial, connected)
			if err != nil {
				failed <- err
				return
			}
			running.Go(func() {
				if err := c.Serve(ctx, http.HandlerFunc(answerOK)); err != nil {
					failed <- err
				}
			})
		}
	})
	over := make(chan struct{})
	go func() {
		io.Copy(io.Discard, os.Stdin)
		close(over)
	}()
	select {
	case err = <-failed:
	case <-over:
	}
	cancel()
	running.Wait()
	return err
}

func answerOK(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok") }

func crowdClient(id string, dial dialFunc, connected func()) (*tunnelclient.Client, error) {
	token, err := server.MintToken(tunneltest.Secret, server.Claims{ID: id, TTL: time.Hour})
	if err != nil {
		return nil, err
	}
	return tunnelclient.New(tunnelclient.Config{
		ServerURL: "http://localhost", ID: id, Tokens: tunnelclient.StaticToken(token),
		HTTPClient: &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: dial}},
		Logger:     zerolog.Nop(),
		OnStateChange: func(st tunnelclient.State) {
			if st.Phase == tunnelclient.PhaseConnected {
				connected()
			}
		},
	})
}
