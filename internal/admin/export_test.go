package admin

import "time"

// SetReadTimeout changes how long a request may take to come.
func (a *Admin) SetReadTimeout(d time.Duration) {
	a.http.ReadHeaderTimeout, a.http.ReadTimeout = d, d
}
