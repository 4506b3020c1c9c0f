"""Complaints in the abuse reporting format (RFC 5965; RFC 6650 for its use).

Guarantees: never an exception. Whom it is about is found by marks.py and, where that names a message alone, by the
addresses it has; what hosts leave out or paint over (Hotmail, Yahoo) is missing, and nothing breaks by it.
"""

import re
from dataclasses import dataclass
from typing import Final

from gateway.message.reports import fields, status
from gateway.message.reports.fields import Fields
from gateway.message.reports.parts import Part

TYPE: Final = "message/feedback-report"
# What is no recipient's complaint, and why.
NO_COMPLAINTS: Final = {
    "not-spam": "a report that it is no spam",  # RFC 6430: the recipient takes it back
    "auth-failure": "a host's report on DKIM, SPF or DMARC",
}

_READ: Final = 20  # fields; there should be one
_UNPRINTED: Final = re.compile(r"[^!-~]")
_ADDRESS: Final = re.compile(r"[^\s<>,;\"()]{1,64}@[^\s<>,;\"()]{1,255}")


@dataclass(frozen=True, slots=True)
class Complaint:
    """`kind` is abuse, fraud, virus, other, not-spam, … or "" where it is a complaint in no format; `host` who reports
    it; `addresses` whom it may be about, best first."""

    kind: str
    addresses: tuple[str, ...]
    host: str


def read(part: Part, copied: Fields) -> Complaint:
    """A part of TYPE; `copied` is the header of the message it is about."""
    found = fields.read(part.data)
    named = [status.address(value) for value in fields.every(found, "original-rcpt-to")]
    reporter = fields.first(found, "reporting-mta") or fields.first(found, "user-agent")
    kind = _UNPRINTED.sub("", fields.first(found, "feedback-type").lower())[:40] or "abuse"
    return Complaint(kind, (*[one for one in named if one], *recipient(copied)), status.name(reporter))


def recipient(copied: Fields) -> tuple[str, ...]:
    """Whom the copied message says it is for, where that is one address."""
    found = {match for value in fields.every(copied, "to")[:_READ] for match in _ADDRESS.findall(value)}
    return tuple(found) if len(found) == 1 else ()
