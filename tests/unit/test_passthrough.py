"""Mail for relays that requests name: real sockets, TLS and store, and no password where it does not belong."""

import asyncio
import base64
import io
import json
import logging
import socket
import ssl
import traceback
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
import trustme

from gateway.config import Config, Dns, HopTls, Listen, RelayRoute, Secret, Timeouts
from gateway.config import PassThrough as Settings
from gateway.delivery import passage, passthrough
from gateway.delivery.passthrough import Ending, NamedRelay, Passed, PassThrough
from gateway.delivery.relaylist import FAILURE_COST
from gateway.errors import Reason, Refused, StoreError
from gateway.events import BounceClass, EventType, State
from gateway.keyterms import Limit, Unit
from gateway.message.model import Facts
from gateway.observe import MailLog
from gateway.resolver import Resolver
from gateway.runtime import Clock, IdSource, show_id, uuid7
from gateway.store.newmail import NewMessage, NewRecipient
from gateway.store.shown import MessageView
from gateway.store.sqlite import SqliteStore
from tests.fakes.dns import FakeDns
from tests.fakes.mx import OFFERS, Do, FakeMx, Reaction
from tests.peers.process import free_port
from tests.unit.test_relaylist import SPELLINGS

NOW = 1_800_000_000_000
CLIENT = "10.1.2.3"
USER = "canary-user@sender.test"
PASSWORD = "canary-passwörd-7Q"
CONTENT = b"From: a@sender.test\r\nSubject: hello\r\n\r\n.how are you\r\n"
AUTH = (*OFFERS, "AUTH PLAIN LOGIN")
FORMS = (
    PASSWORD,
    json.dumps(PASSWORD)[1:-1],
    repr(PASSWORD.encode())[2:-1],
    *(base64.b64encode(t.encode()).decode() for t in (PASSWORD, f"\0{USER}\0{PASSWORD}")),
)


@dataclass(frozen=True, slots=True)
class Authority:
    """A server's context for 127.0.0.1 and localhost, and the file a client trusts it by."""

    server: ssl.SSLContext
    ca: Path


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    issuer = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    issuer.issue_cert("127.0.0.1", "localhost").configure_cert(server)
    ca = tmp_path_factory.mktemp("ca") / "ca.pem"
    issuer.cert_pem.write_to_path(str(ca))
    return Authority(server, ca)


class Desk:
    """A pass-through to the relays that are listed, its store and its log."""

    def __init__(self, store: SqliteStore, ca: Path) -> None:
        self.store = store
        self.ca = ca
        self.log = io.StringIO()
        self.limit = Limit(Unit.MESSAGES, 30, 60, 30)
        self.nameservers: tuple[Listen, ...] = ()
        self.clock = Clock(now_ms=lambda: NOW, monotonic=lambda: 0.0)
        self.ids = IdSource(self.clock)

    def passes(self, *relays: Listen) -> PassThrough:
        config = Config(
            hostname="gw.test",
            dns=Dns(self.nameservers),
            pass_through=Settings(relays, (ip_network("10.0.0.0/8"),), self.limit),
        )
        resolver = Resolver(self.nameservers)
        return PassThrough(config, self.store, resolver, clock=self.clock, log=MailLog(self.log), ca=self.ca)

    def message(self, *to: str, pieces: tuple[bytes, ...] = (CONTENT,)) -> NewMessage:
        content = b"".join(pieces)
        size = content.index(b"\r\n\r\n") + 4
        return NewMessage(
            id=self.ids.next(),
            uuid=uuid7(NOW),
            account="pass_through",
            key="pass_through",
            route="pass_through",
            door="http",
            envelope_sender="a@sender.test",
            header_from="a@sender.test",
            subject="hello",
            message_id="x@sender.test",
            facts=Facts(len(content), size, b"h" * 32, eight_bit=False, utf8_header=False, dot_lines=True),
            tags="[]",
            metadata="{}",
            client=CLIENT,
            created_at=NOW,
            expires_at=NOW + 1000,
            priority=1,
            recipients=tuple(NewRecipient(self.ids.next(), address, "") for address in to or ("b@example.test",)),
            pieces=tuple(enumerate(pieces)),
            piece_count=len(pieces),
        )

    async def send(self, host: FakeMx, /, *to: str, secure: bool = False, **changes: Any) -> Passed:
        listed = Listen(changes.pop("listed", host.address), changes.pop("port", host.port))
        relay = NamedRelay(listed.host, None, secure, USER, Secret(PASSWORD))
        message = self.message(*to, pieces=changes.pop("pieces", (CONTENT,)))
        async with asyncio.timeout(30):
            return await self.passes(listed).send(replace(relay, **changes), message, client=CLIENT)

    async def view(self, uuid: bytes) -> MessageView:
        view = await self.store.message(uuid, "pass_through")
        assert view is not None
        return view

    @property
    def lines(self) -> list[str]:
        """What happened, line by line of the mail log."""
        return [line.split(" ")[1] for line in self.log.getvalue().splitlines()]


