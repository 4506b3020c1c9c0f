"""One byte of the queue is another one (trust.md, A8): it starts or says which file is damaged and what to do, and
nothing leaves that is not, to the letter, what was accepted, from whom and to whom."""

import asyncio
import logging
import random
import re
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import apsw
import pytest

from gateway.errors import StoreError
from gateway.events import EventType, State
from gateway.message.notify import FAILURE
from gateway.store import hardship, inspection, seal
from gateway.store.db import Transaction
from gateway.store.queue import Attempt, Due
from gateway.store.shown import Filter, Order, Verb
from gateway.store.sqlite import SqliteStore
from tests.baddays.faulty import FaultyDisk
from tests.store.mail import LEASE_MS, START_MS, Now, Post, attempt, claim_all, destination

SEEDS: Final = 200
NAMED: Final = 3  # one seed in so many has its byte inside of a name
NAMES: Final = re.compile(rb"person\d+@d\d\.example|sender@example\.org")
ROUNDS: Final = 30
UNTIL: Final = START_MS + LEASE_MS

Sent = tuple[str, str, str, str, str]  # address, sender, route, domain, hash of the content as text


@dataclass(frozen=True, slots=True)
class Image:
    """A queue as a dead process left it, `queue.db` with its log, and as one left it that stopped, `open.db`."""

    place: Path
    accepted: frozenset[Sent]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    return make_image(tmp_path_factory.mktemp("image"))


def make_image(place: Path) -> Image:
    async def make() -> frozenset[Sent]:
        now = Now()
        post = Post(now)
        accepted: set[Sent] = set()
        store = await SqliteStore.open(place / "open.db", clock=now.clock)
        for n in range(30):
            address, body = f"person{n}@d{n % 5}.example", b"Subject: %d\r\n\r\n" % n + b"%d" % n * 700
            cut = len(body) // 2 if n % 3 == 0 else len(body)  # some in two pieces
            pieces = [(index, data) for index, data in enumerate((body[:cut], body[cut:])) if data]
            message = post.message(address, pieces=pieces, piece_count=len(pieces), route=f"route{n % 2}")
            await store.enqueue(message)
            domain = message.recipients[0].domain
            accepted.add((address, message.envelope_sender, message.route, domain, str(body)))
            if n == 20:
                await asyncio.to_thread(store._writer._database.checkpoint)  # the rest stands in the log
        for name in ("open.db", "open.db-wal"):
            shutil.copy(place / name, place / name.replace("open", "queue"))
        await store.close()
        return frozenset(accepted)

    return Image(place, asyncio.run(make()))


async def deliverable(path: Path) -> set[Sent]:
    """What a delivery would be made of."""
    found: set[Sent] = set()
    store = await SqliteStore.open(path, clock=Now().clock)
    try:
        for _ in range(ROUNDS):
            dues = await store.due()
            if not dues:
                break
            for due in dues:
                found |= await taken(store, due)
        else:
            raise AssertionError("it goes round and round")
    finally:
        await store.close()
    return found


async def taken(store: SqliteStore, due: Due) -> set[Sent]:
    found: set[Sent] = set()
    for claimed in await store.claim(due.destination, 100, UNTIL):
        try:
            content = claimed.content or b"".join(
                [await store.piece(claimed.message, index) for index in range(claimed.piece_count)]
            )
        except StoreError:
            continue  # not delivered
        if not due.route:
            continue  # its name is lost: no route is called so, and nothing is sent
        for one in claimed.recipients:
            found.add((one.address, claimed.envelope_sender, due.route, due.domain, str(content)))
    return found


def inside_names(content: bytearray) -> list[int]:
    """Where addresses and senders stand: a byte of a row is seldom met by chance."""
    return [at for found in NAMES.finditer(content) for at in range(*found.span())]


def damaged_copy(image: Image, place: Path, seed: int) -> Path:
    rng = random.Random(seed)
    place.mkdir()
    path = place / "queue.db"
    if seed % NAMED == 1:  # no log, whose pages would stand for those of the file, and have sums
        shutil.copy(image.place / "open.db", path)
    else:
        for name in ("queue.db", "queue.db-wal"):
            shutil.copy(image.place / name, place / name)
        path = place / ("queue.db-wal" if seed % 4 == 0 else "queue.db")
    content = bytearray(path.read_bytes())
    at = rng.choice(inside_names(content)) if seed % NAMED == 1 else rng.randrange(len(content))
    content[at] ^= 1 << rng.randrange(8)
    path.write_bytes(content)
    return place / "queue.db"


@pytest.fixture
def quick_disk() -> Iterator[None]:
    """It has no fault, but waits for nothing."""
    disk = FaultyDisk()
    disk.syncs = False
    yield
    disk.unregister()


def delivered_from(image: Image, place: Path, seed: int) -> set[Sent]:
    """Raises StoreError where the damaged copy cannot be opened."""
    path = damaged_copy(image, place, seed)
    try:
        return asyncio.run(deliverable(path))
    finally:
        shutil.rmtree(place)


