"""Mail that comes back becomes facts, or is refused, or says nothing: by address, sender and content."""

import asyncio
import io
import logging
import threading
import time
from collections.abc import Sequence
from typing import NoReturn

import pytest

from gateway.errors import Refused, StoreError
from gateway.events import BounceClass, EventType, Scope
from gateway.inbound.door import ReturnPathDoor
from gateway.inbound.take import MOST_UNREAD, MOST_UNREAD_ABOUT_ANY
from gateway.message import reports
from gateway.message.model import SmtpEnvelope
from gateway.runtime import Clock
from gateway.store.queue import Heard
from gateway.tokens import Purpose, Subject, Tokens
from tests.fakes import returned
from tests.fakes.returned import STANDARD, TO
from tests.fakes.returns import BOUNCE, DOMAIN, FEEDBACK, LEAVE, NOW_MS, SUBJECT, TOKENS, MemoryStore, inbound

TOKEN = TOKENS.local(Purpose.RETURN_PATH, SUBJECT)
OF_SEVERAL = Subject(SUBJECT.message, 0)
SEVERAL = f"b+{TOKENS.local(Purpose.RETURN_PATH, OF_SEVERAL)}@{DOMAIN}"
FOREIGN = Tokens(b"o" * 32).local(Purpose.RETURN_PATH, SUBJECT)


async def take(store: MemoryStore, to: str, content: bytes, sender: str = "", log: io.StringIO | None = None) -> None:
    await inbound(store, log).take(to, sender, content, peer="192.0.2.9")


async def heard(to: str, content: bytes, sender: str = "") -> list[Heard]:
    store = MemoryStore()
    await take(store, to, content, sender)
    return store.heard


# Addresses


@pytest.mark.parametrize("address", [BOUNCE, LEAVE, FEEDBACK, FEEDBACK.lower(), BOUNCE.upper(), SEVERAL])
def test_our_own_addresses_are_taken(address: str) -> None:
    inbound(MemoryStore()).check(address, "192.0.2.9")


@pytest.mark.parametrize(
    ("address", "reply"),
    [
        (f"ann@{DOMAIN}", "550 5.1.1 "),
        (f"b+{FOREIGN}@{DOMAIN}", "550 5.1.1 "),
        (f"b+{TOKEN[:-1]}a@{DOMAIN}", "550 5.1.1 "),
        (f"u+{TOKEN}@{DOMAIN}", "550 5.1.1 "),  # made for another purpose
        (LEAVE.replace("u+", "b+"), "550 5.1.1 "),
        (BOUNCE.replace(DOMAIN, "example.com"), "550 5.1.1 "),
        (BOUNCE.replace(DOMAIN, "sub." + DOMAIN), "550 5.1.1 "),
        (f"b+@{DOMAIN}", "550 5.1.1 "),
        (f"b{TOKEN}@{DOMAIN}", "550 5.1.1 "),
        (f"complaints@{DOMAIN}", "550 5.1.1 "),
        ("root", "550 5.1.1 "),
        ("", "550 5.1.1 "),
        (f"postmaster@{DOMAIN}", "550 5.7.1 No person reads mail here"),
        ("Postmaster", "550 5.7.1 No person reads mail here"),
        (f"abuse@{DOMAIN}", "550 5.7.1 No person reads mail here"),
    ],
)
def test_all_others_are_refused_before_the_store_is_asked(address: str, reply: str) -> None:
    store = MemoryStore()
    with pytest.raises(Refused) as refusal:
        inbound(store).check(address, "192.0.2.9")
    assert refusal.value.smtp_reply.startswith(reply)
    assert store.looked == []


def test_one_address_has_a_bounded_number_of_reports() -> None:
    ms = NOW_MS
    clock = Clock(now_ms=lambda: ms, monotonic=lambda: ms / 1000)
    taker = inbound(MemoryStore(), clock=clock)
    for _ in range(20):
        taker.check(BOUNCE, "192.0.2.9")
    with pytest.raises(Refused, match="too many reports") as refusal:
        taker.check(BOUNCE, "192.0.2.9")
    assert refusal.value.smtp_reply.startswith("450 4.7.1 ")
    for _ in range(100):  # that of a message to many is another matter
        taker.check(SEVERAL, "192.0.2.9")
    ms += 3600_000
    taker.check(BOUNCE, "192.0.2.9")


# Bounces