@pytest.fixture
async def desk(tmp_path: Path, authority: Authority) -> AsyncIterator[Desk]:
    store = await SqliteStore.open(tmp_path / "q.db", clock=Clock(now_ms=lambda: NOW))
    yield Desk(store, authority.ca)
    assert await store.counts() == []  # nothing of it is ever queued
    await store.close()


@pytest.fixture(autouse=True)
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passage, "STEPS", Timeouts(2, 0.2, 0.2, 0.2, 0.2, 0.2))


# What becomes of a message


async def test_a_message_is_passed_on_and_written_down(desk: Desk) -> None:
    async with FakeMx(offers=AUTH) as host:
        passed = await desk.send(host)
        await host.conversations[0].over()
    [conversation] = host.conversations
    assert conversation.logins == [("PLAIN", USER, PASSWORD)]
    assert conversation.transactions[0].content == CONTENT  # as it was composed: no signature, no trace of ours
    assert conversation.commands[-1] == "QUIT"
    assert (passed.ending, passed.message_id, passed.envelope_sender) == (
        Ending.ACCEPTED,
        "x@sender.test",
        "a@sender.test",
    )
    [result] = passed.attempt.results
    assert (result.state, result.reply) == (State.DELIVERED, "250 2.0.0 queued as 1")
    assert passed.attempt.wire_bytes == len(conversation.transactions[0].raw) + 3
    view = await desk.view(passed.uuid)
    assert [(r.address, r.state, r.reply, r.host) for r in view.recipients] == [
        ("b@example.test", State.DELIVERED, "250 2.0.0 queued as 1", "127.0.0.1")
    ]
    assert [event.type for event in await desk.store.events(passed.uuid)] == [
        EventType.ACCEPTED,
        EventType.DELIVERED,
    ]
    assert await desk.store.content(passed.uuid) is None
    assert desk.lines == ["accepted", "delivered"]
    assert desk.log.getvalue().count(f"id={show_id('eml_', passed.uuid)}") == 2


async def test_large_content_leaves_in_pieces(desk: Desk) -> None:
    pieces = (CONTENT, b"x" * 70 + b"\r\n", b".y\r\n" * 50_000)
    async with FakeMx(offers=AUTH) as host:
        passed = await desk.send(host, pieces=pieces)
        assert host.transactions[0].content == b"".join(pieces)
    assert passed.attempt.wire_bytes == len(host.transactions[0].raw) + 3


async def test_every_recipient_has_its_own_result(desk: Desk) -> None:
    script: dict[str, Reaction] = {"RCPT": ["550 5.1.1 no such user", None, "450 4.2.0 greylisted"]}
    async with FakeMx(script, offers=AUTH) as host:
        passed = await desk.send(host, "ann@example.test", "bob@example.test", "cid@example.test")
    assert passed.ending is Ending.ACCEPTED
    states = [State.BOUNCED, State.DELIVERED, State.FAILED]
    assert [result.state for result in passed.attempt.results] == states
    view = await desk.view(passed.uuid)
    assert [recipient.state for recipient in view.recipients] == states
    assert sorted(desk.lines) == ["accepted", "bounced", "delivered", "failed"]


