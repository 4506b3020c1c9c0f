"""What is in hand for a destination, as people see it. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass

from gateway.delivery.lane import Lane
from gateway.delivery.pacing import Standing


@dataclass(frozen=True, slots=True)
class LaneSeen:
    """`in_hand` counts recipients, `pending` the messages of which none is being delivered; `width` is how many
    connections it may have now, fewer than usual where the host `slowed` us; `answers`: whether its last attempt was
    answered."""

    in_hand: int
    pending: int
    connections: int
    width: int
    slowed: bool
    answers: bool


def of(lanes: Iterable[Lane], route: str, domain: str) -> LaneSeen | None:
    """That of a destination; None where nothing is in hand for it."""
    for lane in lanes:
        if (lane.due.route, lane.due.domain) == (route, domain):
            return LaneSeen(
                in_hand=lane.recipients,
                pending=len(lane.pending),
                connections=lane.workers,
                width=lane.pace.width,
                slowed=lane.pace.slowed,
                answers=lane.pace.standing is not Standing.SILENT,
            )
    return None
