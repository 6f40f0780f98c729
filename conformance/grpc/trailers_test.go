package grpc

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc/codes"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// TestTrailersOnly makes 1,000 calls that fail before the target has sent
// anything else: each answer is one HEADERS frame that ends the stream, and
// must arrive with its own status, message and details.
func TestTrailersOnly(t *testing.T) {
	const workers = 20
	everyWay(t, func(t *testing.T, e *env) {
		next := make(chan int)
		var done sync.WaitGroup
		for range workers {
			done.Go(func() {
				for i := range next {
					if err := e.failOne(t, i); err != nil {
						t.Errorf("call %d: %v", i, err)
					}
				}
			})
		}
		for i := range times(1000) {
			next <- i
		}
		close(next)
		done.Wait()
	})
}

// failOne makes call i, unary or of a stream, and compares its status.
func (e *env) failOne(t *testing.T, i int) error {
	ctx := callContext(t)
	if i%4 == 3 { // a stream, refused
		message := fmt.Sprint("refusal ", i)
		s, err := e.conn.NewStream(metadata.AppendToOutgoingContext(ctx, "message", message), refuseDesc, methodRefuse)
		if err != nil {
			return err
		}
		if err := s.CloseSend(); err != nil {
			return err
		}
		err = s.RecvMsg(new(testpb.Payload))
		if st := status.Convert(err); st.Code() != codes.ResourceExhausted || st.Message() != message {
			return fmt.Errorf("it failed with %w", err)
		}
		return nil
	}
	in := &testpb.EchoStatus{
		Code:    int32(1 + i%16),
		Message: fmt.Sprintf("message %d, %s", i, []string{"", "100 %", "Unicode ☺ 😈", "\r\n\t", strings.Repeat("long ", 400)}[i%5]),
	}
	want := failure(in)
	err := e.conn.Invoke(ctx, methodFail, in, new(testpb.EchoStatus))
	if err == nil {
		return errors.New("it did not fail")
	}
	if got := status.Convert(err); !proto.Equal(got.Proto(), want.Proto()) {
		return fmt.Errorf("status is %v, want %v", got.Proto(), want.Proto())
	}
	return nil
}

// TestTrailersOnlyFrames looks at such an answer without gRPC: it is the same
// as without a tunnel, down to there being no body at all.
func TestTrailersOnlyFrames(t *testing.T) {
	everyWay(t, func(t *testing.T, e *env) {
		in := &testpb.EchoStatus{Code: int32(codes.NotFound), Message: "no such thing"}
		m, err := proto.Marshal(in)
		if err != nil {
			t.Fatal(err)
		}
		body := append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(m))), m...)
		req, err := http.NewRequestWithContext(callContext(t), http.MethodPost, e.url(methodFail), bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/grpc")
		req.Header.Set("Te", "trailers")
		resp, err := e.roundTripper(t).RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Errorf("status is %s", resp.Status)
		}
		got := resp.Header
		if e.target == "handler" { // grpc-go flushes before it sets them
			if b, err := io.ReadAll(resp.Body); err != nil || len(b) > 0 {
				t.Errorf("body is %q, %v", b, err)
			}
			got = resp.Trailer
		} else if resp.ContentLength != 0 {
			t.Error("the stream did not end with the header")
		}
		names := map[string]bool{}
		for name := range maps.Keys(got) {
			names[name] = true
		}
		want := map[string]bool{"Grpc-Status": true, "Grpc-Message": true, "Grpc-Status-Details-Bin": true}
		if e.target != "handler" {
			want["Content-Type"] = true
		}
		if !maps.Equal(names, want) {
			t.Errorf("fields are %v", got)
		}
		if s, m := got.Get("Grpc-Status"), got.Get("Grpc-Message"); s != "5" || m != in.Message {
			t.Errorf("status %q, message %q", s, m)
		}
	})
}
