"""The part of a notification for programs: message/delivery-status (RFC 3464) and its international form (RFC 6533).

Guarantees: one group of fields for the message and one for each recipient; no line over 998 octets; no foreign text
makes a field or a line of its own. ASCII unless an address is not.
"""

import re
from collections.abc import Iterable
from typing import Final

from gateway.message import encoded_word, header, xtext
from gateway.message.dsn import notice as notices
from gateway.message.dsn.notice import MAX_REPLY, Action, Fate, Notice

PLAIN: Final = "delivery-status"
GLOBAL: Final = "global-delivery-status"

_LONG_WORD: Final = re.compile(r"(\S{200})(?=\S)")  # four octets a character at most
_HOST: Final = re.compile(r"[A-Za-z0-9._-]{1,253}")
_IP: Final = re.compile(r"[0-9.]+|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*")


def subtype(notice: Notice) -> str:
    """Of message/*: GLOBAL where the address of a recipient is not ASCII."""
    return PLAIN if all(map(_is_ascii, notice.fates)) else GLOBAL


def fields(notice: Notice) -> bytes:
    """The body of the part, with a line end at its end."""
    utf8 = subtype(notice) == GLOBAL
    groups = [_about_message(notice), *[_about_recipient(notice, fate, utf8=utf8) for fate in notice.fates]]
    return b"\r\n".join(groups)


def _about_message(notice: Notice) -> bytes:
    lines = [f"Reporting-MTA: dns; {notice.hostname}"]
    if notice.envelope_id and (decoded := _envelope_id(notice.envelope_id)):
        lines.append(f"Original-Envelope-Id: {decoded}")
    lines.append(f"Arrival-Date: {header.format_date(notice.arrived_at)}")
    return _join(lines)


def _about_recipient(notice: Notice, fate: Fate, *, utf8: bool) -> bytes:
    lines = []
    if (original := _original(fate)) is not None:
        lines.append("Original-Recipient: {}; {}".format(*original))
    lines += [
        f"Final-Recipient: {'rfc822' if fate.address.isascii() else 'utf-8'}; {fate.address}",
        f"Action: {fate.action.value}",
        f"Status: {notices.status(fate)}",
    ]
    if (host := _remote(fate.host)) is not None:
        lines.append(f"Remote-MTA: dns; {host}")
    out = _join(lines)
    if fate.reply:
        out += _diagnostic(fate, utf8=utf8)
    more = []
    if fate.tries:
        more.append(f"Last-Attempt-Date: {header.format_date(fate.at)}")
    if fate.action is Action.DELAYED:
        more.append(f"Will-Retry-Until: {header.format_date(notice.retry_until)}")
    return out + _join(more)


def _diagnostic(fate: Fate, *, utf8: bool) -> bytes:
    """What was said; `smtp` is for replies of a host only (RFC 3464, 2.3.6)."""
    text = encoded_word.clean(fate.reply[:MAX_REPLY])
    if not utf8:
        text = text.encode("ascii", "replace").decode()
    # A word that no line holds is cut by spaces: it is for reading, no more.
    text = _LONG_WORD.sub(r"\1 ", text)
    return header.literal("Diagnostic-Code", f"{'smtp' if fate.spoken else 'x-gateway'}; {text}", "reply")


def _original(fate: Fate) -> tuple[str, str] | None:
    """Type and address of ORCPT, decoded; None where there is none, or none that can be told again."""
    if not fate.original:
        return None
    try:
        kind, address = xtext.original_recipient(fate.original)
    except ValueError:
        return None
    line = f"Original-Recipient: {kind}; {address}"
    return (kind, address) if len(line.encode()) <= header.MAX_LINE else None  # 500 characters may be 2000 octets


def _envelope_id(text: str) -> str:
    """ENVID decoded (RFC 3461, 4.4). One that is no xtext, or not of printable ASCII, is told as it came."""
    try:
        decoded = xtext.decode(text)
    except ValueError:
        decoded = text
    if not decoded.isascii():
        decoded = text
    return encoded_word.clean(decoded.encode("ascii", "replace").decode())[:MAX_REPLY].strip()[:900]


def _remote(host: str) -> str | None:
    if _IP.fullmatch(host):
        return f"[IPv6:{host}]" if ":" in host else f"[{host}]"
    return host if _HOST.fullmatch(host) else None


def _is_ascii(fate: Fate) -> bool:
    original = _original(fate)
    return fate.address.isascii() and (original is None or original[1].isascii())


def _join(lines: Iterable[str]) -> bytes:
    return "".join([f"{line}\r\n" for line in lines]).encode("utf-8")
