"""The state of a message: one pure function of its recipients' states, shared by every dialect.

Rule: while any recipient is open the message is open, and the recipient that is furthest behind speaks for
it; once all are final, the worst outcome does, so that a message is `delivered` only when everybody has it.
"""

from collections.abc import Iterable
from typing import Final

from gateway.events import State
from gateway.store.shown import RecipientView

# First that occurs wins. Open states: what waits for a person or a date before what the queue moves by
# itself, and trouble (deferred) before the ordinary. Final ones: bad news before good.
PRECEDENCE: Final = (
    State.HELD,
    State.SCHEDULED,
    State.DEFERRED,
    State.QUEUED,
    State.BOUNCED,
    State.FAILED,
    State.SUPPRESSED,
    State.CANCELLED,
    State.CAPTURED,
    State.DELIVERED,
)


def aggregate(states: Iterable[State]) -> State:
    """The message's state. A message without recipients does not exist; it would be `failed`."""
    present = set(states)
    return next((state for state in PRECEDENCE if state in present), State.FAILED)


def before(state: State) -> tuple[State, ...]:
    """Those that speak for a message rather than this one."""
    return PRECEDENCE[: PRECEDENCE.index(state)]


def delivered_at(recipients: Iterable[RecipientView]) -> int | None:
    """When the last recipient got it (Unix ms); None until all have."""
    latest = None
    for recipient in recipients:
        if recipient.state is not State.DELIVERED:
            return None
        latest = max(latest or 0, recipient.updated_at)
    return latest


def bounce_reason(recipients: Iterable[RecipientView]) -> str | None:
    """What was said about the first recipient that will not get it; None where there is none."""
    lost = (State.BOUNCED, State.FAILED, State.SUPPRESSED, State.CANCELLED)
    return next((r.reply or r.bounce_class or r.state.value for r in recipients if r.state in lost), None)
