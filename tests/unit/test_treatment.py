"""What becomes of recipients at intake: modes and brakes of keys, suppressions, the simulator; by both doors."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Never

import pytest

from gateway.config import CAPTURED, SIMULATED, Http
from gateway.doors import SmtpDoor
from gateway.errors import Reason, Refused, StoreError
from gateway.events import EventType, State
from gateway.intake import Asked, Intake
from gateway.keyterms import Brakes, Limit, Mode, ModeKind, Unit
from gateway.message.model import TRACK_CLICKS, TRACK_OPENS
from gateway.observe import MailLog
from gateway.policy.auth import KeyRing, Principal
from gateway.policy.brakes import Braking
from gateway.policy.limits import Limiter
from gateway.policy.suppression import Suppressions
from gateway.policy.templates import Templates
from gateway.runtime import Clock, IdSource
from gateway.store import suppression
from gateway.store.newmail import NewMessage
from gateway.store.sqlite import SqliteStore
from gateway.tokens import Tokens
from tests.unit.conftest import MAIL, NOW, SHOP, Desk, boxes, config, letter

CLOCK = Clock(now_ms=lambda: NOW, monotonic=lambda: 1000.0)
TOKENS = Tokens(b"k" * 32)
CAPTURE = replace(SHOP, mode=Mode(ModeKind.CAPTURE))
HOLD = replace(SHOP, mode=Mode(ModeKind.HOLD))
REDIRECT = replace(SHOP, mode=Mode(ModeKind.REDIRECT, ("qa@example.org",)))
ALLOW = replace(SHOP, mode=Mode(ModeKind.ALLOW, ("*@example.net", "boss@example.com")))


async def away(*_: object) -> Never:
    raise StoreError("away")


class Ward(Desk):
    """A desk that asks for suppressions and brakes, with a simulator."""

    def __init__(self, store: SqliteStore, tmp_path: Path, **changes: Any) -> None:
        settings = config(tmp_path, **({"simulator": "play.test"} | changes))
        super().__init__(store, settings)
        self.braking = Braking(store.brakes, store.event_log, KeyRing(), hashed=TOKENS.hashed, clock=CLOCK)
        self.limiter = Limiter(CLOCK)
        self.intake = Intake(
            settings,
            self.queue,  # type: ignore[arg-type]  # intake asks for four of its verbs only
            self.domains,
            limiter=self.limiter,
            templates=Templates(store.records, None),
            clock=CLOCK,
            ids=IdSource(CLOCK),
            log=MailLog(self.log),
            suppressions=Suppressions(store.suppressed, TOKENS, CLOCK),
            braking=self.braking,
            earlier=store.earlier,
        )

    async def suppress(self, value: str, *, tag: str = "", reason: suppression.Reason | None = None) -> None:
        why = reason or suppression.Reason.COMPLAINT
        entry = suppression.Entry("acme", tag, suppression.Kind.ADDRESS, value, why, "", NOW, None)
        await self.store.suppressed.add([entry])

    @property
    def message(self) -> NewMessage:
        """The last one."""
        return self.queue.enqueued[-1]

    def rows(self) -> dict[str, tuple[str, State]]:
        """Of the last message: route and state by address."""
        return {row.address: (row.route, row.state) for row in self.message.recipients}

    async def types(self) -> list[EventType]:
        return [event.type for event in await self.store.events(self.message.uuid)]


@pytest.fixture
async def ward(tmp_path: Path) -> AsyncIterator[Ward]:
    store = await SqliteStore.open(tmp_path / "gateway.db", clock=CLOCK)
    yield Ward(store, tmp_path)
    await store.close()


# Modes


async def test_a_live_key_changes_nothing(ward: Ward) -> None:
    assert (await ward.submit(letter())).status == "queued"
    (row,) = ward.message.recipients
    assert (row.route, row.state, row.domain, row.why) == ("", State.QUEUED, "example.net", "")


async def test_what_is_captured_leaves_by_no_route(ward: Ward) -> None:
    assert (await ward.submit(letter(), CAPTURE)).status == "captured"
    await ward.receive(MAIL, key=CAPTURE)
    for message in ward.queue.enqueued:
        assert [(row.route, row.domain, row.state) for row in message.recipients] == [(CAPTURED, "", State.QUEUED)]


async def test_what_is_held_is_told_so(ward: Ward) -> None:
    assert (await ward.submit(letter(), HOLD)).status == "held"
    assert await ward.types() == [EventType.ACCEPTED, EventType.HELD]
    assert (await ward.submit(letter(send_at=NOW + 1000), HOLD)).status == "held"


async def test_one_address_stands_for_all(ward: Ward) -> None:
    to = ("a@example.net", "b@example.net")
    await ward.receive(MAIL, key=REDIRECT, to=to)
    assert ward.rows() == {"qa@example.org": ("", State.QUEUED)}
    assert (ward.message.original_to, ward.message.recipients[0].domain) == (to, "example.org")
    (accepted,) = await ward.store.events(ward.message.uuid)
    assert json.loads(accepted.data)["original_to"] == list(to)


async def test_limits_count_whom_the_client_named(ward: Ward) -> None:
    key = replace(REDIRECT, limits=(Limit(Unit.RECIPIENTS, 3, 60, 3),))
    submission = letter(to=boxes("a@example.net", "b@example.net"))
    first = await ward.submit(submission, key, idempotency=("n", b"1"))
    assert [one.remaining for one in ward.limiter.allowances(key)] == [1]
    key = replace(key, limits=(Limit(Unit.RECIPIENTS, 4, 60, 4),))
    again = await ward.submit(submission, key, idempotency=("n", b"1"))
    assert (again.uuid, again.replayed) == (first.uuid, True)
    assert [one.remaining for one in ward.limiter.allowances(key)] == [2], "a replay counts nothing"


async def test_who_is_not_allowed_is_captured(ward: Ward) -> None:
    to = ("x@example.net", "Boss@example.com", "a@example.com")
    assert (await ward.submit(letter(to=boxes(*to)), ALLOW)).status == "queued"
    assert [route for route, _ in ward.rows().values()] == ["", "", CAPTURED]
    assert "does not allow" in ward.message.recipients[2].why
    assert (await ward.submit(letter(to=boxes("a@example.com")), ALLOW)).status == "captured"
    await ward.submit(letter(to=boxes("a@example.com"), send_at=NOW + 1000), ALLOW)
    (accepted,) = await ward.store.events(ward.message.uuid)
    assert "does not allow" in json.loads(accepted.data)["note"]


# The simulator


@pytest.mark.parametrize("key", [SHOP, CAPTURE, ALLOW, REDIRECT])
async def test_the_simulator_plays_whatever_the_mode(ward: Ward, key: Principal) -> None:
    await ward.suppress("bounce@play.test")
    await ward.submit(letter(to=boxes("bounce@play.test", "Ok@PLAY.test")), key)
    assert list(ward.rows().values()) == [(SIMULATED, State.QUEUED)] * 2
    assert ward.message.original_to == ()


async def test_only_who_is_real_is_redirected(ward: Ward) -> None:
    await ward.submit(letter(to=boxes("ok@play.test", "a@example.net")), REDIRECT)
    assert ward.rows() == {"ok@play.test": (SIMULATED, State.QUEUED), "qa@example.org": ("", State.QUEUED)}


async def test_what_is_held_is_played_later(ward: Ward) -> None:
    await ward.submit(letter(to=boxes("ok@play.test")), HOLD)
    assert ward.rows() == {"ok@play.test": (SIMULATED, State.HELD)}


async def test_a_route_that_captures_does_not_capture_the_simulator(ward: Ward) -> None:
    key = replace(SHOP, route="inbox")
    assert (await ward.submit(letter(to=boxes("ok@play.test")), key)).status == "queued"
    assert (await ward.submit(letter(to=boxes("a@example.net")), key)).status == "captured"


# Suppressions


async def test_mail_of_which_nobody_is_left_is_refused(ward: Ward) -> None:
    await ward.suppress("b@example.net")
    refusal = await ward.refused(Reason.RECIPIENT_SUPPRESSED, ward.submit(letter()))
    assert "complained" in refusal.text
    with pytest.raises(Refused) as by_smtp:
        await ward.receive(MAIL)
    assert by_smtp.value.smtp_reply.startswith("550 5.7.1 ")


async def test_who_is_suppressed_is_not_sent_to(ward: Ward) -> None:
    await ward.suppress("b@example.net")
    await ward.receive(MAIL, to=("a@example.net", "b@example.net"))
    assert ward.rows() == {"a@example.net": ("", State.QUEUED), "b@example.net": ("", State.SUPPRESSED)}
    assert await ward.types() == [EventType.ACCEPTED, EventType.ACCEPTED, EventType.SUPPRESSED]
    assert (await ward.submit(letter(to=boxes("a@example.net", "b@example.net")), HOLD)).status == "held"
    assert [state for _, state in ward.rows().values()] == [State.HELD, State.SUPPRESSED]


async def test_what_is_suppressed_for_a_tag(ward: Ward) -> None:
    await ward.suppress("b@example.net", tag="news")
    await ward.submit(letter())
    await ward.submit(letter(tags=("other",)))
    with pytest.raises(Refused):
        await ward.submit(letter(tags=("news",)))
    with pytest.raises(Refused):
        await ward.receive(b"X-Gateway-Tag: news\r\n" + MAIL)


async def test_who_gets_redirected_mail_is_asked_about(ward: Ward) -> None:
    await ward.suppress("b@example.net")
    await ward.submit(letter(), REDIRECT)
    await ward.suppress("qa@example.org")
    with pytest.raises(Refused) as refusal:
        await ward.submit(letter(), REDIRECT)
    assert refusal.value.reason is Reason.RECIPIENT_SUPPRESSED


async def test_rcpt_asks_about_whom_it_goes_to(ward: Ward) -> None:
    suppressions = Suppressions(ward.store.suppressed, TOKENS, CLOCK)
    door = SmtpDoor(KeyRing(), ward.intake, CLOCK, MailLog(ward.log), suppressions=suppressions)
    for address in ("b@example.net", "bounce@play.test"):
        await ward.suppress(address)
    await door.judge_recipient(REDIRECT, "b@example.net", "192.0.2.7")
    await door.judge_recipient(SHOP, "bounce@play.test", "192.0.2.7")
    with pytest.raises(Refused) as refusal:
        await door.judge_recipient(SHOP, "b@example.net", "192.0.2.7")
    assert refusal.value.reason is Reason.RECIPIENT_SUPPRESSED


async def test_one_of_a_batch_fails_alone(ward: Ward) -> None:
    await ward.suppress("b@example.net")
    asked = [(letter(), None), (letter(to=boxes("a@example.net")), None)]
    taken = await ward.intake.submit_all(SHOP, asked, request=("r", b"h"), client="192.0.2.7")
    first, second = taken.items
    assert first.refused is not None
    assert first.refused.reason is Reason.RECIPIENT_SUPPRESSED
    assert second.receipt is not None
    again = await ward.intake.submit_all(SHOP, asked, request=("r", b"h"), client="192.0.2.7")
    assert again.replayed
    assert again.items[1].receipt == second.receipt


# Asked again


async def test_what_was_accepted_is_answered_as_it_was(ward: Ward) -> None:
    first = await ward.submit(letter(), idempotency=("n", b"1"))
    held = await ward.submit(letter(), HOLD, idempotency=("h", b"1"))
    captured = await ward.submit(letter(), CAPTURE, idempotency=("c", b"1"))
    await ward.suppress("b@example.net")
    for receipt, name in ((first, "n"), (held, "h"), (captured, "c")):
        for key in (SHOP, HOLD, CAPTURE):
            again = await ward.submit(letter(), key, idempotency=(name, b"1"))
            assert (again.uuid, again.status, again.replayed) == (receipt.uuid, receipt.status, True)
    with pytest.raises(Refused) as refusal:
        await ward.submit(letter(), idempotency=("n", b"other"))
    assert refusal.value.reason is Reason.IDEMPOTENCY_CONFLICT


async def test_one_that_came_before_does_not_fail_a_batch_that_is_stored(
    ward: Ward, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error would have the client send all of it again."""
    first = await ward.submit(letter(), idempotency=("n", b"1"))
    monkeypatch.setattr(ward.store.earlier, "beginning", away)
    asked = [(letter(), ("n", b"1")), (letter(subject="Another"), None)]
    taken = await ward.intake.submit_all(SHOP, asked, request=None, client="192.0.2.7")
    assert [one.receipt and (one.receipt.uuid, one.receipt.replayed) for one in taken.items] == [
        (first.uuid, True),
        (ward.message.uuid, False),
    ]


