package grpc

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/interop"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
)

// cases are the interop cases that take call options. They run as they are and
// once more with the requests compressed, which makes the server compress its
// answers; the specification has compressed cases, but grpc-go's client does
// not implement them.
var cases = []struct {
	name string
	run  func(context.Context, testgrpc.TestServiceClient, ...grpc.CallOption)
}{
	{"empty_unary", interop.DoEmptyUnaryCall},
	{"large_unary", interop.DoLargeUnaryCall},
	{"client_streaming", interop.DoClientStreaming},
	{"server_streaming", interop.DoServerStreaming},
	{"ping_pong", interop.DoPingPong},
	{"empty_stream", interop.DoEmptyStream},
	{"timeout_on_sleeping_server", interop.DoTimeoutOnSleepingServer},
	{"cancel_after_begin", interop.DoCancelAfterBegin},
	{"cancel_after_first_response", interop.DoCancelAfterFirstResponse},
	{"status_code_and_message", interop.DoStatusCodeAndMessage},
	{"special_status_message", interop.DoSpecialStatusMessage},
	{"custom_metadata", interop.DoCustomMetadata},
}

// excluded are the cases of grpc-go's interop client that do not run here.
var excluded = map[string]string{
	"pick_first_unary":                   "about the client's choice among several backends; grpc-go's interop server sends no server id",
	"orca_oob":                           "the client reports out of band on a stream that it opens below the channel, where nothing can put the tunnel's path before the method",
	"compute_engine_creds":               "needs a Google Compute Engine machine",
	"compute_engine_channel_credentials": "needs a Google Compute Engine machine",
	"google_default_credentials":         "needs a Google account",
	"service_account_creds":              "needs a Google account's key",
	"jwt_token_creds":                    "needs a Google account's key",
	"per_rpc_creds":                      "needs a Google account's key",
	"oauth2_auth_token":                  "needs a Google account's key",
	"interop/http2 (goaway, ping, rst_after_data, rst_after_header, rst_during_data, max_streams)": "about one HTTP/2 connection between the client and a server that misbehaves; a tunnel ends those connections",
	"interop/alts, interop/grpclb_fallback, interop/xds_federation":                                "about handshakers and name resolution of Google's",
}

func TestInterop(t *testing.T) {
	everyWay(t, func(t *testing.T, e *env) {
		tc := testgrpc.NewTestServiceClient(e.conn)
		for _, c := range cases {
			t.Run(c.name, func(t *testing.T) {
				e.passed(t, "interop "+c.name)
				mustPass(t, func() { c.run(callContext(t), tc) })
			})
			t.Run(c.name+" compressed", func(t *testing.T) {
				e.passed(t, "interop "+c.name+" compressed")
				mustPass(t, func() { c.run(callContext(t), tc, grpc.UseCompressor(gzip.Name)) })
			})
		}
		t.Run("unimplemented_method", func(t *testing.T) {
			e.passed(t, "interop unimplemented_method")
			mustPass(t, func() { interop.DoUnimplementedMethod(callContext(t), e.conn) })
		})
		t.Run("unimplemented_service", func(t *testing.T) {
			e.passed(t, "interop unimplemented_service")
			mustPass(t, func() {
				interop.DoUnimplementedService(callContext(t), testgrpc.NewUnimplementedServiceClient(e.conn))
			})
		})
		t.Run("orca_per_rpc", func(t *testing.T) {
			e.passed(t, "interop orca_per_rpc")
			conn := e.dial(t, grpc.WithDefaultServiceConfig(`{"loadBalancingConfig": [{"test_backend_metrics_load_balancer": {}}]}`))
			mustPass(t, func() { interop.DoORCAPerRPCTest(callContext(t), testgrpc.NewTestServiceClient(conn)) })
		})
		t.Run("rpc_soak", func(t *testing.T) {
			soak(t, func() (*grpc.ClientConn, func()) { return e.conn, func() {} })
		})
		t.Run("channel_soak", func(t *testing.T) {
			soak(t, func() (*grpc.ClientConn, func()) {
				conn := e.dial(t)
				return conn, func() { conn.Close() }
			})
		})
	})
	var b strings.Builder
	b.WriteString("Interop cases that do not run:\n\n| case | reason |\n|---|---|\n")
	for _, name := range slices.Sorted(maps.Keys(excluded)) {
		fmt.Fprintf(&b, "| %s | %s |\n", name, excluded[name])
	}
	b.WriteString("\nrpc_soak and channel_soak run with WST_LONG=1 only.\n")
	table.Append(b.String())
	for name, reason := range excluded {
		t.Run("excluded/"+name, func(t *testing.T) { t.Skip(reason) })
	}
}

func soak(t *testing.T, channel func() (*grpc.ClientConn, func())) {
	if !long() {
		t.Skip("set WST_LONG=1")
	}
	mustPass(t, func() {
		interop.DoSoakTest(callContext(t), interop.SoakTestConfig{
			RequestSize:                      271828,
			ResponseSize:                     314159,
			PerIterationMaxAcceptableLatency: 10 * time.Second,
			OverallTimeout:                   callTimeout,
			NumWorkers:                       4,
			Iterations:                       400,
			ChannelForTest:                   channel,
		})
	})
}
