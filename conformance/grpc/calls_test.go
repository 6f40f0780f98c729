package grpc

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	"github.com/websocktunnel/websocktunnel/conformance/internal/harness"
	"github.com/websocktunnel/websocktunnel/internal/tunneltest"
	"github.com/websocktunnel/websocktunnel/tunnelclient"
)

// TestDeadline: the target knows the viewer's deadline, and both end by it.
// The target's timer begins later and so ends later, but on a busy machine the
// viewer's may be late, and what the target's reset becomes is a 502.
func TestDeadline(t *testing.T) {
	everyWay(t, func(t *testing.T, e *env) {
		// Connections are made first: that may take a part of the time.
		if err := e.conn.Invoke(t.Context(), "/grpc.testing.TestService/EmptyCall", &testpb.Empty{}, &testpb.Empty{}); err != nil {
			t.Fatal(err)
		}
		timeout := 400 * time.Millisecond
		call := func() error {
			ctx, cancel := context.WithTimeout(t.Context(), timeout)
			defer cancel()
			return e.conn.Invoke(ctx, methodWait, &testpb.Empty{}, &testpb.Empty{})
		}
		err := call()
		for attempt := 0; attempt < 3 && status.Code(err) == codes.Unavailable; attempt++ {
			t.Logf("the viewer's timer was late: %v", err)
			receive(t, e.arrived, "the call at the target")
			receive(t, e.left, "the end of the call at the target")
			err = call()
		}
		if status.Code(err) != codes.DeadlineExceeded {
			t.Errorf("the viewer got %v", err)
		}
		at := receive(t, e.arrived, "the call at the target")
		if deadline, ok := at.Deadline(); !ok {
			t.Error("the target has no deadline")
		} else if left := time.Until(deadline); left > timeout {
			t.Errorf("the target's deadline is %v away", left)
		}
		receive(t, e.left, "the end of the call at the target")
	})
}

// TestCancel: when the viewer cancels, the target's context ends, whether
// nothing has been sent yet or a stream is under way.
func TestCancel(t *testing.T) {
	everyWay(t, func(t *testing.T, e *env) {
		t.Run("unary", func(t *testing.T) {
			ctx, cancel := context.WithCancel(callContext(t))
			done := make(chan error, 1)
			go func() { done <- e.conn.Invoke(ctx, methodWait, &testpb.Empty{}, &testpb.Empty{}) }()
			receive(t, e.arrived, "the call at the target")
			cancel()
			if err := receive(t, done, "the end at the viewer"); status.Code(err) != codes.Canceled {
				t.Errorf("the viewer got %v", err)
			}
			if err := receive(t, e.left, "the end at the target"); !errors.Is(err, context.Canceled) {
				t.Errorf("the target got %v", err)
			}
		})
		t.Run("stream", func(t *testing.T) {
			ctx, cancel := context.WithCancel(metadata.AppendToOutgoingContext(callContext(t), "report", "1"))
			s := openMirror(t, ctx, e.conn)
			receive(t, e.arrived, "the call at the target")
			s.exchange(t, []byte("before"))
			cancel()
			if err := s.RecvMsg(new(testpb.Payload)); status.Code(err) != codes.Canceled {
				t.Errorf("the viewer got %v", err)
			}
			if err := receive(t, e.left, "the end at the target"); !errors.Is(err, context.Canceled) {
				t.Errorf("the target got %v", err)
			}
		})
	})
}

