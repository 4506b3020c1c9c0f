"""What became of a message as the result object of nodemailer, which clients of i-as read.

Times are integer milliseconds and sizes bytes on the wire; they and `response` are of the last transaction in which
the next hop took the message, or of the last one at all. `envelope.to` has every recipient, the refused ones too.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from gateway.delivery.passthrough import Passed
from gateway.delivery.waits import Outcome
from gateway.events import State
from gateway.intake import Receipt
from gateway.message import address
from gateway.message.model import Submission
from gateway.runtime import show_uuid
from gateway.store.queue import Attempt

TAKEN: Final = frozenset((State.DELIVERED, State.CAPTURED))


class Envelope(msgspec.Struct, frozen=True, rename={"sender": "from"}):
    """The envelope's addresses."""

    sender: str
    to: tuple[str, ...]


class Info(msgspec.Struct, frozen=True, rename="camel"):
    """`accepted` and `rejected` are bare addresses; who is in neither is still being tried."""

    accepted: tuple[str, ...]
    rejected: tuple[str, ...]
    envelope_time: int
    message_time: int
    message_size: int
    response: str
    envelope: Envelope
    message_id: str


def of_outcome(outcome: Outcome) -> Info:
    """Of a queued message, as it stands."""
    view = outcome.view
    carrier = _carrier(outcome.attempts)
    replies = [recipient.reply for recipient in view.recipients if recipient.reply]
    return Info(
        accepted=tuple(r.address for r in view.recipients if r.state in TAKEN),
        rejected=tuple(r.address for r in view.recipients if r.state.final and r.state not in TAKEN),
        envelope_time=carrier.envelope_ms if carrier is not None else 0,
        message_time=carrier.content_ms if carrier is not None else 0,
        message_size=(carrier.wire_bytes if carrier is not None else 0) or view.size,
        response=_response(carrier) or next(iter(replies), ""),
        envelope=Envelope(view.envelope_sender, tuple(r.address for r in view.recipients)),
        message_id=f"<{view.message_id}>",
    )


def of_passed(passed: Passed) -> Info:
    """Of a message that a named relay took."""
    attempt = passed.attempt
    return Info(
        accepted=tuple(r.to for r in attempt.results if r.state in TAKEN),
        rejected=tuple(r.to for r in attempt.results if r.state not in TAKEN),
        envelope_time=attempt.envelope_ms,
        message_time=attempt.content_ms,
        message_size=attempt.wire_bytes,
        response=_response(attempt),
        envelope=Envelope(passed.envelope_sender, tuple(r.to for r in attempt.results)),
        message_id=f"<{passed.message_id}>",
    )


def of_receipt(receipt: Receipt, submission: Submission) -> Info:
    """Of a message that is stored, when nothing more can be learnt of it now."""
    sender = submission.sender.address if submission.sender is not None else ""
    recipients = dict.fromkeys(box.address for box in (*submission.to, *submission.cc))
    return Info(
        accepted=(),
        rejected=(),
        envelope_time=0,
        message_time=0,
        message_size=0,
        response="",
        envelope=Envelope(sender, tuple(recipients)),
        message_id=f"<{show_uuid(receipt.uuid)}@{address.domain_of(sender)}>",  # as intake writes it
    )


def _carrier(attempts: Sequence[Attempt]) -> Attempt | None:
    """The attempt that is told of."""
    took = (attempt for attempt in reversed(attempts) if any(r.state in TAKEN for r in attempt.results))
    return next(took, attempts[-1] if attempts else None)


def _response(attempt: Attempt | None) -> str:
    results = attempt.results if attempt is not None else ()
    best = sorted(results, key=lambda result: result.state not in TAKEN)
    return best[0].reply if best else ""
