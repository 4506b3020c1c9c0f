"""What three parsers read in a composed message: the standard library's new one, its old one, and mail-parser (whose
addresses and words are read by code of its own). Go's is in `goreader`.

Each gives the same value, `Read`. They agree on what a message means, not on how many spaces there are in a phrase:
runs of spaces are one, and text is compared in normal form C, because mail-parser gives it so.
"""

import base64
import email.header
import email.policy
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from email.errors import NonASCIILocalPartDefect
from email.message import EmailMessage, Message
from email.parser import BytesParser, Parser
from email.utils import collapse_rfc2231_value, getaddresses
from typing import Any, Final

import mailparser

ADDRESS_FIELDS: Final = ("From", "To", "Cc", "Reply-To")


@dataclass(frozen=True, slots=True)
class File:
    """An attachment as read: `name` without white space at its ends, `content_id` without angle brackets or ""."""

    name: str
    content_type: str
    disposition: str
    content_id: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Read:
    """What a parser makes of a message; texts with LF line ends and without the last one."""

    mailboxes: dict[str, list[tuple[str, str]]]
    subject: str
    extra: list[tuple[str, str]]
    plain: str
    html: str
    files: list[File]


def tidy(text: str) -> str:
    """Text of a field, comparable."""
    return unicodedata.normalize("NFC", re.sub(" +", " ", text.replace("\r\n", ""))).strip(" ")


def squeezed(text: str) -> str:
    """Text of a field without any white space.

    For readers that lose or add some: Python's new parser shows a space between two encoded-words of a name, and
    mail-parser none where a line was folded behind one. In the URLs of a list it means nothing (RFC 2369, 2).
    """
    return unicodedata.normalize("NFC", "".join(text.split()))


def same_text(text: str) -> str:
    """A body, comparable: line ends are LF, the end of the last line is not told from the end of the text."""
    return unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n").removesuffix("\n"))


def modern(wire: bytes, extra: frozenset[str]) -> Read:
    """email.policy.default, which knows RFC 6532 only where it is given text."""
    message = Parser(policy=email.policy.default).parsestr(wire.decode())
    assert isinstance(message, EmailMessage)
    assert not [defect for part in message.walk() for defect in part.defects]
    boxes = {}
    for name in ADDRESS_FIELDS:
        if name in message:
            assert all(isinstance(defect, NonASCIILocalPartDefect) for defect in message[name].defects)
            boxes[name] = [(squeezed(one.display_name), one.addr_spec) for one in message[name].addresses]
    bodies = [_text_of(part) for part in _shown(message)]
    return Read(
        boxes,
        tidy(str(message.get("Subject", ""))),
        [(name, squeezed(str(value))) for name, value in message.items() if name in extra],
        *bodies_of(bodies),
        [_modern_file(part) for part in _leaves(message) if part["Content-Disposition"] is not None],
    )


def classic(wire: bytes, extra: frozenset[str]) -> Read:
    """compat32: getaddresses and decode_header, as most Python programs read mail."""
    message = BytesParser(policy=email.policy.compat32).parsebytes(wire)
    assert not [defect for part in message.walk() for defect in part.defects]
    raw = [(name, value.encode("ascii", "surrogateescape").decode("utf-8")) for name, value in message.raw_items()]
    fields = {name: value.replace("\r\n", "") for name, value in raw}
    boxes: dict[str, list[tuple[str, str]]] = {
        name: [(tidy(_decoded(display)), address) for display, address in getaddresses([fields[name]])]
        for name in ADDRESS_FIELDS
        if name in fields
    }
    bodies = [_text_of(part) for part in _shown(message)]
    return Read(
        boxes,
        tidy(_decoded(fields.get("Subject", ""))),
        [(name, squeezed(_decoded(value.replace("\r\n", "")))) for name, value in raw if name in extra],
        *bodies_of(bodies),
        [_classic_file(part) for part in _leaves(message) if part["Content-Disposition"] is not None],
    )


def third(wire: bytes, extra: frozenset[str]) -> Read:
    """mail-parser, which reads addresses and words with code of its own."""
    message: Any = mailparser.parse_from_bytes(wire)
    assert not message.defects, message.defects
    names = [name for name, _ in message.message.raw_items()]
    boxes = {
        name: [(tidy(display), address) for display, address in message.mail[name.lower()]]
        for name in ADDRESS_FIELDS
        if name in names
    }
    found: list[tuple[str, str]] = []
    for name in dict.fromkeys(names):
        if name in extra:
            values = message.mail.get(name.lower(), "")
            found += [(name, squeezed(value)) for value in (values if isinstance(values, list) else [values])]
    order = [name for name in names if name in extra]
    found.sort(key=lambda one: order.index(one[0]))
    bodies = [("plain", text) for text in message.text_plain] + [("html", text) for text in message.text_html]
    return Read(
        boxes, squeezed(message.subject), found, *bodies_of(bodies), [_third_file(a) for a in message.attachments]
    )


Reader = Callable[[bytes, frozenset[str]], Read]
READERS: Final[tuple[Reader, ...]] = (modern, classic, third)


def bodies_of(bodies: list[tuple[str, str]]) -> tuple[str, str]:
    """The plain one and the HTML one, at most one of each."""
    kinds = [kind for kind, _ in bodies]
    assert len(set(kinds)) == len(kinds), kinds
    given = dict(bodies)
    return same_text(given.get("plain", "")), same_text(given.get("html", ""))


def _decoded(value: str) -> str:
    if value.isascii():
        return str(email.header.make_header(email.header.decode_header(value)))
    return value  # RFC 6532: written as it is


def _leaves(part: Message) -> list[Message]:
    if part.get_content_maintype() != "multipart":
        return [part]
    children = part.get_payload()
    assert isinstance(children, list)
    return [leaf for child in children if isinstance(child, Message) for leaf in _leaves(child)]


def _shown(message: Message) -> list[Message]:
    return [part for part in _leaves(message) if part["Content-Disposition"] is None]


def _text_of(part: Message) -> tuple[str, str]:
    payload = part.get_payload(decode=True)
    assert isinstance(payload, bytes)
    assert part.get_content_charset() == "utf-8"
    return part.get_content_subtype(), payload.decode()


def _modern_file(part: Message) -> File:
    return _file(part, part.get_filename("") or "")


def _classic_file(part: Message) -> File:
    """The old parser gives the first or the last `filename` of two, as it happens: the extended one is the name."""
    names: list[Any] = [value for key, value in part.get_params([], header="content-disposition") if key == "filename"]
    extended = [value for value in names if isinstance(value, tuple)]
    return _file(part, collapse_rfc2231_value((extended or names or [""])[0]))


def _file(part: Message, name: str) -> File:
    payload = part.get_payload(decode=True)
    assert isinstance(payload, bytes)
    content_id = str(part.get("Content-ID", "")).strip().removeprefix("<").removesuffix(">")
    return File(name.strip(), part.get_content_type(), part.get_content_disposition() or "", content_id, payload)


def _third_file(found: Any) -> File:
    text = found["payload"]
    assert found["binary"]
    content = base64.b64decode(text)
    disposition = found["content-disposition"].partition(";")[0].strip()
    content_id = found["content-id"].strip().removeprefix("<").removesuffix(">")
    return File(found["filename"].strip(), found["mail_content_type"], disposition, content_id, content)
