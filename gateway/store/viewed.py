"""A recipient's row as people see it: why it is not tried now, and when it is next. Pure.

Guarantees: every recipient that is not final says what it waits for; when it is next is None only where that depends on
an operator.
"""

from typing import Final

from gateway.events import State
from gateway.store.db import Row
from gateway.store.shown import RecipientView
from gateway.store.suspensions import InForce

# Where a recipient stands, as statements tell it: bits, so that several can be asked for.
READY: Final = 1
BACKOFF: Final = 2
SCHEDULE: Final = 4
HELD: Final = 8
LEASED: Final = 16
_CLAIMABLE: Final = READY | BACKOFF | SCHEDULE  # now or later

_Next = tuple[str, int | None]  # blocked_by, and the time of the next attempt


def recipient(row: Row, *, key: str, now: int, in_force: InForce) -> RecipientView:
    """Of the columns that `message_recipients`, `find_slice` and `find_row` share; the first has two more."""
    id_, address, state, attempts, at, expires_at, reply, host, bounce_class, place = row[:10]
    updated_at, uncertain, route, domain, scope, stage = row[10:16]
    opens, clicks = row[16:] or (0, 0)
    said = State(state)
    blocked_by, next_at = "", None
    if not said.final:
        blocked_by, next_at = _next(place, at, stage, now)
        suspended = in_force.of(route, domain, key) if in_force and place & _CLAIMABLE else None
        if suspended is not None and (suspended.until is None or suspended.until > (at or now)):
            blocked_by, next_at = "suspended", suspended.until
    return RecipientView(
        id=id_,
        address=address,
        state=said,
        attempts=attempts,
        next_at=next_at,
        expires_at=expires_at,
        reply=reply,
        host=host,
        bounce_class=bounce_class,
        blocked_by=blocked_by,
        updated_at=updated_at,
        possible_duplicate=bool(uncertain),
        route=route,
        domain=domain,
        scope=scope,
        stage=stage,
        opens=opens,
        clicks=clicks,
    )


def _next(place: int, at: int | None, stage: str, now: int) -> _Next:
    if place == LEASED:
        return "lease", now
    if place == HELD:
        return "held", None
    if place == SCHEDULE:
        return "schedule", at
    if place == BACKOFF:
        return ("dns" if stage == "dns" else "backoff"), at
    return "connections", now
