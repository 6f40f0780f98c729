package admin

import (
	"html/template"
	"net/http"
	"strings"
	"time"
)

var loginPage = template.Must(template.New("login").Parse(`<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>Log in · websocktunnel</title>
<main>
<h1>websocktunnel</h1>
{{if .}}<p role="alert">That is not the token.</p>{{end}}
<form method="post" action="/login">
<p><label>Admin token <input type="password" name="token" autocomplete="current-password" required autofocus></label>
<button>Log in</button></p>
</form>
<p>The token is the value of <code>ADMIN_TOKEN</code>.</p>
</main>
</html>
`))

// loginForm answers with the form, which says so after a wrong token.
func loginForm(w http.ResponseWriter, status int, wrong bool) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_ = loginPage.Execute(w, wrong)
}

// login exchanges the token in the form for a cookie. Only a page of this origin
// may send the form: nobody is to log in unknowingly.
func (g *guard) login(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Origin") == "" {
		problem(w, http.StatusForbidden, "a login needs an Origin: use the form in a browser, or send the token as a bearer")
		return
	}
	if !g.rightToken(r.PostFormValue("token")) {
		g.refuse(w, r)
		return
	}
	until := time.Now().Add(loginTime)
	http.SetCookie(w, &http.Cookie{
		Name: cookieName, Value: g.cookie(until), Path: "/", MaxAge: int(loginTime.Seconds()),
		HttpOnly: true, SameSite: http.SameSiteStrictMode,
		Secure: strings.HasPrefix(r.Header.Get("Origin"), "https:"), // a proxy in front ends TLS
	})
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

// logout ends a browser's login.
func (g *guard) logout(w http.ResponseWriter, _ *http.Request) {
	http.SetCookie(w, &http.Cookie{Name: cookieName, Path: "/", MaxAge: -1, HttpOnly: true, SameSite: http.SameSiteStrictMode})
	w.WriteHeader(http.StatusNoContent)
}
