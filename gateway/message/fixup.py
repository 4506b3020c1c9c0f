"""Byte-exact fix-up of SMTP mail: what is missing is put before, a few fields are taken out, all else stays.

Guarantees: the output is the input without the fields named in `Fixed.removed` and a mailbox's `From ` line, with
Received, missing fields and what `rewrite_from`, `aliases` and `default_domain` ask for before it; odd lines, foldings
and 8-bit bytes pass untouched; nothing here raises on foreign bytes. Linear time, one pass over the header, none over
the body but `BodyScan`. It decides nothing: the caller refuses by what is reported.
"""

import io
import re
from collections.abc import Iterable, Mapping
from operator import itemgetter
from types import MappingProxyType
from typing import Final, NamedTuple

from gateway.message import address_list, encoded_word, header, rewriting
from gateway.message.address import AddressError

MAX_SUBJECT: Final = 200  # characters kept for display
_MAX_SUBJECT_RAW: Final = 2000  # octets of a Subject that are looked at
MAX_LINE: Final = header.MAX_LINE
format_date = header.format_date

_FIRST_FIELD: Final = re.compile(rb"(?:>?From [^\r\n]*\r\n)?[!-9;-~]+[ \t]*:")
_MAILBOX_LINE: Final = re.compile(rb">?From (?![ \t]*:)[^\r\n]*\r\n")  # a From field may have a space there, too
_MESSAGE_ID: Final = re.compile(r"<([^<>]+)>")
_MAX_MESSAGE_ID: Final = 995  # more cannot stand on a line in angle brackets

_CONTROL_PREFIX: Final = b"x-gateway-"
_SINGLE_CONTROLS: Final = frozenset(
    (
        b"idempotency-key",
        b"x-gateway-metadata",
        b"x-gateway-priority",
        b"x-gateway-send-at",
        b"x-gateway-track",
        b"x-gateway-ttl",
        b"x-gateway-unsubscribe",
    )
)
_COMPLETED: Final = frozenset({b"date", b"from", b"message-id"})  # added where missing or without a value
# Every field that is looked at, in lower case; the others only pass by. The second group is always taken out.
_NAMES: Final = (
    rb"(?:(from|date|message-id|received|subject|sender|tls-required)"
    rb"|(bcc|re(?:sent-bcc|turn-path)|content-length|idempotency-key|x-gateway-[^:\s]*))[ \t\v\f]*:"
)
_FIELD: Final = re.compile(rb"\n" + _NAMES)
_ODD_FIELD: Final = re.compile(rb"\n[\v\f]*" + _NAMES)  # some readers strip these; nothing well-meant has them
_FIELD_END: Final = re.compile(rb"\r\n(?![ \t])")
_DOT_LINE: Final = re.compile(rb"\n\.")  # a search for a literal: half the time of `in` for two bytes
_MAX_SENDERS: Final = 10  # From and Sender fields that are read: two is what a message may have
_UNREADABLE: Final = {b"from": "unreadable From field", b"sender": "unreadable Sender field"}
_REPLY_TO: Final = re.compile(rb"^[\v\f]*reply-to[ \t\v\f]*:", re.IGNORECASE | re.MULTILINE)


class Fixed(NamedTuple):
    """A header fixed up, and what it says.

    `senders` are the addresses of every From and Sender field, for the check of allowed senders; a field that
    cannot be read for certain stands there as `unreadable From field`, which only the pattern `*` allows.
    `header_from` is the first From address, "" where From is unreadable. `message_id` is without angle brackets.
    `metadata` is raw JSON text; `send_at`, `ttl`, `priority`, `track` and `unsubscribe` are as given. `tls_optional`:
    the author wrote `TLS-Required: no` (RFC 8689, 3). `unknown_controls` are X-Gateway-* fields of no meaning here,
    `repeated_controls` those given twice that may stand once.
    """

    header: bytes
    header_from: str
    senders: tuple[str, ...]
    subject: str
    message_id: str
    from_count: int
    received_count: int
    removed: tuple[str, ...]
    idempotency_key: str | None
    tags: tuple[str, ...]
    metadata: str | None
    send_at: str | None
    ttl: str | None
    priority: str | None
    track: str | None
    unsubscribe: str | None
    tls_optional: bool
    unknown_controls: tuple[str, ...]
    repeated_controls: tuple[str, ...]
    long_line: bool  # a line of more than 998 octets


