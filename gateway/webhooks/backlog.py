"""One endpoint's place in the event log: what is on its way to it, what waits, what failed. Pure: it sends nothing.

Guarantees: events of one message come one after the other, in the order of the log, and one that failed holds back
those behind it; other messages pass. The cursor never passes an event that was neither delivered, nor parked, nor given
up. What is in memory is bounded: WINDOW events from the log, MOST_PARKED numbers of parked ones; beyond that the log is
the backlog. An endpoint that only fails is asked one thing at a time, so a dead one costs next to nothing.
"""

import heapq
import json
import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import urlsplit

from gateway import eventview
from gateway.config import Webhooks
from gateway.store import webhook as endpoints
from gateway.store.eventlog import LoggedEvent
from gateway.store.webhook import MOST_ATTEMPTS, MOST_PARKED, Dead, Parked, Progress, Standing, Tried, WebhookRecord
from gateway.webhooks import formats, schedule
from gateway.webhooks.schedule import Answer, Outcome

WINDOW: Final = 100  # events in hand, at most
AT_ONCE: Final = 8  # requests
BROKEN: Final = 8  # failures in a row, after which an endpoint is asked one thing at a time
PROBE_MS: Final = 300_000  # so often a broken endpoint is asked something new
HERE_MS: Final = 3_600_000  # so long it must have failed in this process before it is disabled
SKIPPED: Final = 10_000  # events that nobody wanted, after which the cursor is written all the same


@dataclass(slots=True, eq=False)
class Item:
    """An event on its way. `chain`: what it keeps its order in, a message or itself."""

    seq: int
    chain: int
    attempts: int = 0
    next_at: int = 0
    parked: bool = False
    flying: bool = False
    event: LoggedEvent | None = None


