"""The fields by which a recipient unsubscribes (RFC 2369, 3.2; RFC 8058). Pure.

Guarantees: a message that has a List-Unsubscribe field keeps it and gets none of ours. Lines are short, all is ASCII.
"""

import re
from typing import Final

_FIELD: Final = re.compile(rb"^list-unsubscribe[ \t]*+:((?:[^\n]|\n[ \t])*+)(?:\n|\Z)", re.IGNORECASE | re.MULTILINE)
_POST: Final = re.compile(rb"^list-unsubscribe-post[ \t]*+:", re.IGNORECASE | re.MULTILINE)
_URL: Final = re.compile(r"<([^<>]*)>")
_WHITE: Final = re.compile(r"[ \t\r\n]+")


def list_unsubscribe(header: bytes) -> list[str]:
    """The URLs of the field, without white space (RFC 2369, 2)."""
    found = _FIELD.search(header)
    if found is None:
        return []
    return [_WHITE.sub("", url) for url in _URL.findall(found[1].decode("utf-8", "replace"))]


def with_unsubscribe(header: bytes, url: str | None, address: str | None) -> bytes:
    """The header with a way out for its recipient: a URL, an address to write to, or both.

    One click (RFC 8058, 3.1) is promised only of an https URL.
    """
    ways = [f"<{url}>"] if url is not None else []
    if address is not None:
        ways.append(f"<mailto:{address}?subject=unsubscribe>")
    if not ways or _FIELD.search(header) is not None:
        return header
    fields = "List-Unsubscribe: " + ",\r\n ".join(ways) + "\r\n"
    if url is not None and url.startswith("https://") and _POST.search(header) is None:
        fields += "List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n"
    return header.removesuffix(b"\r\n") + fields.encode() + b"\r\n"
