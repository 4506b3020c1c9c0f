"""Addresses that play a part: what a remote host would say of them, and what would be heard of them later.

Guarantees: no network; the same address always plays the same part, given how often it was tried. What they say is
judged as what hosts say, so that retries, bounces and notifications are the real ones. Who is not known by name is
delivered, and the reply lists the parts. What follows from a delivery is written right after it: a process that is
killed between the two, or a store that fails, leaves it out.
"""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from gateway.config import SIMULATED
from gateway.delivery.verdict import Word
from gateway.errors import StoreError
from gateway.events import BounceClass, EventType, Scope, State
from gateway.message import address
from gateway.runtime import Clock, Supervisor
from gateway.store.queue import Attempt, Heard, Leased, Queue, Result

HOST: Final = "simulator"
SLOW_S: Final = 10
SLOWEST_S: Final = 120

_LOCAL: Final = re.compile(r"([a-z]+)(?:\+(.*))?", re.ASCII | re.DOTALL)
_NUMBER: Final = re.compile(r"\d{1,6}", re.ASCII)
_NO_USER: Final = "550 5.1.1 <{to}>: no such user (the simulator)"
_DELIVERED: Final = "250 2.0.0 delivered to the simulator: {note}"

# What is delivered, and what follows.
_DELIVERING: Final = {
    "ok": "nothing follows",
    "slow": "after a while",
    "complain": "a complaint follows",
    "late": "a bounce follows",
    "open": "it is opened",
    "click": "a link is followed",
    "unsubscribe": "an unsubscription follows",
    "autoreply": "an automatic reply would follow, and change nothing",
}
PARTS: Final = (*_DELIVERING, "bounce", "full", "soft", "defer", "refuse")

log = logging.getLogger("gateway.delivery")


class Simulator:
    """Asked by an attempt, and told what came of it."""

    def __init__(
        self,
        queue: Queue,
        supervisor: Supervisor,
        clock: Clock,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._queue = queue
        self._supervisor = supervisor
        self._clock = clock
        self._sleep = sleep

    async def word(self, recipient: Leased) -> Word:
        """What a host would have said; `slow@` takes its time, SLOWEST_S at most."""
        part, detail = part_of(recipient.address)
        to = recipient.address
        match part:
            case "bounce":
                return Word("rcpt", 550, "5.1.1", _NO_USER.format(to=to))
            case "full" | "soft":
                return Word("rcpt", 452, "4.2.2", f"452 4.2.2 <{to}>: mailbox full (the simulator)")
            case "refuse":
                return Word("dot", 550, "5.7.1", "550 5.7.1 the content looks like spam (the simulator)")
            case "defer":
                return _deferred(recipient, detail)
            case "slow":
                await self._sleep(min(_number(detail, SLOW_S), SLOWEST_S))
        note = _DELIVERING.get(part) or f"this address has no part; there are {', '.join(PARTS)}"
        return Word("dot", 250, "2.0.0", _DELIVERED.format(note=note))

    def told(self, attempts: Sequence[Attempt]) -> None:
        """Attempts that are written down: what follows from a delivery is heard of next. Those of other routes cost a
        comparison."""
        heard = [
            fact
            for attempt in attempts
            if attempt.route == SIMULATED
            for result in attempt.results
            if (fact := self._afterwards(attempt.message, result)) is not None
        ]
        if heard:
            self._supervisor.start(self._hear(heard), name="simulator")

    async def _hear(self, heard: Sequence[Heard]) -> None:
        try:
            await self._queue.settle_late(heard)
        except StoreError as error:
            log.warning("what the simulator has to tell cannot be written: %s", error)

    def _afterwards(self, message: int, result: Result) -> Heard | None:
        if result.state is not State.DELIVERED:
            return None
        part, _ = part_of(result.to)
        common = (message, result.recipient)
        at = self._clock.now_ms()
        match part:
            case "complain":
                return Heard(*common, EventType.COMPLAINED, at, reply="abuse", host=HOST)
            case "late":
                return Heard(
                    *common,
                    EventType.BOUNCED,
                    at,
                    reply=_NO_USER.format(to=result.to),
                    status="5.1.1",
                    bounce_class=BounceClass.INVALID_RECIPIENT,
                    scope=Scope.RECIPIENT,
                    host=HOST,
                )
            case "open":
                return Heard(*common, EventType.OPENED, at, user_agent=HOST)
            case "click":
                url = f"https://{address.domain_of(result.to)}/"
                return Heard(*common, EventType.CLICKED, at, url=url, user_agent=HOST)
            case "unsubscribe":
                return Heard(*common, EventType.UNSUBSCRIBED, at, user_agent=HOST)
            case _:
                return None


def part_of(recipient: str) -> tuple[str, str]:
    """`("defer", "3")` of `defer+3@…`; the name is in lower case, and "" where it names no part."""
    match = _LOCAL.fullmatch(recipient.rpartition("@")[0].lower())
    return (match[1], match[2] or "") if match is not None else ("", "")


def _deferred(recipient: Leased, detail: str) -> Word:
    """`defer` for ever, `defer+3` three times."""
    times = _number(detail, 0)
    if times and recipient.attempts >= times:
        return Word("dot", 250, "2.0.0", _DELIVERED.format(note=f"it was deferred {recipient.attempts} times"))
    left = f"{times - recipient.attempts} more times" if times else "for ever"
    return Word("rcpt", 451, "4.3.0", f"451 4.3.0 <{recipient.address}>: try again, {left} (the simulator)")


def _number(text: str, default: int) -> int:
    return int(text) if _NUMBER.fullmatch(text) else default
