"""Deliveries to all endpoints: reads the event log, sends what is due, writes what came of it.

Guarantees: at least once, for what came of a request is written after its answer; nothing in the path of mail waits for
anything here, and while there is no active endpoint nothing is read. One reader follows the log for all endpoints that
are level with it; one that fell behind reads for itself, by and by. Requests are bounded, and a quarter of them is kept
for endpoints that have none on their way, half of it for accounts without many, so slow ones hold up nobody else. A
store that is away is waited for.
"""

import asyncio
import contextlib
import heapq
import logging
import random
from collections import Counter
from typing import Final

from gateway.config import Webhooks
from gateway.errors import StoreError
from gateway.metrics import Metrics
from gateway.runtime import Clock, Supervisor
from gateway.store.eventlog import EventLog, LoggedEvent
from gateway.store.vault import Vault, VaultError
from gateway.store.webhook import WebhookRecord
from gateway.store.webhooks import WebhookStore
from gateway.tokens import Tokens
from gateway.webhooks import endpoint, formats, schedule
from gateway.webhooks.backlog import AT_ONCE, WINDOW, Backlog, Item
from gateway.webhooks.endpoint import Endpoint
from gateway.webhooks.figures import WebhookFigures
from gateway.webhooks.schedule import Answer, Outcome
from gateway.webhooks.sender import CONNECTIONS, Sender

READ_ROWS: Final = 200
MOST_IN_HAND: Final = 10_000  # events, of all endpoints, as far as each may have AT_ONCE
GATHER_S: Final = 0.05  # events that come together are read together
FOLLOW_S: Final = 60.0
REST_S: Final = 0.02  # between reads of those that are behind
WRITE_RETRY_S: Final = 5.0
LAST_WRITE_S: Final = 2.0  # waited at the end for a write that is under way
STEP_MS: Final = 60_000  # a clock that is so far off was set, or the machine slept
HELD_MS: Final = 60_000  # an older event may have been erased since it was read
SPARE: Final = CONNECTIONS // 4  # requests that only endpoints without any may have
LONGEST_WAIT_S: Final = 60.0
UNREADABLE: Final = (StoreError, ValueError)  # a damaged row must not end the daemon

log = logging.getLogger("gateway.webhooks")


