"""TLS to a next hop: what is accepted, what is not, what is remembered, and that nothing leaves before it is known."""

import hashlib
import ssl
import warnings
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme

from gateway.config import HopTls, Tls
from gateway.delivery.session import Failure, Hop, Session, open_session
from gateway.delivery.tls import memory as tls_memory
from gateway.delivery.tls.dane import Tlsa
from gateway.delivery.tls.memory import TlsMemory
from tests.fakes.hop import hop, mail
from tests.fakes.mx import Do, FakeMx, Reaction
from tests.fakes.outbound import BRISK

NOW = datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate in use: the server's context, and what a client could know of it."""

    server: ssl.SSLContext
    leaf: bytes  # DER
    authority: bytes
    ca: Path


def _issue(directory: Path, *names: str, ended: bool = False, by_common_name: bool = False) -> Issued:
    issuer = trustme.CA()
    dates = (NOW - timedelta(days=9), NOW - timedelta(days=1)) if ended else (None, None)
    named = () if by_common_name else names
    issued = issuer.issue_cert(*named, common_name=names[0], not_before=dates[0], not_after=dates[1])
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    issued.configure_cert(server)
    # What TLSA records of usage 2 name must be sent along (RFC 7672, 3.1.2).
    chain = directory / f"{names[0]}.pem"
    chain.write_bytes(issued.private_key_and_cert_chain_pem.bytes() + issuer.cert_pem.bytes())
    server.load_cert_chain(chain)
    ca = directory / f"{names[0]}-ca.pem"
    ca.write_bytes(issuer.cert_pem.bytes())
    leaf = ssl.PEM_cert_to_DER_cert(issued.cert_chain_pems[0].bytes().decode())
    return Issued(server, leaf, ssl.PEM_cert_to_DER_cert(issuer.cert_pem.bytes().decode()), ca)


@pytest.fixture(scope="module")
def issued(tmp_path_factory: pytest.TempPathFactory) -> Issued:
    return _issue(tmp_path_factory.mktemp("tls"), "mx.test")


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Issued:
    return _issue(tmp_path_factory.mktemp("ended"), "mx.test", ended=True)


def session(opened: Session | Failure) -> Session:
    assert isinstance(opened, Session), opened
    return opened


def refused(opened: Session | Failure, host: FakeMx) -> str:
    """The text; nothing of a message, and no word after the handshake, has reached the host."""
    assert isinstance(opened, Failure), opened
    assert opened.word.stage in {"starttls", "tls"}
    assert opened.word.enhanced.startswith("4.7.")
    assert not opened.word.permanent
    assert {command.split(" ")[0] for command in host.commands} <= {"EHLO", "STARTTLS"}
    assert all(conversation.commands.count("EHLO gw.test") == 1 for conversation in host.conversations)
    return opened.word.text


def digest(certificate: bytes) -> bytes:
    return hashlib.sha256(certificate).digest()


def dane(host: FakeMx, *records: tuple[int, int, int, bytes], name: str = "mx.test") -> Hop:
    return replace(
        hop(host, tls=HopTls.STARTTLS, name=name),
        tlsa=tuple(Tlsa(*record) for record in records),
        names=(name,),
        policy="DANE",
    )


# Opportunistic, and its memory


async def test_any_certificate_is_better_than_none(issued: Issued, ended: Issued) -> None:
    for one, name in ((issued, "mx.test"), (issued, "other.test"), (ended, "mx.test")):
        async with FakeMx(tls=one.server) as host:
            opened = session(await open_session(hop(host, tls=HopTls.OPPORTUNISTIC, name=name), BRISK))
            assert (opened.tls, opened.note, len(host.conversations)) == ("TLSv1.3", "", 1)


class Now:
    def __init__(self) -> None:
        self.s = 1000.0

    def __call__(self) -> float:
        return self.s


async def test_where_tls_failed_it_is_not_tried_for_an_hour(issued: Issued) -> None:
    now = Now()
    memory = TlsMemory(now)
    async with FakeMx({"STARTTLS": "454 4.7.0 no TLS today"}, tls=issued.server) as host:
        place = hop(host, tls=HopTls.OPPORTUNISTIC)
        first = session(await open_session(place, BRISK, memory))
        assert first.note == "TLS failed, sent in clear: 454 4.7.0 no TLS today"
        assert len(host.conversations) == 2
        second = session(await open_session(place, BRISK, memory))
        assert second.note == "TLS failed before, sent in clear: 454 4.7.0 no TLS today"
        assert (await second.wire.send(mail()))[0].code == 250
        assert (len(host.conversations), host.commands.count("STARTTLS")) == (3, 1)
        del host.script["STARTTLS"]
        assert session(await open_session(place, BRISK, memory)).tls == ""
        now.s += tls_memory.KEPT_S
        third = session(await open_session(place, BRISK, memory))
        assert (third.tls, third.note, len(memory)) == ("TLSv1.3", "", 0)