@pytest.mark.parametrize(
    ("script", "ending", "state"),
    [
        ({"connect": "421 4.3.2 busy"}, Ending.REFUSED, State.FAILED),
        ({"connect": Do(drop=True)}, Ending.UNREACHABLE, State.FAILED),
        ({"connect": Do()}, Ending.UNREACHABLE, State.FAILED),
        ({"connect": "SSH-2.0-OpenSSH_9.6"}, Ending.UNREACHABLE, State.FAILED),
        ({"EHLO": Do(drop=True)}, Ending.UNREACHABLE, State.FAILED),
        ({"AUTH": "535 5.7.8 no"}, Ending.AUTHENTICATION_FAILED, State.FAILED),
        ({"AUTH": "550 no"}, Ending.AUTHENTICATION_FAILED, State.FAILED),
        ({"AUTH": "454 4.7.0 later"}, Ending.REFUSED, State.FAILED),
        ({"AUTH": Do(drop=True)}, Ending.UNREACHABLE, State.FAILED),
        ({"MAIL": "550 5.7.1 not you"}, Ending.REFUSED, State.BOUNCED),
        ({"MAIL": "451 4.3.0 later"}, Ending.REFUSED, State.FAILED),
        ({"MAIL": Do(drop=True)}, Ending.UNREACHABLE, State.FAILED),
        ({"RCPT": "550 5.1.1 no such user"}, Ending.REFUSED, State.BOUNCED),
        ({"DATA": "451 4.3.0 later"}, Ending.REFUSED, State.FAILED),
        ({"body": Do(drop=True)}, Ending.UNCERTAIN, State.FAILED),  # a small message has left by then
        ({"dot": "554 5.7.1 spam"}, Ending.REFUSED, State.BOUNCED),
        ({"dot": "451 4.3.0 later"}, Ending.REFUSED, State.FAILED),
        ({"dot": Do(drop=True)}, Ending.UNCERTAIN, State.FAILED),
        ({"dot": Do()}, Ending.UNCERTAIN, State.FAILED),
    ],
    ids=str,
)
async def test_how_it_can_end(desk: Desk, script: dict[str, Reaction], ending: Ending, state: State) -> None:
    async with FakeMx(script, offers=AUTH) as host:
        passed = await desk.send(host)
        assert len(host.conversations) == 1  # one attempt
        assert not host.transactions
    assert passed.ending is ending
    [result] = passed.attempt.results
    assert (result.state, result.attempts, result.next_at) == (state, 1, 0)
    assert result.possible_duplicate is (ending is Ending.UNCERTAIN)
    [recipient] = (await desk.view(passed.uuid)).recipients
    assert (recipient.state, recipient.possible_duplicate) == (state, ending is Ending.UNCERTAIN)
    assert desk.lines == ["accepted", state.value]


async def test_nobody_listens(desk: Desk) -> None:
    async with FakeMx() as host:
        pass
    passed = await desk.send(host)
    assert passed.ending is Ending.UNREACHABLE
    assert passed.attempt.results[0].bounce_class is BounceClass.NO_ANSWER_FROM_HOST


async def test_who_was_refused_before_the_end_is_in_no_doubt(desk: Desk) -> None:
    async with FakeMx({"RCPT": ["550 5.1.1 no such user", None], "dot": Do(drop=True)}, offers=AUTH) as host:
        passed = await desk.send(host, "ann@example.test", "bob@example.test")
    assert passed.ending is Ending.UNCERTAIN
    ann, bob = passed.attempt.results
    assert (ann.state, ann.possible_duplicate) == (State.BOUNCED, False)
    assert (bob.state, bob.possible_duplicate) == (State.FAILED, True)


