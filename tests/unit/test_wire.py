"""What a transaction says by extension, keeps to by limit, and how long it may take; when its end may leave."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Sequence

import pytest
import trustme
from msgspec.structs import replace

from gateway.config import HopTls, Timeouts
from gateway.delivery import envelope
from gateway.delivery.envelope import Mail, Offer
from gateway.delivery.session import Hop, Session, open_session
from gateway.delivery.wire import NO_TURN
from gateway.errors import StoreError
from gateway.message.notify import ASKED, BY_SMTP, DELAY, FAILURE, SUCCESS
from tests.fakes.hop import QUICK, connected, hop, mail
from tests.fakes.mx import OFFERS, Do, FakeMx, Reaction
from tests.peers.scripted import Act, Scripted

DSN = Offer(size=0, dsn=True)


def said(mail: Mail, offer: Offer) -> list[str]:
    """The commands without their addresses and line ends."""
    everyone = range(len(mail.recipients))
    commands = [envelope.mail_command(mail, offer), *envelope.rcpt_commands(mail, offer, everyone)]
    assert all(command.endswith(">\r\n") or ">" in command for command in commands)
    return [command.removesuffix("\r\n").partition(">")[2].strip() for command in commands]


# RFC 3461


@pytest.mark.parametrize(
    ("notify", "word"),
    [
        (ASKED, "NEVER"),
        (ASKED | SUCCESS, "SUCCESS"),
        (ASKED | SUCCESS | FAILURE | DELAY, "SUCCESS,FAILURE,DELAY"),
        (ASKED | FAILURE | DELAY, "FAILURE,DELAY"),
    ],
)
def test_what_the_client_asked_for_is_passed_on(notify: int, word: str) -> None:
    asked = replace(mail(size=9), notify=(notify,), orcpt=("rfc822;B+2Bx@old.test",), ret="HDRS", envid="QQ+2B1")
    assert said(asked, DSN) == ["SIZE=9 RET=HDRS ENVID=QQ+2B1", f"NOTIFY={word} ORCPT=rfc822;B+2Bx@old.test"]
    assert said(asked, Offer()) == ["", ""]


def test_what_nobody_asked_for_is_not_passed_on_but_the_address_is() -> None:
    unasked = replace(mail("b+c=d@mx.test"), notify=(BY_SMTP,), orcpt=("",))
    assert said(unasked, DSN)[1] == "ORCPT=rfc822;b+2Bc+3Dd@mx.test"
    assert said(mail(), DSN)[1] == "ORCPT=rfc822;b@mx.test"


def test_an_international_recipient_is_named_in_ascii() -> None:
    """RFC 6533, 3."""
    both = replace(mail("bjö@mx.test", "c@mx.test"), orcpt=("", "utf-8;jü\\x{20}@old.test"), notify=(0, 0))
    assert said(both, DSN)[1:] == ["ORCPT=utf-8;bj\\x{F6}@mx.test", "ORCPT=utf-8;j\\x{FC}\\x{20}@old.test"]
    odd = replace(mail("c@mx.test"), orcpt=("nonsenseü",), notify=(0,))
    assert said(odd, DSN)[1] == "ORCPT=rfc822;c@mx.test"


@pytest.mark.parametrize(
    ("dsn", "notify", "passed"),
    [
        (True, ASKED | SUCCESS, True),
        (True, SUCCESS, False),
        (True, ASKED | FAILURE, False),
        (False, ASKED | SUCCESS, False),
    ],
)
def test_who_tells_of_success(dsn: bool, notify: int, passed: bool) -> None:
    assert envelope.passes_success(Offer(dsn=dsn), notify) is passed


# RFC 8689


@pytest.fixture(scope="module")
def certificate() -> ssl.SSLContext:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("mx.test").configure_cert(server)
    return server


async def test_requiretls_leaves_over_tls_only(certificate: ssl.SSLContext) -> None:
    offers = (*OFFERS, "REQUIRETLS")
    demanding = replace(mail(), require_tls=True)
    async with FakeMx(offers=offers, tls=certificate) as host:
        session = await open_session(hop(host, tls=HopTls.STARTTLS), QUICK)
        assert isinstance(session, Session)
        assert [word.code for word in await session.wire.send(demanding)] == [250]
        assert host.transactions[0].mail.endswith(" REQUIRETLS")
        session.wire.close()
    async with FakeMx(offers=offers) as host:
        session = await connected(host)
        [word] = await session.wire.send(demanding)
        assert (word.stage, word.code, word.enhanced) == ("mail", 550, "5.7.30")
        assert len(host.commands) == 1
        assert [word.code for word in await session.wire.send(mail())] == [250]


async def test_a_host_that_does_not_know_requiretls_gets_nothing(certificate: ssl.SSLContext) -> None:
    async with FakeMx(tls=certificate) as host:
        session = await open_session(hop(host, tls=HopTls.STARTTLS), QUICK)
        assert isinstance(session, Session)
        [word] = await session.wire.send(replace(mail(), require_tls=True))
        assert word.enhanced == "5.7.30"
        assert not any(command.startswith("MAIL") for command in host.commands)
        session.wire.close()


# RFC 9422


@pytest.mark.parametrize(
    ("most", "domains", "groups"),
    [
        (None, None, [[0, 1, 2, 3, 4]]),
        (2, None, [[0, 1], [2, 3], [4]]),
        (None, 1, [[0, 2], [1, 4], [3]]),
        (None, 2, [[0, 2, 1, 4], [3]]),
        (3, 2, [[0, 2, 1], [4, 3]]),
        (1, 1, [[0], [2], [1], [4], [3]]),
        (None, 3, [[0, 2, 1, 4, 3]]),
    ],
)
def test_limits_of_a_transaction(most: int | None, domains: int | None, groups: list[list[int]]) -> None:
    to = mail("a@one.test", "b@two.test", "c@one.test", "d@three.test", "e@two.test")
    made = envelope.batches(to, Offer(max_recipients=most, max_domains=domains))
    assert [list(group) for group in made] == groups


async def test_recipients_keep_their_words_however_they_are_grouped() -> None:
    def answer(line: str) -> str | None:
        return "550 5.1.1 no" if "<b@" in line else None

    async with FakeMx({"RCPT": answer}, offers=(*OFFERS, "LIMITS RCPTDOMAINMAX=1")) as host:
        to = ("a@one.test", "b@two.test", "c@one.test", "d@three.test", "e@two.test")
        words = await (await connected(host)).wire.send(mail(*to))
        assert [word.code for word in words] == [250, 550, 250, 250, 250]
        assert [t.recipients for t in host.transactions] == [
            ["a@one.test", "c@one.test"],
            ["e@two.test"],
            ["d@three.test"],
        ]


async def test_who_has_no_turn_is_told_so() -> None:
    async with FakeMx(offers=(*OFFERS, "LIMITS RCPTMAX=2 MAILMAX=2")) as host:
        session = await connected(host)
        words = await session.wire.send(mail(*[f"r{n}@mx.test" for n in range(5)]))
        assert [word.code for word in words] == [250, 250, 250, 250, 421]
        assert words[4] is NO_TURN
        assert session.wire.worn


async def test_what_was_taken_stays_taken_when_the_rest_cannot_be_read() -> None:
    reads = 0

    async def stream() -> AsyncIterator[bytes]:
        nonlocal reads
        reads += 1
        if reads > 1:
            raise StoreError("the disk is gone")
        yield b"Subject: x\r\n\r\n"

    async with FakeMx(offers=(*OFFERS, "LIMITS RCPTMAX=1")) as host:
        session = await connected(host)
        words = await session.wire.send(replace(mail("b@mx.test", "c@mx.test"), content=None, stream=stream))
        assert [(word.stage, word.code) for word in words] == [("dot", 250), ("store", 0)]
        assert not session.wire.usable
        session.wire.close()


# The end


def marks(mail: Mail, host: FakeMx) -> tuple[Mail, list[list[int]]]:
    made: list[list[int]] = []

    async def before_end(which: Sequence[int]) -> None:
        await asyncio.sleep(0.01)
        assert not host.transactions, "the end left before it was written down"
        made.append(list(which))

    return replace(mail, before_end=before_end), made


@pytest.mark.parametrize("streamed", [False, True])
async def test_before_the_end_it_is_known_for_whom(streamed: bool) -> None:
    async with FakeMx({"RCPT": [None, "550 5.1.1 no", None]}) as host:
        to = mail("a@mx.test", "b@mx.test", "c@mx.test", pieces=[b"Subject: x\r\n", b"\r\n"] if streamed else ())
        asked, made = marks(to, host)
        words = await (await connected(host)).wire.send(asked)
        assert [word.code for word in words] == [250, 550, 250]
        assert made == [[0, 2]]


async def test_nobody_is_marked_where_no_content_leaves() -> None:
    async with FakeMx({"RCPT": "550 5.1.1 no"}) as host:
        asked, made = marks(mail(), host)
        await (await connected(host)).wire.send(asked)
        assert made == []


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("words", ["421 4.3.2 bye", "250 2.0.0 already", ""])
async def test_a_connection_that_goes_before_the_end_leaves_no_doubt(words: str, streamed: bool) -> None:
    async with FakeMx() as host:
        session = await connected(host)

        async def before_end(_: Sequence[int]) -> None:
            if words:
                host.conversations[0].say(words)
            else:
                host.conversations[0].drop()
            await asyncio.sleep(0.05)

        pieces = [b"Subject: x\r\n", b"\r\n"] if streamed else ()
        [word] = await session.wire.send(replace(mail(pieces=pieces), before_end=before_end))
        assert (word.uncertain, word.code) == (False, 0)
        assert word.stage == ("body" if streamed else "data")
        assert session.wire.spent.wire_bytes == 0
        assert not session.wire.usable
        session.wire.close()
        await host.conversations[0].over()
        assert not host.transactions


async def test_what_cannot_be_marked_does_not_leave() -> None:
    async def before_end(_: Sequence[int]) -> None:
        raise StoreError("the disk is gone")

    async with FakeMx() as host:
        session = await connected(host)
        with pytest.raises(StoreError):
            await session.wire.send(replace(mail(), before_end=before_end))
        assert not session.wire.usable
        session.wire.close()
        await host.conversations[0].over()
        assert not host.transactions


# Time


def slowly(every_s: float, reply: str = "250 2.1.5 ok") -> Reaction:
    def react(_: str) -> Do:
        gate = asyncio.Event()
        asyncio.get_running_loop().call_later(every_s, gate.set)
        return Do(reply, gate=gate)

    return react


@pytest.mark.parametrize("offers", [OFFERS, ("SIZE",)], ids=["pipelining", "one by one"])
async def test_d6_a_tarpit_that_answers_in_time_each_time_is_left_all_the_same(offers: tuple[str, ...]) -> None:
    # In all 0.1 * (2 + 0.1 * 30) + 0.1 + 0.1 s; each single wait would allow 30 times 0.05 s.
    timeouts = Timeouts(command_s=0.1, data_start_s=0.1, data_block_s=0.1, data_end_s=0.1, greeting_s=2, connect_s=2)
    async with FakeMx({"RCPT": slowly(0.05)}, offers=offers) as host:
        session = await connected(host, timeouts)
        words = await session.wire.send(mail(*[f"r{n}@mx.test" for n in range(30)]))
        assert {(word.stage, word.code, word.uncertain) for word in words} <= {("rcpt", 0, False), ("data", 0, False)}
        assert not session.wire.usable
        assert sum(command.startswith("RCPT") for command in host.commands) <= 30


async def opened(address: str, port: int, timeouts: Timeouts) -> Session:
    at = Hop("mx.test", address, port, HopTls.NONE, verify=False, ca=None, ehlo="gw.test", source=None)
    session = await open_session(at, timeouts)
    assert isinstance(session, Session), session
    return session


async def test_d6_a_reply_that_dribbles_is_not_waited_for_longer_than_another() -> None:
    timeouts = Timeouts(command_s=0.2, data_start_s=9, data_block_s=9, data_end_s=9, greeting_s=2, connect_s=2)
    async with Scripted({"mail": Act(b"250 2.1.0 ok, very slowly indeed\r\n", every_s=0.05)}) as host:
        session = await opened(host.address, host.port, timeouts)
        [word] = await session.wire.send(mail())
        assert (word.stage, word.text) == ("mail", "no answer within 0.2 s")


async def test_d6_content_that_is_read_too_slowly_is_given_up() -> None:
    """Every block leaves in time, and there is no end of them."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.CancelledError):  # cancelled at the end of the test
            writer.write(b"220 mx.test\r\n")
            await reader.readuntil(b"\r\n")
            writer.write(b"250-mx.test\r\n250 PIPELINING\r\n")
            await reader.readuntil(b"DATA\r\n")
            writer.write(b"250 ok\r\n250 ok\r\n354 go on\r\n")
            while await reader.read(1 << 16):
                await asyncio.sleep(0.002)
        writer.close()

    timeouts = Timeouts(command_s=0.1, data_start_s=0.1, data_block_s=0.5, data_end_s=0.1, greeting_s=2, connect_s=2)
    piece = (b"x" * 78 + b"\r\n") * 3200
    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        session = await opened("127.0.0.1", server.sockets[0].getsockname()[1], timeouts)
        # Said to be small: how long it may take follows from its size.
        [word] = await session.wire.send(mail(pieces=[piece] * 1000, size=100))
        assert (word.stage, word.code, word.uncertain) == ("body", 0, False)


async def test_d6_the_wait_after_the_end_is_honoured_whatever_it_took_before() -> None:
    timeouts = Timeouts(command_s=0.1, data_start_s=0.1, data_block_s=0.1, data_end_s=5, greeting_s=2, connect_s=2)
    async with FakeMx({"dot": slowly(0.5)}) as host:
        [word] = await (await connected(host, timeouts)).wire.send(mail())
        assert (word.stage, word.code) == ("dot", 250)  # 0.41 s is what all before it may take


def test_d6_ten_minutes_are_waited_after_the_end() -> None:
    assert Timeouts().data_end_s == 600
