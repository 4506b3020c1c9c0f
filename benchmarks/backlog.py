"""`python -m benchmarks.backlog FILE [--recipients N] [--domains N] [--waiting]`: a store file with a backlog in it.

Writes what acceptance and failed attempts would have left, through the store's own statements, a million recipients in
a minute: three in ten due at one giant destination, two thirds of those one key's; one recipient each due at some 300
small ones; the others waiting after a failed attempt, for a time of the next day. Messages have one recipient each and
real content, so a daemon can deliver them. The same shape gives the same rows, but for the time of day.

It opens the file as the store does and expects nobody else to have it open.
"""

import argparse
import hashlib
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.message.canonical import BodyHasher
from gateway.runtime import Clock, IdSource, uuid7
from gateway.store import connection, db, picking
from gateway.store.connection import Database
from gateway.store.db import Row

GIANT: Final = "giant.test"  # its recipients' domain
BULK: Final = "bulk"  # the key with two thirds of them
DAY_MS: Final = 86_400_000
_LIFE_MS: Final = 5 * DAY_MS
_GROUP: Final = 20_000  # messages of a transaction
_KEYS: Final = ("shop", "news", "alerts", "app")
_LINE: Final = b"The quick brown fox jumps over the lazy dog, again and again.\r\n"
_STATEMENTS: Final = {
    "destination": ("destination_find", "destination_add"),
    "key": ("key_find", "key_ref_add"),
    "account": ("account_find", "account_add"),
}
_ACCEPTED: Final = '{"door":"smtp","client":"192.0.2.1"}'
_DEFERRED: Final = '{"reply":"451 4.3.0 later","host":"mx.test","stage":"mail","attempt":1}'
_REPLY: Final = "451 4.3.0 later"


@dataclass(frozen=True, slots=True)
class Shape:
    """What is queued. `giant` is the share that is due at one destination; with 0 nothing at all is due.

    `by_domain` is the route that is cut by domain, `relay` the one of the giant (domain ''; None: the giant is a domain
    of `by_domain` like the others). `night`: what is due has failed once, and has waited for a night without a daemon.
    `size` is that of a message in octets; what waits does so for `soonest_ms` at least.
    """

    recipients: int = 1_000_000
    domains: int = 10_000
    giant: float = 0.3
    small: int = 300
    by_domain: str = "direct"
    relay: str | None = None
    night: bool = False
    size: int = 600
    soonest_ms: int = 60_000

    @property
    def due(self) -> int:
        """How many recipients are due."""
        return self._giant + (min(self.small, self.domains) if self._giant else 0)

    @property
    def _giant(self) -> int:
        return int(self.recipients * self.giant)


@dataclass(frozen=True, slots=True)
class _One:
    """A queued recipient to write; `at` is 0 where it was never tried."""

    destination: int
    domain: str
    key: int
    at: int


def fill(path: Path, shape: Shape, *, now_ms: int | None = None) -> None:
    """Make a database, or add to one. StoreError where it cannot be opened."""
    path.parent.mkdir(parents=True, exist_ok=True)
    now = Clock().now_ms() if now_ms is None else now_ms
    database = connection.open_writer(path)
    try:
        db.migrate(database.cursor(), db.migrations())
        _Filler(database, shape, now).run()
        database.checkpoint(truncate=True)
    finally:
        database.close()


