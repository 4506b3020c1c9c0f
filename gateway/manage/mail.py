"""What the programs of an account do with their own mail that was accepted: look it up, follow it, change its fate.

Guarantees: nothing of another account is found or changed; a recipient in hand is left to its attempt.
"""

import logging
from typing import Final

from gateway.errors import Reason, Refused
from gateway.message.schedule import LATEST_S, Start
from gateway.runtime import Clock, show_id
from gateway.store.queue import Queue
from gateway.store.shown import Filter, Order, Standing, Verb
from gateway.store.sqlite import SqliteStore
from gateway.tokens import Tokens

_ALL: Final = 1 << 31  # of a message's recipients

log = logging.getLogger("gateway.manage")


class AccountMail:
    """`archive`, `events` and `commits` are the store's; `tokens` make what clients hold of places in it."""

    def __init__(self, store: SqliteStore, tokens: Tokens, clock: Clock) -> None:
        self.archive = store.archive
        self.events = store.event_log
        self.commits = store.commits
        self.tokens = tokens
        self._queue: Queue = store
        self._clock = clock

    async def cancel(self, uuid: bytes, account: str, *, key: str) -> int:
        """Of the recipients that are not final; returns how many. `key` did it. Raises StoreError. The others
        likewise."""
        return await self._order(Verb.CANCEL, uuid, account, key)

    async def release(self, uuid: bytes, account: str, *, key: str) -> int:
        """Of those that are held."""
        return await self._order(Verb.RELEASE, uuid, account, key)

    async def retry(self, uuid: bytes, account: str, *, key: str) -> int:
        """Now, of those that wait for another try; what is scheduled stays so."""
        which = Filter(uuid=uuid, account=account, standing=Standing.BACKOFF, limit=_ALL)
        return self._done("retry", uuid, key, await self._queue.retry(which, self._clock.now_ms()))

    async def reschedule(self, uuid: bytes, account: str, start: Start, *, key: str) -> int:
        """Send a scheduled message at another time. Raises Refused besides (too far ahead)."""
        now = self._clock.now_ms()
        at = start.at if start.delay_s is None else now + int(start.delay_s * 1000)
        if at is None or at <= now:
            at = now
        elif at > now + LATEST_S * 1000:
            raise Refused(Reason.VALIDATION_ERROR, "send_at: must be within a year.", param="send_at")
        return self._done("reschedule", uuid, key, await self._queue.reschedule(uuid, account, at, now))

    async def _order(self, verb: Verb, uuid: bytes, account: str, key: str) -> int:
        which = Filter(uuid=uuid, account=account, limit=_ALL)
        order = Order(verb, f"by the key {key}")
        return self._done(verb.value, uuid, key, await self._queue.operate(which, order, self._clock.now_ms()))

    def _done(self, verb: str, uuid: bytes, key: str, count: int) -> int:
        if count:
            log.info("%s of %s by the key %s: %d recipients", verb, show_id("eml_", uuid), key, count)
        return count
