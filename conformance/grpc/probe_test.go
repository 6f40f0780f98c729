package grpc

import (
	"context"
	"errors"
	"io"
	"strconv"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// probe is a gRPC service that lets a test see its target's side.
type probe struct {
	arrived chan context.Context // of each call of Wait, and of Mirror with metadata "report"
	left    chan error           // the end of its context
}

func newProbe() *probe {
	return &probe{arrived: make(chan context.Context, 1), left: make(chan error, 1)}
}

const (
	methodEcho   = "/conformance.Probe/Echo"
	methodFail   = "/conformance.Probe/Fail"
	methodWait   = "/conformance.Probe/Wait"
	methodMirror = "/conformance.Probe/Mirror"
	methodRefuse = "/conformance.Probe/Refuse"
)

var (
	mirrorDesc = &grpc.StreamDesc{StreamName: "Mirror", ClientStreams: true, ServerStreams: true, Handler: mirror}
	refuseDesc = &grpc.StreamDesc{StreamName: "Refuse", ClientStreams: true, ServerStreams: true, Handler: refuse}
)

var probeDesc = grpc.ServiceDesc{
	ServiceName: "conformance.Probe",
	HandlerType: (*any)(nil),
	Methods: []grpc.MethodDesc{
		{MethodName: "Echo", Handler: unary((*probe).echo)},
		{MethodName: "Fail", Handler: unary((*probe).fail)},
		{MethodName: "Wait", Handler: unary((*probe).wait)},
	},
	Streams: []grpc.StreamDesc{*mirrorDesc, *refuseDesc},
}

func unary[T any, M interface {
	*T
	proto.Message
}](f func(*probe, context.Context, M) error) grpc.MethodHandler {
	return func(srv any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
		in := M(new(T))
		if err := decode(in); err != nil {
			return nil, err
		}
		return in, f(srv.(*probe), ctx, in)
	}
}

// echo sends the metadata back, what begins with "h-" as header and what
// begins with "t-" as trailer.
func (p *probe) echo(ctx context.Context, _ *testpb.Empty) error {
	md, _ := metadata.FromIncomingContext(ctx)
	header, trailer := metadata.MD{}, metadata.MD{}
	for k, v := range md {
		switch {
		case strings.HasPrefix(k, "h-"):
			header[k] = v
		case strings.HasPrefix(k, "t-"):
			trailer[k] = v
		}
	}
	return errors.Join(grpc.SetHeader(ctx, header), grpc.SetTrailer(ctx, trailer))
}

// fail fails as in says, with in as a detail.
func (p *probe) fail(ctx context.Context, in *testpb.EchoStatus) error {
	return failure(in).Err()
}

func failure(in *testpb.EchoStatus) *status.Status {
	st, err := status.New(codes.Code(in.Code), in.Message).WithDetails(in)
	if err != nil {
		panic(err)
	}
	return st
}

// wait lasts as long as its context.
func (p *probe) wait(ctx context.Context, _ *testpb.Empty) error {
	p.arrived <- ctx
	<-ctx.Done()
	p.left <- ctx.Err()
	return status.FromContextError(ctx.Err()).Err()
}

// mirror sends each message back until the client has no more.
func mirror(srv any, stream grpc.ServerStream) error {
	md, _ := metadata.FromIncomingContext(stream.Context())
	if len(md["report"]) > 0 {
		p := srv.(*probe)
		p.arrived <- stream.Context()
		defer func() {
			<-stream.Context().Done()
			p.left <- stream.Context().Err()
		}()
	}
	for {
		m := new(testpb.Payload)
		if err := stream.RecvMsg(m); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if err := stream.SendMsg(m); err != nil {
			return err
		}
	}
}

// refuse fails without having read anything, after as many messages and with
// the text that the metadata say.
func refuse(_ any, stream grpc.ServerStream) error {
	md, _ := metadata.FromIncomingContext(stream.Context())
	after, _ := strconv.Atoi(strings.Join(md["after"], ""))
	for range after {
		if err := stream.SendMsg(&testpb.Payload{Body: []byte("before the end")}); err != nil {
			return err
		}
	}
	return status.Error(codes.ResourceExhausted, strings.Join(md["message"], ""))
}
