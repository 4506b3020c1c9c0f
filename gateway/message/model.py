"""Values of a message on its way through the gateway. No behaviour, no I/O."""

from dataclasses import dataclass
from typing import Any

import msgspec

PIECE_BYTES = 256 * 1024  # content is stored, hashed and sent in pieces of at most this size
BY_POLICY = 0  # TLS to the next hops as the route and the recipient's domain have it
TLS_REQUIRED = 1  # REQUIRETLS: verified TLS all the way, or not at all (RFC 8689, 4)
TLS_OPTIONAL = 2  # "TLS-Required: no": rather in clear than not at all (RFC 8689, 5)
TRACK_OPENS = 1  # a pixel in the HTML
TRACK_CLICKS = 2  # links of the HTML lead over us
TRACK_TEXT = 4  # those of plain text, too


@dataclass(frozen=True, slots=True)
class Mailbox:
    """A display name (may be empty) and an address `local@domain`, the domain already an A-label."""

    name: str
    address: str


@dataclass(frozen=True, slots=True)
class Attachment:
    """A part of a composed message. `content_id` without angle brackets; inline parts are referred to by `cid:`."""

    filename: str
    content: bytes
    content_type: str  # type/subtype, no parameters but charset
    content_id: str | None = None
    disposition: str = "attachment"  # attachment | inline


@dataclass(frozen=True, slots=True)
class Draft:
    """What the composer needs, all of it checked: a JSON submission before it is a message."""

    sender: Mailbox  # the From field
    to: tuple[Mailbox, ...]
    cc: tuple[Mailbox, ...]
    reply_to: tuple[Mailbox, ...]
    subject: str
    html: str | None
    text: str | None
    attachments: tuple[Attachment, ...]
    headers: tuple[tuple[str, str], ...]  # extra fields, in order; never one that the composer writes itself


@dataclass(frozen=True, slots=True)
class Content:
    """A whole message as it is stored: canonical CRLF only, header with its empty line, body in pieces.

    `header` ends with the empty line (CRLF CRLF, or one CRLF if there is no field). Body pieces are cut after an
    LF, or inside a line that no piece holds (then not between CR and LF).
    """

    header: bytes
    body: tuple[bytes, ...]


class Facts(msgspec.Struct, frozen=True, gc=False):
    """What is known of a content from intake on, so that no attempt has to scan it again."""

    size: int  # octets of header and body
    header_size: int  # octets of the header with its empty line
    body_hash: bytes  # SHA-256 of the body in relaxed canonical form (RFC 6376, 3.4.4)
    eight_bit: bool  # a byte above 127 in the body: 8BITMIME is needed
    utf8_header: bool  # a byte above 127 in the header: SMTPUTF8 is needed
    dot_lines: bool  # a line of the body or header begins with a dot: stuffing is needed


@dataclass(frozen=True, slots=True)
class Submission:
    """A JSON submission, decoded and checked for form; nothing is decided yet.

    `sender` None stands for the key's `default_from`; `metadata` is a JSON object as text; `return_path` None for the
    sender's address.
    """

    sender: Mailbox | None
    to: tuple[Mailbox, ...]
    cc: tuple[Mailbox, ...]
    bcc: tuple[Mailbox, ...]
    reply_to: tuple[Mailbox, ...]
    subject: str
    html: str | None
    text: str | None
    attachments: tuple[Attachment, ...]
    headers: tuple[tuple[str, str], ...]
    tags: tuple[str, ...]
    metadata: str
    return_path: str | None
    variables: dict[str, Any] | None = None  # what {{name}} stands for; None: no substitution
    template: str | None = None  # id or alias of a stored template
    send_at: int | None = None  # Unix ms; what is past means now
    delay_s: float | None = None  # the same, from now on; at most one of the two
    ttl_s: float | None = None  # how long delivery is tried; None: delivery.expire_after
    priority: int = 1  # 0 high, 1 normal, 2 low
    notify: int | None = None  # a sum of message/notify.py; None: as the key has it
    require_tls: bool = False
    track: int | None = None  # a sum of TRACK_…; None: as the key has it
    unsubscribe: str = ""  # "": nothing is offered; "*": from all mail of the account; else from this tag


class SmtpEnvelope(msgspec.Struct, frozen=True, gc=False):
    """What SMTP said about a message, checked: addresses are normal (`address.parse_path`), `sender` "" is null.

    `protocol` is the Received field's: SMTP, ESMTP, ESMTPS, ESMTPA, ESMTPSA, UTF8SMTP… (RFC 3848, RFC 6531 4.3).
    `notify` and `orcpt` are those of each recipient, or empty where nothing of the kind was said.
    """

    sender: str
    recipients: tuple[str, ...]
    helo: str
    peer: str
    protocol: str
    smtputf8: bool
    eight_bit: bool
    notify: tuple[int | None, ...] = ()  # sums of message/notify.py; None: as the key has it
    orcpt: tuple[str, ...] = ()  # type;address as it came (RFC 3461, 4.2), "" without
    ret: str = ""  # FULL | HDRS | ""
    envid: str = ""  # xtext as it came
    require_tls: bool = False
