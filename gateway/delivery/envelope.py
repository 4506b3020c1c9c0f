"""A mail transaction as a host is told of it: MAIL and RCPT with what that host offers. Pure.

Guarantees: a parameter leaves only where its extension was offered; what a host announced that it does not take is
refused before a word is said (`refusal`); the limits it announced are kept (`batches`). It decides nothing about other
forms of a message (variants.py).
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from gateway.delivery.verdict import Word
from gateway.message import notify, xtext
from gateway.message.address import domain_of

MAX_RECIPIENTS: Final = 100  # of one transaction: RFC 5321, 4.5.3.1.8, is what every host must take
_NOTIFY: Final = {
    bits | notify.ASKED: " NOTIFY="
    + (",".join(word for bit, word in ((1, "SUCCESS"), (2, "FAILURE"), (4, "DELAY")) if bits & bit) or "NEVER")
    for bits in range(notify.ASKED)
}  # RFC 3461, 4.1


@dataclass(frozen=True, slots=True)
class Offer:
    """What the peer announced (EHLO keywords that matter here)."""

    pipelining: bool = False
    eight_bit: bool = False
    smtputf8: bool = False
    size: int | None = None  # octets; None: SIZE not offered; 0: no limit stated
    max_recipients: int | None = None  # RFC 9422, LIMITS RCPTMAX
    max_transactions: int | None = None  # RFC 9422, LIMITS MAILMAX
    max_domains: int | None = None  # RFC 9422, LIMITS RCPTDOMAINMAX
    dsn: bool = False
    requiretls: bool = False


class Mail(msgspec.Struct, frozen=True, gc=False):
    """An envelope and its content. `content` is the whole of it, or `stream` gives it in pieces, however they are cut;
    `prefix` (new header fields, each with its CRLF) goes in front. `size` counts all of it.

    `notify` and `orcpt` are those of each recipient, as the store has them, or empty. `before_end` is awaited when the
    final dot is about to leave, with the numbers of the recipients it is for.
    """

    sender: str
    recipients: tuple[str, ...]
    size: int
    eight_bit: bool
    utf8: bool
    dot_lines: bool
    prefix: bytes
    content: bytes | None
    stream: Callable[[], AsyncIterator[bytes]]
    notify: tuple[int, ...] = ()
    orcpt: tuple[str, ...] = ()
    ret: str = ""
    envid: str = ""
    require_tls: bool = False
    before_end: Callable[[Sequence[int]], Awaitable[None]] | None = None


def mail_command(mail: Mail, offer: Offer) -> str:
    """MAIL with its line end."""
    command = f"MAIL FROM:<{mail.sender}>"
    if offer.size is not None:
        command += f" SIZE={mail.size}"
    if mail.eight_bit or (mail.utf8 and offer.eight_bit):
        command += " BODY=8BITMIME"
    if mail.utf8:
        command += " SMTPUTF8"
    if offer.dsn:
        if mail.ret:
            command += f" RET={mail.ret}"
        if mail.envid:
            command += f" ENVID={mail.envid}"
    if mail.require_tls:
        command += " REQUIRETLS"
    return command + "\r\n"


def rcpt_commands(mail: Mail, offer: Offer, which: Sequence[int]) -> list[str]:
    """RCPT with its line end, for each of the recipients with these numbers."""
    recipients = mail.recipients
    if not offer.dsn:
        return [f"RCPT TO:<{recipients[number]}>\r\n" for number in which]
    return [f"RCPT TO:<{recipients[number]}>{_dsn_parameters(mail, number)}\r\n" for number in which]


def passes_success(offer: Offer, asked: int) -> bool:
    """Whether a host that takes this recipient takes over the duty to tell of success (RFC 3461, 5.2.1)."""
    return offer.dsn and asked & notify.ASKED > 0 and asked & notify.SUCCESS > 0


def refusal(mail: Mail, offer: Offer) -> Word | None:
    """Why this host cannot be given the message as it is; None: it can."""
    if offer.size and mail.size > offer.size:
        text = f"552 5.3.4 the next hop takes {offer.size} bytes at most; this message has {mail.size}"
        return Word("mail", 552, "5.3.4", text)
    if mail.utf8 and not offer.smtputf8:
        return Word("mail", 550, "5.6.7", "550 5.6.7 the next hop does not take internationalized mail (SMTPUTF8)")
    if mail.eight_bit and not offer.eight_bit:
        return Word("mail", 554, "5.6.3", "554 5.6.3 the next hop does not take 8-bit content (8BITMIME)")
    if mail.require_tls and not offer.requiretls:
        text = "550 5.7.30 the sender requires TLS all the way, which the next hop does not promise (REQUIRETLS)"
        return Word("mail", 550, "5.7.30", text)
    return None


def batches(mail: Mail, offer: Offer) -> list[Sequence[int]]:
    """Numbers of the recipients, one group for each transaction (RFC 9422, 4)."""
    count = len(mail.recipients)
    room = min(offer.max_recipients or MAX_RECIPIENTS, MAX_RECIPIENTS)
    if offer.max_domains is None:
        if count <= room:
            return [range(count)]
        return [range(start, min(start + room, count)) for start in range(0, count, room)]
    groups: dict[str, list[int]] = {}
    for number, recipient in enumerate(mail.recipients):
        groups.setdefault(domain_of(recipient), []).append(number)
    made: list[list[int]] = [[]]
    domains = 0
    for group in groups.values():
        if domains == offer.max_domains:
            made.append([])
            domains = 0
        domains += 1
        for number in group:
            if len(made[-1]) == room:
                made.append([])
                domains = 1
            made[-1].append(number)
    return list(made)


def _dsn_parameters(mail: Mail, number: int) -> str:
    """RFC 3461, 5.2.1: NOTIFY as it was asked for, ORCPT as it came or, where none did, the address."""
    asked = _NOTIFY.get(mail.notify[number], "") if mail.notify else ""  # unasked it is not in the table
    original = mail.orcpt[number] if mail.orcpt else ""
    return f"{asked} ORCPT={(original and _seven_bit(original)) or _original(mail.recipients[number])}"


def _original(recipient: str) -> str:
    if recipient.isascii():
        return f"rfc822;{xtext.encode(recipient)}"
    return f"utf-8;{xtext.encode_address(recipient)}"  # RFC 6533, 3


def _seven_bit(original: str) -> str:
    """As it came, in the form that every host takes; "" where that is not known."""
    try:
        return xtext.seven_bit(original)
    except ValueError:
        return ""
