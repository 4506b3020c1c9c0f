"""What a failure of the next hop at each stage comes to, case by case, with pipelining and without; and that whatever
it does, nothing is lost and nothing sent twice without a doubt being told.

Carriers in this process against real sockets. The next attempt goes to the same host, which then behaves. Where a host
falls silent the loop's clock is put forward, so that every timeout may be long and none is waited for.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass

import pytest
from msgspec.structs import replace

from gateway.config import HopTls, MxRoute, Timeouts
from gateway.delivery.attempt import Carrier
from gateway.events import BounceClass, State
from gateway.store.queue import Claimed, Result
from tests.fakes.carrying import CONTENT as MESSAGE
from tests.fakes.carrying import Desk, claimed, desk
from tests.peers.scripted import DROP, HUSH, OFFERS, RESET, Act, Script, Scripted, Then

TO = ("first@example.test", "middle@example.test", "last@example.test")
ZONE = "example.test MX 10 one.test\none.test A 127.0.0.1"
PATIENT_S = 60.0
PATIENT = Timeouts(PATIENT_S, PATIENT_S, PATIENT_S, PATIENT_S, PATIENT_S, PATIENT_S)
HEARD_S = 0.1  # until what a host said before it fell silent has arrived
LETTERS = {State.DELIVERED: "+", State.DEFERRED: "~", State.BOUNCED: "-", State.FAILED: "!"}
TAKEN = "+++"
LATER = "~~~"
NEVER = "---"


@dataclass(frozen=True, slots=True)
class Case:
    """`states` of first, middle and last; `bounce_class` and `stage` of the first one that was not delivered.
    `doubt`: it may have been delivered; `sockets`: connections of the first attempt."""

    name: str
    script: Script
    states: str
    bounce_class: BounceClass | None = None
    stage: str = ""
    doubt: bool = False
    sockets: int = 1
    heals: bool = True  # else the script goes on to its end
    only: str = ""  # "pipelining" or "one by one": the other way there is no such case


NO_ANSWER, BAD, PROTOCOL = BounceClass.NO_ANSWER_FROM_HOST, BounceClass.BAD_CONNECTION, BounceClass.PROTOCOL_ERRORS
SENDER, RECIPIENT, CONTENT = BounceClass.INVALID_SENDER, BounceClass.INVALID_RECIPIENT, BounceClass.CONTENT_REFUSED
LATELY, CROWD, QUOTA = BounceClass.TRANSIENT_FAILURE, BounceClass.TOO_MANY_RECIPIENTS, BounceClass.QUOTA_ISSUES
REPUTATION, POLICY = BounceClass.REPUTATION_BLOCK, BounceClass.POLICY_RELATED
BUSY, NO, GONE = "451 4.3.0 later", "550 5.1.1 no such user", "421 4.3.2 shutting down"
LONG = b"250-" + b"x" * 900 + b"\r\n"

CASES = [
    # Greeting
    Case("greeting 4xx", {"greeting": "450 4.3.2 not now"}, LATER, BAD, "greeting"),
    Case("greeting 421 and close", {"greeting": Act(b"421 4.3.2 busy\r\n", Then.CLOSE)}, LATER, BAD, "greeting"),
    Case("greeting 5xx", {"greeting": "554 5.3.2 no mail here"}, LATER, BAD, "greeting"),
    Case("greeting 521", {"greeting": "521 5.3.2 no mail here"}, LATER, BAD, "greeting"),
    Case("greeting 554 of a blocklist", {"greeting": "554 5.7.1 blocked using zen"}, LATER, REPUTATION, "greeting"),
    Case("greeting of many lines", {"greeting": "220-mx.test\r\n220-be kind\r\n220 go on"}, TAKEN),
    Case("greeting 250", {"greeting": "250 hello"}, LATER, BAD, "greeting"),
    Case("greeting garbage", {"greeting": "SSH-2.0-OpenSSH_9.2"}, LATER, BAD, "greeting"),
    Case(
        "greeting without end", {"greeting": Act(b"220 mx.test", Then.HUSH)}, LATER, BAD, "greeting", only="pipelining"
    ),
    Case("greeting half and close", {"greeting": Act(b"220 mx", Then.CLOSE)}, LATER, BAD, "greeting"),
    Case("greeting drop", {"greeting": DROP}, LATER, BAD, "greeting"),
    Case("greeting reset", {"greeting": RESET}, LATER, BAD, "greeting"),
    Case("greeting silence", {"greeting": HUSH}, LATER, BAD, "greeting", only="pipelining"),
    # EHLO and HELO
    Case("ehlo 4xx", {"ehlo": BUSY}, LATER, PROTOCOL, "ehlo"),
    Case("ehlo 421", {"ehlo": Act(b"421 4.3.2 bye\r\n", Then.CLOSE)}, LATER, PROTOCOL, "ehlo"),
    Case("ehlo 502, then helo", {"ehlo": "502 5.5.1 what?"}, TAKEN, only="one by one"),
    Case("ehlo 5xx, helo 5xx", {"ehlo": "500 what?", "helo": "550 5.7.1 not you"}, LATER, PROTOCOL, "ehlo"),
    Case("ehlo 5xx, helo drop", {"ehlo": "500 what?", "helo": DROP}, LATER, PROTOCOL, "ehlo"),
    Case("ehlo drop", {"ehlo": DROP}, LATER, PROTOCOL, "ehlo"),
    Case("ehlo silence", {"ehlo": HUSH}, LATER, PROTOCOL, "ehlo", only="pipelining"),
    Case("ehlo garbage", {"ehlo": "hello yourself"}, LATER, PROTOCOL, "ehlo"),
    Case("ehlo half of many lines", {"ehlo": Act(b"250-mx.test\r\n250-SI", Then.CLOSE)}, LATER, PROTOCOL, "ehlo"),
    Case("ehlo with nonsense in it", {"ehlo": "250-mx\r\n250-SIZE =?\r\n250-LIMITS RCPTMAX=x =1\r\n250 \x7f"}, TAKEN),
    # STARTTLS, opportunistic: refused, it is done without on a new connection
    Case("starttls 454", {"ehlo": "250-mx.test\r\n250 STARTTLS"}, TAKEN, sockets=2, only="one by one"),
    Case("starttls drop", {"ehlo": "250-x\r\n250 STARTTLS", "starttls": DROP}, TAKEN, sockets=2, only="one by one"),
    Case(
        "starttls 220 and drop",
        {"ehlo": "250-x\r\n250 STARTTLS", "starttls": Act(b"220 go ahead\r\n", Then.CLOSE)},
        TAKEN,
        sockets=2,
        only="one by one",
    ),
    # MAIL
    Case("mail 4xx", {"mail": BUSY}, LATER, LATELY, "mail"),
    Case("mail 421", {"mail": Act(b"421 4.3.2 bye\r\n", Then.CLOSE)}, LATER, LATELY, "mail"),
    Case("mail 421 and stays", {"mail": GONE}, LATER, LATELY, "mail"),
    Case("mail 5xx", {"mail": "550 5.1.8 bad sender"}, NEVER, SENDER, "mail"),
    Case("mail 5xx with a 4", {"mail": "550 4.1.8 not now"}, LATER, SENDER, "mail"),
    Case("mail 530", {"mail": "530 5.7.0 authenticate first"}, LATER, BounceClass.AUTHENTICATION_FAILED, "mail"),
    Case("mail 552", {"mail": "552 5.3.4 too big"}, NEVER, CONTENT, "mail"),
    Case("mail drop", {"mail": DROP}, LATER, BAD, "mail"),
    Case("mail reset", {"mail": RESET}, LATER, BAD, "mail"),
    Case("mail silence", {"mail": HUSH}, LATER, BAD, "mail", only="pipelining"),
    Case("mail garbage", {"mail": "what do you mean?"}, LATER, BAD, "mail"),
    Case("mail 354", {"mail": "354 go on"}, LATER, LATELY, "mail"),
    Case("mail 999", {"mail": "999 9.9.9 nein"}, LATER, LATELY, "mail"),
    Case("mail 12", {"mail": "12 short"}, LATER, BAD, "mail"),
    Case("mail 250 of many lines", {"mail": "250-2.1.0 well\r\n250 2.1.0 ok"}, TAKEN),
    Case("mail without text", {"mail": "250"}, TAKEN),
    Case("mail with a bare line feed", {"mail": Act(b"250 2.1.0 ok\n")}, TAKEN),
    Case("mail of long lines", {"mail": Act(LONG * 20 + b"250 ok\r\n")}, TAKEN),
    Case("mail of lines without end", {"mail": Act(LONG * 500)}, LATER, BAD, "mail"),
    Case("mail line without end", {"mail": Act(b"250 " + b"x" * 20_000)}, LATER, BAD, "mail"),
    Case("mail octet by octet", {"mail": Act(b"250 ok\r\n", every_s=0.002)}, TAKEN),
    Case("mail in Latin-1", {"mail": Act("250 2.1.0 schön\r\n".encode("latin-1"))}, TAKEN),
    # RCPT: first, middle, last
    Case("first 450", {"rcpt": ["450 4.3.2 later", None, None]}, "~++", LATELY, "rcpt"),
    Case("first 550", {"rcpt": [NO, None, None]}, "-++", RECIPIENT, "rcpt"),
    Case("middle 450", {"rcpt": [None, "450 4.3.2 later", None]}, "+~+", LATELY, "rcpt"),
    Case("middle 550", {"rcpt": [None, NO, None]}, "+-+", RECIPIENT, "rcpt"),
    Case("last 550", {"rcpt": [None, None, NO]}, "++-", RECIPIENT, "rcpt"),
    Case("all different", {"rcpt": [None, "450 4.3.2 later", NO]}, "+~-", LATELY, "rcpt"),
    Case("all 550", {"rcpt": NO}, NEVER, RECIPIENT, "rcpt"),
    Case("trap 5: 552 is temporary", {"rcpt": [None, "552 5.2.2 full", None]}, "+~+", QUOTA, "rcpt"),
    Case("251", {"rcpt": ["251 2.1.5 will forward", None, None]}, TAKEN),
    Case("452 finds room at once", {"rcpt": [None, "452 4.5.3 too many", "452 4.5.3 too many"]}, TAKEN),
    Case("452 for all", {"rcpt": "452 4.5.3 too many"}, LATER, CROWD, "rcpt"),
    Case("421 at the first", {"rcpt": [Act(b"421 4.3.2 bye\r\n", Then.CLOSE)]}, LATER, LATELY, "rcpt"),
    Case("D8: 421 at the middle", {"rcpt": [NO, Act(b"421 4.3.2 bye\r\n", Then.CLOSE)]}, "-~~", RECIPIENT, "rcpt"),
    Case("421 at the last", {"rcpt": [None, NO, GONE]}, "~-~", LATELY, "data"),
    Case("drop at the first", {"rcpt": [DROP]}, LATER, BAD, "rcpt"),
    Case("drop at the middle", {"rcpt": [NO, DROP]}, "-~~", RECIPIENT, "rcpt"),
    Case("silence at the last", {"rcpt": [NO, None, HUSH]}, "-~~", RECIPIENT, "rcpt", only="pipelining"),
    Case("half a reply at the last", {"rcpt": [None, None, Act(b"250 o", Then.CLOSE)]}, LATER, BAD, "rcpt"),
    Case("garbage at the middle", {"rcpt": [None, "no!"]}, LATER, BAD, "rcpt"),
    # DATA
    Case("data 4xx", {"data": BUSY}, LATER, LATELY, "data"),
    Case("data 421", {"data": Act(b"421 4.3.2 bye\r\n", Then.CLOSE)}, LATER, LATELY, "data"),
    Case("data 5xx", {"data": "554 5.7.1 refused"}, NEVER, POLICY, "data"),
    Case("data 250", {"data": "250 2.0.0 already"}, LATER, PROTOCOL, "data"),
    Case("data drop", {"data": DROP}, LATER, BAD, "data"),
    Case("data silence", {"data": HUSH}, LATER, BAD, "data", only="pipelining"),
    Case("data garbage", {"data": "no!"}, LATER, BAD, "data"),
    Case("data 354 and a reply too many", {"data": Act(b"354 go on\r\n250 done\r\n")}, LATER, PROTOCOL, "data"),
    Case("data 5xx after refusals", {"rcpt": NO, "data": "503 5.5.1 no recipients"}, NEVER, RECIPIENT, "rcpt"),
    Case("data 354 after refusals", {"rcpt": NO, "data": "354 go on"}, NEVER, RECIPIENT, "rcpt"),
    # The content and its end: what was lost behind it is in doubt
    Case("body drop", {"body": DROP}, LATER, BAD, "dot", doubt=True),
    Case("body 552 before its end", {"body": Act(b"552 5.3.4 enough\r\n", Then.CLOSE)}, NEVER, CONTENT, "dot"),
    Case("dot 4xx", {"dot": "451 4.7.1 greylisted"}, LATER, LATELY, "dot"),
    Case("dot 421", {"dot": Act(b"421 4.3.2 bye\r\n", Then.CLOSE)}, LATER, LATELY, "dot"),
    Case("dot 5xx", {"dot": "554 5.7.1 spam"}, NEVER, CONTENT, "dot"),
    Case("dot 552", {"dot": "552 5.2.2 mailbox full"}, NEVER, QUOTA, "dot"),
    Case("dot 354", {"dot": "354 more"}, LATER, LATELY, "dot"),
    Case("dot drop", {"dot": DROP}, LATER, BAD, "dot", doubt=True),
    Case("dot reset", {"dot": RESET}, LATER, BAD, "dot", doubt=True),
    Case("dot silence", {"dot": HUSH}, LATER, BAD, "dot", doubt=True, only="pipelining"),
    Case("dot half a reply", {"dot": Act(b"250 2.0.0 o", Then.CLOSE)}, LATER, BAD, "dot", doubt=True),
    Case("dot garbage", {"dot": "thanks"}, LATER, BAD, "dot", doubt=True),
    Case("dot 250 of many lines", {"dot": "250-2.0.0 thanks\r\n250 2.0.0 queued"}, TAKEN),
    # Trap 7: after it was taken
    Case("dot 250 and drop", {"dot": Act(b"250 2.0.0 queued\r\n", Then.CLOSE)}, TAKEN),
    Case("dot 250 and reset", {"dot": Act(b"250 2.0.0 queued\r\n", Then.RESET)}, TAKEN),
    Case("dot 250 and 421", {"dot": Act(b"250 2.0.0 queued\r\n421 4.3.2 bye\r\n", Then.CLOSE)}, TAKEN),
    Case("dot 250 and 554", {"dot": Act(b"250 2.0.0 queued\r\n554 5.7.1 no, spam\r\n")}, TAKEN),
    Case("dot 250 and garbage", {"dot": Act(b"250 2.0.0 queued\r\n\0\0\0\r\n")}, TAKEN),
    Case("quit 4xx", {"quit": BUSY}, TAKEN),
    Case("quit 5xx", {"quit": "500 5.5.1 what?"}, TAKEN),
    Case("quit drop", {"quit": DROP}, TAKEN),
    Case("quit silence", {"quit": HUSH}, TAKEN, only="pipelining"),
    # RSET, due before the next message: trap 13
    Case("rset 503", {"rcpt": [NO] * 3, "rset": ["503 5.5.1 not now"]}, NEVER, RECIPIENT, "rcpt", heals=False),
    Case("rset 421", {"rcpt": [NO] * 3, "rset": ["421 4.3.2 bye"]}, NEVER, RECIPIENT, "rcpt", heals=False),
    Case("rset drop", {"rcpt": [NO] * 3, "rset": [DROP]}, NEVER, RECIPIENT, "rcpt", heals=False),
    Case("rset silence", {"rcpt": [NO] * 3, "rset": [HUSH]}, NEVER, RECIPIENT, "rcpt", heals=False, only="pipelining"),
    Case("rset garbage", {"rcpt": [NO] * 3, "rset": ["eh?"]}, NEVER, RECIPIENT, "rcpt", heals=False),
    Case("rset as it should be", {"rcpt": [NO] * 3}, NEVER, RECIPIENT, "rcpt"),
]
WAYS = ("pipelining", "one by one")  # the same before MAIL
BOTH = [
    (case, way)
    for case in CASES
    for way in (WAYS[:1] if {"greeting", "ehlo"} & {*case.script} and not case.only else WAYS)
    if case.only in {"", way}
]


@contextlib.contextmanager
def skipping() -> Iterator[Callable[[], object]]:
    """What puts the loop's clock forward, soon, by more than any timeout."""
    loop = asyncio.get_running_loop()
    skipped_s = 0.0

    def skip() -> None:
        nonlocal skipped_s
        skipped_s += PATIENT_S + 1

    with pytest.MonkeyPatch.context() as patch:
        real = loop.time
        patch.setattr(loop, "time", lambda: real() + skipped_s)
        yield lambda: loop.call_later(HEARD_S, skip)


