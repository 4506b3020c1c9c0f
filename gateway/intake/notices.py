"""What the submitter is told of each recipient: what the client said, else what the key says, else what the door's mail
gets. Nobody is told of mail with the null sender, so that no bounce is answered by one (RFC 3461, 5.2.3).

Values are sums of message/notify.py. Pure.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from gateway.message import notify
from gateway.message.model import SmtpEnvelope, Submission
from gateway.policy.auth import Principal

Said = Mapping[str, tuple[int, str]]  # of an address: what to tell of it, and its ORCPT

NOTHING_SAID: Final[Said] = MappingProxyType({})


def by_http(principal: Principal, submission: Submission) -> int:
    """Of every recipient of a JSON submission."""
    if submission.notify is not None:
        return submission.notify
    return notify.BY_HTTP if principal.dsn is None else principal.dsn


def by_smtp(principal: Principal, sender: str) -> int:
    """Of a recipient of SMTP mail of whom the client said nothing."""
    if not sender:
        return 0
    return notify.BY_SMTP if principal.dsn is None else principal.dsn


def said(envelope: SmtpEnvelope, unsaid: int) -> Said:
    """What the client said of recipients; `unsaid` stands where it said nothing.

    An address twice is one recipient: all that is wanted of it is told, and the first ORCPT stays.
    """
    if not envelope.notify:
        return NOTHING_SAID
    found: dict[str, tuple[int, str]] = {}
    for address, asked, orcpt in zip(envelope.recipients, envelope.notify, envelope.orcpt, strict=True):
        told = unsaid if asked is None or not envelope.sender else asked
        before, first = found.get(address, (0, ""))
        found[address] = (before | told, first or orcpt)
    return found
