package demosite

import (
	"context"
	"io"
	"net/http"

	"github.com/coder/websocket"
)

// maxMessage is the size in bytes of the largest websocket message echoed.
const maxMessage = 16 << 20

// serveWebsocket sends every message back.
func serveWebsocket(w http.ResponseWriter, r *http.Request) {
	ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{
		// An echo has nothing to protect, and with the check the demo would
		// fail behind proxies that rewrite Host.
		InsecureSkipVerify: true,
	})
	if err != nil {
		return // Accept has answered.
	}
	defer ws.CloseNow()
	ws.SetReadLimit(maxMessage)
	for {
		if err := echoMessage(r.Context(), ws); err != nil {
			return // The viewer has gone.
		}
	}
}

// echoMessage passes one message on as it comes in, without holding it whole.
func echoMessage(ctx context.Context, ws *websocket.Conn) error {
	kind, reader, err := ws.Reader(ctx)
	if err != nil {
		return err
	}
	writer, err := ws.Writer(ctx, kind)
	if err != nil {
		return err
	}
	if _, err := io.Copy(writer, reader); err != nil {
		return err
	}
	return writer.Close()
}