async def test_who_demands_tls_does_not_ask_the_memory(issued: Issued) -> None:
    memory = TlsMemory()
    async with FakeMx({"STARTTLS": ["454 4.7.0 no TLS today"]}, tls=issued.server) as host:
        place = hop(host, tls=HopTls.OPPORTUNISTIC)
        assert session(await open_session(place, BRISK, memory)).tls == ""
        assert len(memory) == 1
        assert session(await open_session(replace(place, tls=HopTls.STARTTLS), BRISK, memory)).tls == "TLSv1.3"
        assert len(memory) == 0  # it works: the next opportunistic one has TLS, too
        assert session(await open_session(place, BRISK, memory)).tls == "TLSv1.3"


async def test_a_host_that_goes_down_is_not_remembered(issued: Issued) -> None:
    memory = TlsMemory()
    script: dict[str, Reaction] = {"connect": [None, "421 4.3.2 bye"], "STARTTLS": Do("220 go", drop=True)}
    async with FakeMx(script, tls=issued.server) as host:
        opened = await open_session(hop(host, tls=HopTls.OPPORTUNISTIC), BRISK, memory)
        assert isinstance(opened, Failure)
        assert opened.word.code == 421
        assert len(memory) == 0


def test_the_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls_memory, "HOSTS", 3)
    memory = TlsMemory()
    for port in range(5):
        memory.remember(("192.0.2.1", port, "1.2"), "why")
    assert len(memory) == 3
    assert memory.reason(("192.0.2.1", 1, "1.2")) is None
    assert memory.reason(("192.0.2.1", 4, "1.2")) == "why"
    assert memory.reason(("192.0.2.1", 4, "1.3")) is None


# Required and verified


async def test_a_demand_of_a_policy_is_met_or_nothing_is_sent(issued: Issued, ended: Issued) -> None:
    async with FakeMx(tls=issued.server) as host:
        asked = replace(hop(host, tls=HopTls.STARTTLS, verify=True, ca=issued.ca), policy="MTA-STS")
        opened = session(await open_session(asked, BRISK))
        assert (opened.tls, opened.note) == ("TLSv1.3", "MTA-STS: verified")
    async with FakeMx(tls=issued.server) as host:  # another name
        text = refused(await open_session(replace(asked, port=host.port, name="mx2.test"), BRISK), host)
        assert text.startswith("TLS with mx2.test, which MTA-STS requires, failed: its certificate is not trusted")
    async with FakeMx(tls=issued.server) as host:  # signed by nobody that is known
        refused(await open_session(replace(asked, port=host.port, ca=ended.ca), BRISK), host)
    async with FakeMx(tls=ended.server) as host:
        text = refused(await open_session(replace(asked, port=host.port, ca=ended.ca), BRISK), host)
        assert "expired" in text
    async with FakeMx() as host:
        text = refused(await open_session(replace(asked, port=host.port), BRISK), host)
        assert text == "mx.test does not offer STARTTLS, which MTA-STS requires"
    async with FakeMx({"STARTTLS": "454 4.7.0 no TLS today"}, tls=issued.server) as host:
        refused(await open_session(replace(asked, port=host.port), BRISK), host)


async def test_a_common_name_is_no_name(tmp_path: Path) -> None:
    """RFC 8461, 4.1 and RFC 9525, 2: the name is in subjectAltName."""
    issued = _issue(tmp_path, "mx.test", by_common_name=True)
    async with FakeMx(tls=issued.server) as host:
        asked = replace(hop(host, tls=HopTls.STARTTLS, verify=True, ca=issued.ca), policy="MTA-STS")
        text = refused(await open_session(asked, BRISK), host)
        assert "its certificate is not trusted" in text


@pytest.fixture
def old() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("mx.test").configure_cert(context)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1
    context.set_ciphers("ALL:@SECLEVEL=0")
    return context


@pytest.mark.parametrize(("lowest", "spoken"), [("1.0", "TLSv1"), ("1.1", ""), ("1.2", ""), ("1.3", "")])
async def test_the_lowest_version(lowest: str, spoken: str, old: ssl.SSLContext) -> None:
    async with FakeMx(tls=old) as host:
        place = replace(hop(host, tls=HopTls.STARTTLS), min_tls=lowest)
        opened = await open_session(place, BRISK)
        if spoken:
            assert session(opened).tls == spoken
        else:
            refused(opened, host)


