"""Asks the site at the base URL in argv[1] for all that Python's standard
library can ask for, and prints what came: a line of JSON for each exchange."""
import hashlib
import http.client
import http.cookiejar
import json
import ssl
import sys
import urllib.error
import urllib.parse
import urllib.request

base, ca_file = sys.argv[1], sys.argv[2]
url = urllib.parse.urlsplit(base)
context = ssl.create_default_context(cafile=ca_file)
TIMEOUT = 20


def show(name, **what):
    for key, value in what.items():
        if isinstance(value, bytes):
            value = f"{len(value)} bytes {hashlib.sha256(value).hexdigest()}" if len(value) > 20_000 else value.decode("latin-1")
        what[key] = value
    print(json.dumps({"exchange": name, **what}, sort_keys=True))


def connect():
    if url.scheme == "https":
        return http.client.HTTPSConnection(url.netloc, timeout=TIMEOUT, context=context)
    return http.client.HTTPConnection(url.netloc, timeout=TIMEOUT)


def headers(message):
    return sorted((k.lower(), v) for k, v in message.items())


# All on one connection: it must stay usable after each.
conn = connect()
conn.connect()
sock = conn.sock


def ask(name, method, path, body=None, header=None, **how):
    conn.request(method, url.path + path, body, header or {}, **how)
    with conn.getresponse() as answer:
        show(name, status=answer.status, reason=answer.reason, headers=headers(answer.headers),
             body=answer.read(), length=answer.length, closes=answer.will_close,
             same_connection=conn.sock is sock)


ask("get", "GET", "/echo/")
ask("head", "HEAD", "/file")
ask("odd path", "GET", "/echo/a/../b//c%2F%00;d?x=1;y=%zz&&")
ask("post bytes", "POST", "/echo/", b"x" * 100_000)
ask("post text", "POST", "/echo/", "häßlich".encode())
ask("post nothing", "POST", "/echo/")
ask("put chunked", "PUT", "/echo/", iter([b"one", b"two" * 10_000, b"three"]), encode_chunked=True)
ask("delete", "DELETE", "/echo/")
ask("8-bit header", "GET", "/echo/", header={"X-Bits": "\xe4\xf6", "X-Empty": ""})
ask("many headers", "GET", "/echo/", header={f"X-{i}": "v" * i for i in range(100)})
ask("file", "GET", "/file")
ask("range", "GET", "/file", header={"Range": "bytes=5-14"})
ask("ranges out of bounds", "GET", "/file", header={"Range": "bytes=1000000-"})
ask("not modified", "GET", "/file", header={"If-None-Match": '"v1"'})
for status in (201, 204, 205, 304, 400, 401, 403, 404, 451, 500, 502, 503, 599):
    ask(f"status {status}", "GET", f"/status/{status}")
ask("chunks", "GET", "/chunks")
ask("trailers", "GET", "/trailers")
ask("gzip", "GET", "/gzip", header={"Accept-Encoding": "gzip"})
ask("redirect", "GET", "/redirect")
ask("closed", "GET", "/echo/", header={"Connection": "close"})
conn.close()

# An answer read line by line while it comes.
conn = connect()
conn.request("GET", url.path + "/chunks")
answer = conn.getresponse()
show("lines", lines=[answer.readline().decode() for _ in range(6)])
conn.close()

# An answer that breaks off must not look whole.
conn = connect()
conn.request("GET", url.path + "/broken")
answer = conn.getresponse()
try:
    show("broken", body=answer.read())
except (http.client.IncompleteRead, ConnectionError) as error:
    show("broken", error="broken", partial=getattr(error, "partial", b""))
conn.close()

# http.client of HTTP/1.0, where the end of the connection ends the answer.
conn = connect()
conn._http_vsn, conn._http_vsn_str = 10, "HTTP/1.0"
conn.request("GET", url.path + "/chunks")
answer = conn.getresponse()
show("HTTP/1.0", status=answer.status, headers=headers(answer.headers), body=answer.read())
conn.close()

# urllib follows redirects, knows cookies and passwords.
jar = http.cookiejar.CookieJar()
passwords = urllib.request.HTTPPasswordMgrWithDefaultRealm()
passwords.add_password(None, base + "/auth", "u", "p")
opener = urllib.request.build_opener(
    urllib.request.ProxyHandler({}),
    urllib.request.HTTPSHandler(context=context),
    urllib.request.HTTPCookieProcessor(jar),
    urllib.request.HTTPBasicAuthHandler(passwords),
)


def fetch(name, path, data=None):
    try:
        with opener.open(base + path, data, TIMEOUT) as answer:
            show(name, url=answer.url, status=answer.status, headers=headers(answer.headers), body=answer.read())
    except urllib.error.HTTPError as error:
        show(name, url=error.url, status=error.code, headers=headers(error.headers), body=error.read())


fetch("urllib get", "/file")
fetch("urllib redirected", "/redirect")
fetch("urllib post", "/echo/", urllib.parse.urlencode({"a": "1 2", "b": "ä"}).encode())
fetch("urllib cookie set", "/cookies")
fetch("urllib cookie sent", "/cookies")
fetch("urllib password", "/auth")
fetch("urllib 404", "/status/404")
show("cookies", jar=[[c.name, c.value, c.path] for c in jar])
