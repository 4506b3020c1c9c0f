"""The composer: a draft becomes a message (RFC 5322, 2045 to 2049), strictly.

Guarantees: CRLF only, no NUL, no line over 998 octets; every field that a draft asks for stands exactly
once and no other field does but Date, Message-ID, MIME-Version and Content-*; control characters in any
string that becomes a header raise HeaderError with the path of that string. Pure: date, id and the seed of
boundaries are arguments. It does not check policy, sizes or counts.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from urllib.parse import quote

from gateway.message import header, plaintext, transfer
from gateway.message.header import HeaderError
from gateway.message.model import Attachment, Content, Draft, Mailbox

_TYPE_PART: Final = r"[A-Za-z0-9!#$&^_.+-]{1,127}"  # RFC 6838, 4.2
_CONTENT_TYPE: Final = re.compile(
    rf'({_TYPE_PART})/({_TYPE_PART})(?:[ ]*;[ ]*charset="?([A-Za-z0-9_.:+-]{{1,64}})"?)?', re.IGNORECASE
)
_CONTENT_ID: Final = re.compile(r"[!-;=?-~]{1,255}")
_MESSAGE_ID: Final = re.compile(r"[!-;=?A-~]{1,480}@[!-;=?A-~]{1,480}")
_OPAQUE: Final = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class _Part:
    """A part in the making: its Content-* fields, and chunks of which each but the last ends with CRLF."""

    header: bytes
    chunks: list[bytes]


def compose(draft: Draft, *, message_id: str, date: datetime, seed: bytes) -> Content:
    """The message of a draft. Raises HeaderError.

    `message_id` is without angle brackets; `date` is aware; `seed` makes the boundaries and must not be
    guessable by who wrote the draft (12 random bytes), because a part that holds its own boundary would end
    early.
    """
    if _MESSAGE_ID.fullmatch(message_id) is None:
        raise HeaderError("message_id", "is not local@domain in ASCII")
    part = _body(draft, seed.hex())
    fields = [
        header.mailboxes("From", [(draft.sender, "from")]),
        *_destinations("To", draft.to, "to"),
        *_destinations("Cc", draft.cc, "cc"),
        *_destinations("Reply-To", draft.reply_to, "reply_to"),
    ]
    if draft.subject.strip(" \t"):
        fields.append(header.text("Subject", draft.subject, "subject"))
    fields += [
        b"Date: %b\r\n" % header.format_date(date).encode("ascii"),
        b"Message-ID: <%b>\r\n" % message_id.encode("ascii"),
        *header.client_fields(draft.headers),
        b"MIME-Version: 1.0\r\n",
        part.header,
        b"\r\n",
    ]
    chunks = part.chunks
    if chunks[-1] and not chunks[-1].endswith(b"\r\n"):
        chunks = [*chunks[:-1], chunks[-1] + b"\r\n"]
    return Content(b"".join(fields), transfer.cut(chunks))


def _destinations(name: str, boxes: Sequence[Mailbox], path: str) -> list[bytes]:
    return [header.mailboxes(name, [(box, f"{path}[{i}]") for i, box in enumerate(boxes)])] if boxes else []


def _body(draft: Draft, seed: str) -> _Part:
    """mixed(alternative(text, related(html, inline parts)), attachments), without needless layers."""
    numbered = [(a, f"attachments[{i}]") for i, a in enumerate(draft.attachments)]
    inline = [(a, path) for a, path in numbered if draft.html and _is_inline(a, draft.html)]
    paths = {path for _, path in inline}
    attached = [(a, path) for a, path in numbered if path not in paths]
    parts: list[_Part] = []
    if draft.text or draft.html:
        parts.append(_readable(draft, inline, seed))
    parts += [_attachment(a, path, inline=a.disposition == "inline") for a, path in attached]
    if not parts:
        return _text("plain", "", "text")
    if not attached:
        return parts[0]
    return _multipart("mixed", parts, f"=_{seed}m")


def _is_inline(attachment: Attachment, html: str) -> bool:
    """Whether a part belongs to the HTML. With an id that is not referred to it stays an attachment, because
    readers hide what is related and not shown."""
    if attachment.disposition == "inline":
        return True
    cid = attachment.content_id
    return bool(cid) and cid is not None and (f"cid:{cid}" in html or f"cid:{quote(cid)}" in html)


def _readable(draft: Draft, inline: Sequence[tuple[Attachment, str]], seed: str) -> _Part:
    if not draft.html:
        return _text("plain", draft.text or "", "text")
    html = _text("html", draft.html, "html")
    if inline:
        related = [html, *(_attachment(a, path, inline=True) for a, path in inline)]
        # RFC 2387, 3.1: the type of the root is a required parameter.
        html = _multipart("related", related, f"=_{seed}r", ("type", '"text/html"'))
    text = _text("plain", draft.text or plaintext.derive(draft.html), "text")
    return _multipart("alternative", [text, html], f"=_{seed}a")


def _text(subtype: str, text: str, path: str) -> _Part:
    try:
        encoding, chunks = transfer.encode_text(text)
    except UnicodeEncodeError:
        raise HeaderError(path, "contains a lone surrogate") from None
    fields = f"Content-Type: text/{subtype}; charset=utf-8\r\nContent-Transfer-Encoding: {encoding}\r\n"
    return _Part(fields.encode("ascii"), chunks)


def _multipart(subtype: str, parts: Sequence[_Part], boundary: str, *params: tuple[str, str]) -> _Part:
    delimiter = b"--%b\r\n" % boundary.encode("ascii")
    chunks: list[bytes] = [delimiter]
    for part in parts:
        chunks += [part.header, b"\r\n", *part.chunks]
        # The CRLF before a delimiter belongs to it (RFC 2046, 5.1.1): what is before stays as it was.
        chunks[-1] += b"\r\n" + delimiter
    chunks[-1] = chunks[-1][: -len(delimiter)] + delimiter[:-2] + b"--"
    fields = header.parameters(
        "Content-Type", f"multipart/{subtype}", [("boundary", f'"{boundary}"'), *params], "content_type"
    )
    return _Part(fields, chunks)


def _attachment(attachment: Attachment, path: str, *, inline: bool) -> _Part:
    """A part with a file's bytes.

    A message/* that is not 7-bit clean goes as application/octet-stream, because such a type must not be in
    base64 (RFC 2046, 5.2.1); multipart/* goes so too (RFC 2045, 6.4).
    """
    content_type, charset = _content_type(attachment.content_type, f"{path}.content_type")
    encoding = "base64"
    if content_type.startswith("message/") and transfer.is_seven_bit(attachment.content):
        encoding = "7bit"
    elif content_type.startswith(("message/", "multipart/")):
        content_type, charset = _OPAQUE, []
    name_params: list[tuple[str, str]] = []
    if attachment.filename:
        header.check(attachment.filename, f"{path}.filename")
        name_params = header.filename_parameters("filename", attachment.filename, f"{path}.filename")
        charset = [*charset, ("name", name_params[-1][1])]
    fields = [
        header.parameters("Content-Type", content_type, charset, f"{path}.content_type"),
        b"Content-Transfer-Encoding: %b\r\n" % encoding.encode("ascii"),
        header.parameters("Content-Disposition", "inline" if inline else "attachment", name_params, f"{path}.filename"),
    ]
    if attachment.content_id:
        fields.append(_content_id(attachment.content_id, f"{path}.content_id"))
    chunks = [attachment.content] if encoding == "7bit" else transfer.encode_base64(attachment.content)
    return _Part(b"".join(fields), chunks)


def _content_type(text: str, path: str) -> tuple[str, list[tuple[str, str]]]:
    found = _CONTENT_TYPE.fullmatch(header.check(text, path))
    if found is None:
        raise HeaderError(path, "is not type/subtype, with no parameter but charset")
    charset = [("charset", f'"{found[3]}"')] if found[3] else []
    return f"{found[1]}/{found[2]}".lower(), charset


def _content_id(text: str, path: str) -> bytes:
    if _CONTENT_ID.fullmatch(header.check(text, path)) is None:
        raise HeaderError(path, "is not 1 to 255 characters of ASCII without spaces and angle brackets")
    return b"Content-ID: <%b>\r\n" % text.encode("ascii")
