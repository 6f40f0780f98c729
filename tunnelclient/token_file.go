package tunnelclient

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// tokenFilePoll is how often a token file is looked at for a change.
const tokenFilePoll = 3 * time.Second

// TokenFile returns a source that reads the token from the file at path. The
// file is read again before every attempt, and every few seconds while a
// session lives, so that it does not matter whether a new token is written
// into it, renamed over it, or appears behind a symbolic link as in a mounted
// Kubernetes secret. White space around the token is removed.
//
// While the file is absent or empty, Token returns an error that is retried.
// To replace a token, rename a new file over the old one: a file caught half
// written is a wrong token.
func TokenFile(path string) TokenUpdater {
	return &fileSource{path: path, poll: tokenFilePoll}
}

type fileSource struct {
	path string
	poll time.Duration
}

var _ TokenUpdater = (*fileSource)(nil)

func (s *fileSource) Token(context.Context) (string, error) {
	// A pipe would block, and be empty the second time.
	if info, err := os.Stat(s.path); err != nil {
		return "", err
	} else if !info.Mode().IsRegular() {
		return "", fmt.Errorf("token file %q is not a regular file", s.path)
	}
	f, err := os.Open(s.path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxTokenBytes+1))
	if err != nil {
		return "", err
	}
	if len(b) > maxTokenBytes {
		return "", fmt.Errorf("token file %q has more than %d bytes", s.path, maxTokenBytes)
	}
	token := strings.TrimSpace(string(b))
	if token == "" {
		return "", fmt.Errorf("token file %q is empty", s.path)
	}
	return token, nil
}

func (s *fileSource) NextToken(ctx context.Context, current string) (string, error) {
	for {
		// An error may be a moment of the file's replacement.
		if token, err := s.Token(ctx); err == nil && token != current {
			return token, nil
		}
		if !sleep(ctx, s.poll) {
			return "", ctx.Err()
		}
	}
}
