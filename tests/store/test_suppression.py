"""The list of who is not sent to: what adds, what stays, what ends, and what a settlement makes of it."""

from collections.abc import Sequence
from dataclasses import replace

import msgspec
import pytest

from gateway import config
from gateway.config import SIMULATED, Retention
from gateway.events import BounceClass, Scope, State
from gateway.store import suppressed
from gateway.store.db import Transaction
from gateway.store.suppressed import Which
from gateway.store.suppression import EVERYBODY, STEP_ROWS, Entry, Kind, Reason, Removal
from tests.store.conftest import Opener, Store
from tests.store.mail import DAY_MS, LEASE_MS, START_MS, Now, Post, attempt, claim_all

ANN = Entry("acme", "", Kind.ADDRESS, "ann@example.com", Reason.BOUNCE, "", START_MS, START_MS + DAY_MS)
ADDRESS = [("ann@example.com", Kind.ADDRESS)]


async def listed(store: Store, account: str | None = "acme") -> list[Entry]:
    return [replace(one, id=0) for one in await store.suppressed.page(Which(account))]


async def merged(store: Store, *entries: Entry) -> Entry:
    for entry in entries:
        await store.suppressed.add((entry,))
    (one,) = await listed(store)
    return one


async def test_an_entry_is_found_by_its_account_and_by_everybody(store: Store) -> None:
    await store.suppressed.add((ANN, replace(ANN, account=EVERYBODY), replace(ANN, account="other")))
    found = await store.suppressed.find("acme", ADDRESS)
    assert {one.account for one in found} == {"acme", EVERYBODY}
    assert not await store.suppressed.find("acme", [("ann@example.com", Kind.DOMAIN)])


@pytest.mark.parametrize("strong", [Reason.UNSUBSCRIBE, Reason.COMPLAINT, Reason.OPERATOR])
async def test_a_weaker_reason_changes_no_stronger_one(store: Store, strong: Reason) -> None:
    strong_one = replace(ANN, reason=strong, expires_at=None, note="theirs", cause=7)
    assert await merged(store, strong_one, replace(ANN, created_at=START_MS + 5)) == strong_one


async def test_a_stronger_reason_takes_the_place(store: Store) -> None:
    complaint = replace(ANN, reason=Reason.COMPLAINT, created_at=START_MS + 5, expires_at=None, cause=9)
    assert await merged(store, ANN, complaint) == complaint


async def test_the_same_entry_without_its_event_keeps_it(store: Store) -> None:
    """As an export has it; what was caused by nothing else since is of another time, or has another reason."""
    caused = replace(ANN, cause=7)
    assert await merged(store, caused, replace(ANN, note="mine")) == replace(caused, note="mine")
    later = replace(ANN, created_at=START_MS + 1, cause=8)
    assert await merged(store, later) == later
    assert await merged(store, ANN) == later, "an older one says nothing new"
    by_hand = replace(ANN, created_at=START_MS + 2)
    assert await merged(store, by_hand) == by_hand


async def test_the_later_end_stays(store: Store) -> None:
    longer = START_MS + 9 * DAY_MS
    operator = replace(ANN, reason=Reason.OPERATOR)
    assert (await merged(store, replace(ANN, expires_at=longer), operator)) == replace(operator, expires_at=longer)
    assert (await merged(store, replace(ANN, expires_at=None))) == replace(operator, expires_at=None)
    assert (await merged(store, ANN)).expires_at is None


async def test_what_has_ended_is_in_nobodys_way(store: Store) -> None:
    later = replace(ANN, created_at=START_MS + 2 * DAY_MS, expires_at=START_MS + 3 * DAY_MS)
    assert await merged(store, replace(ANN, reason=Reason.OPERATOR), later) == later


async def test_tags_are_entries_of_their_own(store: Store) -> None:
    await store.suppressed.add((ANN, replace(ANN, tag="news"), replace(ANN, tag="offers")))
    assert await store.suppressed.remove([Removal("acme", ("ann@example.com",), "news")]) == [1]
    assert {one.tag for one in await listed(store)} == {"", "offers"}
    assert await store.suppressed.remove([Removal("acme", ("ann@example.com",)), Removal("acme", ("bob@x",))]) == [2, 0]