// TestMetadata: headers and trailers of every allowed form in both directions.
func TestMetadata(t *testing.T) {
	everyByte := make([]byte, 256)
	for i := range everyByte {
		everyByte[i] = byte(i)
	}
	random := make([]byte, 8<<10)
	rand.Read(random)
	for _, tc := range []struct {
		name   string
		key    string
		values []string
	}{
		{"plain", "x", []string{"value"}},
		{"empty", "x", []string{""}},
		{"repeated", "x", []string{"b", "a", "b", ""}},
		{"commas and quotes", "x", []string{`a, b;q="1,2"`, `\`}},
		{"printable", "x", []string{"!\"#$%&'()*+,-./09:;<=>?@AZ[\\]^_`az{|}~"}},
		{"inner spaces", "x", []string{"a  b"}},
		{"name of every kind", "a0_-.z", []string{"v"}},
		{"binary", "x-bin", []string{string(everyByte)}},
		{"binary empty", "x-bin", []string{""}},
		{"binary repeated", "x-bin", []string{"\x00", "\xff\xfe", "a,b"}},
		{"binary large", "x-bin", []string{string(random)}},
		{"large", "x", []string{strings.Repeat("v", 16<<10)}},
		{"many", "x", slices.Repeat([]string{"v"}, 200)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			everyWay(t, func(t *testing.T, e *env) {
				ctx := callContext(t)
				for _, v := range tc.values {
					ctx = metadata.AppendToOutgoingContext(ctx, "h-"+tc.key, v, "t-"+tc.key, v)
				}
				var header, trailer metadata.MD
				if err := e.conn.Invoke(ctx, methodEcho, &testpb.Empty{}, &testpb.Empty{}, grpc.Header(&header), grpc.Trailer(&trailer)); err != nil {
					t.Fatal(err)
				}
				if got := header["h-"+tc.key]; !slices.Equal(got, tc.values) {
					t.Errorf("header is %.300q", got)
				}
				if got := trailer["t-"+tc.key]; !slices.Equal(got, tc.values) {
					t.Errorf("trailer is %.300q", got)
				}
				for k := range trailer {
					if !strings.HasPrefix(k, "t-") {
						t.Errorf("trailer %q was added: %q", k, trailer[k])
					}
				}
			})
		})
	}
}

// TestLargeMessages: 8 MiB in one message, both ways, unary and in a stream.
func TestLargeMessages(t *testing.T) {
	big := make([]byte, 8<<20)
	rand.Read(big)
	everyWay(t, func(t *testing.T, e *env) {
		s := openMirror(t, callContext(t), e.conn)
		s.exchange(t, big)
		s.end(t)
		in, out := &testpb.SimpleRequest{
			ResponseType: testpb.PayloadType_COMPRESSABLE,
			ResponseSize: int32(len(big)),
			Payload:      &testpb.Payload{Body: big},
		}, new(testpb.SimpleResponse)
		if err := e.conn.Invoke(callContext(t), "/grpc.testing.TestService/UnaryCall", in, out); err != nil {
			t.Fatal(err)
		}
		if n := len(out.Payload.Body); n != len(big) {
			t.Errorf("the answer has %d bytes", n)
		}
	})
}

// TestConcurrentStreams: 100 streams of one channel at a time, and none gets
// what belongs to another.
func TestConcurrentStreams(t *testing.T) {
	const streams = 100
	rounds := times(10)
	everyWay(t, func(t *testing.T, e *env) {
		var opened, done sync.WaitGroup
		opened.Add(streams)
		for i := range streams {
			done.Go(func() {
				s, err := e.conn.NewStream(callContext(t), mirrorDesc, methodMirror)
				if err == nil {
					err = (&mirrorStream{s}).try(message(i, 0))
				}
				opened.Done()
				opened.Wait() // now all are open
				for round := 1; err == nil && round < rounds; round++ {
					err = (&mirrorStream{s}).try(message(i, round))
				}
				if err == nil {
					err = (&mirrorStream{s}).tryEnd()
				}
				if err != nil {
					t.Errorf("stream %d: %v", i, err)
				}
			})
		}
		done.Wait()
	})
}

// message returns what one stream sends in one round: 8 bytes to 7 KiB.
func message(stream, round int) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(stream))
	b = binary.BigEndian.AppendUint32(b, uint32(round))
	return bytes.Repeat(b, 1+(stream*31+round*17)%900)
}

// TestFullDuplex: each of many messages is answered before the next is sent.
func TestFullDuplex(t *testing.T) {
	everyWay(t, func(t *testing.T, e *env) {
		s := openMirror(t, callContext(t), e.conn)
		for i := range times(300) {
			s.exchange(t, message(7, i))
		}
		s.end(t)
	})
}

// TestEarlyRefusal: the target answers a stream of large messages without
// reading it; the viewer gets that answer and no broken stream.
func TestEarlyRefusal(t *testing.T) {
	everyWay(t, func(t *testing.T, e *env) {
		big := &testpb.Payload{Body: make([]byte, 256<<10)}
		for i := range times(25) {
			message := fmt.Sprint("refusal ", i)
			s, err := e.conn.NewStream(metadata.AppendToOutgoingContext(callContext(t), "message", message), refuseDesc, methodRefuse)
			if err != nil {
				t.Fatal(err)
			}
			for err == nil { // io.EOF once the answer is here
				err = s.SendMsg(big)
			}
			err = s.RecvMsg(new(testpb.Payload))
			if st := status.Convert(err); st.Code() != codes.ResourceExhausted || st.Message() != message {
				t.Fatalf("refusal %d: %v", i, err)
			}
		}
	})
}

// TestEndWhileOpen: the target ends a stream that the viewer keeps open for
// sending, as grpc-go does until it has the answer, at once or after a message.
// The viewer gets that end without having to do anything.
//
// A body of a request that nobody ends must hold up neither proxy: x/net's
// transport waits, when the answer's body is closed, for its read of the
// request's body, and httputil.ReverseProxy hands it a body without a Close
// that would break that off.
func TestEndWhileOpen(t *testing.T) {
	for _, messages := range []int{0, 1} {
		t.Run(fmt.Sprint("after ", messages), func(t *testing.T) {
			everyWay(t, func(t *testing.T, e *env) {
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
				defer cancel()
				ctx = metadata.AppendToOutgoingContext(ctx, "message", "no", "after", fmt.Sprint(messages))
				s, err := e.conn.NewStream(ctx, refuseDesc, methodRefuse)
				if err != nil {
					t.Fatal(err)
				}
				for range messages {
					if err := s.RecvMsg(new(testpb.Payload)); err != nil {
						t.Fatal(err)
					}
				}
				err = s.RecvMsg(new(testpb.Payload))
				if st := status.Convert(err); st.Code() != codes.ResourceExhausted || st.Message() != "no" {
					t.Errorf("the viewer got %v", err)
				}
			})
		})
	}
}

