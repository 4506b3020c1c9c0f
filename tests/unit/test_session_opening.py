"""Opening a connection: greeting, EHLO, TLS and AUTH, and what never leaves in clear."""

import socket
import ssl
import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import trustme

from gateway.config import HopTls
from gateway.delivery.session import Failure, Session, open_session
from gateway.delivery.verdict import Word
from tests.fakes.hop import QUICK, hop, mail
from tests.fakes.mx import OFFERS, Do, FakeMx


@dataclass(frozen=True, slots=True)
class Authority:
    """A server's context for mx.test and 127.0.0.1, and the file a client trusts it by."""

    server: ssl.SSLContext
    ca: Path


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    issuer = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    issuer.issue_cert("mx.test", "127.0.0.1").configure_cert(server)
    ca = tmp_path_factory.mktemp("ca") / "ca.pem"
    issuer.cert_pem.write_to_path(str(ca))
    return Authority(server, ca)


def failure(opened: Session | Failure) -> Word:
    assert isinstance(opened, Failure), opened
    return opened.word


def session(opened: Session | Failure) -> Session:
    assert isinstance(opened, Session), opened
    return opened


@pytest.mark.parametrize("stage", ["connect", "EHLO"])
@pytest.mark.parametrize(
    "do",
    [Do("450 4.3.2 later"), Do("421 4.3.2 bye", drop=True), Do(drop=True), Do(), Do("hello"), Do("554 5.7.1 go away")],
    ids=["4xx", "421", "drop", "silence", "no SMTP", "5xx"],
)
async def test_what_goes_wrong_before_mail(stage: str, do: Do) -> None:
    async with FakeMx({stage: do, "HELO": "554 5.7.1 nor that"}) as host:
        word = failure(await open_session(hop(host), QUICK))
        assert word.stage == ("greeting" if stage == "connect" else "ehlo")
        assert word.code == (int(do.reply[:3]) if do.reply[:3].isdigit() else 0)
        assert word.text
        assert not word.permanent
        assert not word.uncertain
        if do.reply.startswith("450"):
            assert (word.enhanced, word.text) == ("4.3.2", "450 4.3.2 later")


async def test_a_host_that_knows_no_ehlo_gets_helo() -> None:
    async with FakeMx({"EHLO": "502 5.5.1 what?"}) as host:
        opened = session(await open_session(hop(host), QUICK))
        [word] = await opened.wire.send(mail())
        assert word.code == 250
        assert host.commands[:3] == ["EHLO gw.test", "HELO gw.test", "MAIL FROM:<a@gw.test>"]


async def test_nobody_listens() -> None:
    async with FakeMx() as host:
        pass
    word = failure(await open_session(hop(host), QUICK))
    assert (word.stage, word.code) == ("connect", 0)
    assert "refused" in word.text


async def test_only_addresses_are_connected_to() -> None:
    async with FakeMx() as host:
        word = failure(await open_session(hop(host, address="localhost"), QUICK))
        assert word.stage == "connect"
        assert not host.conversations


async def test_the_source_address_of_a_route() -> None:
    async with FakeMx() as host:
        session(await open_session(replace(hop(host), source="127.0.0.7"), QUICK))
        writer = host.conversations[0].writer
        assert writer is not None
        assert writer.get_extra_info("peername")[0] == "127.0.0.7"


async def test_opportunistic_tls_takes_any_certificate(authority: Authority) -> None:
    async with FakeMx(tls=authority.server) as host:
        opened = session(await open_session(hop(host, tls=HopTls.OPPORTUNISTIC, name="other.test"), QUICK))
        assert (opened.tls, opened.note) == ("TLSv1.3", "")
        assert (await opened.wire.send(mail()))[0].code == 250
        assert host.commands[:3] == ["EHLO gw.test", "STARTTLS", "EHLO gw.test"]
        assert b"MAIL" not in host.conversations[0].clear


async def test_opportunistic_is_in_clear_where_no_tls_is_offered() -> None:
    async with FakeMx() as host:
        opened = session(await open_session(hop(host, tls=HopTls.OPPORTUNISTIC), QUICK))
        assert (opened.tls, opened.note, len(host.conversations)) == ("", "", 1)


