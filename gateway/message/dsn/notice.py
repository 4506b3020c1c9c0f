"""What a delivery status notification tells: values, and the status codes of RFC 3463. Pure, no text for people."""

import re
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

MAX_REPLY: Final = 2000  # characters of a reply that are told again
EXPIRED: Final = "MessageExpired"

_SAID: Final = re.compile(r"\d{3}(?:[ -]([245])\.(\d{1,3}\.\d{1,3})(?!\S)|(?!\S))")


class Action(StrEnum):
    """What became of a recipient (RFC 3464, 2.3.3)."""

    FAILED = "failed"
    DELAYED = "delayed"
    DELIVERED = "delivered"
    RELAYED = "relayed"  # handed over to a host that will not tell of it


@dataclass(frozen=True, slots=True)
class Fate:
    """One recipient. `original` is ORCPT as it came, "" without; `reason` a bounce class of events.py, "" when all went
    well; `reply` what was said last, by `host` or, where that is "", by this gateway. `at` is aware."""

    address: str
    original: str
    action: Action
    reason: str
    reply: str
    host: str
    at: datetime
    tries: int

    @property
    def spoken(self) -> bool:
        """Whether `reply` is what the remote host said, not what this gateway saw."""
        return bool(self.host) and _SAID.match(self.reply) is not None


@dataclass(frozen=True, slots=True)
class Notice:
    """A notification on one message; all its recipients have the same fate or, delivered and relayed, a good one.

    `id` is this gateway's public id of the message, `message_id` its Message-ID without angle brackets, `envelope_id`
    ENVID as it came. `header` is that of the message, "" where it is gone; `body` what is quoted besides, None for the
    header alone. Times are aware; `retry_until` matters to a delay.
    """

    hostname: str
    to: str
    id: str
    subject: str
    message_id: str
    envelope_id: str
    arrived_at: datetime
    retry_until: datetime
    fates: tuple[Fate, ...]
    header: bytes
    body: bytes | None = None

    @property
    def action(self) -> Action:
        return self.fates[0].action


_DIGIT: Final = {Action.FAILED: "5", Action.DELAYED: "4", Action.DELIVERED: "2", Action.RELAYED: "2"}
_DETAILS: Final = {
    "InvalidRecipient": "1.1",
    "BadDomain": "1.2",
    "InactiveMailbox": "2.1",
    "InvalidSender": "1.8",
    "QuotaIssues": "2.2",
    "NoAnswerFromHost": "4.1",
    "BadConnection": "4.2",
    "DNSFailure": "4.3",
    "RoutingErrors": "4.4",
    "ProtocolErrors": "5.0",
    "AuthenticationFailed": "7.0",
    "PolicyRelated": "7.1",
    "ReputationBlock": "7.1",
    "ContentRefused": "6.0",
    "TooManyRecipients": "5.3",
    "Uncertain": "4.2",
}
# Nothing that the recipient stands for: who reads class 5 would strike them off a list.
_PASSING: Final = frozenset(
    {"NoAnswerFromHost", "BadConnection", "DNSFailure", "TransientFailure", "AuthenticationFailed", "Uncertain"}
)


def status(fate: Fate) -> str:
    """The code of RFC 3463: what was said where it fits what became of it, else by the reason."""
    if fate.action is Action.FAILED and fate.reason == EXPIRED:
        return "4.4.7"  # class 4 with a failure: sent once more it may arrive (RFC 3463, 2)
    passing = fate.action is Action.FAILED and fate.reason in _PASSING
    digit = "4" if passing else _DIGIT[fate.action]
    found = _SAID.match(fate.reply)
    if found is None or found[1] is None:
        return f"{digit}.{_DETAILS.get(fate.reason, '0.0')}"
    if "2" in {digit, found[1]}:
        return f"{digit}.{found[2] if found[1] == digit else '0.0'}"
    # Tried again, it is a 4 whatever was said; failed, what was said is the host's own word.
    return f"{digit if digit == '4' else found[1]}.{found[2]}"
