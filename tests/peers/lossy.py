"""A proxy whose answers get lost, as on a mobile network: the request arrives, and the client never hears of it."""

import http.client
import threading
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self


class LossyProxy:
    """`with LossyProxy(port, lost=1) as proxy`: on `proxy.port`, before a daemon; `requests` were passed on, the first
    `lost` answers were not."""

    def __init__(self, upstream: int, *, lost: int) -> None:
        self.upstream = upstream
        self.lost = lost
        self.requests = 0
        self._server = _Server(self)
        self._thread = threading.Thread(target=self._server.serve_forever, name="lossy", daemon=True)
        self.port: int = self._server.server_address[1]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)

    def pass_on(self, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, list[tuple[str, str]], bytes]:
        """POST to the daemon: its status, header fields and body."""
        with closing(http.client.HTTPConnection("127.0.0.1", self.upstream, timeout=30)) as connection:
            connection.request("POST", path, body, headers)
            response = connection.getresponse()
            self.requests += 1
            return response.status, response.getheaders(), response.read()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, proxy: LossyProxy) -> None:
        self.proxy = proxy
        super().__init__(("127.0.0.1", 0), _Request)


class _Request(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        assert isinstance(self.server, _Server)
        proxy = self.server.proxy
        body = self.rfile.read(int(self.headers["Content-Length"]))
        status, fields, answer = proxy.pass_on(self.path, body, dict(self.headers))
        self.close_connection = True
        if proxy.requests <= proxy.lost:
            return
        self.send_response(status)
        for name, value in fields:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base class's
        """Keep quiet."""
