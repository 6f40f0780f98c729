package tunnelclient

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
)

// TokenReader returns a source that reads tokens from r, typically standard
// input: each line is a token as soon as it has arrived, and replaces those
// before it. White space around it is removed; blank lines and lines longer
// than 64 KiB are skipped. When r ends after a token, that one stays for ever;
// when it ends before any, Token returns [ErrNoToken].
//
// The first call starts a goroutine that reads until r ends.
func TokenReader(r io.Reader) TokenUpdater {
	return &lineSource{r: r, changed: make(chan struct{})}
}

type lineSource struct {
	r     io.Reader
	start sync.Once

	mu      sync.Mutex
	token   string
	ended   error         // why there will be no further line; nil before
	changed chan struct{} // closed and replaced with every change of the above
}

var _ TokenUpdater = (*lineSource)(nil)

func (s *lineSource) Token(ctx context.Context) (string, error) {
	return s.NextToken(ctx, "")
}

func (s *lineSource) NextToken(ctx context.Context, current string) (string, error) {
	s.start.Do(func() { go s.read() })
	for {
		s.mu.Lock()
		token, ended, changed := s.token, s.ended, s.changed
		s.mu.Unlock()
		switch {
		case token != "" && token != current:
			return token, nil
		case ended != nil:
			return "", ended
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
}

// set changes the state and wakes all that wait.
func (s *lineSource) set(token string, ended error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if token != "" {
		s.token = token
	}
	if ended != nil {
		s.ended = ended
	}
	close(s.changed)
	s.changed = make(chan struct{})
}

// read runs in the source's own goroutine until r ends.
func (s *lineSource) read() {
	br := bufio.NewReaderSize(s.r, maxTokenBytes)
	seen, skipped := false, false
	for {
		line, err := br.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			skipped = true
			for errors.Is(err, bufio.ErrBufferFull) {
				_, err = br.ReadSlice('\n')
			}
			line = nil
		}
		if token := bytes.TrimSpace(line); len(token) > 0 {
			seen = true
			s.set(string(token), nil)
		}
		switch {
		case err == nil:
			continue
		case seen:
			s.set("", errors.New("the reader of tokens has ended"))
		case !errors.Is(err, io.EOF):
			s.set("", fmt.Errorf("%w: reading failed: %w", ErrNoToken, err))
		case skipped:
			s.set("", fmt.Errorf("%w: the line was longer than %d bytes", ErrNoToken, maxTokenBytes))
		default:
			s.set("", fmt.Errorf("%w: the input ended before a line with a token", ErrNoToken))
		}
		return
	}
}
