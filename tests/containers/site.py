"""A web site with one page, and a receiver of webhooks, in a container of its own.

`GET /page` is a page, `POST /hook` receives a webhook, and `GET /hooks` returns the webhooks that
arrived: their headers and bodies, as JSON.
"""

import http.server
import json
import threading

PORT = 9000
PAGE = b"<!doctype html><title>Bread</title><p>Bread is flour, water and salt. <b>Bread</b> rises."
BODY_BYTES_MAX = 64 << 10

received = []
lock = threading.Lock()


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers one request."""

    def do_GET(self):
        if self.path == "/hooks":
            with lock:
                self.respond(200, "application/json", json.dumps(received).encode())
        elif self.path == "/page":
            self.respond(200, "text/html; charset=utf-8", PAGE)
        else:
            self.respond(404, "text/plain", b"not found")

    def do_POST(self):
        length = min(int(self.headers["Content-Length"]), BODY_BYTES_MAX)
        body = self.rfile.read(length).decode()
        headers = {name.lower(): value for name, value in self.headers.items()}
        with lock:
            received.append({"headers": headers, "body": body})
        self.respond(204, None, b"")

    def respond(self, status, content_type, body):
        self.send_response(status)
        if content_type:
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


http.server.ThreadingHTTPServer(("0.0.0.0", PORT), Handler).serve_forever()