class Dispatcher:
    """Start it once, and tell it of every change of an endpoint."""

    def __init__(
        self,
        events: EventLog,
        store: WebhookStore,
        sender: Sender,
        *,
        config: Webhooks,
        vault: Vault,
        tokens: Tokens,
        clock: Clock,
        supervisor: Supervisor,
        figures: WebhookFigures | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self._events = events
        self._store = store
        self._sender = sender
        self._config = config
        self._vault = vault
        self._tokens = tokens
        self._clock = clock
        self._supervisor = supervisor
        self._figures = figures or WebhookFigures(Metrics())
        self._rng = rng or random.Random()  # noqa: S311 - spreads load, guards nothing
        self._endpoints: dict[int, Endpoint] = {}
        self._tail = 0  # the shared reader is there
        self._any_active = asyncio.Event()
        self._any_behind = asyncio.Event()
        self._kicked = asyncio.Event()
        self._touched: dict[int, None] = {}  # endpoints that may have something to send
        self._timers: list[tuple[int, int]] = []
        self._in_flight: Counter[str] = Counter()  # by account
        self._stopping = False
        self._changing = asyncio.Lock()
        self._seen_ms, self._seen_s = clock.now_ms(), clock.monotonic()

    async def start(self) -> None:
        """Raises StoreError."""
        for record in await self._store.all():
            try:
                await self._load(record)
            except VaultError:
                log.error("the database is damaged: webhook %d cannot be read; see docs/baddays.md", record.id)  # noqa: TRY400 - the row says it all
        self._watch()
        self._figures.read(lambda: [one.backlog for one in self._endpoints.values()], lambda: self._tail)
        for work, name in ((self._follow(), "log"), (self._catch_up(), "backlog"), (self._pump(), "requests")):
            self._supervisor.start(work, name=f"webhooks: {name}", critical=True)

    def reconfigure(self, config: Webhooks) -> None:
        """For what comes."""
        self._config = config
        self._supervisor.start(self._sender.reconfigure(config), name="webhooks: reconfigure")

    async def changed(self, uuid: bytes) -> None:
        """Somebody made, changed or removed an endpoint. Raises StoreError."""
        async with self._changing:  # what was read first must not be put in place last
            await self._adopt(uuid)
        self._watch()

    async def _adopt(self, uuid: bytes) -> None:
        record = await self._store.one(uuid)
        known = next((one for one in self._endpoints.values() if one.record.uuid == uuid), None)
        if record is None:
            if known is not None:
                del self._endpoints[known.record.id]
        elif known is None or known.record.epoch != record.epoch:
            await self._load(record)
        else:
            known.backlog.adopt(record, self._clock.now_ms())
            known.secrets = endpoint.unwrap(self._vault, record)
            self._touch(known)

    async def stop(self, within_s: float) -> None:
        """Makes no more requests; those on their way end, or are cut off, and what came of them is written."""
        self._stopping = True
        tasks = {task for one in self._endpoints.values() for task in one.tasks}
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=within_s)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)
        if writes_now := [one.saving for one in self._endpoints.values() if one.saving is not None and not one.stuck]:
            await asyncio.wait(writes_now, timeout=LAST_WRITE_S)
        # Nothing passes a write that may fail: its place in the log would be behind what was not written.
        now = self._clock.now_ms()
        found = [one.backlog.progress(now, whole=True) for one in self._endpoints.values() if one.saving is None]
        writes = [self._store.save(progress) for progress in found if progress is not None]
        # What cannot be written is told again: at least once.
        await asyncio.gather(*writes, return_exceptions=True)

    @property
    def in_flight(self) -> int:
        return self._in_flight.total()

    # Endpoints

    async def _load(self, record: WebhookRecord) -> None:
        parked = await self._store.parked(record.id)
        backlog, now = Backlog(record, parked, self._rng), self._clock.now_ms()
        if any(one.next_at > now + schedule.longest_ms(self._config.retry_s) for one in parked):  # by another clock
            backlog.set_back(now)
        self._endpoints[record.id] = one = Endpoint(backlog, endpoint.unwrap(self._vault, record))
        self._touch(one)

    def _watch(self) -> None:
        """Whether anybody is to be told anything."""
        active = [one for one in self._endpoints.values() if one.backlog.active]
        if not active:
            self._any_active.clear()
            return
        for one in self._endpoints.values():
            one.backlog.window = max(AT_ONCE, min(WINDOW, MOST_IN_HAND // len(self._endpoints)))
        if not self._any_active.is_set():
            # Never back: the reader may be waiting there for what comes next.
            self._tail = max(self._tail, *(one.backlog.position for one in active))
            self._any_active.set()
        self._any_behind.set()

    def _touch(self, one: Endpoint) -> None:
        self._touched[one.record.id] = None
        self._kicked.set()

    def _is_current(self, one: Endpoint) -> bool:
        return self._endpoints.get(one.record.id) is one

    # Reading

    async def _follow(self) -> None:
        while True:
            await self._any_active.wait()
            start = self._tail
            try:
                events = await self._events.follow(start, READ_ROWS, within_s=FOLLOW_S)
            except UNREADABLE as error:
                log.warning("webhooks wait: the event log cannot be read: %s", error)
                await asyncio.sleep(WRITE_RETRY_S)
                continue
            if events:
                await self._spread(start, events)
                self._tail = max(self._tail, events[-1].seq)
                self._any_behind.set()
            await asyncio.sleep(GATHER_S)

    async def _spread(self, start: int, events: list[LoggedEvent]) -> None:
        """To those that are level, each in a turn of the loop."""
        of_account: dict[str, list[LoggedEvent]] = {"": events}
        for event in events:
            if event.account:
                of_account.setdefault(event.account, []).append(event)
        for one in list(self._endpoints.values()):
            backlog = one.backlog
            if not self._is_current(one) or not backlog.active or backlog.position < start:
                continue
            theirs = of_account.get(one.record.account, [])
            if self._offer(one, theirs):
                backlog.position = max(backlog.position, events[-1].seq)
            if theirs:
                await asyncio.sleep(0)

    async def _catch_up(self) -> None:
        """Those that are behind and have room, a read each."""
        while True:
            await self._any_behind.wait()
            self._any_behind.clear()
            for one in list(self._endpoints.values()):
                if self._is_current(one) and self._is_behind(one):
                    try:
                        await self._read_for(one)
                    except UNREADABLE as error:
                        log.warning("webhooks wait: the event log cannot be read: %s", error)
                        await asyncio.sleep(WRITE_RETRY_S)
                    await asyncio.sleep(REST_S)
            if any(map(self._is_behind, self._endpoints.values())):
                self._any_behind.set()

    def _is_behind(self, one: Endpoint) -> bool:
        backlog = one.backlog
        return backlog.active and backlog.position < self._tail and backlog.room > 0 and not one.stuck

    async def _read_for(self, one: Endpoint) -> None:
        backlog, tail = one.backlog, self._tail
        start, account = backlog.position, one.record.account or None
        limit = READ_ROWS if backlog.room > READ_ROWS // 4 else READ_ROWS // 4
        events = await self._events.read(start, limit, account=account)
        if backlog.position == start and self._offer(one, events) and len(events) < limit:
            backlog.position = max(backlog.position, tail)  # all there was up to there was seen

    def _offer(self, one: Endpoint, events: list[LoggedEvent]) -> bool:
        """Whether it took all of them."""
        backlog = one.backlog
        for event in events:
            if event.seq <= backlog.position:
                continue
            if not backlog.room:
                break
            backlog.offer(event)
        if events:
            self._touch(one)
        self._save_soon(one)
        return not events or backlog.position >= events[-1].seq

    # Sending

    async def _pump(self) -> None:
        while True:
            wait_s = LONGEST_WAIT_S
            if self._timers:
                wait_s = min(wait_s, max(0.0, (self._timers[0][0] - self._clock.now_ms()) / 1000))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._kicked.wait()
            self._kicked.clear()
            self._send_due()

    def _send_due(self) -> None:
        now = self._clock.now_ms()
        self._look_at_clock(now)
        while self._timers and self._timers[0][0] <= now:
            at, id_ = heapq.heappop(self._timers)
            if (one := self._endpoints.get(id_)) is not None and one.timer == at:
                one.timer = None
                self._touched[id_] = None
        for id_ in list(self._touched):
            one = self._endpoints.get(id_)
            if one is None or self._send_of(one, now):
                del self._touched[id_]

    def _look_at_clock(self, now: int) -> None:
        now_s = self._clock.monotonic()
        step_ms = now - self._seen_ms - int((now_s - self._seen_s) * 1000)
        self._seen_ms, self._seen_s = now, now_s
        if abs(step_ms) < STEP_MS:
            return
        for one in self._endpoints.values():
            if step_ms < 0:
                one.backlog.set_back(now)
            else:
                one.backlog.set_forward(step_ms, now)
            self._touch(one)

    def _send_of(self, one: Endpoint, now: int) -> bool:
        """Start what is due of an endpoint; False where it must wait for others' requests."""
        if self._stopping or one.stuck:
            return True
        while self._has_place(one):
            item = one.backlog.take(now)
            if item is None:
                self._wake_later(one, now)
                return True
            self._in_flight[one.record.account] += 1
            task = self._supervisor.start(self._deliver(one, item), name="webhook")
            one.tasks.add(task)
            task.add_done_callback(one.tasks.discard)
        return False

    def _has_place(self, one: Endpoint) -> bool:
        others = SPARE // 2 if self._in_flight[one.record.account] >= CONNECTIONS // 2 else 0
        return CONNECTIONS - self.in_flight > (SPARE if one.backlog.in_flight else others)

    def _wake_later(self, one: Endpoint, now: int) -> None:
        at = one.backlog.wake_at()
        if at is not None and at > now and (one.timer is None or at < one.timer):
            one.timer = at
            heapq.heappush(self._timers, (at, one.record.id))

    async def _deliver(self, one: Endpoint, item: Item) -> None:
        backlog = one.backlog
        try:
            await self._try(one, item)
        except asyncio.CancelledError:
            backlog.release(item, 0)
            raise
        except StoreError:
            backlog.release(item, self._clock.now_ms() + int(WRITE_RETRY_S * 1000))
        except Exception:
            # One event must not end the others; it is tried again like any that failed.
            log.exception("an event could not be told to the webhook %s", one.name)
            self._finish(one, item, Answer(Outcome.UNREACHABLE, 0, 0, "it could not be sent"))
        finally:
            self._in_flight -= Counter({one.record.account: 1})
        self._touch(one)
        self._any_behind.set()
        self._save_soon(one)

    async def _try(self, one: Endpoint, item: Item) -> None:
        event, now = item.event, self._clock.now_ms()
        if event is None or not 0 <= now - event.at < HELD_MS:
            event = await self._events.one(item.seq)
        record = one.record
        if not one.backlog.active or not self._is_current(one):  # somebody was faster
            one.backlog.release(item, 0)
            return
        if event is None:
            one.backlog.drop(item, now, "the event is no longer known")
            self._gave_up(one, "it is no longer known")
            return
        payload = formats.payload(record.format, event, self._tokens)
        if payload is None:
            one.backlog.skip(item)
            return
        secrets, attempt = one.secrets.good(now), item.attempts + 1
        self._finish(one, item, await self._sender.post(record.url, record.format, payload, secrets, attempt=attempt))

    def _finish(self, one: Endpoint, item: Item, answer: Answer) -> None:
        self._figures.requests.at(answer.outcome.value).value += 1
        now = self._clock.now_ms()
        self._look_at_clock(now)  # before anything is judged by it
        if not one.backlog.finish(item, answer, now, self._config):
            self._gave_up(one, answer.words)

    def _gave_up(self, one: Endpoint, why: str) -> None:
        self._figures.given_up.value += 1
        log.warning("the webhook %s was not told of an event: %s", one.name, why)

    # Writing

    def _save_soon(self, one: Endpoint) -> None:
        if one.saving is None and not self._stopping and one.backlog.is_unsaved():
            one.saving = self._supervisor.start(self._save(one), name="webhook: save")

    async def _save(self, one: Endpoint) -> None:
        """One write at a time: what happens meanwhile is in the next."""
        try:
            while (progress := one.backlog.progress(self._clock.now_ms())) is not None:
                kept = False
                while True:
                    try:
                        kept = await self._store.save(progress)
                    except StoreError as error:
                        one.stuck = True
                        log.warning("webhooks wait: what came of a request cannot be written: %s", error)
                        await asyncio.sleep(WRITE_RETRY_S)
                    else:
                        break
                if progress.disabled and kept:
                    log.error("the webhook %s is disabled: %s", one.name, progress.disabled)
                if progress.disabled or not kept:  # somebody changed it meanwhile, or may have
                    with contextlib.suppress(StoreError):
                        await self.changed(one.record.uuid)
                    self._watch()
        finally:
            one.saving = None
            if one.stuck:
                one.stuck = False
                self._touch(one)
