"""Delivery status notifications: multipart/report (RFC 6522) of RFC 3464, international ones of RFC 6533.

Guarantees: whatever recipients, hosts and the message itself say, the notification is a well-formed message: CRLF only,
no NUL, no line over 998 octets, no field and no part that was not meant; its own header is ASCII but for the address
it goes to. Pure: id, date and the seed of the boundary are arguments. Whom to tell, and whether, is not decided here.
"""

import re
from datetime import datetime
from typing import Final

from gateway.message import header, transfer
from gateway.message.dsn import quote, status, words
from gateway.message.dsn.notice import Notice
from gateway.message.model import Content, Mailbox

FULL_BYTES: Final = 50_000  # a larger message is never quoted whole

_NAME: Final = "Mail Delivery System"
_MESSAGE_ID: Final = re.compile(r"[!-;=?-~]{1,900}")


def sender(hostname: str) -> str:
    """The From address of this gateway's notifications."""
    return f"MAILER-DAEMON@{hostname}"


def compose(notice: Notice, *, message_id: str, date: datetime, seed: bytes) -> Content:
    """The notification. `message_id` is without angle brackets; `seed` makes the boundary and must not be guessable
    (12 random bytes). Raises HeaderError where `notice.to` is no address."""
    boundary = f"=_{seed.hex()}d"
    subtype = status.subtype(notice)
    parts = [_words(notice), _status(notice, subtype)]
    if notice.header:
        parts.append(_quote(notice))
    delimiter = b"--" + boundary.encode("ascii")
    body = [b"".join([delimiter, b"\r\n", part, b"\r\n"]) for part in parts]
    body.append(delimiter + b"--\r\n")
    return Content(_header(notice, subtype, boundary, message_id, date), transfer.cut(body))


def _header(notice: Notice, subtype: str, boundary: str, message_id: str, date: datetime) -> bytes:
    # RFC 6522, 3: report-type is the subtype of the second part.
    content_type = header.parameters(
        "Content-Type",
        "multipart/report",
        [("report-type", subtype), ("boundary", f'"{boundary}"')],
        "content_type",
    )
    return b"".join(
        [
            # The name of a host may hold what an address of a client may not.
            f"From: {_NAME} <{sender(notice.hostname)}>\r\n".encode("ascii"),
            header.mailboxes("To", [(Mailbox("", notice.to), "to")]),
            header.text("Subject", words.subject(notice), "subject"),
            f"Date: {header.format_date(date)}\r\nMessage-ID: <{message_id}>\r\n".encode("ascii"),
            *_references(notice.message_id),
            b"Auto-Submitted: auto-replied\r\n",  # RFC 3834, 5
            b"MIME-Version: 1.0\r\n",
            content_type,
            b"\r\n",
        ]
    )


def _references(message_id: str) -> list[bytes]:
    """The thread; nothing where the message has an id that no field can hold. Brackets stand once."""
    bare = message_id.strip("<> ")
    if _MESSAGE_ID.fullmatch(bare) is None:
        return []
    return [header.literal(name, f"<{bare}>", "message_id") for name in ("In-Reply-To", "References")]


def _words(notice: Notice) -> bytes:
    encoding, chunks = transfer.encode_text(words.text(notice))
    return _part("text/plain; charset=utf-8", encoding, b"".join(chunks))


def _status(notice: Notice, subtype: str) -> bytes:
    encoding = "7bit" if subtype == status.PLAIN else "8bit"
    return _part(f"message/{subtype}", encoding, status.fields(notice))


def _quote(notice: Notice) -> bytes:
    if notice.body is None or len(notice.header) + len(notice.body) > FULL_BYTES:
        return _part(*quote.of_header(notice.header))
    return _part(*quote.of_message(notice.header, notice.body))


def _part(content_type: str, encoding: str, content: bytes) -> bytes:
    """A part without the line end that belongs to the next delimiter (RFC 2046, 5.1.1)."""
    fields = f"Content-Type: {content_type}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n"
    return fields.encode("ascii") + content
