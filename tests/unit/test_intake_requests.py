"""Batches, schedules, limits and substitution: what intake does beyond one plain message."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from gateway.errors import Reason, Refused, StoreError
from gateway.events import State
from gateway.intake import BatchReceipt, draft
from gateway.keyterms import Limit, Unit
from gateway.message.model import PIECE_BYTES, Attachment
from gateway.metrics import PREFIX
from tests.unit.conftest import MAIL, NOW, ONLY_EXAMPLE, SHOP, Desk, boxes, letter
from tests.unit.test_metrics import scraped

HOUR_MS = 3_600_000


def limited(unit: Unit, count: int, burst: int = 0) -> Any:
    return replace(SHOP, limits=(Limit(unit, count, 60, burst or count),))


async def batch(desk: Desk, *items: Any, key: Any = SHOP, request: Any = None) -> BatchReceipt:
    asked = [item if isinstance(item, (tuple, Refused)) else (item, None) for item in items]
    return await desk.intake.submit_all(key, asked, request=request, client="192.0.2.7")


async def subjects(desk: Desk) -> list[str]:
    return [message.subject for message in desk.queue.enqueued]


def refused(desk: Desk) -> dict[str, float]:
    """Submissions by HTTP, by reason."""
    name = f"{PREFIX}submissions_refused_total door=http reason="
    return {key.removeprefix(name): value for key, value in scraped(desk.metrics).items() if key.startswith(name)}


# Schedules


async def test_mail_for_later(desk: Desk) -> None:
    receipt = await desk.submit(letter(send_at=NOW + HOUR_MS, ttl_s=60))
    view = await desk.view(receipt.uuid)
    assert receipt.status == "scheduled"
    assert view.recipients[0].state is State.SCHEDULED
    assert view.recipients[0].next_at == NOW + HOUR_MS
    assert view.expires_at == NOW + HOUR_MS + 60_000, "the time to live begins when it may go"


async def test_a_delay(desk: Desk) -> None:
    view = await desk.view((await desk.submit(letter(delay_s=90))).uuid)
    assert view.recipients[0].next_at == NOW + 90_000
    assert view.expires_at == NOW + 90_000 + HOUR_MS


async def test_a_time_that_is_past_is_now(desk: Desk) -> None:
    receipt = await desk.submit(letter(send_at=NOW - 1))
    assert receipt.status == "queued"
    assert (await desk.view(receipt.uuid)).recipients[0].state is State.QUEUED


async def test_a_time_that_is_too_far(desk: Desk) -> None:
    refusal = await desk.refused(Reason.VALIDATION_ERROR, desk.submit(letter(send_at=NOW + 366 * 24 * HOUR_MS)))
    assert refusal.param == "send_at"


async def test_times_in_smtp_mail(desk: Desk) -> None:
    view = await desk.view(await desk.receive(b"X-Gateway-Send-At: in 1h\r\nX-Gateway-TTL: 5m\r\n" + MAIL))
    assert view.recipients[0].next_at == NOW + HOUR_MS
    assert view.expires_at == NOW + HOUR_MS + 300_000


@pytest.mark.parametrize("field", [b"X-Gateway-Send-At: tomorrow", b"X-Gateway-TTL: 40d", b"X-Gateway-TTL:"])
async def test_times_that_are_none(desk: Desk, field: bytes) -> None:
    await desk.refused(Reason.MALFORMED_MESSAGE, desk.receive(field + b"\r\n" + MAIL))


# Limits


@pytest.mark.parametrize("unit", list(Unit))
async def test_a_key_that_sent_enough(desk: Desk, unit: Unit) -> None:
    key = limited(unit, 1)
    await desk.submit(letter(), key)
    with pytest.raises(Refused) as refusal:
        await desk.submit(letter(), key)
    assert (refusal.value.reason, refusal.value.retry_after_s) == (Reason.RATE_LIMITED, 60)
    assert len(desk.queue.enqueued) == 1


async def test_what_is_refused_does_not_count(desk: Desk) -> None:
    key = replace(limited(Unit.MESSAGES, 1), senders=("*@example.com",))
    with pytest.raises(Refused):
        await desk.submit(letter(headers=(("Bcc", "x@example.com"),)), key)
    with pytest.raises(Refused):
        await desk.submit(letter(sender=boxes("a@example.org")[0]), key)
    await desk.submit(letter(), key)


async def test_a_replay_does_not_count(desk: Desk) -> None:
    key = limited(Unit.MESSAGES, 2)
    for _ in range(5):
        await desk.submit(letter(), key, idempotency=("k", b"1" * 32))
    await desk.submit(letter(), key)


@pytest.mark.parametrize("how", ["json", "batch", "smtp"])
async def test_what_the_store_cannot_take_does_not_count(desk: Desk, how: str) -> None:
    key = limited(Unit.MESSAGES, 1)
    send: Callable[[], Awaitable[object]] = {
        "json": lambda: desk.submit(letter(), key),
        "batch": lambda: batch(desk, letter(), key=key),
        "smtp": lambda: desk.receive(MAIL, key=key),
    }[how]
    desk.queue.error = StoreError("away")
    with pytest.raises(StoreError):
        await send()
    desk.queue.error = None
    await send()


async def test_more_recipients_than_will_ever_be_allowed(desk: Desk) -> None:
    many = letter(to=boxes("b@example.net", "c@example.net"))
    await desk.refused(Reason.VALIDATION_ERROR, desk.submit(many, limited(Unit.RECIPIENTS, 1)))


async def test_limits_of_smtp_mail(desk: Desk) -> None:
    key = limited(Unit.MESSAGES, 1)
    desk.intake.check_sender(key, "a@example.com", client="192.0.2.7")
    await desk.receive(MAIL, key=key)
    with pytest.raises(Refused) as refusal:
        desk.intake.check_sender(key, "a@example.com", client="192.0.2.7")
    assert refusal.value.smtp_reply.startswith("450 4.7.1 ")
    with pytest.raises(Refused) as refusal:
        await desk.receive(MAIL, key=key)
    assert refusal.value.reason is Reason.RATE_LIMITED


# Batches


async def test_a_batch(desk: Desk) -> None:
    unread = Refused(Reason.INVALID_PARAMETER, "unreadable")
    receipt = await batch(desk, letter(subject="1"), unread, letter(subject="2", sender=None), letter(subject="3"))
    first, second, third, fourth = receipt.items
    assert first.receipt is not None
    assert (await desk.view(first.receipt.uuid)).subject == "1"
    assert second.refused is unread
    assert third.refused is not None
    assert third.refused.param == "from"
    assert fourth.receipt is not None
    assert await subjects(desk) == ["1", "3"]
    assert desk.log.getvalue().count(" accepted ") == 2
    assert refused(desk) == {"invalid_parameter": 1, "missing_parameter": 1}
    assert "reason=invalid_parameter text=unreadable" in desk.log.getvalue()
    assert "reason=missing_parameter" in desk.log.getvalue()


async def test_large_messages_of_a_batch(desk: Desk) -> None:
    large = letter(attachments=(Attachment("a.bin", b"x" * 2 * PIECE_BYTES, "application/octet-stream"),))
    receipt = await batch(desk, large, letter())
    assert receipt.items[0].receipt is not None
    assert len(await desk.content(receipt.items[0].receipt.uuid)) > 2 * PIECE_BYTES
    assert max(desk.queue.piece_sizes) <= PIECE_BYTES


async def test_heavy_messages_of_a_batch_take_turns(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    turns: list[float] = []

    async def sleep(delay: float) -> None:
        turns.append(delay)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    await batch(desk, *[letter(text=None, html="<p>a")] * 8)
    assert turns.count(0) == 0
    await batch(desk, *[letter(text=None, html="<p>a" * 1500)] * 8)
    assert turns.count(0) == 4


async def test_a_batch_that_grows_too_large(desk: Desk) -> None:
    grown = letter(text="{{#n}}{{x}}{{/n}}", variables={"n": [0] * 99, "x": "x" * 25_000})
    receipt = await batch(desk, *[grown] * 4, letter())
    assert [item.refused and item.refused.reason for item in receipt.items] == [
        None,
        None,
        None,
        Reason.PAYLOAD_TOO_LARGE,
        Reason.PAYLOAD_TOO_LARGE,
    ]


@pytest.mark.parametrize(("letters", "begun", "taken"), [("x" * 25_000, 4, 3), ("é" * 25_000, 3, 0)])
async def test_a_batch_that_has_grown_too_large_is_not_filled_in_any_further(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, letters: str, begun: int, taken: int
) -> None:
    """Each takes a second, and there may be a thousand."""
    composed: list[Any] = []
    compose = draft.compose

    async def counted(*args: Any, **options: Any) -> Any:
        composed.append(args)
        return await compose(*args, **options)

    monkeypatch.setattr(draft, "compose", counted)
    key = limited(Unit.MESSAGES, 10 + taken)
    grown = letter(text="{{#n}}{{x}}{{/n}}", variables={"n": [0] * 99, "x": letters})
    receipt = await batch(desk, *[grown] * 10, key=key)
    refusals = [item.refused.reason for item in receipt.items if item.refused is not None]
    assert (len(composed), refusals) == (begun, [Reason.PAYLOAD_TOO_LARGE] * (10 - taken))
    await batch(desk, *[letter()] * 10, key=key)  # what was refused does not count


async def test_a_batch_over_the_limit_is_refused_whole(desk: Desk) -> None:
    key = limited(Unit.MESSAGES, 60, burst=3)
    await batch(desk, letter(), letter(), key=key)
    with pytest.raises(Refused) as refusal:
        await batch(desk, letter(), letter(), key=key)
    assert refusal.value.reason is Reason.RATE_LIMITED
    with pytest.raises(Refused) as refusal:
        await batch(desk, *[letter()] * 4, key=key)
    assert refusal.value.reason is Reason.VALIDATION_ERROR, "four will never fit"
    assert len(desk.queue.enqueued) == 2


async def test_refused_items_of_a_batch_do_not_count(desk: Desk) -> None:
    key = replace(limited(Unit.MESSAGES, 2), senders=ONLY_EXAMPLE.senders)
    foreign = letter(sender=boxes("a@example.org")[0])
    await batch(desk, foreign, letter(), key=key)
    await batch(desk, letter(), key=key)


async def test_a_named_batch_is_accepted_once(desk: Desk) -> None:
    items = (letter(subject="1"), letter(sender=None), letter(subject="2"))
    key = limited(Unit.MESSAGES, 5)
    first = await batch(desk, *items, key=key, request=("k", b"1" * 32))
    again = await batch(desk, *items, key=key, request=("k", b"1" * 32))
    assert (first.replayed, again.replayed) == (False, True)
    assert first.items[0] == again.items[0]
    assert [item.receipt and item.receipt.uuid for item in first.items] == [
        item.receipt and item.receipt.uuid for item in again.items
    ]
    assert again.items[1].refused is not None
    assert first.items[1].refused is not None
    assert again.items[1].refused.text == first.items[1].refused.text
    assert desk.log.getvalue().count(" accepted ") == 2
    assert refused(desk) == {"missing_parameter": 1}
    with pytest.raises(Refused) as refusal:
        await batch(desk, letter(), key=key, request=("k", b"2" * 32))
    assert refusal.value.reason is Reason.IDEMPOTENCY_CONFLICT


async def test_named_messages_of_a_batch(desk: Desk) -> None:
    receipt = await batch(
        desk, (letter(), ("k", b"1" * 32)), (letter(), ("k", b"1" * 32)), (letter(subject="Other"), ("k", b"2" * 32))
    )
    first, second, third = receipt.items
    assert first.receipt is not None
    assert second.receipt is not None
    assert (second.receipt.uuid, second.receipt.replayed) == (first.receipt.uuid, True)
    assert third.refused is not None
    assert third.refused.reason is Reason.IDEMPOTENCY_CONFLICT
    assert refused(desk) == {"idempotency_conflict": 1}
    assert "reason=idempotency_conflict" in desk.log.getvalue()


async def test_two_hundred_refusals_are_one_line_and_all_counted(desk: Desk) -> None:
    for _ in range(200):
        with pytest.raises(Refused) as refusal:
            await desk.submit(letter(sender=None))
        assert refusal.value.told
    assert desk.log.getvalue().count(" refused ") == 1
    assert refused(desk) == {"missing_parameter": 200}


async def test_mail_that_would_pass_through_is_told_of_too(desk: Desk) -> None:
    with pytest.raises(Refused):
        await desk.intake.compose(
            SHOP, letter(to=boxes(*[f"{n}@example.net" for n in range(2000)])), client="192.0.2.7"
        )
    assert refused(desk) == {"validation_error": 1}


async def test_a_piece_that_cannot_be_stored_is_counted(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(*_: Any) -> None:
        raise StoreError("away")

    monkeypatch.setattr(desk.queue, "put_piece", away)
    with pytest.raises(StoreError):
        await desk.receive(MAIL + b"x\r\n", b"x\r\n")
    name = f"{PREFIX}submissions_refused_total door=smtp reason=storage_unavailable"
    assert scraped(desk.metrics)[name] == 1


# Substitution


async def test_values_are_filled_in(desk: Desk) -> None:
    mail = letter(subject="Hello {{name}}", html="<p>{{name}}</p>", variables={"name": "Ann & Bob"})
    content = (await desk.content((await desk.submit(mail)).uuid)).decode()
    assert "Subject: Hello Ann & Bob\r\n" in content
    assert "<p>Ann &amp; Bob</p>" in content


async def test_nothing_is_filled_in_where_no_values_are_given(desk: Desk) -> None:
    content = (await desk.content((await desk.submit(letter(subject="Hello {{name}}"))).uuid)).decode()
    assert "Subject: Hello {{name}}\r\n" in content


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"text": "{{name}} {{other}}", "variables": {"name": "Ann"}}, "text_body"),
        ({"subject": "{{name}}", "variables": {"name": "a\r\nBcc: x@example.com"}}, "subject"),
        ({"text": "{{#list}}{{x}}", "variables": {"list": [{"x": 1}]}}, "text_body"),
        ({"text": None, "template": "missing"}, "template"),
    ],
)
async def test_what_cannot_be_filled_in(desk: Desk, changes: dict[str, Any], param: str) -> None:
    refusal = await desk.refused(Reason.TEMPLATE_ERROR, desk.submit(letter(**changes)))
    assert refusal.param == param
