"""The documents' examples, run as their readers would: in a shell, in Python, Node, PHP and Go, or as raw HTTP.

An example is the text of a file of tests/interop/examples, as printed. `prepared` repairs what cannot run and puts in
keys; a repair or a placeholder that the text does not hold fails, so no table of them can go stale.
"""

import http.client
import json
import socket
import ssl
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.peers.client import Answer
from tests.peers.process import require
from tests.peers.vendors import PORT, Vendors

_EXAMPLES: Final = Path(__file__).parents[1] / "interop" / "examples"
_TIMEOUT_S: Final = 30


@dataclass(frozen=True, slots=True)
class Repair:
    """What is wrong in a printed example: everywhere `old` becomes `new`, because of `why`."""

    old: str
    new: str
    why: str


def printed(name: str) -> str:
    """An example as its document has it, such as `overton/curl`."""
    return next(_EXAMPLES.glob(f"{name}.*")).read_text()


def prepared(name: str, placeholders: Mapping[str, str] | None = None, *, repairs: Iterable[Repair] = ()) -> str:
    """An example that can run. `placeholders` are words of the text and what its reader puts there."""
    text = printed(name)
    for old, new in [*((repair.old, repair.new) for repair in repairs), *(placeholders or {}).items()]:
        assert old in text, f"{name} does not hold {old!r}"
        text = text.replace(old, new)
    return text


def shell(vendors: Vendors, text: str, **environment: str) -> Answer:
    """Run a curl command line. How curl reports the status is set where its users set it: in .curlrc."""
    require("curl")
    head = vendors.directory / "curl.head"
    (vendors.directory / ".curlrc").write_text(f'silent\nshow-error\ndump-header = "{head}"\n')
    done = vendors.run(require("bash"), "-c", text, environment={"CURL_HOME": str(vendors.directory), **environment})
    line, *fields = head.read_text().strip().splitlines()
    headers = dict(field.split(": ", 1) for field in fields)
    return Answer(int(line.split()[1]), headers, json.loads(done.stdout))


def python(vendors: Vendors, text: str, **environment: str) -> str:
    """Run a Python program; returns what it prints."""
    return vendors.run(sys.executable, "-c", text, environment=environment).stdout


def node(vendors: Vendors, text: str) -> str:
    """Run a JavaScript program; returns what it prints. It may await at the top, as in a module."""
    program = vendors.directory / "example.mjs"
    program.write_text(text)
    done = vendors.run(require("node"), str(program))
    return done.stdout + done.stderr


def php(vendors: Vendors, text: str) -> str:
    """Run a PHP program without its opening tag; returns what it prints."""
    return vendors.run(require("php"), "-d", f"curl.cainfo={vendors.ca_file}", "-r", text).stdout


def go(vendors: Vendors, text: str, main: str) -> str:
    """Run a Go package that lacks its `main`; returns what it prints."""
    files = {"example.go": text, "main.go": main}
    for name, content in files.items():
        (vendors.directory / name).write_text(content)
    # Without cgo the pure Go resolver is used, and no C compiler is needed.
    return vendors.run(require("go"), "run", *files, environment={"CGO_ENABLED": "0"}).stdout


def sent(vendors: Vendors, text: str, *, host: str) -> Answer:
    """Send a request as a document prints it: request line and fields, then the body from its first brace.

    What a page leaves out is added: the version, Host, Content-Length and the empty line.
    """
    head, brace, rest = text.partition("{")
    request_line, *fields = filter(None, map(str.strip, head.splitlines()))
    method, path = request_line.split()[:2]
    headers = dict(field.split(": ", 1) for field in fields)
    return request(vendors, method, path, host=headers.pop("Host", host), body=brace + rest, headers=headers)


def request(
    vendors: Vendors,
    method: str,
    path: str,
    *,
    host: str,
    body: str | dict[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """One request over TLS to a vendor's host."""
    content = json.dumps(body) if isinstance(body, dict) else body
    connection = _Connection(vendors, host)
    try:
        connection.request(method, path, content.encode() if content is not None else None, dict(headers or {}))
        response = connection.getresponse()
        return Answer(response.status, dict(response.headers), json.loads(response.read()))
    finally:
        connection.close()


class _Connection(http.client.HTTPSConnection):
    """To our address, under the vendor's name."""

    def __init__(self, vendors: Vendors, host: str) -> None:
        self._trusting = ssl.create_default_context(cafile=str(vendors.ca_file))
        self._address = vendors.address
        super().__init__(host, PORT, timeout=_TIMEOUT_S, context=self._trusting)

    def connect(self) -> None:
        sock = socket.create_connection((self._address, PORT), _TIMEOUT_S)
        self.sock = self._trusting.wrap_socket(sock, server_hostname=self.host)