async def test_a_bounce_is_heard_with_its_class() -> None:
    (one,) = await heard(BOUNCE, STANDARD[0].message())
    assert one == Heard(
        message=SUBJECT.message,
        recipient=SUBJECT.recipient,
        type=EventType.BOUNCED,
        at=NOW_MS,
        reply="550 5.1.1 <ann@example.net>: Recipient address rejected: User unknown",
        status="5.1.1",
        bounce_class=BounceClass.INVALID_RECIPIENT,
        scope=Scope.RECIPIENT,
        host="mx.example.net",
        addresses=(TO,),
    )


async def test_a_message_to_several_has_a_bounce_for_each() -> None:
    content = returned.two_failed()
    found = await heard(SEVERAL, content)
    assert [(one.recipient, one.addresses) for one in found] == [(0, (TO,)), (0, ("bob@example.net",))]
    assert len(await heard(BOUNCE, content)) == 1  # a recipient of ours that was several of theirs


async def test_a_bounce_that_names_nobody_is_the_tokens() -> None:
    (one,) = await heard(BOUNCE, returned.NOBODY_NAMED)
    assert (one.type, one.recipient, one.addresses) == (EventType.BOUNCED, SUBJECT.recipient, ())
    assert one.scope is not Scope.RECIPIENT


@pytest.mark.parametrize("action", ["delayed", "delivered", "relayed", "expanded"])
async def test_what_did_not_fail_is_no_bounce(action: str) -> None:
    content = STANDARD[0].message().replace(b"Action: failed", f"Action: {action}".encode())
    assert await heard(BOUNCE, content) == []


@pytest.mark.parametrize("name", returned.AUTOMATIC)
@pytest.mark.parametrize("to", [BOUNCE, LEAVE, FEEDBACK])
@pytest.mark.parametrize("sender", ["", "ann@example.net"])
async def test_an_automatic_answer_is_taken_and_means_nothing(name: str, to: str, sender: str) -> None:
    assert await heard(to, returned.AUTOMATIC[name], sender) == []


async def test_mail_of_a_person_to_a_bounce_address_is_refused() -> None:
    with pytest.raises(Refused) as refusal:
        await heard(BOUNCE, returned.PERSONAL, "ann@example.net")
    assert refusal.value.smtp_reply.startswith("550 5.7.1 No person reads mail here")
    assert await heard(BOUNCE, returned.PERSONAL, "") == []  # nobody could be told


# Complaints


@pytest.mark.parametrize("kind", ["abuse", "fraud", "virus", "other"])
@pytest.mark.parametrize("to", [FEEDBACK, BOUNCE])
async def test_a_complaint_is_heard(kind: str, to: str) -> None:
    (one,) = await heard(to, returned.complaint(TOKEN, kind=kind), "fbl@example.net")
    assert (one.type, one.message, one.recipient, one.reply) == (EventType.COMPLAINED, *_ids(SUBJECT), kind)


async def test_a_complaint_about_several_names_one() -> None:
    whole = TOKENS.local(Purpose.RETURN_PATH, OF_SEVERAL)
    (one,) = await heard(FEEDBACK, returned.complaint(whole, original="Original-Rcpt-To: bob@example.net\n"))
    assert (one.recipient, one.addresses) == (0, ("bob@example.net", TO))


@pytest.mark.parametrize("kind", ["not-spam", "auth-failure"])
async def test_what_no_recipient_complains_of_is_no_complaint(kind: str) -> None:
    """That it is no spam takes nothing back; and hosts report on DMARC in the same format."""
    assert await heard(FEEDBACK, returned.complaint(TOKEN, kind=kind)) == []


@pytest.mark.parametrize("inner", [returned.complaint(), STANDARD[0].message()], ids=["complaint", "bounce"])
async def test_an_automatic_answer_may_quote_a_report(inner: bytes) -> None:
    """Somebody sent it on through us: it is not about whom the answer is of."""
    parts = [("text/plain", "I am away."), ("message/rfc822", inner.decode().replace("\r\n", "\n"))]
    answer = returned.report("x", parts, "Auto-Submitted: auto-replied\nSubject: Re: x\n", "outer")
    assert await heard(BOUNCE, answer) == []


async def test_a_complaint_about_other_mail_is_taken_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        assert await heard(FEEDBACK, returned.complaint(FOREIGN), "fbl@example.net") == []
    assert "mail that came back tells nothing: a complaint about no mail of ours" in caplog.text


