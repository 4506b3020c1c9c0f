"""From what was said of a recipient to its result: state, event, next try. Pure.

Guarantees: what may have been delivered and must not be twice has failed; who was put off because nobody was reached a
moment ago has no attempt counted and no event. What a reply means is decided in verdict.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from msgspec import structs

from gateway.delivery import envelope, verdict
from gateway.delivery.errand import Said
from gateway.delivery.verdict import Decision
from gateway.events import BounceClass, EventType, Scope, State
from gateway.store.queue import Claimed, Leased, Result

CAPTURE: Final = "capture"  # stages of words of our own, after which there is nothing to judge
SUPPRESSION: Final = "suppression"
TURN: Final = "turn"  # not begun with: it waits for its turn
_SPREAD: Final = 0.2  # of a pause, for those that were put off by it
_UNCERTAIN: Final = Decision(
    State.FAILED, EventType.FAILED, bounce_class=BounceClass.UNCERTAIN, scope=Scope.INFRASTRUCTURE
)
_OURS: Final = {
    CAPTURE: Decision(State.CAPTURED, EventType.CAPTURED),
    SUPPRESSION: Decision(State.SUPPRESSED, EventType.SUPPRESSED),
    TURN: Decision(State.QUEUED, None),
}


@dataclass(frozen=True, slots=True)
class Terms:
    """What holds for all recipients of an attempt: the time (Unix ms) it ended, when the message's life ends, the
    pauses between tries, and how far (0 to 1) this one's are spread."""

    now: int
    expires_at: int
    retry_s: Sequence[float]
    jitter: float


def result(recipient: Leased, said: Said, claimed: Claimed, terms: Terms) -> Result:
    """What becomes of a recipient in hand."""
    tries = recipient.attempts + (said.put_off_s is None)
    word = said.word
    decision = _OURS.get(word.stage) or _decide(said, claimed, tries, terms)
    return Result(
        recipient.id,
        recipient.fence,
        decision.state,
        decision.event,
        attempts=tries,
        to=recipient.address,
        next_at=decision.next_at,
        reply=word.text,
        bounce_class=decision.bounce_class,
        scope=decision.scope,
        stage=word.stage,
        host=said.host,
        address=said.address,
        tls=said.tls,
        note=said.note,
        possible_duplicate=recipient.possible_duplicate or word.uncertain,
        dsn_passed=decision.state is State.DELIVERED
        and said.offer is not None
        and envelope.passes_success(said.offer, recipient.notify),
        source=said.source,
        ehlo=said.ehlo,
    )


def _decide(said: Said, claimed: Claimed, tries: int, terms: Terms) -> Decision:
    if said.word.uncertain and claimed.at_most_once:
        return _UNCERTAIN
    decision = verdict.judge(
        said.word,
        tries=tries,
        expires_at=terms.expires_at,
        now=terms.now,
        retry_s=terms.retry_s,
        jitter=terms.jitter,
    )
    if said.put_off_s is None or decision.state is not State.DEFERRED:
        return decision
    # Nobody was asked, so nothing is counted and nothing told: it comes again when somebody may be asked.
    again_at = terms.now + int(said.put_off_s * 1000 * (1 + _SPREAD * terms.jitter)) + 1
    return structs.replace(decision, event=None, next_at=min(again_at, terms.expires_at))