@pytest.mark.parametrize(
    "do",
    [
        Do("454 4.7.0 no TLS today"),
        Do("220 go", drop=True),
        Do("554 5.7.0 never", drop=True),
    ],
    ids=["454", "drop", "5xx"],
)
async def test_tls_that_fails_is_tried_again_in_clear_once_where_it_is_opportunistic(
    authority: Authority, do: Do
) -> None:
    async with FakeMx({"STARTTLS": do}, tls=authority.server) as host:
        opened = session(await open_session(hop(host, tls=HopTls.OPPORTUNISTIC), QUICK))
        assert opened.tls == ""
        assert opened.note.startswith("TLS failed, sent in clear: ")
        assert (await opened.wire.send(mail()))[0].code == 250
        assert len(host.conversations) == 2
        assert host.commands.count("STARTTLS") == 1
    async with FakeMx({"STARTTLS": do}, tls=authority.server) as host:
        word = failure(await open_session(hop(host, tls=HopTls.STARTTLS), QUICK))
        assert word.stage in {"starttls", "tls"}
        assert len(host.conversations) == 1
        assert b"MAIL" not in host.conversations[0].clear


async def test_proof_that_is_asked_for_is_not_done_without(authority: Authority) -> None:
    async with FakeMx(tls=authority.server) as host:
        proved = hop(host, tls=HopTls.OPPORTUNISTIC, verify=True, ca=authority.ca)
        assert session(await open_session(proved, QUICK)).tls == "TLSv1.3"
        word = failure(await open_session(replace(proved, name="other.test"), QUICK))
        assert word.stage == "tls"
        assert len(host.conversations) == 2
    async with FakeMx() as host:
        proved = hop(host, tls=HopTls.OPPORTUNISTIC, verify=True, ca=authority.ca)
        assert session(await open_session(proved, QUICK)).tls == ""  # nothing is offered that could be proved


async def test_old_tls_is_no_tls(authority: Authority) -> None:
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("mx.test").configure_cert(old)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    old.set_ciphers("ALL:@SECLEVEL=0")
    async with FakeMx(tls=old) as host:
        opened = session(await open_session(hop(host, tls=HopTls.OPPORTUNISTIC), QUICK))
        assert opened.note
        assert failure(await open_session(hop(host, tls=HopTls.STARTTLS), QUICK)).stage == "tls"


async def test_required_tls_that_is_not_offered_sends_nothing() -> None:
    async with FakeMx() as host:
        word = failure(await open_session(hop(host, tls=HopTls.STARTTLS, username="u", password="p"), QUICK))
        assert word.stage == "starttls"
        assert host.commands == ["EHLO gw.test"]
        assert len(host.conversations) == 1


@pytest.mark.parametrize("tls", [HopTls.STARTTLS, HopTls.IMPLICIT])
async def test_a_verified_certificate(authority: Authority, tls: HopTls) -> None:
    implicit = tls is HopTls.IMPLICIT
    async with FakeMx(tls=authority.server, implicit=implicit) as host:
        trusted = hop(host, tls=tls, verify=True, ca=authority.ca)
        opened = session(await open_session(trusted, QUICK))
        assert opened.tls == "TLSv1.3"
        assert (await opened.wire.send(mail()))[0].code == 250
        for wrong in (replace(trusted, name="other.test"), replace(trusted, ca=None)):
            word = failure(await open_session(wrong, QUICK))
            assert word.stage == "tls"
            assert "not trusted" in word.text
        assert len(host.transactions) == 1


async def test_an_authority_that_cannot_be_read_is_a_failure_of_ours(authority: Authority, tmp_path: Path) -> None:
    (tmp_path / "empty.pem").write_text("")
    async with FakeMx(tls=authority.server) as host:
        for name in ("missing.pem", "empty.pem"):
            broken = hop(host, tls=HopTls.STARTTLS, verify=True, ca=tmp_path / name)
            word = failure(await open_session(broken, QUICK))
            assert (word.stage, word.permanent) == ("tls", False)
        assert not host.conversations