@contextlib.asynccontextmanager
async def destination(case: Case, way: str) -> AsyncIterator[tuple[Scripted, Desk, Carrier]]:
    offers = OFFERS if way == "pipelining" else OFFERS[1:]
    with skipping() as skip:
        async with Scripted(case.script, offers=offers, on_hush=skip) as host:
            route = MxRoute("direct", port=host.port, tls=HopTls.OPPORTUNISTIC, dane=False, mta_sts=False)
            async with desk([route], zone=ZONE, timeouts=PATIENT) as at:
                carrier = at.carrier()
                yield host, at, carrier
                carrier.close()


def left_of(message: Claimed, results: Sequence[Result]) -> Claimed:
    """The message as it is claimed for its next attempt."""
    by_id = {result.recipient: result for result in results}
    return replace(
        message,
        recipients=tuple(
            replace(leased, attempts=by_id[leased.id].attempts, possible_duplicate=by_id[leased.id].possible_duplicate)
            for leased in message.recipients
            if by_id[leased.id].state is State.DEFERRED
        ),
    )


async def deliver(carrier: Carrier, message: Claimed) -> Sequence[Result]:
    [made] = await carrier.deliver(message)
    return made.results


@pytest.mark.parametrize(("case", "way"), BOTH, ids=[f"{case.name}-{way}" for case, way in BOTH])
async def test_what_it_comes_to(case: Case, way: str) -> None:
    async with destination(case, way) as (host, at, carrier):
        message = claimed(*TO)
        results = await deliver(carrier, message)
        assert "".join(LETTERS[result.state] for result in results) == case.states
        assert {result.attempts for result in results} == {1}
        assert {result.possible_duplicate for result in results if result.state is not State.DELIVERED} <= {case.doubt}
        failed = next((result for result in results if result.state is not State.DELIVERED), None)
        assert (failed and failed.bounce_class, failed.stage if failed else "") == (case.bounce_class, case.stage)
        assert host.connections == case.sockets

        # The next attempt finds a host that behaves, and so does another message on the same connection.
        if case.heals:
            host.heal()
        at.couriers.unreachable.clear()
        left = left_of(message, results)
        if left.recipients:
            for result in await deliver(carrier, left):
                assert (result.state, result.attempts) == (State.DELIVERED, 2)
                assert result.possible_duplicate is case.doubt
        [other] = await deliver(carrier, claimed("other@example.test"))
        assert (other.state, other.attempts, other.possible_duplicate) == (State.DELIVERED, 1, False)
    arrived = Counter(recipient for message in host.taken for recipient in message.recipients)
    wanted = [to for to, state in zip(TO, case.states, strict=True) if state != "-"]
    assert arrived == Counter([*wanted, "other@example.test"])
    assert {message.content for message in host.taken} == {MESSAGE}


@pytest.mark.parametrize("way", WAYS)
async def test_d9_three_hundred_recipients_each_end_in_a_state_of_their_own(way: str) -> None:
    replies = {"a": None, "b": "450 4.3.2 later", "c": NO}
    to = [f"{kind}{number}@example.test" for number in range(100) for kind in replies]
    case = Case("mixed", {"rcpt": [replies[address[0]] for address in to]}, "")
    async with destination(case, way) as (host, _, carrier):
        results = await deliver(carrier, claimed(*to))
    letters = {"a": "+", "b": "~", "c": "-"}
    assert [LETTERS[result.state] for result in results] == [letters[address[0]] for address in to]
    assert [result.to for result in results] == to
    assert [recipient for message in host.taken for recipient in message.recipients] == to[::3]
    assert (len(host.taken), host.connections) == (3, 1)  # a hundred in a transaction


async def test_a_table_of_at_least_sixty_cases() -> None:
    assert len(CASES) >= 60
    assert len({case.name for case in CASES}) == len(CASES)
    stages = {stage for case in CASES for stage in case.script}
    assert stages == {"greeting", "ehlo", "helo", "starttls", "mail", "rcpt", "data", "body", "dot", "quit", "rset"}