async def test_a_store_that_goes_away_in_a_batch_has_nothing_counted(
    ward: Ward, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume = Limit(Unit.RECIPIENTS, 5, 86_400, 5)
    key = replace(SHOP, limits=(Limit(Unit.MESSAGES, 9, 60, 9), volume), brakes=Brakes(volume=volume))
    await ward.suppress("b@example.net")
    two = letter(to=boxes("x@example.net", "y@example.net"))
    asked: list[Asked] = [(two, None), Refused(Reason.MISSING_PARAMETER, ""), (letter(), None), (two, None)]
    with monkeypatch.context() as patch:
        patch.setattr(ward.store.suppressed, "find", away)
        for _ in range(3):
            with pytest.raises(StoreError):
                await ward.intake.submit_all(key, asked, request=None, client="192.0.2.7")
    assert [one.remaining for one in ward.limiter.allowances(key)] == [9, 5]
    assert [(await ward.submit(two, replace(key, limits=()))).status for _ in range(3)] == ["queued", "queued", "held"]


# Brakes


def braked(**brakes: Limit) -> Principal:
    return replace(SHOP, brakes=Brakes(**brakes))  # type: ignore[arg-type]  # rates only


DAILY = Limit(Unit.RECIPIENTS, 3, 86_400, 3)


async def test_too_much_mail_is_held(ward: Ward) -> None:
    key = braked(volume=DAILY)
    statuses = [(await ward.submit(letter(), key)).status for _ in range(5)]
    assert statuses == ["queued"] * 3 + ["held"] * 2
    assert ward.message.recipients[0].why == "the key is braked: more than 3 recipients per day"
    assert (await ward.submit(letter())).status == "queued", "of another key of that name without brakes"


async def test_what_is_not_queued_or_not_sent_is_not_counted(ward: Ward) -> None:
    key = braked(volume=DAILY)
    await ward.suppress("b@example.net")
    await ward.submit(letter(to=boxes("a@example.net", "b@example.net")), key, idempotency=("n", b"1"))
    for _ in range(5):
        await ward.submit(letter(to=boxes("a@example.net", "b@example.net")), key, idempotency=("n", b"1"))
        await ward.submit(letter(to=boxes("c@example.com")), replace(key, mode=ALLOW.mode))
    limited = replace(key, limits=(Limit(Unit.MESSAGES, 1, 60, 1),))
    await ward.receive(MAIL, key=limited, to=("a@example.net",))
    for _ in range(3):
        with pytest.raises(Refused) as refusal:
            await ward.receive(MAIL, key=limited, to=("a@example.net",))
        assert refusal.value.reason is Reason.RATE_LIMITED
    assert (await ward.submit(letter(to=boxes("a@example.net")), key)).status == "queued"
    assert (await ward.submit(letter(to=boxes("a@example.net")), key)).status == "held"


async def test_a_repetition_trips_nothing_and_brings_nothing_back(ward: Ward) -> None:
    key = braked(volume=DAILY)
    two = letter(to=boxes("a@example.net", "b@example.net"))
    by_smtp = b"Idempotency-Key: s\r\n" + MAIL

    async def all_of_it() -> list[bool]:
        first = await ward.submit(two, key, idempotency=("n", b"1"))
        many = await ward.intake.submit_all(key, [(letter(), None)], request=("r", b"1"), client="192.0.2.7")
        return [first.replayed, many.replayed]

    assert await all_of_it() == [False, False]
    for _ in range(3):
        assert await all_of_it() == [True, True]
    with pytest.raises(Refused):
        await ward.submit(letter(), key, idempotency=("n", b"other"))
    assert ward.braking.trip_of("shop") is None
    before = await ward.receive(by_smtp, key=SHOP)
    assert await ward.receive(by_smtp, key=key) == before
    assert ward.braking.trip_of("shop") is None
    assert (await ward.submit(letter(), key)).status == "held"


async def test_too_many_strangers(ward: Ward) -> None:
    key = braked(new_recipients=replace(DAILY, count=2, burst=2))
    for _ in range(3):
        assert (await ward.submit(letter(to=boxes("a@example.net", "A@example.net")), key)).status == "queued"
    assert (await ward.submit(letter(to=boxes("b@example.net")), key)).status == "queued"
    assert (await ward.submit(letter(to=boxes("c@example.net")), key)).status == "held"


# Tracking


async def test_tracking_needs_a_url(ward: Ward, tmp_path: Path) -> None:
    tracked = replace(SHOP, track=TRACK_OPENS)
    await ward.submit(letter(), tracked)
    assert ward.message.track == 0
    with pytest.raises(Refused) as refusal:
        await ward.submit(letter(track=TRACK_CLICKS))
    assert refusal.value.reason is Reason.NOT_SUPPORTED
    with pytest.raises(Refused):
        await ward.receive(b"X-Gateway-Track: opens\r\n" + MAIL)

    ward.intake.reconfigure(config(tmp_path, http=Http(public_url="https://mail.example.com")))
    await ward.submit(letter(), tracked)
    assert (ward.message.track, ward.message.own_return_path) == (TRACK_OPENS, False)
    await ward.submit(letter(track=0, return_path="b@example.com"), tracked)
    assert (ward.message.track, ward.message.own_return_path) == (0, True)
    await ward.receive(b"X-Gateway-Track: clicks\r\nX-Gateway-Unsubscribe: news\r\n" + MAIL, key=tracked)
    assert (ward.message.track, ward.message.unsubscribe) == (TRACK_CLICKS, "news")
    assert json.loads(ward.message.tags) == ["news"]