@pytest.mark.parametrize(
    ("stage", "ending"),
    [("connect", Ending.UNREACHABLE), ("RCPT", Ending.UNREACHABLE), ("dot", Ending.UNCERTAIN)],
)
async def test_the_whole_attempt_has_a_limit(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, stage: str, ending: Ending
) -> None:
    monkeypatch.setattr(passage, "STEPS", Timeouts())
    monkeypatch.setattr(passage, "WITHIN_S", 0.3)
    async with FakeMx({stage: Do()}, offers=AUTH) as host:
        passed = await desk.send(host)
        await host.conversations[0].over()
    assert passed.ending is ending
    assert [recipient.state for recipient in (await desk.view(passed.uuid)).recipients] == [State.FAILED]


@pytest.mark.parametrize(("stage", "doubt"), [("RCPT", False), ("dot", True)])
async def test_what_became_of_it_is_written_down_when_the_client_has_gone(desk: Desk, stage: str, doubt: bool) -> None:
    reached = asyncio.Event()

    def react(_line: str) -> Do:
        reached.set()
        return Do(gate=asyncio.Event())

    async with FakeMx({stage: react}, offers=AUTH) as host:
        message = desk.message()
        relay = NamedRelay(host.address, None, secure=False, username=USER, password=Secret(PASSWORD))
        sending = asyncio.gather(desk.passes(Listen(host.address, host.port)).send(relay, message, client=CLIENT))
        async with asyncio.timeout(30):
            await reached.wait()
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
    [recipient] = (await desk.view(message.uuid)).recipients
    assert (recipient.state, recipient.possible_duplicate) == (State.FAILED, doubt)
    assert desk.lines == ["accepted", "failed"]


async def test_a_store_that_fails_takes_nothing_back(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: object) -> None:
        raise StoreError("disk full")

    monkeypatch.setattr(type(desk.store), "record", fail)
    async with FakeMx(offers=AUTH) as host:
        passed = await desk.send(host)
    assert passed.ending is Ending.ACCEPTED
    assert desk.lines == ["accepted", "delivered"]


# Who may, and how often


async def refused(desk: Desk, relays: tuple[Listen, ...], relay: NamedRelay, client: str = CLIENT) -> Refused:
    passes = desk.passes(*relays)
    with pytest.raises(Refused) as refusal:
        await passes.send(relay, desk.message(), client=client)
    assert desk.lines[-1] == "refused"
    return refusal.value


async def test_an_unlisted_relay_and_a_foreign_client_look_alike(desk: Desk) -> None:
    async with FakeMx(offers=AUTH) as host:
        listed = Listen(host.address, host.port)
        relay = NamedRelay(host.address, host.port, secure=False, username=USER, password=Secret(PASSWORD))
        assert desk.passes(listed).allowed(host.address, host.port, CLIENT)
        refusals = [
            await refused(desk, (), relay),
            await refused(desk, (listed,), replace(relay, host="localhost")),
            await refused(desk, (listed,), replace(relay, port=host.port ^ 1)),
            await refused(desk, (listed,), relay, client="192.0.2.1"),
        ]
        assert not desk.passes(listed).allowed(host.address, host.port, "192.0.2.1")
        assert not host.conversations
    assert {(refusal.reason, refusal.text) for refusal in refusals} == {
        (Reason.INSUFFICIENT_PERMISSIONS, "Mail for the server named in the request is not taken here.")
    }


@pytest.mark.parametrize("host", SPELLINGS)
async def test_s9_no_spelling_leads_to_another_relay(desk: Desk, host: str) -> None:
    """Nobody is connected to, neither the listed relay's loopback address nor another one with the same port."""
    port = free_port()  # of all addresses, and nobody else's
    async with FakeMx(offers=AUTH, port=port) as listed, FakeMx(address="127.0.0.2", port=port) as other:
        relays = (Listen("smtp.example.com", listed.port), Listen("127.0.0.1", listed.port))
        relay = NamedRelay(host, listed.port, secure=False, username=USER, password=Secret(PASSWORD))
        assert (await refused(desk, relays, relay)).reason is Reason.INSUFFICIENT_PERMISSIONS
        assert not listed.conversations
        assert not other.conversations


