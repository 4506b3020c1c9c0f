"""The test of an endpoint: a signed request that must be answered with a success before it is told anything.

Guarantees: it is noted among the attempts, and counts as no failure of the endpoint. Tests are bounded, in all and of
each account, so that nobody who asks for many keeps others from theirs.
"""

from collections import Counter
from typing import Final

from gateway.runtime import Clock, show_id, uuid7
from gateway.store import webhook as endpoints
from gateway.store.vault import Vault
from gateway.store.webhook import Tried, WebhookRecord
from gateway.store.webhooks import WebhookStore
from gateway.webhooks import endpoint, formats
from gateway.webhooks.sender import PINGS, Sender

OF_ACCOUNT: Final = PINGS // 5  # tests at once


class Pinger:
    """Asks endpoints whether they are there."""

    def __init__(self, sender: Sender, store: WebhookStore, vault: Vault, clock: Clock) -> None:
        self._sender = sender
        self._store = store
        self._vault = vault
        self._clock = clock
        self._under_way: Counter[str] = Counter()  # by account

    async def ping(self, record: WebhookRecord) -> Tried:
        """`error` is "" where it answered with a success. Raises StoreError."""
        if self._under_way[record.account] >= OF_ACCOUNT or self._under_way.total() >= PINGS:
            return Tried(0, self._clock.now_ms(), 1, 0, 0, "too many tests are under way: try again in a minute")
        self._under_way[record.account] += 1
        try:
            return await self._ping(record)
        finally:
            self._under_way -= Counter({record.account: 1})  # none is kept at 0

    async def _ping(self, record: WebhookRecord) -> Tried:
        now = self._clock.now_ms()
        payload = formats.ping(record.format, show_id("evt_", uuid7(now)), endpoints.show(record.uuid), now)
        secrets = endpoint.unwrap(self._vault, record).good(now)
        answer = await self._sender.post(record.url, record.format, payload, secrets, attempt=1)
        error = "" if answer.delivered else answer.words
        tried = Tried(0, now, 1, answer.status, answer.took_ms, error)
        await self._store.tried(record.id, tried)
        return tried
