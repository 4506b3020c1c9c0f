"""The queue as operators ask for it: counted, listed, shown, tried again, changed.

Guarantees: a change needs a filter, or `all`; a dry run changes nothing and says what the same without it would do; a
recipient in hand is left to its attempt, and counted apart; a redirection makes no address stand twice among those of a
message that are queued.
"""

import asyncio
import json
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

from gateway import views
from gateway.config import Config, MxRoute
from gateway.events import State
from gateway.manage import refusals, selection
from gateway.manage.selection import LISTED_AT_MOST
from gateway.message import address
from gateway.runtime import Clock, rfc3339, show_id
from gateway.store.queue import Queue
from gateway.store.shown import Count, Filter, Order, QueueRow, Standing, Verb

_FIRST: Final = 25  # shown of what a dry run would change
_REASON_CHARACTERS: Final = 500
_RETURNED: Final = "550 5.0.0 The administrator of this mail system returned the message."
_DONE: Final = {
    Verb.HOLD: "held",
    Verb.RELEASE: "released",
    Verb.CANCEL: "cancelled",
    Verb.BOUNCE: "bounced",
    Verb.REDIRECT: "redirected",
}
_CHANGES: Final = {
    Verb.HOLD: Standing.FREE,
    Verb.RELEASE: Standing.HELD,
    Verb.CANCEL: Standing.OPEN,
    Verb.BOUNCE: Standing.OPEN,
    Verb.REDIRECT: Standing.OPEN,
}

log = logging.getLogger("gateway.manage")

Args = dict[str, Any]


class QueueActions:
    """Actions over one queue. `on_go` is called before anything is let go because an operator says so."""

    def __init__(self, config: Config, queue: Queue, clock: Clock) -> None:
        self._config = config
        self._queue = queue
        self._clock = clock
        self.on_go: Callable[[], None] = lambda: None

    def reconfigure(self, config: Config) -> None:
        """Routes may be others from now on."""
        self._config = config

    async def summary(self, args: Args) -> Any:
        """Recipients by destination and place, those with the most first, and what is suspended. Args: limit (of
        destinations; without: all)."""
        counts = await self._queue.counts()
        # In a thread: with ten thousand destinations it would hold up mail.
        summary: Args = await asyncio.to_thread(_summary, counts, args.get("limit"))
        return summary | {"suspensions": [views.suspension_view(one) for one in await self._queue.suspensions()]}

    async def list_(self, args: Args) -> Any:
        """Args: the filter (selection.py)."""
        return [views.row_view(row) for row in await self._queue.find(selection.read(args, self._clock.now_ms()))]

    async def show(self, args: Args) -> Any:
        """Args: id, account (None: any). A message, its recipients and its events."""
        uuid = selection.message_uuid(str(args["id"]))
        view = await self._queue.message(uuid, args.get("account")) if uuid else None
        if view is None:
            raise refusals.unknown("message", args["id"])
        events = await self._queue.events(view.uuid)
        return {
            **views.message_view(view),
            "events": [
                {"type": e.type.value, "to": e.recipient, "at": rfc3339(e.at), **json.loads(e.data or "{}")}
                for e in events
            ],
        }

    async def retry(self, args: Args) -> Any:
        """Args: the filter, or all: true; dry_run counts and lists the first 25."""
        which = selection.read_change(args, self._clock.now_ms())
        in_hand = await self._in_hand(which)
        if args.get("dry_run"):
            # As the store does it: what is to be sent later goes early only where it is meant.
            named = which.uuid is not None or which.state is State.SCHEDULED
            rows = await self._listed(which, Standing.WAITING if named else Standing.BACKOFF)
            return dry_run("retry", rows) | {"in_hand": in_hand}
        self.on_go()
        count = await self._queue.retry(which, self._clock.now_ms())
        log.info("queue retry (%s): %d recipients", selection.words(args), count)
        return {"retried": count, "in_hand": in_hand, "suspensions": len(await self._queue.suspensions())}

    async def hold(self, args: Args) -> Any:
        """Args: the filter, or all: true; reason; dry_run. The others likewise."""
        return await self._change(args, Order(Verb.HOLD, reason_of(args)))

    async def release(self, args: Args) -> Any:
        return await self._change(args, Order(Verb.RELEASE, reason_of(args)))

    async def cancel(self, args: Args) -> Any:
        return await self._change(args, Order(Verb.CANCEL, reason_of(args)))

    async def bounce(self, args: Args) -> Any:
        """The reason is what the sender is told."""
        return await self._change(args, Order(Verb.BOUNCE, reason_of(args) or _RETURNED))

    async def redirect(self, args: Args) -> Any:
        """Args besides: new_route, new_address, or both. `waiting`: how many of them still wait for their next try."""
        name, new = args.get("new_route"), args.get("new_address")
        if not name and not new:
            raise refusals.invalid("", "say where to: --new-route, --new-address, or both")
        if name and name not in self._config.routes:
            known = ", ".join(self._config.routes)
            raise refusals.invalid("new_route", f"there is no route {name}; the routes are: {known}")
        try:
            to = address.parse_path(new) if new else None
        except address.AddressError as error:
            raise refusals.invalid("new_address", str(error)) from error
        by_domain = isinstance(self._config.routes.get(name or ""), MxRoute)
        order = Order(Verb.REDIRECT, reason_of(args), route=name or None, by_domain=by_domain, address=to)
        return await self._change(args, order)

    async def _change(self, args: Args, order: Order) -> Any:
        which = selection.read_change(args, self._clock.now_ms())
        in_hand = await self._in_hand(which) if order.verb is not Verb.RELEASE else 0
        if order.address is not None:
            await self._check_once(which, order.address)
        if args.get("dry_run"):
            rows = await self._listed(which, _CHANGES[order.verb])
            return dry_run(order.verb.value, rows) | {"in_hand": in_hand}
        if order.verb is Verb.RELEASE:
            self.on_go()
        waiting = await self._count(which, Standing.BACKOFF) if order.verb is Verb.REDIRECT else 0
        count = await self._queue.operate(which, order, self._clock.now_ms())
        log.info("queue %s (%s): %d recipients%s", order.verb.value, selection.words(args), count, _more(order))
        done: Args = {_DONE[order.verb]: count, "in_hand": in_hand}
        if order.verb is Verb.RELEASE:
            done["suspensions"] = len(await self._queue.suspensions())
        elif order.verb is Verb.REDIRECT:
            done["waiting"] = waiting
        return done

    async def _check_once(self, which: Filter, to: str) -> None:
        """One address for several recipients of a message is the same mail several times. Raises Refused."""
        rows = await self._listed(which, Standing.OPEN)
        if len(rows) == LISTED_AT_MOST:
            raise refusals.invalid("new_address", f"for less than {LISTED_AT_MOST} recipients at a time: give a limit")
        there = await self._queue.find(Filter(address=to, limit=LISTED_AT_MOST))
        by_recipient = {row.recipient.id: row.uuid for row in (*rows, *there)}
        times = Counter(by_recipient.values())
        if twice := next((row.uuid for row in rows if times[row.uuid] > 1), None):
            text = f"the message {show_id('eml_', twice)} would go to {to} {times[twice]} times: redirect one (to), "
            raise refusals.invalid("new_address", f"{text}and cancel the others")

    async def _listed(self, which: Filter, standing: Standing) -> Sequence[QueueRow]:
        most = min(which.limit, LISTED_AT_MOST)
        return await self._queue.find(replace(which, standing=standing, limit=most))

    async def _in_hand(self, which: Filter) -> int:
        """How many of those that are meant have an attempt now: they are left alone."""
        return await self._count(replace(which, limit=LISTED_AT_MOST), Standing.IN_HAND)

    async def _count(self, which: Filter, standing: Standing) -> int:
        return len(await self._listed(which, standing))