@pytest.mark.parametrize("odd", ["a\0b", "\ud800"])
async def test_credentials_that_cannot_be_sent(desk: Desk, odd: str) -> None:
    async with FakeMx(offers=AUTH) as host:
        relay = NamedRelay(host.address, None, secure=False, username=USER, password=Secret(PASSWORD))
        for changed in (replace(relay, username=odd), replace(relay, password=Secret(odd))):
            refusal = await refused(desk, (Listen(host.address, host.port),), changed)
            assert refusal.reason is Reason.VALIDATION_ERROR
        assert not host.conversations


async def test_failures_of_authentication_cost_several(desk: Desk) -> None:
    desk.limit = Limit(Unit.MESSAGES, FAILURE_COST + 1, 60, FAILURE_COST + 1)
    async with FakeMx({"AUTH": ["535 5.7.8 no"]}, offers=AUTH) as host:
        passes = desk.passes(Listen(host.address, host.port))
        relay = NamedRelay(host.address, None, secure=False, username=USER, password=Secret(PASSWORD))
        endings = [(await passes.send(relay, desk.message(), client=CLIENT)).ending for _ in range(2)]
        assert endings == [Ending.AUTHENTICATION_FAILED, Ending.ACCEPTED]
        with pytest.raises(Refused) as refusal:
            await passes.send(relay, desk.message(), client=CLIENT)
        assert refusal.value.reason is Reason.RATE_LIMITED
        assert refusal.value.retry_after_s == 10
        assert len(host.conversations) == 2


async def test_so_many_at_once_and_no_more(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passthrough, "AT_ONCE", 1)
    gate = asyncio.Event()
    async with FakeMx({"MAIL": Do("250 2.1.0 ok", gate=gate)}, offers=AUTH) as host:
        passes = desk.passes(Listen(host.address, host.port))
        relay = NamedRelay(host.address, None, secure=False, username=USER, password=Secret(PASSWORD))
        first = asyncio.gather(passes.send(relay, desk.message(), client=CLIENT))
        await asyncio.sleep(0)
        with pytest.raises(Refused) as refusal:
            await passes.send(relay, desk.message(), client=CLIENT)
        assert (refusal.value.reason, refusal.value.retry_after_s) == (Reason.RATE_LIMITED, 1)
        gate.set()
        assert (await first)[0].ending is Ending.ACCEPTED
        assert (await passes.send(relay, desk.message(), client=CLIENT)).ending is Ending.ACCEPTED


async def test_no_connection_serves_twice(desk: Desk) -> None:
    async with FakeMx(offers=AUTH) as host:
        passes = desk.passes(Listen(host.address, host.port))
        for user in ("ann", "bob", "ann"):
            relay = NamedRelay(host.address, None, secure=False, username=user, password=Secret(PASSWORD))
            assert (await passes.send(relay, desk.message(), client=CLIENT)).ending is Ending.ACCEPTED
        logins = [[user for _, user, _ in conversation.logins] for conversation in host.conversations]
        assert logins == [["ann"], ["bob"], ["ann"]]


# TLS


async def test_secure_is_tls_and_proof(desk: Desk, authority: Authority, tmp_path: Path) -> None:
    async with FakeMx(tls=authority.server, offers=AUTH) as host:
        passed = await desk.send(host, secure=True)
        assert (passed.ending, passed.attempt.results[0].tls) == (Ending.ACCEPTED, "TLSv1.3")
        assert b"AUTH PLAIN " not in host.conversations[0].clear
        trustme.CA().cert_pem.write_to_path(str(tmp_path / "other.pem"))
        desk.ca = tmp_path / "other.pem"
        assert (await desk.send(host, secure=True)).ending is Ending.UNREACHABLE
        assert len(host.conversations) == 2
        assert not host.conversations[1].logins


