"""The Received field that submitted mail gets (RFC 5321, 4.4). Foreign words in it are made harmless. Pure."""

import functools
import re
from typing import Final

_SAFE_WORD: Final = re.compile(r"[A-Za-z0-9.:_\[\]-]{1,255}")
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9.:_\[\]-]")
_SAFE_PATH: Final = re.compile(r"[!-;=?-~]{1,254}")
_IP: Final = re.compile(r"[0-9A-Fa-f.:]+")


def received_field(
    *,
    helo: str,
    peer: str,
    by: str,
    protocol: str,
    id: str,  # noqa: A002  # the clause is called so
    for_: str | None,
    date: str,
    peer_name: str = "",
) -> bytes:
    """A Received field (RFC 5321, 4.4), folded, with its CRLF.

    `helo` and `peer_name` are foreign text: what is outside letters, digits and `.:_[]-` becomes `?`. `peer`
    is an IP address or the name of something else. `for_` is left out where it is None or not plain ASCII, so
    that this field never makes a message need SMTPUTF8.
    """
    recipient = f"\r\n\tfor <{for_}>" if for_ and _SAFE_PATH.fullmatch(for_) else ""
    start = _received_by(helo, peer_name, peer, by, protocol)
    return f"{start} id {_safe(id)}{recipient};\r\n\t{date}\r\n".encode("ascii")


@functools.lru_cache(maxsize=256)  # the same for every message of a client
def _received_by(helo: str, peer_name: str, peer: str, by: str, protocol: str) -> str:
    literal = f"[IPv6:{peer}]" if ":" in peer else f"[{peer}]"
    client = literal if _IP.fullmatch(peer) else _safe(peer)
    if peer_name:
        client = f"{_safe(peer_name)} {client}"
    return f"Received: from {_safe(helo)} ({client})\r\n\tby {_safe(by)} with {_safe(protocol)}"


def _safe(text: str) -> str:
    if _SAFE_WORD.fullmatch(text):
        return text
    return _UNSAFE.sub("?", text[:255]) or "unknown"