async def test_a_list_has_pages_and_conditions(store: Store) -> None:
    await store.suppressed.add([replace(ANN, value=f"p{n}@example.com") for n in range(5)])
    await store.suppressed.add([replace(ANN, value="c@example.com", reason=Reason.COMPLAINT)])
    await store.suppressed.add([replace(ANN, value="t@example.com", tag="news", account="other")])
    page = await store.suppressed.page(Which("acme", limit=4))
    rest = await store.suppressed.page(Which("acme", before=page[-1].id))
    assert [one.value[0] for one in page + rest] == ["c", "p", "p", "p", "p", "p"]
    assert len(await store.suppressed.page(Which(None))) == 7
    for which, values in (
        (Which("acme", reason=Reason.COMPLAINT), ["c@example.com"]),
        (Which(None, reason=Reason.COMPLAINT), ["c@example.com"]),
        (Which("other", tag="news"), ["t@example.com"]),
        (Which("acme", tag="news"), []),
        (Which("acme", values=("p3@example.com",)), ["p3@example.com"]),
        (Which("other", values=("p3@example.com",)), []),
    ):
        assert [one.value for one in await store.suppressed.page(which)] == values


async def test_a_list_of_every_account_looks_on_in_steps(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suppressed, "STEP_ROWS", 2)
    await store.suppressed.add([replace(ANN, value="first@example.com", reason=Reason.COMPLAINT)])
    await store.suppressed.add([replace(ANN, value=f"p{n}@example.com") for n in range(9)])
    (one,) = await store.suppressed.page(Which(None, reason=Reason.COMPLAINT))
    assert one.value == "first@example.com"


async def test_it_is_read_from_the_oldest_on(store: Store) -> None:
    await store.suppressed.add([replace(ANN, value=f"p{n}@example.com") for n in range(5)])
    first = await store.suppressed.after("acme", 0, 3)
    rest = await store.suppressed.after("acme", first[-1].id, 3)
    assert [one.value for one in first + rest] == [f"p{n}@example.com" for n in range(5)]


async def test_the_sweep_drops_what_has_ended_in_small_steps(store: Store, now: Now) -> None:
    await store.suppressed.add([replace(ANN, value=f"p{n}@example.com") for n in range(STEP_ROWS + 5)])
    await store.suppressed.add([replace(ANN, value="for@ever.example", expires_at=None)])
    await store.sweep(now.ms + DAY_MS - 1)
    assert len(await store.suppressed.page(Which("acme", limit=1000))) == STEP_ROWS + 6
    await store.sweep(now.ms + DAY_MS)
    assert [one.value for one in await listed(store)] == ["for@ever.example"]


async def test_an_erased_address_leaves_its_hash(store: Store) -> None:
    noted = replace(ANN, note="Ann Smith, by phone", cause=4)
    await store.suppressed.add(
        (noted, replace(noted, account="other", tag="news"), replace(ANN, value="bob@x.example"))
    )

    def forget(tx: Transaction, calls: Sequence[None]) -> list[int]:
        return [store._parts.suppressing.forget(tx, "Ann@example.com", "hash:abc") for _ in calls]

    assert await store._writer.submit(forget, None) == 2
    assert not await store.suppressed.find("acme", ADDRESS)
    kept = [one for one in await listed(store, None) if one.value == "hash:abc"]
    hashed = replace(ANN, value="hash:abc")
    assert sorted(kept, key=lambda one: one.account) == [hashed, replace(hashed, account="other", tag="news")]
    assert store.suppressed.sieve.may_have("hash:abc")


# The sieve


async def test_a_database_without_entries_has_nothing_to_load(store: Store) -> None:
    assert store.suppressed.sieve.is_empty
    await store.suppressed.add((ANN,))
    assert store.suppressed.sieve.may_have("ann@example.com")


async def test_after_a_restart_it_is_loaded_beside_the_queue(opener: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suppressed, "LOAD_ROWS", 3)
    store = await opener()
    await store.suppressed.add([replace(ANN, value=f"p{n}@example.com") for n in range(10)])
    await store.close()
    store = await opener()
    sieve = store.suppressed.sieve
    assert sieve.may_have("nobody@example.com")
    await store.suppressed.add((ANN,))
    await store.suppressed.load()
    assert all(sieve.may_have(f"p{n}@example.com") for n in range(10))
    assert sieve.may_have("ann@example.com")
    assert sum(sieve.may_have(f"q{n}@example.com") for n in range(1000)) < 20


# Settling


@pytest.fixture
async def opened(store: Store) -> Store:
    store.reconfigure(Retention(), config.Suppression(bounce_s=3600))
    return store