async def test_secure_without_tls_is_nothing(desk: Desk) -> None:
    async with FakeMx(offers=AUTH) as host:
        passed = await desk.send(host, secure=True)
        assert passed.ending is Ending.UNREACHABLE
        assert host.commands == ["EHLO gw.test"]


@pytest.mark.parametrize("secure", [True, False])
async def test_tls_comes_first_on_465(desk: Desk, authority: Authority, secure: bool) -> None:
    try:
        host = await FakeMx(tls=authority.server, implicit=True, offers=AUTH, port=465).__aenter__()
    except OSError:
        pytest.skip("port 465 of 127.0.0.1 cannot be had here")
    try:
        passed = await desk.send(host, secure=secure)
    finally:
        await host.__aexit__(None, None, None)
    assert (passed.ending, passed.attempt.results[0].tls) == (Ending.ACCEPTED, "TLSv1.3")


@pytest.mark.parametrize(
    ("port", "secure", "tls"),
    [
        (465, True, HopTls.IMPLICIT),
        (465, False, HopTls.IMPLICIT),
        (587, True, HopTls.STARTTLS),
        (587, False, HopTls.OPPORTUNISTIC),
        (25, True, HopTls.STARTTLS),
        (2525, False, HopTls.OPPORTUNISTIC),
    ],
)
async def test_the_port_and_secure_say_which_tls(desk: Desk, port: int, secure: bool, tls: HopTls) -> None:
    listed = Listen("smtp.example.com", port)
    route = desk.passes(listed)._route(listed, NamedRelay("smtp.example.com", port, secure, USER, Secret(PASSWORD)))
    assert (route.tls, route.verify, route.ca) == (tls, secure, desk.ca)


async def test_without_secure_tls_is_taken_where_it_is_offered(desk: Desk, authority: Authority) -> None:
    desk.ca = authority.ca.parent / "missing.pem"  # on loopback nobody has to prove anything
    async with FakeMx(tls=authority.server, offers=AUTH) as host:
        passed = await desk.send(host)
        assert (passed.ending, passed.attempt.results[0].tls) == (Ending.ACCEPTED, "TLSv1.3")
        assert b"AUTH PLAIN " not in host.conversations[0].clear


@pytest.fixture
def own_address() -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this machine has no address but loopback")
        address: str = probe.getsockname()[0]
    return address


async def test_a_password_leaves_in_clear_to_loopback_only(desk: Desk, own_address: str) -> None:
    async with FakeMx(offers=AUTH, address="0.0.0.0") as host:
        passed = await desk.send(host, listed=own_address)
        assert passed.ending is Ending.UNREACHABLE
        assert host.commands == ["EHLO gw.test"]


async def test_away_from_here_who_offers_tls_proves_itself(desk: Desk, authority: Authority, own_address: str) -> None:
    async with FakeMx(offers=AUTH, tls=authority.server, address="0.0.0.0") as host:
        passed = await desk.send(host, listed=own_address)  # for which the certificate is not
        assert passed.ending is Ending.UNREACHABLE
        assert len(host.conversations) == 1
        assert not host.conversations[0].logins


# Names


async def test_a_name_is_looked_up_once_and_proved(desk: Desk, authority: Authority) -> None:
    zone = "relay.test A 127.0.0.1\nlocalhost A 127.0.0.1"
    async with FakeDns(zone, ttl=0) as dns, FakeMx(tls=authority.server, offers=AUTH) as host:
        desk.nameservers = (dns.listen,)
        passed = await desk.send(host, secure=True, listed="localhost", host="LOCALHOST.")
        assert passed.ending is Ending.ACCEPTED
        assert (passed.attempt.results[0].host, passed.attempt.results[0].address) == ("localhost", "127.0.0.1")
        assert dns.asked("localhost", "A") == 1
        # A name that DNS says is here is not looked for here.
        passed = await desk.send(host, listed="relay.test")
        assert passed.ending is Ending.UNREACHABLE
        assert len(host.conversations) == 1