async def test_a_forwarded_message_of_ours_is_a_complaint() -> None:
    quoted = returned.QUOTED.format(token=TOKEN)
    content = returned.report("x", [("text/plain", "spam!"), ("message/rfc822", quoted)], "Subject: Fwd: Your order\n")
    (one,) = await heard(FEEDBACK, content.replace(b"multipart/report", b"multipart/mixed"), "ann@example.net")
    assert (one.type, one.recipient, one.reply) == (EventType.COMPLAINED, SUBJECT.recipient, "forwarded")
    assert await heard(FEEDBACK, STANDARD[0].message(TOKEN)) == []  # a bounce of mail that is forwarded there


# Unsubscribing


async def test_who_writes_to_leave_leaves() -> None:
    (one,) = await heard(LEAVE, returned.PERSONAL, "anybody@example.org")
    assert (one.type, one.message, one.recipient, one.tag) == (EventType.UNSUBSCRIBED, *_ids(SUBJECT), "")


@pytest.mark.parametrize(("offered", "tag"), [("*", ""), ("", ""), ("news", "news")])
async def test_the_scope_is_what_the_message_offered(offered: str, tag: str) -> None:
    store = MemoryStore(unsubscribe=offered)
    await take(store, LEAVE, returned.PERSONAL, "ann@example.net")
    assert [one.tag for one in store.heard] == [tag]


async def test_no_bounce_and_no_null_sender_unsubscribes() -> None:
    assert await heard(LEAVE, STANDARD[0].message(), "postmaster@example.net") == []
    assert await heard(LEAVE, returned.QMAIL, "postmaster@example.net") == []
    assert await heard(LEAVE, returned.PERSONAL, "") == []


# The store


async def test_what_is_delivered_still_comes_again() -> None:
    store = MemoryStore(early=1)
    with pytest.raises(Refused) as refusal:
        await take(store, BOUNCE, STANDARD[0].message())
    assert refusal.value.smtp_reply.startswith("451 4.3.0 ")
    assert store.heard == []
    await take(store, BOUNCE, STANDARD[0].message())
    assert len(store.heard) == 1


async def test_a_store_that_fails_is_told() -> None:
    with pytest.raises(StoreError):
        await take(MemoryStore(failure=StoreError("away")), BOUNCE, STANDARD[0].message())


async def test_of_erased_mail_nothing_is_left_to_say() -> None:
    store = MemoryStore(known=False)
    log = io.StringIO()
    await take(store, BOUNCE, STANDARD[0].message(), log=log)
    assert log.getvalue() == ""


@pytest.mark.parametrize("store", [MemoryStore(known=False), MemoryStore(address="")], ids=["message", "recipient"])
async def test_who_cannot_be_heeded_any_more_is_told(store: MemoryStore) -> None:
    with pytest.raises(Refused) as refusal:
        await take(store, LEAVE, returned.PERSONAL, "ann@example.net")
    assert refusal.value.smtp_reply.startswith("550 5.1.1 Nothing is known of this mail any more")
    assert store.heard == []


async def test_each_fact_is_a_line_of_the_mail_log() -> None:
    log = io.StringIO()
    await take(MemoryStore(), BOUNCE, STANDARD[0].message(), log=log)
    (line,) = log.getvalue().splitlines()
    assert " bounced id=eml_" in line
    assert "to=ann@example.net" in line
    assert "class=InvalidRecipient client=192.0.2.9 late=true" in line
    (line,) = await _logged(returned.complaint(TOKEN))
    assert "class" not in line


async def test_what_comes_over_http_is_a_line_too() -> None:
    log = io.StringIO()
    store = MemoryStore()
    one = Heard(*_ids(SUBJECT), EventType.UNSUBSCRIBED, NOW_MS, client="192.0.2.7")
    assert await inbound(store, log).settle_late([one]) == [True]
    assert store.heard == [one]
    (line,) = log.getvalue().splitlines()
    assert " unsubscribed id=eml_" in line
    assert " to=ann@example.net route=(web) " in line
    assert "client=192.0.2.7 late=true" in line


class HalfStore(MemoryStore):
    """The first of what is heard at once is written, the others are in hand."""

    async def settle_late(self, heard: Sequence[Heard]) -> Sequence[bool]:
        self.early = 2  # looked at once to tell the first
        return [number == 0 for number in range(len(heard))]


async def test_what_is_written_is_told_although_the_rest_comes_again() -> None:
    log = io.StringIO()
    with pytest.raises(Refused):
        await take(HalfStore(), SEVERAL, returned.two_failed(), log=log)
    assert [" bounced " in line for line in log.getvalue().splitlines()] == [True]


