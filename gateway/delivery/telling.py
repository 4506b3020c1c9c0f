"""What attempts came to, as lines of the mail log."""

from collections.abc import Sequence

from gateway.events import EventType, State
from gateway.observe import Field, MailLog
from gateway.runtime import show_id
from gateway.store.queue import Attempt, Result


def tell(log: MailLog, attempts: Sequence[Attempt]) -> None:
    """One line for each recipient of whom there is something to tell."""
    if not log.enabled:
        return
    for attempt in attempts:
        for result in attempt.results:
            if result.event is not None:
                _line(log, attempt, result, result.event)


def _line(log: MailLog, attempt: Attempt, result: Result, event: EventType) -> None:
    extra: dict[str, Field] = {}
    if result.state is State.DEFERRED:
        extra["retry_in_s"] = max(0, (result.next_at - attempt.ended_at) // 1000)
    if result.bounce_class is not None:
        extra["class"] = result.bounce_class.value
    if result.note:
        extra["note"] = result.note
    if result.possible_duplicate:
        extra["possible_duplicate"] = True
    log.attempted(
        event.value,
        message=show_id("eml_", attempt.uuid),
        to=result.to,
        route=attempt.route,
        host=result.host,
        address=result.address,
        tls=result.tls,
        attempt=result.attempts,
        took_ms=max(0, attempt.ended_at - attempt.started_at),  # the clock may have been set back
        reply=result.reply,
        extra=extra,
    )
