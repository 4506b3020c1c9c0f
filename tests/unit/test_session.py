"""Transactions over a real connection: every word at every stage, and what leaves byte for byte."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import uvloop
from msgspec.structs import replace

from gateway.config import Timeouts
from gateway.delivery.verdict import Word
from gateway.delivery.wire import StaleConnection
from gateway.errors import StoreError
from tests.fakes.hop import CONTENT, connected, mail
from tests.fakes.mx import OFFERS, Do, FakeMx, Reaction

PLAIN = tuple(offer for offer in OFFERS if offer != "PIPELINING")
REPLIES = {
    "4xx": Do("451 4.3.0 later"),
    "5xx": Do("554 5.7.1 never"),
    "421": Do("421 4.3.2 bye", drop=True),
    "421 and stays": Do("421 4.3.2 bye"),
    "drop": Do(drop=True),
    "silence": Do(),
}


@pytest.mark.parametrize("offers", [OFFERS, PLAIN], ids=["pipelining", "one by one"])
@pytest.mark.parametrize(("stage", "kind"), list(itertools.product(["MAIL", "RCPT", "DATA", "dot"], REPLIES)), ids=str)
async def test_what_is_said_at_a_stage_is_the_word(stage: str, kind: str, offers: tuple[str, ...]) -> None:
    do = REPLIES[kind]
    async with FakeMx({stage: [do]}, offers=offers) as host:
        session = await connected(host)
        [word] = await session.wire.send(mail())
        assert word.stage == stage.lower()
        assert word.code == int(do.reply[:3] or 0)
        assert word.text == do.reply or (not do.reply and word.text)
        assert word.uncertain is (stage == "dot" and not do.reply)
        assert not word.permanent
        assert not host.transactions
        # Refused, the connection serves the next message, behind a RSET where one is due.
        if kind in {"4xx", "5xx"}:
            [word] = await session.wire.send(mail())
            assert (word.stage, word.code) == ("dot", 250)
            assert host.commands.count("RSET") == (0 if stage == "dot" else 1)
        else:
            assert not session.wire.usable
        session.wire.close()


@pytest.mark.parametrize(
    ("do", "code"), [(Do(drop=True, after=1), 0), (Do("552 5.3.4 enough", drop=True, after=1), 552)]
)
async def test_a_small_message_is_all_sent_when_the_host_gives_up(do: Do, code: int) -> None:
    async with FakeMx({"body": do}) as host:
        [word] = await (await connected(host)).wire.send(mail())
        assert (word.stage, word.code, word.uncertain) == ("dot", code, not code)


@pytest.mark.parametrize(
    ("do", "word"),
    [
        (Do(drop=True, after=100_000), Word("body", 0, "4.4.2", "")),
        (Do("552 5.3.4 enough", after=100_000), Word("body", 552, "5.3.4", "")),
        (Do("250 2.0.0 already", after=100_000), Word("body", 0, "4.5.0", "")),
        (None, Word("body", 0, "4.4.2", "")),
    ],
    ids=["drop", "refusal", "a delivery that cannot be", "nothing is read any more"],
)
async def test_a_large_message_stops_in_its_middle(do: Do | None, word: Word) -> None:
    piece = (b"x" * 78 + b"\r\n") * 3200
    async with FakeMx({"body": do or Do(gate=asyncio.Event())}) as host:
        session = await connected(host)
        [said] = await session.wire.send(mail(pieces=[piece] * 80))
        assert (said.stage, said.code, said.enhanced, said.uncertain) == (word.stage, word.code, word.enhanced, False)
        assert not session.wire.usable
        assert not host.transactions


async def test_ten_recipients_and_data_leave_in_one_segment() -> None:
    recipients = [f"r{n}@mx.test" for n in range(10)]
    async with FakeMx() as host:
        words = await (await connected(host)).wire.send(mail(*recipients))
        assert [word.code for word in words] == [250] * 10
        [conversation] = host.conversations
        expected = [f"MAIL FROM:<a@gw.test> SIZE={len(CONTENT)}", *[f"RCPT TO:<{r}>" for r in recipients], "DATA"]
        assert conversation.segments[1] == "".join(line + "\r\n" for line in expected).encode()
        assert len(conversation.segments) == 3  # EHLO, the commands, the message with its end
        assert host.transactions[0].recipients == recipients


async def test_a_host_that_does_not_pipeline_gets_one_command_at_a_time() -> None:
    async with FakeMx(offers=PLAIN) as host:
        await (await connected(host)).wire.send(mail("b@mx.test", "c@mx.test"))
        lines = [segment.count(b"\r\n") for segment in host.conversations[0].segments]
        assert lines[:5] == [1, 1, 1, 1, 1]


@pytest.mark.parametrize("offers", [OFFERS, PLAIN], ids=["pipelining", "one by one"])
async def test_every_recipient_has_its_own_word(offers: tuple[str, ...]) -> None:
    said: dict[int, str | None] = {0: "550 5.1.1 no", 1: "450 4.2.0 later", 2: None}
    numbers = itertools.count()

    def answer(_: str) -> Do | str | None:
        return said[next(numbers) % 3]

    async with FakeMx({"RCPT": answer}, offers=offers) as host:
        words = await (await connected(host)).wire.send(mail(*[f"r{n}@mx.test" for n in range(99)]))
        assert [word.code for word in words] == [550, 450, 250] * 33
        assert [word.stage for word in words] == ["rcpt", "rcpt", "dot"] * 33
        assert len(host.transactions[0].recipients) == 33


@pytest.mark.parametrize("offers", [OFFERS, PLAIN], ids=["pipelining", "one by one"])
async def test_a_421_at_the_third_recipient_speaks_for_the_rest(offers: tuple[str, ...]) -> None:
    replies: list[Do | str | None] = [None, "550 5.1.1 no", Do("421 4.7.0 too fast", drop=True)]
    async with FakeMx({"RCPT": replies}, offers=offers) as host:
        words = await (await connected(host)).wire.send(mail(*[f"r{n}@mx.test" for n in range(10)]))
        assert [word.code for word in words] == [421, 550, *[421] * 8]
        assert not host.transactions


@pytest.mark.parametrize("eager", [False, True], ids=["503 to DATA", "354 to DATA"])
async def test_all_recipients_refused_though_data_was_sent_with_them(eager: bool) -> None:
    async with FakeMx({"RCPT": ["550 5.1.1 no", "450 4.2.0 no"]}, eager_data=eager) as host:
        session = await connected(host)
        words = await session.wire.send(mail("b@mx.test", "c@mx.test"))
        assert [(word.stage, word.code) for word in words] == [("rcpt", 550), ("rcpt", 450)]
        assert [word.code for word in await session.wire.send(mail())] == [250]
        assert host.transactions[-1].content == CONTENT
        assert len(host.conversations) == 1
        assert ("RSET" in host.commands) is not eager


async def test_no_empty_message_leaves_where_mail_was_refused_and_data_taken() -> None:
    async with FakeMx({"MAIL": "550 5.7.1 no", "RCPT": "250 ok", "DATA": "354 go"}) as host:
        session = await connected(host)
        [word] = await session.wire.send(mail())
        assert (word.stage, word.code) == ("mail", 550)
        await host.conversations[0].over()
        assert not host.transactions
        assert not session.wire.usable


async def test_a_positive_answer_to_data_is_no_delivery() -> None:
    async with FakeMx({"DATA": "250 2.0.0 queued"}) as host:
        [word] = await (await connected(host)).wire.send(mail())
        assert (word.stage, word.code) == ("data", 0)


async def test_an_answer_that_comes_before_the_content_is_no_delivery() -> None:
    async with FakeMx({"DATA": Do("354 go", raw=b"250 2.0.0 queued\r\n")}) as host:
        session = await connected(host)
        [word] = await session.wire.send(mail())
        assert word.code == 0
        assert not session.wire.usable


async def test_an_accepted_message_stays_delivered_whatever_follows() -> None:
    async with FakeMx({"dot": Do("250 2.0.0 queued", raw=b"421 4.3.2 bye\r\n", drop=True)}) as host:
        session = await connected(host)
        [word] = await session.wire.send(mail())
        assert (word.stage, word.code) == ("dot", 250)
        assert not session.wire.usable


@pytest.mark.parametrize("limit", [None, 4])
async def test_more_recipients_than_fit_get_transactions_of_their_own(limit: int | None) -> None:
    offers = (*OFFERS, f"LIMITS RCPTMAX={limit} MAILMAX=50") if limit else OFFERS
    count = 10 if limit else 250
    recipients = [f"r{n}@mx.test" for n in range(count)]
    async with FakeMx(offers=offers) as host:
        words = await (await connected(host)).wire.send(mail(*recipients))
        assert [word.code for word in words] == [250] * count
        assert [len(t.recipients) for t in host.transactions] == ([4, 4, 2] if limit else [100, 100, 50])
        assert [r for t in host.transactions for r in t.recipients] == recipients


async def test_recipients_that_found_no_room_follow_at_once() -> None:
    room = itertools.cycle([True, True, True, False, False])

    def answer(_: str) -> Do | str | None:
        return None if next(room) else "452 4.5.3 too many"

    async with FakeMx({"RCPT": answer}) as host:
        words = await (await connected(host)).wire.send(mail(*[f"r{n}@mx.test" for n in range(5)]))
        assert [word.code for word in words] == [250] * 5
        assert [t.recipients for t in host.transactions] == [
            ["r0@mx.test", "r1@mx.test", "r2@mx.test"],
            ["r3@mx.test", "r4@mx.test"],
        ]


async def test_a_full_mailbox_is_not_a_full_transaction() -> None:
    async with FakeMx({"RCPT": [None, "452 4.2.2 mailbox full"]}) as host:
        words = await (await connected(host)).wire.send(mail("b@mx.test", "c@mx.test"))
        assert [word.code for word in words] == [250, 452]
        assert len(host.transactions) == 1


async def test_what_was_delivered_is_not_sent_again_when_the_connection_dies_between() -> None:
    async with FakeMx({"MAIL": [None, Do(drop=True)]}, offers=(*OFFERS, "LIMITS RCPTMAX=2")) as host:
        words = await (await connected(host)).wire.send(mail(*[f"r{n}@mx.test" for n in range(6)]))
        assert [word.code for word in words] == [250, 250, 421, 421, 421, 421]
        assert len(host.transactions) == 1


@pytest.mark.parametrize(
    ("offers", "eight_bit", "utf8", "enhanced"),
    [
        (("PIPELINING", "SIZE 10"), False, False, "5.3.4"),
        (("PIPELINING", "SMTPUTF8"), True, False, "5.6.3"),
        (("PIPELINING", "8BITMIME"), False, True, "5.6.7"),
    ],
)
async def test_what_the_host_cannot_take_is_not_offered_to_it(
    offers: tuple[str, ...], eight_bit: bool, utf8: bool, enhanced: str
) -> None:
    async with FakeMx(offers=offers) as host:
        session = await connected(host)
        [word] = await session.wire.send(mail(eight_bit=eight_bit, utf8=utf8))
        assert (word.stage, word.enhanced, word.code // 100) == ("mail", enhanced, 5)
        assert [command.partition(" ")[0] for command in host.commands] == ["EHLO"]
        assert session.wire.usable


SIZE = f" SIZE={len(CONTENT)}"


@pytest.mark.parametrize(
    ("offers", "eight_bit", "utf8", "sender", "command"),
    [
        (OFFERS, False, False, "a@gw.test", f"MAIL FROM:<a@gw.test>{SIZE}"),
        (OFFERS, True, False, "a@gw.test", f"MAIL FROM:<a@gw.test>{SIZE} BODY=8BITMIME"),
        (OFFERS, False, True, "ü@gw.test", f"MAIL FROM:<ü@gw.test>{SIZE} BODY=8BITMIME SMTPUTF8"),
        (("SIZE",), False, False, "a@gw.test", f"MAIL FROM:<a@gw.test>{SIZE}"),
        ((), False, False, "", "MAIL FROM:<>"),
    ],
)
async def test_mail_says_what_is_offered_and_needed(
    offers: tuple[str, ...], eight_bit: bool, utf8: bool, sender: str, command: str
) -> None:
    async with FakeMx(offers=offers) as host:
        [word] = await (await connected(host)).wire.send(mail(sender=sender, eight_bit=eight_bit, utf8=utf8))
        assert word.code == 250
        assert host.transactions[0].mail == command


@pytest.mark.parametrize("address", ["b@mx.test>\r\nRCPT TO:<c@mx.test", "b\n@mx.test", "b\r@mx.test"])
async def test_an_address_never_becomes_a_command(address: str) -> None:
    async with FakeMx() as host:
        session = await connected(host)
        [word] = await session.wire.send(mail(address))
        assert (word.enhanced, word.permanent) == ("5.1.3", True)
        [word] = await session.wire.send(mail(sender=address))
        assert word.permanent
        assert len(host.commands) == 1


@pytest.mark.parametrize("streamed", [False, True])
async def test_content_with_a_bare_line_end_never_leaves(streamed: bool) -> None:
    bad = b"a\r\n\r\nx\n.\nMAIL FROM:<evil@mx.test>\r\n"
    async with FakeMx() as host:
        session = await connected(host)
        [word] = await session.wire.send(mail(pieces=[bad[:4], bad[4:]]) if streamed else mail(content=bad))
        assert (word.stage, word.enhanced, word.permanent) == ("body", "5.6.0", True)
        session.wire.close()
        await host.conversations[0].over()
        assert not host.transactions
        assert b"evil" not in b"".join(host.conversations[0].segments)


@pytest.mark.parametrize(
    "content", [b"", b"x", b".", b".\r\n", b"\r\n", b"a: b\r\n\r\n..\r\n.\r\n.x\r\n", b"a\r\n.\r\nQUIT\r\n", CONTENT]
)
async def test_content_arrives_as_it_was(content: bytes) -> None:
    async with FakeMx() as host:
        session = await connected(host)
        assert (await session.wire.send(mail(content=content)))[0].code == 250
        assert (await session.wire.send(mail(pieces=[content[:3], content[3:]], prefix=b"A: b\r\n")))[0].code == 250
        end = b"" if content.endswith(b"\r\n") or not content else b"\r\n"
        assert [t.content for t in host.transactions] == [content + end, b"A: b\r\n" + content + end]


async def test_a_large_message_lets_the_loop_go_on() -> None:
    pieces = [(b".line %07d " % n + b"y" * 60 + b"\r\n") * 3200 for n in range(40)]
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with FakeMx() as host:
        session = await connected(host, Timeouts())  # a busy machine takes its time with 9 MB
        counting = asyncio.get_running_loop().create_task(count())
        [word] = await session.wire.send(mail(pieces=pieces))
        counting.cancel()
        assert word.code == 250
        assert host.transactions[0].content == b"".join(pieces)
        assert turns >= len(pieces)


@pytest.mark.parametrize("offers", [OFFERS, PLAIN], ids=["pipelining", "one by one"])
async def test_a_refused_reset_costs_the_connection_and_no_attempt(offers: tuple[str, ...]) -> None:
    async with FakeMx({"MAIL": ["550 5.7.1 not you"], "RSET": "503 5.5.1 what?"}, offers=offers) as host:
        session = await connected(host)
        assert (await session.wire.send(mail()))[0].code == 550
        with pytest.raises(StaleConnection):
            await session.wire.send(mail())
        assert not session.wire.usable
        await host.conversations[0].over()
        assert not host.transactions


@pytest.mark.parametrize("how", ["421", "drop", "421 and drop", "nonsense"])
async def test_a_kept_connection_that_dies_while_idle_costs_no_attempt(how: str) -> None:
    async with FakeMx() as host:
        session = await connected(host)
        assert (await session.wire.send(mail()))[0].code == 250
        conversation = host.conversations[0]
        if "421" in how:
            conversation.say("421 4.4.2 idle for too long")
        if how == "nonsense":
            conversation.say("250 2.0.0 injected")
        if "drop" in how:
            conversation.drop()
        async with asyncio.timeout(30):
            while session.wire.usable:
                await asyncio.sleep(0.001)
        with pytest.raises(StaleConnection):
            await session.wire.send(mail())


@pytest.mark.parametrize("do", [Do(drop=True), Do("421 4.3.2 bye", drop=True), Do()], ids=["drop", "421", "silence"])
async def test_a_kept_connection_that_dies_at_mail_costs_no_attempt_but_a_new_one_does(do: Do) -> None:
    async with FakeMx({"MAIL": [None, do, do]}) as host:
        session = await connected(host)
        assert (await session.wire.send(mail()))[0].code == 250
        with pytest.raises(StaleConnection):
            await session.wire.send(mail())
        [word] = await (await connected(host)).wire.send(mail())
        assert (word.stage, word.code) == ("mail", int(do.reply[:3] or 0))


async def test_a_cancelled_transaction_leaves_no_usable_connection() -> None:
    gate = asyncio.Event()
    reached = asyncio.Event()

    def answer(_: str) -> Do:
        reached.set()
        return Do("250 ok", gate=gate)

    async with FakeMx({"dot": answer}) as host:
        session = await connected(host)
        sending = asyncio.get_running_loop().create_task(session.wire.send(mail()))
        await asyncio.wait_for(reached.wait(), 5)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        assert not session.wire.usable
        session.wire.close()
        gate.set()
        await host.conversations[0].over()
        assert "QUIT" not in host.commands


async def test_content_that_cannot_be_read_to_its_end_leaves_no_usable_connection() -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"Subject: half\r\n"
        raise StoreError("gone")

    async with FakeMx() as host:
        session = await connected(host)
        with pytest.raises(StoreError):
            await session.wire.send(replace(mail(content=None), stream=broken))
        with pytest.raises(StaleConnection):  # never a MAIL into the middle of a content
            await session.wire.send(mail())
        session.wire.close()
        await host.conversations[0].over()
        assert not host.transactions
        assert b"".join(host.conversations[0].segments).count(b"MAIL") == 1


async def test_quit_is_said_and_not_waited_for() -> None:
    async with FakeMx({"QUIT": Do()}) as host:
        session = await connected(host)
        session.wire.close()
        session.wire.close()
        await host.conversations[0].over()
        assert host.commands[-1] == "QUIT"


async def test_a_host_may_limit_the_messages_of_a_connection() -> None:
    async with FakeMx(offers=(*OFFERS, "LIMITS MAILMAX=1")) as host:
        session = await connected(host)
        assert (await session.wire.send(mail()))[0].code == 250
        assert not session.wire.usable


async def test_a_tarpit_that_answers_command_by_command_is_waited_for() -> None:
    def slow(_: str) -> Do:
        gate = asyncio.Event()
        asyncio.get_running_loop().call_later(0.12, gate.set)
        return Do("250 2.1.5 ok", gate=gate)

    reaction: Reaction = slow
    async with FakeMx({"RCPT": reaction}) as host:
        words = await (await connected(host)).wire.send(mail("b@mx.test", "c@mx.test", "d@mx.test"))
        assert [word.code for word in words] == [250] * 3  # 0.36 s in all, each within the 0.2 s


@pytest.mark.parametrize(
    "story",
    [
        test_ten_recipients_and_data_leave_in_one_segment,
        test_a_large_message_lets_the_loop_go_on,
        test_a_cancelled_transaction_leaves_no_usable_connection,
        test_quit_is_said_and_not_waited_for,
        test_an_accepted_message_stays_delivered_whatever_follows,
        test_a_tarpit_that_answers_command_by_command_is_waited_for,
    ],
)
def test_the_same_over_uvloop(story: Callable[[], Awaitable[None]]) -> None:
    async def tell() -> None:
        await story()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(tell())