class _Field(NamedTuple):
    """A field by its place: `name` in lower case, `start` of the name, `value` after the colon."""

    name: bytes
    start: int
    value: int


_NOTHING: Final[Mapping[_Field, str]] = MappingProxyType({})


class _Controls(NamedTuple):
    idempotency_key: str | None = None
    tags: tuple[str, ...] = ()
    metadata: str | None = None
    send_at: str | None = None
    ttl: str | None = None
    priority: str | None = None
    track: str | None = None
    unsubscribe: str | None = None
    unknown: tuple[str, ...] = ()
    repeated: tuple[str, ...] = ()


_NO_CONTROLS: Final = _Controls()


def split_header(data: bytes) -> int:
    """Where the body starts: after the first empty line.

    0 where the message has no header: its first line is not a field. (A mailbox's `From ` line before a field
    counts as a line of the header.) The end of the data where there is no empty line.
    """
    if data.startswith(b"\r\n"):
        return 2
    if _FIRST_FIELD.match(data) is None:
        return 0
    end = data.find(b"\r\n\r\n")
    return end + 4 if end >= 0 else len(data)


def fix_header(
    raw: bytes,
    *,
    envelope_sender: str,
    received: bytes | None,
    message_id: str,
    date: str,
    rewrite_from: str | None = None,
    default_domain: str | None = None,
    aliases: rewriting.Aliases = (),
) -> Fixed:
    """The header of a message as it will be sent, and what the caller must know of it.

    `raw` is canonical CRLF, up to and including the empty line (or b""); a mailbox's `From ` line before it is taken
    out. `envelope_sender`, `message_id` (without brackets) and `date` stand in for missing fields; a field without a
    value counts as missing.

    `rewrite_from` (an address in normal form) takes the place of every From address: the name stays, an address
    that can be answered goes into Reply-To where there is none, Sender goes. `aliases` and `default_domain` complete
    a From or Sender whose only address has no domain. Never raises.
    """
    if (line := _MAILBOX_LINE.match(raw)) is not None:
        # It is of a file, not of a message: behind our fields it would end the header for who reads it.
        raw = raw[line.end() :]
    present, gone, senders, from_count, received_count = _look(raw)
    added = [received] if received else []
    if b"date" not in present:
        added.append(b"Date: %b\r\n" % date.encode())
    if b"from" not in present:
        added.append(b"From: %b\r\n" % (rewrite_from or envelope_sender).encode())
    if b"message-id" not in present:
        added.append(b"Message-ID: <%b>\r\n" % message_id.encode())
    addresses = _senders(raw, senders)
    if rewrite_from is not None:
        added += _rewritten(raw, senders, rewrite_from)
        gone = _in_order(gone, senders)
        addresses = (rewrite_from,)
    else:
        if (default_domain is not None or aliases) and not all("@" in sender for sender in addresses):
            whole = _completed(raw, senders, default_domain, aliases)
            added += [rewriting.field(_name(raw, field), _value(raw, field), whole[field]) for field in whole]
            gone = _in_order(gone, whole)
            addresses = _senders(raw, senders, whole)
        if b"from" not in present:
            addresses = (envelope_sender, *addresses)
    controls = _controls(raw, gone) if gone else _NO_CONTROLS
    fixed = _assemble(raw, added, gone)
    return Fixed(
        header=fixed,
        header_from=addresses[0] if addresses[0] != _UNREADABLE[b"from"] else "",
        senders=addresses,
        subject=_subject(raw, present.get(b"subject")),
        message_id=_message_id(raw, present.get(b"message-id")) or message_id,
        from_count=from_count,
        received_count=received_count,
        removed=tuple([_name(raw, field) for field in gone]) if gone else (),
        idempotency_key=controls.idempotency_key,
        tags=controls.tags,
        metadata=controls.metadata,
        send_at=controls.send_at,
        ttl=controls.ttl,
        priority=controls.priority,
        track=controls.track,
        unsubscribe=controls.unsubscribe,
        tls_optional=b"tls-required" in present and _value(raw, present[b"tls-required"]).lower() == b"no",
        unknown_controls=controls.unknown,
        repeated_controls=controls.repeated,
        long_line=has_long_line(fixed),
    )


