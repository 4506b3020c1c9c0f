"""One endpoint's place in the log, without a network: nothing is lost, order stays, whatever fails and dies when."""

import random
from dataclasses import replace

import pytest

from gateway.config import Webhooks
from gateway.events import EventType
from gateway.store.eventlog import LoggedEvent
from gateway.store.webhook import MOST_PARKED, Format, Parked, Progress, Standing, WebhookRecord
from gateway.webhooks.backlog import AT_ONCE, BROKEN, PROBE_MS, WINDOW, Backlog, Item
from gateway.webhooks.schedule import Answer, Outcome

GOOD = Answer(Outcome.DELIVERED, 200, 1)
BAD = Answer(Outcome.REFUSED, 500, 1)
TERMS = Webhooks(retry_s=(1,) * 100)  # nothing is given up
RECORD = WebhookRecord(
    id=1,
    uuid=bytes(16),
    account="acme",
    url="https://a.test/",
    format=Format.NATIVE,
    secret_wrapped=b"",
    old_secret_wrapped=None,
    old_until=None,
    types=(),
    keys=(),
    tags=(),
    final_only=False,
    state=Standing.ACTIVE,
    why="",
    cursor=0,
    epoch=0,
    failing_since=None,
    created_at=0,
    updated_at=0,
)


def event(seq: int, message: int) -> LoggedEvent:
    return LoggedEvent(
        seq, EventType.DELIVERED, 0, "{}", "acme", bytes(16), message, 1, "a@b", "k", "[]", "{}", "", "", ""
    )


class Kept:
    """What the store has: a new process begins with it."""

    def __init__(self) -> None:
        self.record = RECORD
        self.parked: dict[int, Parked] = {}

    def save(self, progress: Progress | None) -> None:
        if progress is None:
            return
        cursor = max(self.record.cursor, progress.cursor)
        self.record = replace(self.record, cursor=cursor, failing_since=progress.failing_since)
        self.parked |= {one.seq: one for one in progress.parked}
        for seq in progress.done:
            self.parked.pop(seq, None)

    def open(self, rng: random.Random) -> Backlog:
        return Backlog(self.record, [self.parked[seq] for seq in sorted(self.parked)], rng)


