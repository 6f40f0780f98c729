package target

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// gRPC's statuses for a stream that was cancelled:
// https://github.com/grpc/grpc/blob/master/doc/statuscodes.md
const (
	grpcCancelled        = "1"
	grpcDeadlineExceeded = "4"
)

// answerCancelledGRPC answers a gRPC request whose target has cancelled its
// stream without an answer, and reports whether this is one. gRPC servers do so
// at the deadline that the request names. The viewer sees that deadline at the
// same moment, and would take a 502 that is faster for another failure.
func answerCancelledGRPC(w *writer, r *http.Request, err error) bool {
	var reset streamError
	if !strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") ||
		!errors.As(err, &reset) || reset.Code != codeCancel {
		return false
	}
	status, message := grpcCancelled, "the target cancelled the stream"
	if r.Header.Get("Grpc-Timeout") != "" {
		status, message = grpcDeadlineExceeded, "the target cancelled the stream at the deadline"
	}
	h := w.Header()
	clear(h)
	h.Set("Content-Type", "application/grpc")
	h.Set("Grpc-Status", status)
	h.Set("Grpc-Message", message)
	w.expect(0, true) // all in one frame, as gRPC wants it
	w.WriteHeader(http.StatusOK)
	return true
}

// Error codes of HTTP/2 (RFC 9113, section 7).
const (
	codeRefusedStream = 7
	codeCancel        = 8
)

// streamError is filled by [errors.As] from the errors of net/http's HTTP/2 about
// a single stream. Their type is not exported, but has an As for structs like it.
type streamError struct {
	StreamID uint32
	Code     uint32
	Cause    error
}

func (e streamError) Error() string {
	return fmt.Sprintf("HTTP/2 stream %d: error code %d", e.StreamID, e.Code)
}
