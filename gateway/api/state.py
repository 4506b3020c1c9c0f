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
_LOST: Final = frozenset({State.BOUNCED, State.FAILED, State.SUPPRESSED, State.CANCELLED})


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
    """What was said about the recipient that will not get it, of several the one that speaks for the message, or would;
    None where there is none."""
    lost = [recipient for recipient in recipients if recipient.state in _LOST]
    if not lost:
        return None
    worst = min(lost, key=lambda recipient: PRECEDENCE.index(recipient.state))
    return worst.reply or worst.bounce_class or worst.state.value