async def test_a_client_certificate_is_shown(issued: Issued, tmp_path: Path) -> None:
    issuer = trustme.CA()
    ours = issuer.issue_cert("client.test")
    pair = Tls(tmp_path / "client.pem", tmp_path / "client.key")
    pair.certificate.write_bytes(b"".join(pem.bytes() for pem in ours.cert_chain_pems))
    pair.key.write_bytes(ours.private_key_pem.bytes())
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("mx.test").configure_cert(server)
    server.verify_mode = ssl.CERT_REQUIRED
    server.maximum_version = ssl.TLSVersion.TLSv1_2  # where a missing certificate fails the handshake itself
    issuer.configure_trust(server)
    async with FakeMx(tls=server) as host:
        place = hop(host, tls=HopTls.STARTTLS)
        refused(await open_session(place, BRISK), host)
        opened = session(await open_session(replace(place, certificate=pair), BRISK))
        writer = host.conversations[-1].writer
        assert writer is not None
        assert writer.get_extra_info("ssl_object").getpeercert()["subjectAltName"] == (("DNS", "client.test"),)
        assert (await opened.wire.send(mail()))[0].code == 250
        # A renewal is two files: half of it cannot be used, the whole of it is, without a restart.
        new = issuer.issue_cert("renewed.test")
        pair.certificate.write_bytes(b"".join(pem.bytes() for pem in new.cert_chain_pems))
        half = await open_session(replace(place, certificate=pair), BRISK)
        assert isinstance(half, Failure)
        assert "client.pem cannot be used" in half.word.text
        pair.key.write_bytes(new.private_key_pem.bytes())
        session(await open_session(replace(place, certificate=pair), BRISK))
        writer = host.conversations[-1].writer
        assert writer is not None
        assert writer.get_extra_info("ssl_object").getpeercert()["subjectAltName"] == (("DNS", "renewed.test"),)


# DANE


async def test_dane_ee_asks_for_neither_name_nor_dates(ended: Issued) -> None:
    async with FakeMx(tls=ended.server) as host:
        opened = session(await open_session(dane(host, (3, 0, 1, digest(ended.leaf)), name="any.test"), BRISK))
        assert (opened.tls, opened.note) == ("TLSv1.3", "DANE: verified")
        assert (await opened.wire.send(mail()))[0].code == 250


async def test_dane_that_does_not_match_sends_nothing(issued: Issued) -> None:
    async with FakeMx(tls=issued.server) as host:
        text = refused(await open_session(dane(host, (3, 0, 1, digest(b"another"))), BRISK), host)
        assert text == "TLS with mx.test, which DANE requires, failed: its certificate matches none of its TLSA records"
        assert len(host.conversations) == 1


async def test_dane_ta_asks_for_the_chain_and_the_name(issued: Issued, ended: Issued) -> None:
    anchor = (2, 0, 1, digest(issued.authority))
    async with FakeMx(tls=issued.server) as host:
        assert session(await open_session(dane(host, anchor), BRISK)).note == "DANE: verified"
        unlike = await open_session(dane(host, anchor, name="other.test"), BRISK)
        assert isinstance(unlike, Failure)
        assert "not for other.test" in unlike.word.text
        strange = await open_session(dane(host, (2, 0, 1, digest(ended.authority))), BRISK)
        assert isinstance(strange, Failure)
        assert "not issued by any" in strange.word.text
    async with FakeMx(tls=ended.server) as host:
        text = refused(await open_session(dane(host, (2, 0, 1, digest(ended.authority))), BRISK), host)
        assert "not valid now" in text


async def test_the_name_that_is_asked_for(tmp_path: Path) -> None:
    """RFC 7672, 8.1: with DANE that of the TLSA records, else the host's."""
    server = _issue(tmp_path, "mx.test")
    asked: list[str | None] = []
    server.server.sni_callback = lambda _socket, name, _context: asked.append(name)
    async with FakeMx(tls=server.server) as host:
        place = replace(dane(host, (3, 0, 1, digest(server.leaf))), names=("base.test", "mx.test"))
        session(await open_session(place, BRISK))
        session(await open_session(hop(host, tls=HopTls.STARTTLS), BRISK))
    assert asked == ["base.test", "mx.test"]


async def test_dane_without_a_record_that_can_be_used_is_tls_without_proof(issued: Issued) -> None:
    async with FakeMx(tls=issued.server) as host:
        opened = session(await open_session(dane(host, name="any.test"), BRISK))
        assert opened.tls
        assert opened.note.startswith("DANE: encrypted, not verified")
    async with FakeMx() as host:
        refused(await open_session(dane(host), BRISK), host)


async def test_what_the_host_offers_of_dsn_and_requiretls(issued: Issued) -> None:
    for offers in ((), ("DSN", "REQUIRETLS")):
        async with FakeMx(tls=issued.server, offers=offers) as host:
            opened = session(await open_session(hop(host, tls=HopTls.STARTTLS), BRISK))
            offer = opened.wire.offer
            assert (offer.dsn, offer.requiretls) == (bool(offers), bool(offers))