def _look(raw: bytes) -> tuple[dict[bytes, _Field], list[_Field], list[_Field], int, int]:
    """The first field of each name that is looked at, the fields to take out, every From and Sender in their order, and
    how often From and Received stand there."""
    present: dict[bytes, _Field] = {}
    gone: list[_Field] = []
    senders: list[_Field] = []
    from_count = received_count = 0
    pattern = _ODD_FIELD if b"\v" in raw or b"\f" in raw else _FIELD
    # With a line end put before, the place of a match is that of the field in `raw`.
    for match in pattern.finditer(b"\n" + raw.lower()):
        name = match[1]
        if name == b"received":
            received_count += 1
            continue
        end = match.end() - 1
        field = _Field(name or match[2], match.start(), end)
        if name is None:
            gone.append(field)
            continue
        if name == b"from":
            from_count += 1
        if name in _COMPLETED and not raw[end : end + 2].strip() and not _value(raw, field):
            gone.append(field)
            continue
        if name == b"from" or name == b"sender":  # noqa: PLR1714  # a set costs more here
            senders.append(field)
        present.setdefault(name, field)
    return present, gone, senders, from_count, received_count


def _end(raw: bytes, field: _Field) -> int:
    """Where a field ends: after the first line end that no continuation follows."""
    found = _FIELD_END.search(raw, field.value)
    return found.end() if found is not None else len(raw)


def _value(raw: bytes, field: _Field) -> bytes:
    """The value unfolded (RFC 5322, 2.2.3)."""
    return raw[field.value : _end(raw, field)].replace(b"\r\n", b"").strip()


def _senders(raw: bytes, fields: list[_Field], whole: Mapping[_Field, str] = _NOTHING) -> tuple[str, ...]:
    """The addresses of From fields, then of Sender fields; `whole` has those of some fields already."""
    out: list[str] = []
    for number, field in enumerate(fields if len(fields) == 1 else sorted(fields, key=itemgetter(0))):
        if number == _MAX_SENDERS:  # it stands for the others, too
            out.append(_UNREADABLE[field.name])
            break
        if field in whole:
            out.append(whole[field])
            continue
        try:
            out += address_list.header_addresses(_value(raw, field))
        except AddressError:
            out.append(_UNREADABLE[field.name])
    return tuple(out)


def _rewritten(raw: bytes, fields: list[_Field], sender: str) -> list[bytes]:
    """What takes the place of From and Sender fields. A From that is missing was added already."""
    written = [field for field in fields if field.name == b"from"]
    if not written:
        return []
    new = [rewriting.field("From", _value(raw, written[0]), sender)]
    if _REPLY_TO.search(raw) is None:
        new.append(rewriting.reply_to(_senders(raw, written), sender))
    return new


def _completed(raw: bytes, fields: list[_Field], domain: str | None, aliases: rewriting.Aliases) -> dict[_Field, str]:
    """The whole addresses of the fields whose only one has no domain."""
    some = fields[:_MAX_SENDERS]
    found = ((field, rewriting.completed(_value(raw, field), domain, aliases)) for field in some)
    return {field: sender for field, sender in found if sender is not None}


def _in_order(gone: Iterable[_Field], more: Iterable[_Field]) -> list[_Field]:
    return sorted([*gone, *more], key=itemgetter(1))