class Backlog:
    """`record` is the endpoint as it is now; `window`: so many events are in hand."""

    def __init__(self, record: WebhookRecord, parked: Sequence[Parked], rng: random.Random) -> None:
        self.record = record
        self.position = record.cursor  # the log was read up to here
        self.in_flight = 0
        self.window = WINDOW
        self._rng = rng
        self._items: dict[int, Item] = {}
        self._chains: dict[int, deque[Item]] = {}
        self._window: dict[int, Item] = {}  # those that hold the cursor, in their order
        self._ready: deque[Item] = deque()  # heads of chains that were never tried
        self._timed: list[tuple[int, int]] = []  # (time, seq) of heads that are parked
        self._failing_since = record.failing_since
        self._failing_here: int | None = None  # the same, as far as it was seen here
        self._failures = BROKEN if record.failing_since is not None else 0
        self._probe_at = 0
        self._quiet_until = 0
        # Not written yet
        self._saved = record.cursor
        self._changed: dict[int, Parked] = {}
        self._done: set[int] = set()
        self._dead: list[Dead] = []
        self._tried: deque[Tried] = deque(maxlen=MOST_ATTEMPTS)
        self._disabled = ""
        self._is_changed = False
        for one in parked:
            item = Item(one.seq, one.message or -one.seq, one.attempts, one.next_at, parked=True)
            self._append(item)

    def adopt(self, record: WebhookRecord, now: int) -> None:
        """The endpoint as somebody changed it, in the same epoch."""
        resumed = record.state is Standing.ACTIVE and not self.active
        self.record = record
        if resumed:
            self._failing_since, self._failing_here = record.failing_since, None
            self._failures = self._quiet_until = 0
            self._recover(now)
            self._is_changed = True

    def set_back(self, now: int) -> None:
        """The clock went back, perhaps far: what waits for a time by the old one is due."""
        self._quiet_until = min(self._quiet_until, now)
        self._probe_at = min(self._probe_at, now)
        if self._failing_since is not None:
            self._failing_since = min(self._failing_since, now)
        if self._failing_here is not None:
            self._failing_here = min(self._failing_here, now)
        self._recover(now)

    def set_forward(self, by_ms: int, now: int) -> None:
        """The clock went forward: it did not fail for so long. What waits for a time may be due, as after a wait."""
        if self._failing_since is not None:
            self._failing_since = min(self._failing_since + by_ms, now)
        if self._failing_here is not None:
            self._failing_here = min(self._failing_here + by_ms, now)

    # What it is told

    @property
    def active(self) -> bool:
        return self.record.state is Standing.ACTIVE

    @property
    def broken(self) -> bool:
        return self._failures >= BROKEN

    @property
    def parked(self) -> int:
        return len(self._items) - len(self._window)

    @property
    def cursor(self) -> int:
        """Everything up to there is delivered, parked or given up, or was not wanted."""
        return next(iter(self._window)) - 1 if self._window else self.position

    @property
    def room(self) -> int:
        """So many more events may be offered."""
        most = 1 if self.broken else self.window
        return max(0, min(most, MOST_PARKED - self.parked) - len(self._window))

    def offer(self, event: LoggedEvent) -> None:
        """The next event of the log, or a later one where all between are another account's."""
        self.position = event.seq
        if event.seq in self._items or not self.wants(event):
            return
        item = Item(event.seq, event.message or -event.seq, event=event)
        self._window[item.seq] = item
        self._append(item)
        if (head := self._chains[item.chain][0]) is not item and head.parked:
            self._park(item, 0)

    def wants(self, event: LoggedEvent) -> bool:
        record = self.record
        return (
            record.account in {"", event.account}
            and event.type in (record.types or formats.SHAPES[record.format].types)
            and event.type in formats.SHAPES[record.format].types
            and not (record.final_only and event.type.intermediate)
            and (not record.keys or eventview.key_of(event) in record.keys)
            and (not record.tags or not set(record.tags).isdisjoint(eventview.tags_of(event)))
        )

    # What is to be sent

    def take(self, now: int) -> Item | None:
        """What may be sent now; `finish`, `release` or `drop` ends it."""
        most = 1 if self.broken else AT_ONCE
        if not self.active or self.in_flight >= most or now < self._quiet_until:
            return None
        item = self._due(now) or self._fresh(now)
        if item is not None:
            item.flying = True
            self.in_flight += 1
        return item

    def wake_at(self) -> int | None:
        """When something may be taken that could not be now: by time alone. None: never."""
        if not self.active:
            return None
        times = [self._timed[0][0]] if self._timed else []
        if self._ready:
            times.append(self._probe_at if self.broken else 0)
        return max(min(times), self._quiet_until) if times else None

    def finish(self, item: Item, answer: Answer, now: int, terms: Webhooks) -> bool:
        """What came of a request. False where the event was given up."""
        self._land(item)
        item.attempts += 1
        self._tried.append(Tried(item.seq, now, item.attempts, answer.status, answer.took_ms, answer.error))
        if answer.delivered:
            self._end(item)
            self._succeeded(now)
            return True
        self._failures += 1
        if self._failing_since is None:
            self._failing_since = now
        if self._failing_here is None:
            self._failing_here = now
        self._quiet_until = max(self._quiet_until, now + int(schedule.quiet_s(answer, now) * 1000))
        if self._is_over(answer, now, terms):
            self._park(item, now)
            return True
        next_at = schedule.next_at(item.attempts, terms.retry_s, answer, now, self._rng)
        if next_at is None:
            self.drop(item, now, answer.words)
            return False
        self._park(item, next_at)
        return True

    def release(self, item: Item, again_at: int) -> None:
        """Nothing was sent: not before that time."""
        self._land(item)
        self._quiet_until = max(self._quiet_until, again_at)
        self._arm(item)

    def drop(self, item: Item, now: int, why: str) -> None:
        """It is given up."""
        self._land(item)
        self._dead.append(Dead(item.seq, item.attempts, now, why))
        self._end(item)

    def skip(self, item: Item) -> None:
        """There is nothing to be said of it in this format."""
        self._land(item)
        self._end(item)

    def is_unsaved(self, *, whole: bool = False) -> bool:
        """Whether there is any progress."""
        return self._is_changed or self.cursor - self._saved >= (1 if whole else SKIPPED)

    def progress(self, now: int, *, whole: bool = False) -> Progress | None:
        """What is to be written, once; None where nothing is. `whole`: also that nothing was wanted for a while."""
        if not self.is_unsaved(whole=whole):
            return None
        cursor = self.cursor
        self._saved, self._is_changed = cursor, False
        progress = Progress(
            webhook=self.record.id,
            epoch=self.record.epoch,
            cursor=cursor,
            failing_since=self._failing_since,
            at=now,
            parked=tuple(self._changed.values()),
            done=tuple(self._done),
            dead=tuple(self._dead),
            tried=tuple(self._tried),
            disabled=self._disabled,
            event=self._event() if self._disabled else "{}",
        )
        for one in (self._changed, self._done, self._dead, self._tried):
            one.clear()
        self._disabled = ""
        return progress

    # Inside

    def _append(self, item: Item) -> None:
        chain = self._chains.setdefault(item.chain, deque())
        chain.append(item)
        self._items[item.seq] = item
        if chain[0] is item:
            self._arm(item)

    def _arm(self, head: Item) -> None:
        """The head of a chain can be taken, now or in its time."""
        if head.parked:
            heapq.heappush(self._timed, (head.next_at, head.seq))
        else:
            self._ready.append(head)

    def _due(self, now: int) -> Item | None:
        while self._timed and self._timed[0][0] <= now:
            at, seq = heapq.heappop(self._timed)
            item = self._items.get(seq)
            if item is not None and not item.flying and item.next_at == at:
                return item
        return None

    def _fresh(self, now: int) -> Item | None:
        if self.broken and now < self._probe_at:
            return None
        while self._ready:
            item = self._ready.popleft()
            if not item.parked and not item.flying and item.seq in self._items:
                self._probe_at = now + PROBE_MS
                return item
        return None

    def _land(self, item: Item) -> None:
        if item.flying:
            item.flying = False
            self.in_flight -= 1

    def _end(self, item: Item) -> None:
        """Nothing is to be done for it any more."""
        self._is_changed = True
        self._items.pop(item.seq, None)
        self._window.pop(item.seq, None)
        if item.parked:
            self._changed.pop(item.seq, None)
            self._done.add(item.seq)
        chain = self._chains[item.chain]
        chain.popleft()
        if chain:
            self._arm(chain[0])
        else:
            del self._chains[item.chain]

    def _park(self, item: Item, next_at: int) -> None:
        """It is tried again then, and what is behind it waits without holding the cursor."""
        self._is_changed = True
        item.next_at = next_at
        chain = self._chains[item.chain]
        if chain[0] is item:
            for one in chain:
                if one is item or not one.parked:
                    self._put_aside(one)
            self._arm(item)
        else:
            self._put_aside(item)

    def _put_aside(self, item: Item) -> None:
        item.parked = True
        item.event = None  # read again when its time has come
        self._window.pop(item.seq, None)
        message = max(0, item.chain)
        self._changed[item.seq] = Parked(item.seq, message, item.attempts, item.next_at)

    def _succeeded(self, now: int) -> None:
        self._is_changed = True
        if self.broken:
            self._recover(now)
        self._failures = 0
        self._failing_since = self._failing_here = None

    def _recover(self, now: int) -> None:
        """It is there again: what waits for its next time, hours from now perhaps, is due."""
        self._timed = []  # those of later times would stay in it until then
        for chain in self._chains.values():
            head = chain[0]
            if not head.parked or head.flying:
                continue
            if head.next_at > now:
                head.next_at = now
                self._changed[head.seq] = Parked(head.seq, max(0, head.chain), head.attempts, now)
                self._is_changed = True
            self._arm(head)

    def _is_over(self, answer: Answer, now: int, terms: Webhooks) -> bool:
        """Whether it is to be told nothing any more."""
        assert self._failing_since is not None
        assert self._failing_here is not None
        failing_s = (now - self._failing_since) / 1000
        # Not by the time that we were not there, after which it may need a while itself.
        here_s = (now - self._failing_here + max(0, int(terms.disable_after_s * 1000) - HERE_MS)) / 1000
        if answer.outcome is Outcome.GONE:
            why = "it answered 410 Gone"
        elif min(failing_s, here_s) >= terms.disable_after_s:
            why = f"it failed for {failing_s / 3600:.0f} hours; the last time: {answer.words}"
        else:
            return False
        if self.active:
            self._disabled = why
            self.record = replace(self.record, state=Standing.DISABLED, why=why)
        return True

    def _event(self) -> str:
        """Without the URL's path: who reads events need not know what some services keep secret there."""
        record = self.record
        place = urlsplit(record.url)._replace(path="", query="").geturl()
        return json.dumps({"webhook_id": endpoints.show(record.uuid), "url": place, "reason": self._disabled})