async def test_what_is_written_is_taken_whatever_the_log_lacks() -> None:
    class Away(MemoryStore):
        async def look(self, message: int, recipient: int) -> NoReturn:
            raise StoreError("away")

    store, log = Away(), io.StringIO()
    await take(store, BOUNCE, STANDARD[0].message(), log=log)
    assert (len(store.heard), log.getvalue()) == (1, "")


# The door


async def test_a_large_message_is_read_at_its_beginning_only(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore()
    door = ReturnPathDoor(inbound(store))
    sizes: list[int] = []
    read = reports.read

    def measured(content: bytes, tokens: Tokens) -> reports.Report:
        sizes.append(len(content))
        return read(content, tokens)

    monkeypatch.setattr(reports, "read", measured)
    taking = door.begin(None, SmtpEnvelope("", (BOUNCE,), "mx", "192.0.2.9", "ESMTP", smtputf8=False, eight_bit=False))
    await taking.add(STANDARD[0].message())
    for _ in range(8):
        await taking.add(b"x" * 256 * 1024)
    assert await taking.finish(b"end\r\n") == ""
    assert sizes == [reports.MAX_BYTES]
    assert len(store.heard) == 1


def test_nobody_logs_in() -> None:
    door = ReturnPathDoor(inbound(MemoryStore()))
    with pytest.raises(Refused):
        door.authenticate("a", "b", "192.0.2.9")
    with pytest.raises(Refused):
        door.network_principal("shop")
    assert door.check_sender(None, "", "192.0.2.9") == ""


def test_addresses_for_complaints_can_change() -> None:
    taker = inbound(MemoryStore())
    taker.reconfigure(["new@example.com"])
    taker.check("New@example.com", "192.0.2.9")
    with pytest.raises(Refused):
        taker.check(FEEDBACK, "192.0.2.9")


async def _logged(content: bytes) -> list[str]:
    log = io.StringIO()
    await take(MemoryStore(), FEEDBACK, content, log=log)
    return log.getvalue().splitlines()


def _ids(subject: Subject) -> tuple[int, int]:
    return subject.message, subject.recipient


async def test_what_waits_to_be_read_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever sends may go before it is: no limit of connections counts it any more."""
    go, read = threading.Event(), reports.read

    def slowly(content: bytes, tokens: Tokens) -> reports.Report:
        go.wait()
        return read(content, tokens)

    monkeypatch.setattr(reports, "read", slowly)
    taking = inbound(MemoryStore())

    async def refused(to: str) -> str:
        try:
            await taking.take(to, "", returned.QMAIL, peer="192.0.2.9")
        except Refused as refusal:
            return refusal.smtp_reply[:9]
        return ""

    async with asyncio.TaskGroup() as group:
        complaints = [group.create_task(refused(FEEDBACK)) for _ in range(MOST_UNREAD_ABOUT_ANY + 1)]
        bounces = [group.create_task(refused(BOUNCE)) for _ in range(MOST_UNREAD - MOST_UNREAD_ABOUT_ANY + 1)]
        asyncio.get_running_loop().call_later(0.05, go.set)
    for tasks in (complaints, bounces):
        assert [task.result() for task in tasks] == [""] * (len(tasks) - 1) + ["452 4.3.1"]
    assert await refused(FEEDBACK) == ""


async def test_reports_are_read_and_judged_beside_the_loop() -> None:
    """One may tell of a thousand recipients."""
    threads = set[int]()

    def judge(*_: object) -> tuple[BounceClass, Scope]:
        threads.add(threading.get_ident())
        return BounceClass.INVALID_RECIPIENT, Scope.RECIPIENT

    await inbound(MemoryStore(), judge=judge).take(SEVERAL, "", returned.two_failed(), peer="192.0.2.9")
    assert len(threads - {threading.get_ident()}) == len(threads) == 1


async def test_reports_are_read_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The threads are everybody's, and anybody may send."""
    lock, overlaps = threading.Lock(), []
    read = reports.read

    def one(content: bytes, tokens: Tokens) -> reports.Report:
        free = lock.acquire(blocking=False)
        overlaps.append(not free)
        try:
            time.sleep(0.02)  # long enough for another to begin
            return read(content, tokens)
        finally:
            if free:
                lock.release()

    monkeypatch.setattr(reports, "read", one)
    taking = inbound(MemoryStore())
    await asyncio.gather(*[taking.take(BOUNCE, "", returned.QMAIL, peer="192.0.2.9") for _ in range(4)])
    assert overlaps == [False] * 4