// TestReflection asks the target what it serves.
func TestReflection(t *testing.T) {
	everyWay(t, func(t *testing.T, e *env) {
		s, err := reflectionpb.NewServerReflectionClient(e.conn).ServerReflectionInfo(callContext(t))
		if err != nil {
			t.Fatal(err)
		}
		ask := func(r *reflectionpb.ServerReflectionRequest) *reflectionpb.ServerReflectionResponse {
			t.Helper()
			if err := s.Send(r); err != nil {
				t.Fatal(err)
			}
			answer, err := s.Recv()
			if err != nil {
				t.Fatal(err)
			}
			return answer
		}
		var services []string
		for _, service := range ask(&reflectionpb.ServerReflectionRequest{
			MessageRequest: &reflectionpb.ServerReflectionRequest_ListServices{},
		}).GetListServicesResponse().GetService() {
			services = append(services, service.Name)
		}
		if want := []string{"conformance.Probe", "grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection", "grpc.testing.TestService"}; !slices.Equal(services, want) {
			t.Errorf("services are %q", services)
		}
		files := ask(&reflectionpb.ServerReflectionRequest{
			MessageRequest: &reflectionpb.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: "grpc.testing.TestService"},
		}).GetFileDescriptorResponse().GetFileDescriptorProto()
		if len(files) == 0 {
			t.Error("no file descriptor")
		}
		if err := s.CloseSend(); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Recv(); !errors.Is(err, io.EOF) {
			t.Errorf("the stream ended with %v", err)
		}
	})
}

// TestNoTarget: what gRPC makes of the service's own answers, by its mapping
// of HTTP statuses.
func TestNoTarget(t *testing.T) {
	t.Run("no tunnel", func(t *testing.T) {
		s := harness.Start(t, harness.Options{})
		e := &env{addr: s.Addr, prefix: "/nobody"}
		err := e.dial(t).Invoke(callContext(t), methodEcho, &testpb.Empty{}, &testpb.Empty{})
		if status.Code(err) != codes.Unimplemented || !strings.Contains(err.Error(), "404") {
			t.Errorf("the viewer got %v", err)
		}
	})
	t.Run("target gone", func(t *testing.T) {
		s := harness.Start(t, harness.Options{})
		ln := tunneltest.Listen(t)
		ln.Close()
		s.Target(tunnelID, "h2c://"+ln.Addr().String(), tunnelclient.ProxyOptions{})
		e := &env{addr: s.Addr, prefix: "/" + tunnelID}
		err := e.dial(t).Invoke(callContext(t), methodEcho, &testpb.Empty{}, &testpb.Empty{})
		if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "502") {
			t.Errorf("the viewer got %v", err)
		}
	})
}

// mirrorStream is a call of Mirror.
type mirrorStream struct{ grpc.ClientStream }

func openMirror(t *testing.T, ctx context.Context, conn *grpc.ClientConn) *mirrorStream {
	t.Helper()
	s, err := conn.NewStream(ctx, mirrorDesc, methodMirror)
	if err != nil {
		t.Fatal(err)
	}
	return &mirrorStream{s}
}

// exchange sends body and wants it back.
func (s *mirrorStream) exchange(t *testing.T, body []byte) {
	t.Helper()
	if err := s.try(body); err != nil {
		t.Fatal(err)
	}
}

func (s *mirrorStream) try(body []byte) error {
	if err := s.SendMsg(&testpb.Payload{Body: body}); err != nil {
		return fmt.Errorf("sending: %w", err)
	}
	m := new(testpb.Payload)
	if err := s.RecvMsg(m); err != nil {
		return fmt.Errorf("receiving: %w", err)
	}
	if !bytes.Equal(m.Body, body) {
		return fmt.Errorf("%d bytes sent, %d other bytes received", len(body), len(m.Body))
	}
	return nil
}

// end has no more to send and wants a clean end.
func (s *mirrorStream) end(t *testing.T) {
	t.Helper()
	if err := s.tryEnd(); err != nil {
		t.Fatal(err)
	}
}

func (s *mirrorStream) tryEnd() error {
	if err := s.CloseSend(); err != nil {
		return err
	}
	if err := s.RecvMsg(new(testpb.Payload)); !errors.Is(err, io.EOF) {
		return fmt.Errorf("the stream ended with %w", err)
	}
	return nil
}

// receive waits for an event that must come.
func receive[T any](t *testing.T, c <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(20 * time.Second):
		t.Fatalf("%s did not come", what)
		panic("unreachable")
	}
}