class _Filler:
    """Writes one backlog into an open database."""

    def __init__(self, database: Database, shape: Shape, now: int) -> None:
        self._database = database
        self._sql = db.load("common", "sqlite")
        self._shape = shape
        self._now = now
        self._random = random.Random(shape.recipients)
        # Accepted one after the other during the last day.
        self._created = now - DAY_MS
        last = self._number("message_last")
        self._ids = IdSource(Clock(now_ms=lambda: self._created), last=last)
        self._seq = self._number("event_last")
        self._account = 0
        header = b"From: a@example.com\r\nTo: you@example.net\r\nSubject: queued\r\nMessage-ID: <q@example.com>\r\n\r\n"
        body = _LINE * max(1, (shape.size - len(header)) // len(_LINE))
        hasher = BodyHasher()
        hasher.update(body)
        self._content = header + body
        self._facts = (len(self._content), len(header), hasher.digest())
        self._hash = hashlib.sha256(self._content).digest()

    def run(self) -> None:
        ones = self._ones()
        step = DAY_MS / self._shape.recipients
        begun = self._created
        done = 0
        while group := [one for one, _ in zip(ones, range(_GROUP), strict=False)]:
            self._database.begin()
            rows: dict[str, list[Row]] = {}
            for one in group:
                self._created = begun + int(done * step)
                self._add(rows, one)
                done += 1
            self._write(rows)
            self._database.commit()
            self._database.checkpoint()
        self._database.begin()
        self._execute("instance_raise", ("id_limit", self._ids.last))
        self._database.commit()

    def _ones(self) -> Iterator[_One]:
        """All recipients, those of the giant evenly among the others."""
        shape = self._shape
        giant_due = int(shape.recipients * shape.giant)
        self._database.begin()
        route, domain = (shape.by_domain, GIANT) if shape.relay is None else (shape.relay, "")
        giant = self._learn("destination", (route, domain)) if giant_due else 0
        self._account = self._learn("account", ("shop",))
        names = [f"d{number}.test" for number in range(shape.domains)]
        small = [self._learn("destination", (shape.by_domain, name)) for name in names]
        bulk, *keys = (self._learn("key", (name,)) for name in (BULK, *_KEYS))
        self._database.commit()
        count = shape.recipients
        due_at = self._now - 1 if shape.night else 0
        others = 0
        for number in range(count):
            if number * giant_due // count != (number + 1) * giant_due // count:
                yield _One(giant, GIANT, bulk if number % 3 else keys[number % len(keys)], due_at)
                continue
            which = others % len(small)
            due = giant_due and others < min(shape.small, len(small))
            at = due_at if due else self._now + self._random.randrange(shape.soonest_ms, DAY_MS)
            others += 1
            yield _One(small[which], names[which], keys[number % len(keys)], at)

    def _add(self, rows: dict[str, list[Row]], one: _One) -> None:
        add: Callable[[str, Row], None] = lambda name, row: rows.setdefault(name, []).append(row)  # noqa: E731 - a word
        message, recipient, at = self._ids.next(), self._ids.next(), self._created
        address = f"user{self._seq}@{one.domain}"
        expires_at = self._now + _LIFE_MS - (self._now - at)
        add("message_add", self._message(message, one.key, at, expires_at))
        add("content_put", (message, self._hash, self._content))
        add("recipient_add", (message, recipient, address, one.destination, at, 0, ""))
        add("expiry_add", (expires_at, message))
        self._seq += 1
        add("event_add", (self._seq, message, recipient, "accepted", at, _ACCEPTED, self._account))
        if not one.at:
            add("ready_add", (one.destination, 1, one.key, recipient, message))
            return
        tried = (
            message,
            recipient,
            "deferred",
            1,
            one.at,
            at,
            0,
            _REPLY,
            "mx.test",
            "TransientFailure",
            "recipient",
            "mail",
        )
        add("recipient_settle", tried)
        add("waiting_add", (one.at, recipient, one.destination, picking.retried(1), one.key, message, "backoff"))
        self._seq += 1
        add("event_add", (self._seq, message, recipient, "deferred", at, _DEFERRED, self._account))
        attempt = (message, self._seq, one.destination, self._shape.by_domain, at, at, "mx.test", "192.0.2.25", "", 1)
        add("attempt_add", attempt)

    def _message(self, id_: int, key: int, at: int, expires_at: int) -> Row:
        sender = "a@example.com"
        who = (id_, uuid7(at), "shop", key, "smtp", sender, sender, "queued", "q@example.com")
        return (*who, *self._facts, 0, "[]", "{}", at, expires_at, 1, 1, 1, "", 0, self._account, "", "")

    def _write(self, rows: dict[str, list[Row]]) -> None:
        for name, some in rows.items():
            self._database.cursor().executemany(self._sql[name], some).fetchall()

    def _learn(self, kind: str, values: Row) -> int:
        """The number of a destination, a key or an account."""
        find, add = _STATEMENTS[kind]
        row = self._execute(find, values) or self._execute(add, values)
        assert row is not None
        return int(row[0])

    def _number(self, name: str) -> int:
        row = self._execute(name)
        return int(row[0]) if row is not None and row[0] is not None else 0

    def _execute(self, name: str, values: Row = ()) -> Row | None:
        rows = self._database.cursor().execute(self._sql[name], values).fetchall()
        return rows[0] if rows else None


def main() -> None:
    usual = Shape()
    parser = argparse.ArgumentParser(prog="python -m benchmarks.backlog", description=__doc__)
    parser.add_argument("file", type=Path, help="the database, as DATA_DIR/gateway.db")
    parser.add_argument("--recipients", type=int, default=usual.recipients)
    parser.add_argument("--domains", type=int, default=usual.domains)
    parser.add_argument("--size", type=int, default=usual.size, help="of a message, in octets")
    parser.add_argument("--waiting", action="store_true", help="nothing is due")
    parser.add_argument("--night", action="store_true", help="what is due has failed once, and waits")
    parser.add_argument("--route", default=usual.by_domain, help="the route that is cut by domain")
    parser.add_argument("--relay", help="the route of the giant destination, where it is a relay")
    arguments = parser.parse_args()
    shape = Shape(
        recipients=arguments.recipients,
        domains=arguments.domains,
        giant=0.0 if arguments.waiting else usual.giant,
        by_domain=arguments.route,
        relay=arguments.relay,
        night=arguments.night,
        size=arguments.size,
    )
    began = time.monotonic()
    fill(arguments.file, shape)
    size_mb = arguments.file.stat().st_size / 1e6
    print(f"{shape.recipients} recipients, {shape.due} of them due: {size_mb:.0f} MB, {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