async def test_a_name_that_is_not_found(desk: Desk) -> None:
    async with FakeDns("broken.test SERVFAIL") as dns, FakeMx(offers=AUTH) as host:
        desk.nameservers = (dns.listen,)
        for name in ("nowhere.test", "broken.test"):
            passed = await desk.send(host, listed=name)
            assert passed.ending is Ending.UNREACHABLE
            assert passed.attempt.results[0].stage == "route"


async def test_the_next_address_is_tried_where_nobody_answers(desk: Desk) -> None:
    async with FakeDns("localhost A 127.0.0.7\nlocalhost A 127.0.0.1") as dns, FakeMx(offers=AUTH) as host:
        desk.nameservers = (dns.listen,)
        passed = await desk.send(host, listed="localhost")
        assert (passed.ending, passed.attempt.results[0].address) == (Ending.ACCEPTED, "127.0.0.1")


# The canary


def echo(code: str) -> Callable[[str], Do]:
    """A relay that repeats what it was told."""
    return lambda line: Do(f"{code} I do not like {line} nor {PASSWORD}")


@pytest.mark.parametrize(
    "script",
    [
        {},
        {"AUTH": echo("535 5.7.8")},
        {"AUTH": echo("454 4.7.0")},
        {"MAIL": echo("550 5.7.1")},
        {"RCPT": echo("450 4.2.0")},
        {"dot": echo("250 2.0.0")},
        {"dot": echo("554 5.7.1")},
        {"AUTH": Do(drop=True)},
        {"AUTH": Do()},
        {"AUTH": echo("no SMTP")},
        {"MAIL": echo("no SMTP")},
        {"dot": echo("no SMTP")},
        {"EHLO": Do(f"250 {PASSWORD}")},
        {"connect": Do(f"554 {PASSWORD}")},
        {"dot": Do(drop=True)},
    ],
    ids=lambda script: " ".join(script) or "accepted",
)
async def test_no_password_is_told(
    desk: Desk, script: dict[str, Reaction], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with FakeMx(dict(script), offers=AUTH) as host:
        passed = await desk.send(host)
    told = [repr(passed), str(passed), desk.log.getvalue(), caplog.text]
    told += [repr(await desk.view(passed.uuid)), repr(await desk.store.events(passed.uuid))]
    told += [path.read_bytes().decode("utf-8", "replace") for path in tmp_path.rglob("*") if path.is_file()]
    assert not [text for text in told for form in FORMS if form in text]
    assert "AUTH" in "".join(host.commands) or "connect" in script or "EHLO" in script  # else this shows nothing


async def test_no_refusal_tells_a_password(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does an error of ours, with everything that a traceback may show."""

    async def fail(*_: object) -> None:
        raise RuntimeError("a mistake")

    relay = NamedRelay("127.0.0.1", None, secure=False, username=USER, password=Secret(PASSWORD))
    assert not any(form in repr(relay) for form in FORMS)
    route = RelayRoute("r", "h", 25, username=USER, password=Secret(PASSWORD))
    assert not any(form in repr(route) for form in FORMS)
    async with FakeMx(offers=AUTH) as host:
        listed = Listen(host.address, host.port)
        monkeypatch.setattr(passage, "open_session", fail)
        for passes in (desk.passes(), desk.passes(listed)):
            with pytest.raises((Refused, RuntimeError)) as error:
                await passes.send(relay, desk.message(), client=CLIENT)
            shown = "".join(traceback.TracebackException.from_exception(error.value, capture_locals=True).format())
            assert "relay" in shown
            # The frame of this test names it, of course.
            assert not any(form in part for part in shown.split("  File ")[2:] for form in FORMS)
    assert not any(form in desk.log.getvalue() for form in FORMS)
    assert desk.lines == ["refused", "accepted", "failed"]
