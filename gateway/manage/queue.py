"""The queue as operators ask for it: counted, listed, shown, tried again."""

import json
import logging
from typing import Any, Final
from uuid import UUID

from gateway import views
from gateway.events import State
from gateway.manage import refusals
from gateway.runtime import Clock, read_id, rfc3339
from gateway.store.queue import Queue
from gateway.store.shown import Filter

_LISTED_AT_MOST: Final = 10_000
_WAITING: Final = frozenset({"backoff", "schedule"})  # what a retry can move

log = logging.getLogger("gateway.manage")

Args = dict[str, Any]


class QueueActions:
    """Actions over one queue."""

    def __init__(self, queue: Queue, clock: Clock) -> None:
        self._queue = queue
        self._clock = clock

    async def summary(self, args: Args) -> Any:
        """Recipients by destination and place, those with the most first."""
        del args
        rows = [
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
            for count in await self._queue.counts()
        ]
        places = ("ready", "waiting", "in_hand", "held")
        rows.sort(key=lambda row: -sum(int(row[place] or 0) for place in places))
        total = {place: sum(int(row[place] or 0) for row in rows) for place in places}
        return {"total": total, "destinations": rows}

    async def list_(self, args: Args) -> Any:
        """Args: the filter (id, key, account, route, domain, state, older_s, limit)."""
        return [views.row_view(row) for row in await self._queue.find(self._filter(args))]

    async def show(self, args: Args) -> Any:
        """Args: id, account (None: any). A message, its recipients and its events."""
        uuid = message_uuid(str(args["id"]))
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
        which = self._filter(args)
        if not args.get("all") and which == Filter(limit=which.limit):
            raise refusals.invalid("", "say which: --id, --key, --account, --route, --domain, --older, or --all")
        if args.get("dry_run"):
            rows = [row for row in await self._queue.find(which) if row.recipient.blocked_by in _WAITING]
            return {"would_retry": len(rows), "first": [views.row_view(row) for row in rows[:25]]}
        count = await self._queue.retry(which, self._clock.now_ms())
        log.info("queue retry: %d recipients", count)
        return {"retried": count}

    def _filter(self, args: Args) -> Filter:
        uuid = None
        if args.get("id"):
            uuid = message_uuid(args["id"])
            if uuid is None:
                raise refusals.unknown("message", args["id"])
        state = args.get("state")
        if state and state not in set(State):
            raise refusals.invalid("state", f"one of {', '.join(State)}")
        older_s = args.get("older_s")
        return Filter(
            uuid=uuid,
            account=args.get("account"),
            key=args.get("key"),
            route=args.get("route"),
            domain=args.get("domain"),
            state=State(state) if state else None,
            older_than=self._clock.now_ms() - int(older_s * 1000) if older_s else None,
            limit=min(int(args.get("limit") or 100), _LISTED_AT_MOST),
        )


def message_uuid(text: str) -> bytes | None:
    """A message's id in any of its forms (`eml_…`, the UUID), or None."""
    if (uuid := read_id("eml_", text)) is not None:
        return uuid
    try:
        return UUID(text).bytes
    except ValueError:
        return None