async def settle(store: Store, post: Post, now: Now, state: State, *, route: str = "", **changes: object) -> None:
    """A message to ann, and what became of it."""
    sender = changes.pop("sender", "sender@example.org")
    assert isinstance(sender, str)
    await store.enqueue(post.message("Ann@example.com", sender=sender))
    (claimed,) = await claim_all(store, now.ms + LEASE_MS)
    done = attempt(claimed, state, at=now.ms, reply="550 5.1.1 no such user")
    result = msgspec.structs.replace(done.results[0], **changes)
    await store.settle([msgspec.structs.replace(done, results=(result,), route=route or done.route)])


async def test_a_bounce_of_the_mailbox_suppresses(opened: Store, post: Post, now: Now) -> None:
    await settle(opened, post, now, State.BOUNCED)
    (entry,) = await opened.suppressed.find("acme", ADDRESS)
    assert (entry.account, entry.tag, entry.reason) == ("acme", "", Reason.BOUNCE)
    assert (entry.created_at, entry.expires_at) == (now.ms, now.ms + 3_600_000)
    (event,) = [one for one in await opened.event_log.read(0, 10) if one.seq == entry.cause]
    assert (event.type, event.address) == ("bounced", "Ann@example.com")
    assert not await opened.suppressed.find("other", ADDRESS)


async def test_the_classes_that_suppress(opened: Store, post: Post, now: Now) -> None:
    for bounce_class in (BounceClass.INVALID_RECIPIENT, BounceClass.INACTIVE_MAILBOX, BounceClass.BAD_DOMAIN):
        await settle(opened, post, now, State.BOUNCED, bounce_class=bounce_class)
        assert [one.note for one in await listed(opened)] == [bounce_class]


@pytest.mark.parametrize("scope", [Scope.INFRASTRUCTURE, Scope.CONTENT])
async def test_what_is_not_the_recipients_never_does(opened: Store, post: Post, now: Now, scope: Scope) -> None:
    for bounce_class in BounceClass:
        await settle(opened, post, now, State.BOUNCED, bounce_class=bounce_class, scope=scope)
    assert opened.suppressed.sieve.is_empty
    assert not await listed(opened, None)


async def test_a_full_mailbox_a_failure_and_our_own_notifications_do_not(opened: Store, post: Post, now: Now) -> None:
    await settle(opened, post, now, State.BOUNCED, bounce_class=BounceClass.QUOTA_ISSUES)
    await settle(opened, post, now, State.BOUNCED, sender="")
    await settle(opened, post, now, State.BOUNCED, route=SIMULATED)
    gone = {"bounce_class": BounceClass.INVALID_RECIPIENT, "scope": Scope.RECIPIENT}
    await settle(opened, post, now, State.FAILED, **gone)
    assert not await listed(opened, None)


async def test_bounces_suppress_nobody_where_that_is_off(opened: Store, post: Post, now: Now) -> None:
    opened.reconfigure(Retention(), config.Suppression(bounce_s=0))
    await settle(opened, post, now, State.BOUNCED)
    assert not await listed(opened, None)
    opened.reconfigure(Retention(), config.Suppression(bounce_s=None))
    await settle(opened, post, now, State.BOUNCED)
    assert [one.expires_at for one in await listed(opened)] == [None]


async def test_a_delivery_takes_back_what_a_bounce_said_and_nothing_else(opened: Store, post: Post, now: Now) -> None:
    complaint = replace(ANN, value="c@example.com", reason=Reason.COMPLAINT)
    others = (replace(ANN, account="other"), replace(ANN, tag="news", reason=Reason.UNSUBSCRIBE), complaint)
    await opened.suppressed.add((ANN, *others))
    await settle(opened, post, now, State.DELIVERED)
    assert {replace(one, id=0) for one in await opened.suppressed.page(Which(None))} == set(others)


async def test_deliveries_ask_nothing_of_whom_nobody_suppressed(
    opened: Store, post: Post, now: Now, monkeypatch: pytest.MonkeyPatch
) -> None:
    await opened.suppressed.add((replace(ANN, value="c@example.com"),))
    statements: list[str] = []
    monkeypatch.setattr(opened._parts.settlement, "_sql", Told(opened._parts.sql, statements))
    await settle(opened, post, now, State.DELIVERED)
    assert "recipient_settle" in statements
    assert "settled_whom" not in statements


class Told(dict[str, str]):
    """Statements, with which of them were used."""

    def __init__(self, statements: object, used: list[str]) -> None:
        super().__init__(statements)  # type: ignore[call-overload]  # a mapping, whatever its type says
        self._used = used

    def __getitem__(self, name: str) -> str:
        self._used.append(name)
        return super().__getitem__(name)
