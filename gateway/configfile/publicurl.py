"""`http.public_url`: how recipients reach a listener, for pixels, tracked links and unsubscribing."""

import re
from typing import Final
from urllib.parse import urlsplit

from gateway.configfile import grammar
from gateway.yamltree import Value

_SHAPE: Final = re.compile(
    r"(?P<scheme>https?)://(?P<host>\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.-]+)(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<path>(?:/[A-Za-z0-9._~-]+)*)/?",
    re.ASCII,
)
_MAX: Final = 200  # characters: it stands in every tracked link, and in header fields


def read_public_url(value: Value) -> str | None:
    """Without a slash at its end, the host in lower case."""
    url = value.parsed(parse)
    if url is not None and url.startswith("http:") and not grammar.is_loopback(urlsplit(url).hostname or ""):
        value.warning("who follows a link says in clear which: use https")
    return url


def parse(text: str) -> str:
    """ValueError says what is wrong."""
    match = _SHAPE.fullmatch(text)
    if match is None or len(text) > _MAX:
        raise ValueError(
            f"{text!r} is not a URL like https://mail.example.com: http or https, a host, perhaps a port and a path, "
            f"no more, {_MAX} characters at most"
        )
    host, port = match["host"], match["port"]
    host = f"[{grammar.ip(host[1:-1])}]" if host.startswith("[") else grammar.host_or_ip(host).lower()
    shown = f":{grammar.port(port)}" if port else ""
    return f"{match['scheme']}://{host}{shown}{match['path']}"