@pytest.mark.parametrize("seed", range(6))
def test_every_event_arrives_and_in_its_messages_order(seed: int) -> None:
    rng = random.Random(seed)
    log = [event(seq, rng.randrange(0, 12)) for seq in range(1, 151)]
    health = rng.choice([0.2, 0.5, 0.9])
    kept, arrived = Kept(), [0]
    backlog = kept.open(rng)
    flying: list[Item] = []
    now = step = 0
    while kept.record.cursor < len(log) or kept.parked:
        step += 1
        assert step < 100_000
        now += rng.randrange(0, PROBE_MS // 10)
        for one in log[backlog.position : backlog.position + min(backlog.room, rng.randrange(0, 20))]:
            backlog.offer(one)
        while rng.random() < 0.8 and (item := backlog.take(now)) is not None:
            assert all(item.chain != other.chain for other in flying)
            flying.append(item)
        assert len(flying) <= AT_ONCE
        while flying and rng.random() < 0.7:
            item = flying.pop(rng.randrange(len(flying)))
            good = rng.random() < health
            backlog.finish(item, GOOD if good else BAD, now, replace(TERMS, disable_after_s=1e12))
            if good:
                arrived.append(item.seq)
        if rng.random() < 0.7:
            kept.save(backlog.progress(now, whole=True))
        if rng.random() < 0.02:  # killed
            flying.clear()
            backlog = kept.open(rng)
        assert backlog.parked + len(backlog._window) <= MOST_PARKED
    assert set(arrived[1:]) == {one.seq for one in log}
    by_message: dict[int, list[int]] = {}
    chain = {one.seq: one.message or -one.seq for one in log}
    for seq in dict.fromkeys(arrived[1:]):  # where it came first
        by_message.setdefault(chain[seq], []).append(seq)
    assert all(seqs == sorted(seqs) for seqs in by_message.values())


def test_parked_events_are_bounded_and_the_cursor_waits() -> None:
    backlog = Backlog(RECORD, (), random.Random(1))
    backlog.offer(event(1, 1))
    item = backlog.take(0)
    assert item is not None
    backlog.finish(item, BAD, 0, TERMS)
    seq = 1
    while backlog.room:
        seq += 1
        backlog.offer(event(seq, 1))
    assert {backlog.parked, seq, backlog.cursor} == {MOST_PARKED}
    progress = backlog.progress(0)
    assert progress is not None
    assert [one.seq for one in progress.parked] == list(range(1, MOST_PARKED + 1))
    assert progress.parked[0].next_at > 0
    assert all(one.attempts == one.next_at == 0 for one in progress.parked[1:])
    item = backlog.take(10**9)
    assert item is not None
    assert item.seq == 1
    assert backlog.take(10**9) is None  # what is behind it waits
    backlog.finish(item, GOOD, 10**9, TERMS)
    assert [backlog.room] == [1]


def test_one_that_comes_and_goes_leaves_no_times_behind() -> None:
    backlog = Backlog(RECORD, (), random.Random(1))
    terms = replace(TERMS, retry_s=(3600,) * 100)
    for seq in range(1, BROKEN + 2):
        backlog.offer(event(seq, seq))
    now, seq = 0, BROKEN + 1
    for _ in range(50):
        now += PROBE_MS
        while not backlog.broken:
            item = backlog.take(now)
            assert item is not None
            backlog.finish(item, BAD, now, terms)
        seq += 1
        backlog.offer(event(seq, seq))
        item = backlog.take(now + PROBE_MS)
        assert item is not None
        backlog.finish(item, GOOD, now, terms)
    assert len(backlog._timed) <= 2 * len(backlog._items)


def test_a_message_to_a_thousand_that_is_refused_lets_others_pass() -> None:
    backlog, events = Backlog(RECORD, (), random.Random(1)), 3000  # accepted, delivered, opened
    backlog.offer(event(1, 1))
    refused = backlog.take(0)
    assert refused is not None
    backlog.finish(refused, BAD, 0, TERMS)
    for seq in range(2, events + 1):
        assert backlog.room, seq
        backlog.offer(event(seq, 1))
    backlog.offer(event(events + 1, 2))
    passing = backlog.take(0)
    assert passing is not None
    assert passing.seq == events + 1


def test_a_clock_that_was_behind_at_the_start_hides_no_failure() -> None:
    now = 1_800_000_000_000
    backlog = Backlog(replace(RECORD, failing_since=now - 1000), (), random.Random(1))
    backlog.set_forward(now, now)  # from 1970
    backlog.offer(event(1, 1))
    item = backlog.take(now)
    assert item is not None
    backlog.finish(item, BAD, now, TERMS)
    progress = backlog.progress(now)
    assert progress is not None
    assert progress.failing_since == now


def test_what_is_in_hand_is_bounded() -> None:
    backlog = Backlog(RECORD, (), random.Random(1))
    seq = 0
    while backlog.room:
        seq += 1
        backlog.offer(event(seq, seq))
    assert seq == WINDOW
    taken = [backlog.take(0) for _ in range(AT_ONCE)]
    assert backlog.take(0) is None
    assert None not in taken
    assert backlog.cursor == 0
    backlog.adopt(replace(RECORD, state=Standing.PAUSED), 0)
    for item in taken:
        assert item is not None
        backlog.finish(item, GOOD, 0, TERMS)
    assert backlog.take(0) is None
    assert backlog.cursor == AT_ONCE
    backlog.adopt(RECORD, 0)
    item = backlog.take(0)
    assert item is not None
    assert item.seq == AT_ONCE + 1
