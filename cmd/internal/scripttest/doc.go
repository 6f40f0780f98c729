// Package scripttest runs the testscripts of both commands: the test binary is
// the command under test, and the scripts get what they need around it.
//
// A script finds these commands beside testscript's own:
//
//	start [-listen VAR] [-unread out|err] NAME PROGRAM ARGS…
//	              runs a program in the background. Its output goes to the files
//	              NAME.out and NAME.err. With -listen it gets a listening socket
//	              as from systemd, whose address VAR is set to. With -unread its
//	              standard output or error is a pipe, as small as can be, that
//	              nobody reads
//	drain NAME    reads that pipe, to NAME.out or NAME.err, until it ends
//	leave NAME    closes the reading end of that pipe
//	many COUNT STATUS URL
//	              makes requests, one after the other, that must be answered with
//	              that status within seconds
//	send NAME [-file] TEXT
//	              writes a line, or a file's text, to its standard input
//	eof NAME      ends its standard input
//	signal NAME INT|TERM|HUP|QUIT|KILL…
//	              sends it one signal or several at once
//	insist NAME INT|TERM STATUS
//	              sends it a signal again and again until it ends, with that exit
//	              status
//	exited NAME STATUS
//	              waits until it ends, with that exit status
//	exits STATUS PROGRAM ARGS…
//	              runs a program that ends with that exit status
//	waitfor FILE REGEXP [VAR]
//	              waits until a file has a line that matches, and sets VAR to what
//	              the first group matches
//	http [-X METHOD] [-H HEADER]… [-d BODY] [-ca FILE] [-o FILE] [-addr ADDR] URL
//	              makes a request and prints status line, headers, an empty line
//	              and body; with -o in the background, to a file; with -addr to
//	              that address, which replaces the URL's host
//	syslogd VAR FILE
//	              listens for syslog by UDP at the address that VAR is set to, and
//	              writes each message to a file as a line
//	connectproxy [-user USER:PASSWORD] [-tls CERT] [-host NAME=ADDR] VAR FILE
//	              runs an HTTP proxy for CONNECT at the address that VAR is set to,
//	              and writes method, host and credentials of requests to a file.
//	              CERT is what gencert has made. NAME is a host that only the
//	              proxy knows
//	tlsfront VAR CERT CLIENT-CA ADDR
//	              ends TLS at the address that VAR is set to, for clients with a
//	              certificate of CLIENT-CA (as gencert has made them), and hands
//	              the rest on to ADDR
//	gencert NAME [HOST…]
//	              makes NAME.pem and NAME.key for localhost, service.test, 127.0.0.1
//	              and each HOST
//	redis [-password PASSWORD] [-tls CERT] VAR
//	              runs a Redis in memory at the address that VAR is set to. CERT is
//	              what gencert has made
//	redis stop|restart VAR
//	              stops it, or starts it again at the same address
//	setfile [-base64] VAR FILE
//	              sets VAR to what a file holds
//
// $TARGET is the port of an HTTP server that answers with what it was asked:
// method, request target and headers. It holds requests for /hold until it gets
// one for /release, and redirects /redirect to its own /login with a cookie for
// /app.
package scripttest
