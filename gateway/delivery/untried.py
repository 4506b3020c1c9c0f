"""What becomes of messages that were in hand and not tried, as attempts that the queue can settle. Pure."""

from collections.abc import Sequence

from gateway.events import BounceClass, EventType, Scope, State
from gateway.store.queue import Attempt, Claimed, Due, Result


def give_back(claimed: Claimed, due: Due, now: int) -> Attempt:
    """Claimed and not tried: back to the queue, nothing counted, nothing told."""
    results = [
        Result(r.id, r.fence, State.QUEUED, event=None, attempts=r.attempts, to=r.address) for r in claimed.recipients
    ]
    return _untried(claimed, due, now, results)


def expired(claimed: Claimed, due: Due, now: int) -> Attempt:
    """Its time was over before its turn came; what was said at the last attempt is all there is to tell."""
    results = [
        Result(
            r.id,
            r.fence,
            State.FAILED,
            EventType.EXPIRED,
            attempts=r.attempts,
            to=r.address,
            reply=r.reply,
            host=r.host,
            bounce_class=BounceClass.MESSAGE_EXPIRED,
            scope=Scope.INFRASTRUCTURE,
            stage="expire",
            possible_duplicate=r.possible_duplicate,
        )
        for r in claimed.recipients
    ]
    return _untried(claimed, due, now, results)


def _untried(claimed: Claimed, due: Due, now: int, results: Sequence[Result]) -> Attempt:
    return Attempt(
        message=claimed.message,
        uuid=claimed.uuid,
        destination=due.destination,
        route=due.route,
        started_at=now,
        ended_at=now,
        results=tuple(results),
        tried=False,
    )
