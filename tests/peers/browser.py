"""Debian's Chromium, driven by Playwright, and a site of the test's own that it can be led to.

What is not installed fails the test where CI=true and skips it elsewhere.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, Self

from playwright.sync_api import Browser, BrowserContext, Dialog, sync_playwright

from tests.peers.process import missing, require

# Headless Chromium says that it is: this is what a person's says.
PERSON: Final = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36"
PHONE: Final[dict[str, Any]] = {"viewport": {"width": 360, "height": 640}, "is_mobile": True, "has_touch": True}


@contextmanager
def chromium() -> Iterator[Browser]:
    path = require("chromium")
    with sync_playwright() as playwright:
        try:
            # As root it has no sandbox of its own; it only ever opens pages of the test.
            browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        except Exception as error:  # noqa: BLE001 - whatever keeps it from starting
            missing(f"Chromium does not start: {error}")
        try:
            yield browser
        finally:
            browser.close()


@dataclass(slots=True)
class Watched:
    """A window of the browser, and what was seen in it: every URL that it asked for, and each dialog."""

    context: BrowserContext
    asked: list[str] = field(default_factory=list)
    dialogs: list[str] = field(default_factory=list)

    @classmethod
    def open(cls, browser: Browser, **options: Any) -> Self:
        """`options` are those of a context."""
        watched = cls(browser.new_context(**{"user_agent": PERSON, **options}))
        watched.context.on("request", lambda request: watched.asked.append(request.url))
        watched.context.on("dialog", lambda one: watched._dismiss(one))  # noqa: PLW0108 - it marks a method's owner
        return watched

    def _dismiss(self, dialog: Dialog) -> None:
        self.dialogs.append(dialog.message)
        dialog.dismiss()


class Site:
    """`with Site() as site`: answers every path with the HTML that stands in `pages`, and notes what it is asked for.

    `seen` has path and Referer.
    """

    def __init__(self) -> None:
        self.pages: dict[str, str] = {}
        self.seen: list[tuple[str, str]] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, name="site", daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _handler(site: Site) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            site.seen.append((self.path, self.headers.get("Referer", "")))
            page = site.pages.get(self.path)
            body = (page or "").encode()
            self.send_response(200 if page is not None else 404)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the base class
            """Nothing: the test looks at `seen`."""

    return Handler
