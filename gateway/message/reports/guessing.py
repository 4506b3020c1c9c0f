"""Bounces that no standard describes: asked of flufl.bounce, which knows the texts of many hosts.

The only user of flufl.bounce. Guarantees: whatever it makes of foreign mail, no exception leaves here, and at most
MAX_BYTES of a message are shown to it, in short lines: some of its patterns take time by the cube of one, and nothing
else runs meanwhile. What it calls temporary is a delay. Where it finds nobody, a subject that hosts give to nothing but
bounces tells of one without an address.
"""

import contextlib
import email
import logging
import re
from collections.abc import Iterable
from email.message import Message
from typing import Final

from flufl import bounce

from gateway.message.reports import fields, status
from gateway.message.reports.parts import Part
from gateway.message.reports.status import Action, Told

MAX_BYTES: Final = 32 * 1024
MAX_TEXT: Final = 64 * 1024  # characters of the text for people in which a host's words are looked for
MAX_LINES: Final = 2000  # the same: each line is looked at a hundred times
MAX_LINE: Final = 150  # bytes of a line; an address that bounced stands at its beginning
MAX_SIGNS: Final = 6  # of "@" and of "<" in a line: one with more is a list, and not shown
MAX_BOUNDARIES: Final = 20  # words: the library's reader takes seconds for parts that are a thousand deep
MAX_FIELD: Final = 2000  # bytes of a header field: it takes time by the square of one, and more

_LONG_TYPE: Final = re.compile(rb"(?<![^\r\n])content-type[ \t]*:(?:[^\r\n]|[\r\n]+[ \t]){%d}" % MAX_FIELD)
_SAID: Final = re.compile(r"(?<![\d.])[45]\d\d[ -](?:#?[45]\.\d{1,3}\.\d{1,3})?.*")
_ADDRESS: Final = re.compile(r"[^\s@<>()\[\],;:\"']{1,64}@[^\s@<>()\[\],;:\"']{1,255}")
_WORDS: Final = 500
# What subjects of bounces begin with, in lower case.
_SUBJECTS: Final = (
    "delivery failure",
    "delivery has failed",
    "delivery status notification (failure)",
    "failure notice",
    "mail could not be delivered",
    "mail delivery fail",
    "mail delivery failure",
    "message undeliverable",
    "returned mail",
    "returned to sender",
    "undeliverable",
    "undelivered mail",
    "unzustellbar",
)

logging.getLogger("flufl.bounce").setLevel(logging.CRITICAL + 1)  # it tells of each detector that fails


def told(content: bytes, parts: list[Part]) -> list[Told]:
    """The recipients of whom a message says, in its own words, that they were refused or have to wait."""
    delayed: Iterable[bytes | str] = ()
    failed: Iterable[bytes | str] = ()
    shown = b"\n".join(content[:MAX_BYTES].split(b"\n", MAX_LINES)[:MAX_LINES])
    lower = shown.lower()
    # A boundary may name a charset (RFC 2231), which would be asked of Python: charset.py.
    readable = lower.count(b"boundary") <= MAX_BOUNDARIES and b"boundary*" not in lower
    if readable and _LONG_TYPE.search(lower) is None:
        with contextlib.suppress(Exception):  # seventeen heuristics over any bytes: one that fails has found nothing
            delayed, failed = bounce.all_failures(_tamed(email.message_from_bytes(shown)))
    text = _words(parts)
    found = [*_each(Action.FAILED, failed, text), *_each(Action.DELAYED, delayed, text)]
    subject = fields.plain(fields.first(parts[0].fields, "subject")).lower()
    return found or ([_one(Action.FAILED, (), text)] if subject.startswith(_SUBJECTS) else [])


def _tamed(message: Message) -> Message:
    """With nothing left to decode, in lines that are short."""
    for part in message.walk():
        # Beyond ASCII, by which the library fails, or too long.
        for name in {name for name, value in part.items() if not isinstance(value, str) or len(value) > MAX_FIELD}:
            del part[name]
        if not part.is_multipart():
            body, type_ = part.get_payload(decode=True), part.get_content_type()
            del part["Content-Transfer-Encoding"]
            # Without its parameters: the library reads them for each line, and decodes by whatever charset is named.
            del part["Content-Type"]
            part["Content-Type"] = type_
            if isinstance(body, bytes):
                lines = b"\n".join(map(_short, body.splitlines()[:MAX_LINES]))
                part.set_payload(lines.decode("ascii", "surrogateescape"))
    if not message.get("From", "").strip():  # it fails by that, too
        del message["From"]
        message["From"] = "<>"
    return message


def _short(line: bytes) -> bytes:
    many = max(line.count(b"@"), line.count(b"<")) > MAX_SIGNS
    return b"" if many else line[:MAX_LINE]


def _each(action: Action, found: Iterable[bytes | str], text: str) -> list[Told]:
    return [_one(action, (one,), text) for one in sorted(map(_address, found)) if one]


def _one(action: Action, addresses: tuple[str, ...], text: str) -> Told:
    code, enhanced = status.codes(text)
    return Told(action, addresses, enhanced, code, enhanced, text)


def _address(found: bytes | str) -> str:
    return status.address(fields.text(found) if isinstance(found, bytes) else found)


def words_by_address(parts: list[Part]) -> dict[str, str]:
    """What a host said of whom (in lower case), in the text for people: behind the address, in its line."""
    found: dict[str, str] = {}
    left = MAX_TEXT
    for part in parts:
        if part.level == 0 and part.type == "text/plain" and left > 0:
            text = part.text()[:left]
            left -= len(text)
            for line in text.splitlines():
                match = _SAID.search(line)
                if match is not None:
                    said = " ".join(match[0].split())[:_WORDS]
                    before = line[max(0, match.start() - _WORDS) : match.start()]
                    for address in _ADDRESS.findall(before):
                        found.setdefault(address.lower(), said)
    return found


def _words(parts: list[Part]) -> str:
    """What a host said, where it is quoted; else what the subject says."""
    for part in parts:
        if part.level == 0 and part.type == "text/plain":
            match = _SAID.search(part.text()[:MAX_TEXT])
            if match is not None:
                return " ".join(match[0].split())[:_WORDS]
    return fields.plain(fields.first(parts[0].fields, "subject"))[:_WORDS] if parts else ""