def _assemble(raw: bytes, added: list[bytes], gone: list[_Field]) -> bytes:
    parts = added
    pos = 0
    for field in gone:
        parts.append(raw[pos : field.start])
        pos = _end(raw, field)
    parts.append(raw[pos:])
    if not raw.endswith(b"\r\n\r\n") and raw != b"\r\n":
        # A message without a body may lack the empty line, one without a header has none.
        parts.append(b"\r\n" if not raw or raw.endswith(b"\r\n") else b"\r\n\r\n")
    return b"".join(parts)


def _name(raw: bytes, field: _Field) -> str:
    return raw[field.start : field.value - 1].strip().decode("ascii", "replace")


def _text(raw: bytes, field: _Field, limit: int | None = None) -> str:
    """A value unfolded and decoded for people: one line, no control character, no lone surrogate."""
    return encoded_word.decode(_value(raw, field)[:limit].decode("utf-8", "replace"))


def _subject(raw: bytes, field: _Field | None) -> str:
    return _text(raw, field, _MAX_SUBJECT_RAW)[:MAX_SUBJECT] if field is not None else ""


def _message_id(raw: bytes, field: _Field | None) -> str:
    if field is None:
        return ""
    value = _value(raw, field).decode("utf-8", "replace")
    found = _MESSAGE_ID.search(value)
    return encoded_word.clean(found[1] if found else value).strip()[:_MAX_MESSAGE_ID]


def _controls(raw: bytes, gone: list[_Field]) -> _Controls:
    """What the control fields among the removed ones say; of a repeated one the first counts."""
    single: dict[bytes, str] = {}
    tags: list[str] = []
    unknown: list[str] = []
    repeated: list[str] = []
    for field in gone:
        if field.name == b"x-gateway-tag":
            tags.append(_text(raw, field))
        elif field.name in _SINGLE_CONTROLS:
            if field.name in single:
                repeated.append(_name(raw, field))
            single.setdefault(field.name, _text(raw, field))
        elif field.name.startswith(_CONTROL_PREFIX):
            unknown.append(_name(raw, field))
    key = single.get(b"idempotency-key")
    return _Controls(
        idempotency_key=key[1:-1] if key and len(key) > 1 and key[0] == key[-1] == '"' else key,
        tags=tuple(filter(None, tags)),
        metadata=single.get(b"x-gateway-metadata"),
        send_at=single.get(b"x-gateway-send-at"),
        ttl=single.get(b"x-gateway-ttl"),
        priority=single.get(b"x-gateway-priority"),
        track=single.get(b"x-gateway-track"),
        unsubscribe=single.get(b"x-gateway-unsubscribe"),
        unknown=tuple(unknown),
        repeated=tuple(repeated),
    )


def only_crlf(data: bytes) -> bool:
    """Whether every CR and LF is half of a CRLF."""
    # The decoder notes which line ends it met, in one pass: a quarter of the time of counting CR, LF and CRLF.
    decoder = io.IncrementalNewlineDecoder(None, translate=False)
    decoder.decode(data.decode("latin-1"), final=True)
    return decoder.newlines in {None, "\r\n"}


def has_long_line(data: bytes) -> bool:
    """Whether a line has more than 998 octets. It hops to the last line end within the next thousand."""
    pos, size = 0, len(data)
    while size - pos > MAX_LINE:
        end = data.rfind(b"\n", pos, pos + MAX_LINE + 2)
        if end < 0:
            return True
        pos = end + 1
    return False


class BodyScan:
    """What must be known of a body before it is sent, gathered piece by piece.

    Pieces are canonical CRLF, each cut after an LF or inside a line longer than a piece. `eight_bit`: a byte above
    127. `dot_lines`: a line begins with a dot. `long_line`: a line of more than 998 octets (RFC 5322, 2.1.1).
    """

    __slots__ = ("dot_lines", "eight_bit", "long_line")

    def __init__(self) -> None:
        self.eight_bit = False
        self.dot_lines = False
        self.long_line = False

    def update(self, piece: bytes) -> None:
        if not self.eight_bit:
            self.eight_bit = not piece.isascii()
        if not self.dot_lines:
            self.dot_lines = piece.startswith(b".") or _DOT_LINE.search(piece) is not None
        if not self.long_line:
            self.long_line = has_long_line(piece)