def _summary(counts: Sequence[Count], limit: int | None) -> Args:
    """`more`: how many destinations are not named."""
    oldest = min((count.oldest_at for count in counts if count.oldest_at is not None), default=None)
    named = sorted(counts, key=_size, reverse=True)[:limit]
    return {
        "total": {
            "ready": sum(count.ready for count in counts),
            "waiting": sum(count.waiting for count in counts),
            "in_hand": sum(count.leased for count in counts),
            "held": sum(count.held for count in counts),
        },
        "oldest_at": views.time_view(oldest),
        "destinations": [
            {
                "route": count.route,
                "domain": count.domain,
                "ready": count.ready,
                "waiting": count.waiting,
                "in_hand": count.leased,
                "held": count.held,
                "next_attempt_at": views.time_view(count.next_at),
                "oldest_at": views.time_view(count.oldest_at),
            }
            for count in named
        ],
        "more": len(counts) - len(named),
    }


def _size(count: Count) -> int:
    return count.ready + count.waiting + count.leased + count.held


def dry_run(verb: str, rows: Sequence[QueueRow]) -> Args:
    """What would be changed: how many (`more`: at least so many), and the first of them."""
    return {
        f"would_{verb}": len(rows),
        "more": len(rows) == LISTED_AT_MOST,
        "first": [views.row_view(row) for row in rows[:_FIRST]],
    }


def reason_of(args: Args) -> str:
    """What the operator says of it, in one line."""
    text = str(args.get("reason") or "").strip()
    if len(text) > _REASON_CHARACTERS or not text.isprintable():
        raise refusals.invalid("reason", f"one line of at most {_REASON_CHARACTERS} characters")
    return text


def _more(order: Order) -> str:
    said = [
        f"{name} {value}"
        for name, value in (("to the route", order.route), ("to", order.address), ("reason:", order.text))
        if value
    ]
    return f", {', '.join(said)}" if said else ""