async def test_a_name_that_no_certificate_can_have(authority: Authority) -> None:
    async with FakeMx(tls=authority.server) as host:
        odd = hop(host, tls=HopTls.STARTTLS, name="." + "x" * 70)
        assert failure(await open_session(odd, QUICK)).stage == "tls"


async def test_what_is_injected_behind_the_reply_to_starttls_is_not_believed(authority: Authority) -> None:
    injected = b"250-mx.test\r\n250 SIZE 1\r\n250 2.1.0 ok\r\n"
    async with FakeMx({"STARTTLS": Do("220 go", raw=injected)}, tls=authority.server) as host:
        opened = session(await open_session(hop(host, tls=HopTls.STARTTLS), QUICK))
        [word] = await opened.wire.send(mail())
        assert word.code == 250  # by the SIZE in the injection it would have been refused here
        assert host.conversations[0].tls
        assert len(host.transactions) == 1


@pytest.mark.parametrize("mechanisms", ["PLAIN LOGIN", "LOGIN", "CRAM-MD5 LOGIN"])
async def test_auth_over_tls(authority: Authority, mechanisms: str) -> None:
    async with FakeMx(tls=authority.server, offers=(*OFFERS, f"AUTH {mechanisms}")) as host:
        relay = hop(host, tls=HopTls.STARTTLS, verify=True, ca=authority.ca, username="shop", password="sécret")
        opened = session(await open_session(relay, QUICK))
        assert (await opened.wire.send(mail()))[0].code == 250
        [login] = host.conversations[0].logins
        assert login == ("PLAIN" if "PLAIN" in mechanisms else "LOGIN", "shop", "sécret")
        assert b"AUTH" not in host.conversations[0].clear.replace(b"250", b"")


@pytest.mark.parametrize("said", ["{} is wrong", "wrong password sécret"])
async def test_what_a_relay_repeats_of_the_password_is_not_told(said: str) -> None:
    echo = {"AUTH": lambda line: Do("535 5.7.8 " + said.format(line))}
    async with FakeMx(echo, offers=(*OFFERS, "AUTH PLAIN")) as host:
        word = failure(await open_session(hop(host, username="shop", password="sécret"), QUICK))
        assert (word.stage, word.code) == ("auth", 535)
        assert not any(form in word.text for form in ("sécret", "c8OpY3JldA", "AHNob3AAc8OpY3JldA=="))


@pytest.mark.parametrize(
    ("offers", "script", "code"),
    [
        (("AUTH PLAIN",), {"AUTH": "535 5.7.8 wrong"}, 535),
        (("AUTH LOGIN",), {"AUTH": "454 4.7.0 later"}, 454),
        (("AUTH GSSAPI",), {}, 0),
        ((), {}, 0),
    ],
)
async def test_auth_that_fails_is_never_the_recipients_fault(
    offers: tuple[str, ...], script: dict[str, Do | str], code: int
) -> None:
    async with FakeMx(dict(script), offers=offers) as host:
        word = failure(await open_session(hop(host, username="shop", password="s3cret-word"), QUICK))
        assert (word.stage, word.code, word.permanent) == ("auth", code, False)
        assert "s3cret" not in word.text
        assert "MAIL" not in "".join(host.commands)


async def test_a_password_leaves_in_clear_to_loopback_only() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this machine has no address but loopback")
        own = probe.getsockname()[0]
    async with FakeMx(offers=(*OFFERS, "AUTH PLAIN"), address="0.0.0.0") as host:
        for tls in (HopTls.NONE, HopTls.OPPORTUNISTIC):
            away = hop(host, tls=tls, username="shop", password="secret", address=own)
            assert failure(await open_session(away, QUICK)).stage == "auth"
        assert not any(command.startswith("AUTH") for command in host.commands)
        here = hop(host, username="shop", password="secret", address="127.0.0.1")
        assert session(await open_session(here, QUICK)).tls == ""
        assert host.conversations[-1].logins == [("PLAIN", "shop", "secret")]