@pytest.mark.slow
@pytest.mark.usefixtures("quick_disk")
def test_one_byte(image: Image, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    ends: Counter[str] = Counter()
    for seed in range(SEEDS):
        place = tmp_path / str(seed)
        try:
            found = delivered_from(image, place, seed)
        except StoreError as error:
            ends["refused" if str(place) in str(error) else f"refused without a name: {error}"] += 1
        else:
            assert found <= image.accepted, f"seed {seed}: altered mail would be delivered"
            ends["all" if found == image.accepted else "some"] += 1
    assert set(ends) <= {"all", "some", "refused"}
    assert ends["all"] > SEEDS / 3  # many bytes are of the past, of what is free, or of indexes that are not asked
    assert ends["some"] > SEEDS / 8  # and many are of rows


@pytest.mark.usefixtures("quick_disk")
def test_a_twin_without_seals_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whose sum of any row is the same: a byte in a name is then sent as it is."""
    caplog.set_level(logging.ERROR)
    monkeypatch.setattr(seal, "of", lambda *_: 1)
    (tmp_path / "twin").mkdir()
    image = make_image(tmp_path / "twin")
    named = range(1, SEEDS, NAMED)
    assert any(not delivered_from(image, tmp_path / str(seed), seed) <= image.accepted for seed in named)


@pytest.fixture
async def store(tmp_path: Path, now: Now) -> AsyncIterator[SqliteStore]:
    opened = await SqliteStore.open(tmp_path / "queue.db", clock=now.clock)
    yield opened
    await opened.close()


def alter(tmp_path: Path, sql: str, *values: object) -> None:
    """As a bad disk would; the sums are left as they are."""
    other = apsw.Connection(str(tmp_path / "queue.db"))
    other.set_busy_timeout(5000)
    other.execute(sql, values)
    other.close()


def test_a_sum_is_another_one_for_any_other_row() -> None:
    assert seal.of("5|a@b.example", b"\0") == 4_091_572_287  # in rows of this version
    row = b"someone@example.com"
    altered = [row[:at] + bytes([row[at] ^ 1 << bit]) + row[at + 1 :] for at in range(len(row)) for bit in range(8)]
    sums = {seal.of("", one) for one in altered}
    assert len(sums) == len(altered)
    assert seal.of("", row) not in sums


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE recipient SET address = 'yov@example.com' WHERE message = ?",
        "UPDATE recipient SET orcpt = 'rfc822;a@b' WHERE message = ?",
        "UPDATE message SET envelope_sender = 'shoq@example.com' WHERE id = ?",
        "UPDATE message SET header_from = 'shop@exbmple.com' WHERE id = ?",
        "UPDATE message SET flags = flags | 8 WHERE id = ?",
        "UPDATE message SET expires_at = expires_at + 1 WHERE id = ?",
        "DELETE FROM recipient WHERE message = ?",
        "DELETE FROM message WHERE id = ?",
    ],
)
async def test_a_damaged_row_is_not_sent(
    store: SqliteStore, tmp_path: Path, post: Post, sql: str, caplog: pytest.LogCaptureFixture
) -> None:
    bad, good = post.message("you@example.com"), post.message("her@example.com")
    for message in (bad, good):
        await store.enqueue(message)
    number = await destination(store)
    alter(tmp_path, sql, bad.id)
    ready = asyncio.Event()
    store.on_ready = ready.set
    assert await store.claim(number, 10, UNTIL) == ()
    assert ready.is_set()
    assert [one.uuid for one in await store.claim(number, 10, UNTIL)] == [good.uuid]
    assert "the database is damaged: a recipient was not sent" in caplog.text
    assert not await store.due()


async def test_it_fails_with_its_reason_and_its_sender_is_told(
    store: SqliteStore, tmp_path: Path, post: Post, now: Now
) -> None:
    message = post.message("you@example.com", notify=FAILURE)
    await store.enqueue(message)
    alter(tmp_path, "UPDATE recipient SET address = 'yov@example.com'")
    await store.claim(await destination(store), 10, UNTIL)
    view = await store.message(message.uuid, None)
    assert view is not None
    assert (view.recipients[0].state, view.recipients[0].reply) == (State.FAILED, inspection.REPLY)
    assert [event.type for event in await store.events(message.uuid)] == [EventType.ACCEPTED, EventType.FAILED]
    assert store.backlog().messages == 0
    (report,) = await store.reports(now.ms + 1, 10)
    assert report.message == message.id


async def test_a_damaged_row_is_found_in_the_longest_queue(
    store: SqliteStore, tmp_path: Path, post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ROWS", "MOST"):
        monkeypatch.setattr(inspection, name, 5)
    await store.enqueue_all([post.message("you@example.com", key="bulk") for _ in range(50)], None)
    bad, good = (post.message(f"{who}@example.com", key="shop") for who in ("bad", "good"))
    await store.enqueue_all([bad, good], None)
    alter(tmp_path, "UPDATE recipient SET address = 'bae@example.com' WHERE message = ?", bad.id)
    number = await destination(store)
    assert await store.claim(number, 10, UNTIL) == ()  # of both keys
    claims = await store.claim(number, 10, UNTIL)
    assert sum(len(claimed.recipients) for claimed in claims) == 10
    assert good.uuid in {claimed.uuid for claimed in claims}
    view = await store.message(bad.uuid, None)
    assert view is not None
    assert view.recipients[0].state is State.FAILED


async def test_a_place_of_a_recipient_that_is_in_hand_is_dropped(
    store: SqliteStore, tmp_path: Path, post: Post
) -> None:
    first, second = post.message("you@example.com"), post.message("her@example.com")
    for message in (first, second):
        await store.enqueue(message)
    number = await destination(store)
    (claimed,) = await store.claim(number, 1, UNTIL)
    alter(
        tmp_path,
        "INSERT INTO ready SELECT destination, priority, key, recipient, message FROM leased WHERE message = ?",
        claimed.message,
    )
    assert await store.claim(number, 10, UNTIL) == ()
    assert [one.uuid for one in await store.claim(number, 10, UNTIL)] == [second.uuid]
    assert await store.settle([attempt(claimed, State.DELIVERED, at=START_MS)]) == 1


async def test_mail_of_a_damaged_destination_goes_nowhere_else(
    tmp_path: Path, post: Post, now: Now, store: SqliteStore
) -> None:
    message = post.message("you@example.com")
    await store.enqueue(message)
    await store.close()
    alter(tmp_path, "UPDATE destination SET domain = 'exbmple.com'")
    again = await SqliteStore.open(tmp_path / "queue.db", clock=now.clock)
    assert [(due.route, due.domain) for due in await again.due()] in ([], [("", "")])
    await again.close()


async def test_rows_of_an_older_version_are_believed(store: SqliteStore, tmp_path: Path, post: Post) -> None:
    message = post.message("you@example.com")
    await store.enqueue(message)
    for table in ("recipient", "message", "destination"):
        alter(tmp_path, f"UPDATE {table} SET seal = 0")
    (claimed,) = await claim_all(store, UNTIL)
    assert claimed.uuid == message.uuid


async def test_what_an_operator_redirects_fits(store: SqliteStore, post: Post, now: Now) -> None:
    message = post.message("you@example.com")
    await store.enqueue(message)
    order = Order(Verb.REDIRECT, address="her@example.org", route="direct", by_domain=True)
    assert await store.operate(Filter(), order, now.ms) == 1
    (claimed,) = await claim_all(store, UNTIL)
    assert [one.address for one in claimed.recipients] == ["her@example.org"]


async def test_a_destination_that_cannot_be_read_is_set_aside(
    store: SqliteStore, post: Post, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    await store.enqueue(post.message("you@example.com"))
    number = await destination(store)
    claim = store._parts.claims._claim

    def corrupt(*_: object) -> list[object]:
        raise apsw.CorruptError("database disk image is malformed")

    monkeypatch.setattr(store._parts.claims, "_claim", corrupt)
    for _ in range(2):
        assert await store.claim(number, 10, UNTIL) == ()
        assert not await store.due()
    assert caplog.text.count("cannot be read") == 1
    monkeypatch.setattr(store._parts.claims, "_claim", claim)
    ready = asyncio.Event()
    store.on_ready = ready.set
    store._claiming._take_up(number)
    async with asyncio.timeout(60):
        await ready.wait()
    assert len(await store.claim(number, 10, UNTIL)) == 1


async def test_a_result_that_a_damaged_page_does_not_take_waits(
    store: SqliteStore, post: Post, now: Now, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    await store.enqueue(post.message("you@example.com"))
    (claimed,) = await claim_all(store, UNTIL)
    settle, failures = store._parts.settlement.settle, iter(range(2))

    def settled(tx: Transaction, batches: Sequence[Sequence[Attempt]]) -> list[int]:
        if next(failures, None) is not None:
            raise apsw.CorruptError("database disk image is malformed")
        return settle(tx, batches)

    monkeypatch.setattr(hardship, "RETRY_S", 0.01)
    monkeypatch.setattr(store._parts.settlement, "settle", settled)
    assert await store.settle([attempt(claimed, State.DELIVERED, at=now.ms)]) == 1
    assert caplog.text.count("what became of a delivery cannot be written") == 2
    assert store.away == ""


async def test_what_cannot_be_opened_names_the_file_and_the_way_out(tmp_path: Path) -> None:
    path = tmp_path / "queue.db"
    path.write_bytes(b"not a database, but long enough to be read as one" * 100)
    with pytest.raises(StoreError, match="restore a backup") as refusal:
        await SqliteStore.open(path)
    assert str(path) in str(refusal.value)
