"""What hosts get that do not take a message as it is (D11): real hosts, real signatures, another reader of mail."""

import email
import email.policy
import ssl
import threading
from collections.abc import AsyncIterator
from email.message import EmailMessage
from pathlib import Path
from typing import Any, cast

import dkim as dkimpy
import pytest
import trustme
from msgspec import structs

from gateway.config import HopTls, MxRoute
from gateway.delivery.envelope import Offer
from gateway.delivery.variants import Variant, Variants
from gateway.events import BounceClass, State
from gateway.message import canonical, dkim
from gateway.message.model import BY_POLICY, PIECE_BYTES, TLS_OPTIONAL, TLS_REQUIRED, Facts
from gateway.message.notify import ASKED, SUCCESS
from gateway.message.recode import downgrade, sevenbit
from gateway.policy.domains import SendingDomain, SigningKey
from gateway.store.queue import Claimed, Leased
from tests.fakes.carrying import Desk, Pieces, claimed, desk, direct, hosts, relay
from tests.fakes.mx import OFFERS, Do

HEADER = "From: Jürgen <a@sender.test>\r\nTo: b@example.test\r\nSubject: Grüße\r\nMIME-Version: 1.0\r\n"
ASCII_HEADER = "From: a@sender.test\r\nTo: b@example.test\r\nSubject: hello\r\nMIME-Version: 1.0\r\n"
TEXT = (
    "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
    "Schöne lange Zeilen und am Ende ein Gruß\r\n.und mehr\r\n"
)
ONE = "example.test MX 10 one.test\none.test A 127.0.0.1"
SEVEN = tuple(offer for offer in OFFERS if offer != "8BITMIME")
NO_UTF8 = tuple(offer for offer in OFFERS if offer != "SMTPUTF8")
NEITHER = tuple(offer for offer in SEVEN if offer != "SMTPUTF8")


def message(text: str | bytes, *recipients: str, **changes: Any) -> Claimed:
    """As intake stores it."""
    content = text if isinstance(text, bytes) else text.encode()
    header = content.partition(b"\r\n\r\n")[0]
    made = claimed(*recipients, content=content)
    facts = structs.replace(
        made.facts, eight_bit=not content.isascii(), utf8_header=not header.isascii(), dot_lines=b"\n." in content
    )
    return structs.replace(made, facts=facts, **changes)


async def deliver(at: Desk, mail: Claimed, route: str = "direct") -> list[Any]:
    carrier = at.carrier(route, "" if route == "relay" else "example.test")
    [made] = await carrier.deliver(mail)
    carrier.close()
    return list(made.results)


def read(content: bytes) -> EmailMessage:
    return email.message_from_bytes(content, policy=email.policy.default)


@pytest.fixture(scope="module")
def key() -> dkim.PrivateKey:
    return dkim.load_private_key(dkim.generate_rsa())


def signing(key: dkim.PrivateKey) -> list[SendingDomain]:
    return [SendingDomain("sender.test", require_dkim=False, key=SigningKey("sender.test", "s1", key))]


def verifies(content: bytes, key: dkim.PrivateKey) -> bool:
    record = dkim.public_record(key).encode()
    return bool(dkimpy.verify(content, dnsfunc=lambda *_, **__: record))


# 8BITMIME


async def test_a_host_with_8bitmime_gets_it_as_it_is() -> None:
    mail = message(ASCII_HEADER + TEXT)
    async with hosts({}) as (one,), desk([direct(one)], zone=ONE) as at:
        [result] = await deliver(at, mail)
    assert result.state is State.DELIVERED
    assert one.transactions[0].content.endswith(mail.content or b"?")
    assert "BODY=8BITMIME" in one.transactions[0].mail


@pytest.mark.parametrize("size", [0, PIECE_BYTES])
async def test_d11_a_host_without_8bitmime_gets_seven_bits_and_a_signature_of_them(
    size: int, key: dkim.PrivateKey
) -> None:
    lines = "Zeile für Zeile, eine nach der anderen. {}\r\n"
    text = ASCII_HEADER + TEXT + "".join(lines.format(number) for number in range(size // 36))
    mail = message(text)
    content = mail.content or b""
    pieces = [content[start : start + PIECE_BYTES] for start in range(0, len(content), PIECE_BYTES)]
    if size:
        mail = structs.replace(mail, content=None, piece_count=len(pieces))
    async with (
        hosts({}, offers=SEVEN) as (one,),
        desk([direct(one)], zone=ONE, keys=signing(key), queue=Pieces(*pieces)) as at,
    ):
        [result] = await deliver(at, mail)
    assert result.state is State.DELIVERED
    [transaction] = one.transactions
    assert transaction.content.isascii()
    assert f"SIZE={len(transaction.content)}" in transaction.mail
    assert "BODY" not in transaction.mail
    assert verifies(transaction.content, key)
    parsed = read(transaction.content)
    assert parsed["content-transfer-encoding"] == "quoted-printable"
    assert parsed.get_content() == text.partition("\r\n\r\n")[2]


async def test_both_forms_in_one_attempt(key: dkim.PrivateKey) -> None:
    """The first host of the domain lacks 8BITMIME and refuses for now, the second takes everything."""
    mail = message(ASCII_HEADER + TEXT)
    async with hosts({}, {}) as (one, two), desk([direct(one)], keys=signing(key)) as at:
        one.offers, one.script = SEVEN, {"dot": "451 4.3.0 later"}
        [result] = await deliver(at, mail)
    assert (result.state, result.host) == (State.DELIVERED, "two.test")
    refused, taken = one.conversations[0].transactions[0].content, two.transactions[0].content
    assert refused.isascii()
    assert taken.endswith(mail.content or b"?")
    assert verifies(refused, key)
    assert verifies(taken, key)


async def test_parts_are_encoded_one_by_one() -> None:
    text = (
        ASCII_HEADER + "Content-Type: multipart/mixed; boundary=b\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
        "--b\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nviele schöne Tage in der Ferne\r\n"
        "--b\r\nContent-Type: image/x-odd\r\nContent-Transfer-Encoding: 8bit\r\n\r\nüüüü\r\n"
        "--b\r\nContent-Type: text/plain\r\nContent-Transfer-Encoding: 8bit\r\n\r\nplain\r\n"
        '--b\r\nContent-Type: text/x-a; name="übung.txt"\r\nContent-Transfer-Encoding: base64\r\n\r\nYQ==\r\n'
        "--b\r\nContent-Type: message/rfc822\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
        "Subject: Übung\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nfür\r\n--b--\r\n"
    )
    async with hosts({}, offers=NEITHER) as (one,), desk([direct(one)], zone=ONE) as at:
        [result] = await deliver(at, message(text))
    assert result.state is State.DELIVERED
    content = one.transactions[0].content
    assert content.isascii()
    assert b"8bit" not in content
    parts = list(read(content).iter_parts())
    encodings = [part["content-transfer-encoding"] for part in parts]
    assert encodings == ["quoted-printable", "base64", "7bit", "base64", "7bit"]
    assert [parts[0].get_content(), parts[1].get_content()] == ["viele schöne Tage in der Ferne", "üüüü".encode()]
    assert parts[3].get_filename() == "übung.txt"
    inner = cast(EmailMessage, parts[4].get_content())
    assert (inner["subject"], inner.get_content().strip()) == ("Übung", "für")


SIGNED = (
    ASCII_HEADER + 'Content-Type: multipart/signed; boundary=s; protocol="application/pgp-signature"\r\n\r\n'
    "--s\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nGrüße\r\n"
    "--s\r\nContent-Type: application/pgp-signature\r\n\r\nxx\r\n--s--\r\n"
)
ENCRYPTED = SIGNED.replace("multipart/signed", "multipart/encrypted").replace("pgp-signature", "pgp-encrypted")
ODD = ASCII_HEADER + "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\nGrüße\r\n"
PREAMBLE = ASCII_HEADER + "Content-Type: multipart/mixed; boundary=b\r\n\r\nfür alte Leser\r\n--b\r\n\r\nx\r\n--b--\r\n"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("DKIM-Signature: v=1; a=rsa-sha256; d=x.test\r\n" + ASCII_HEADER + TEXT, "DKIM signature"),
        (SIGNED, "signed part"),
        (ENCRYPTED, "encrypted"),
        (ODD, "says that it is encoded and is not"),
        (PREAMBLE, "before, between or after"),
        (ASCII_HEADER + "Message-ID: <ü@x.test>\r\n" + TEXT, "Message-ID"),
    ],
    ids=["dkim", "signed", "encrypted", "odd", "preamble", "field"],
)
async def test_what_must_stay_as_it_is_bounces_with_the_reason(text: str, why: str) -> None:
    async with hosts({}, offers=SEVEN) as (one,), desk([direct(one)], zone=ONE) as at:
        [result] = await deliver(at, message(text))
        assert (result.state, result.stage, result.bounce_class) == (State.BOUNCED, "mail", BounceClass.CONTENT_REFUSED)
        assert result.reply.startswith("554 5.6.3 ")
        assert why in result.reply
        assert not any(command.startswith("MAIL") for command in one.commands)


async def test_a_signed_part_in_seven_bits_goes_with_what_is_encoded_beside_it() -> None:
    signed = SIGNED.partition("\r\n\r\n")[2].replace("Grüße", "hello")
    text = (
        ASCII_HEADER + "Content-Type: multipart/mixed; boundary=b\r\n\r\n"
        "--b\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nGrüße\r\n"
        f"--b\r\nContent-Type: multipart/signed; boundary=s\r\n\r\n{signed}\r\n--b--\r\n"
    )
    async with hosts({}, offers=SEVEN) as (one,), desk([direct(one)], zone=ONE) as at:
        assert (await deliver(at, message(text)))[0].state is State.DELIVERED
    assert signed.encode() in one.transactions[0].content


# SMTPUTF8


async def test_d11_a_host_without_smtputf8_gets_encoded_header_fields(key: dkim.PrivateKey) -> None:
    mail = message(HEADER + TEXT)
    async with hosts({}, offers=NO_UTF8) as (one,), desk([direct(one)], zone=ONE, keys=signing(key)) as at:
        [result] = await deliver(at, mail)
    assert result.state is State.DELIVERED
    [transaction] = one.transactions
    assert "SMTPUTF8" not in transaction.mail
    assert "BODY=8BITMIME" in transaction.mail
    header, _, body = transaction.content.partition(b"\r\n\r\n")
    assert header.isascii()
    assert body == (mail.content or b"").partition(b"\r\n\r\n")[2]
    assert f"SIZE={len(transaction.content)}" in transaction.mail
    parsed = read(transaction.content)
    assert (parsed["subject"], parsed["from"]) == ("Grüße", "Jürgen <a@sender.test>")
    assert verifies(transaction.content, key)


async def test_a_large_message_with_another_header_is_streamed(key: dkim.PrivateKey) -> None:
    content = (HEADER + TEXT).encode() + (b"x" * 70 + b"\r\n.\r\n") * 4_000
    pieces = [content[start : start + PIECE_BYTES] for start in range(0, len(content), PIECE_BYTES)]
    mail = structs.replace(message(content), content=None, piece_count=len(pieces))
    async with (
        hosts({}, offers=NO_UTF8) as (one,),
        desk([direct(one)], zone=ONE, keys=signing(key), queue=Pieces(*pieces)) as at,
    ):
        [result] = await deliver(at, mail)
    assert result.state is State.DELIVERED
    [transaction] = one.transactions
    assert transaction.content.partition(b"\r\n\r\n")[2] == content.partition(b"\r\n\r\n")[2]
    assert verifies(transaction.content, key)


async def test_an_address_that_is_not_ascii_bounces_and_the_others_go() -> None:
    mail = message(HEADER + TEXT, "b@example.test", "bjö@example.test", "c@example.test")
    async with hosts({}, offers=NO_UTF8) as (one,), desk([direct(one)], zone=ONE) as at:
        results = await deliver(at, mail)
        assert [result.state for result in results] == [State.DELIVERED, State.BOUNCED, State.DELIVERED]
        assert results[1].reply.startswith("550 5.6.7 ")
        assert one.transactions[0].recipients == ["b@example.test", "c@example.test"]
        results = await deliver(at, message(ASCII_HEADER + TEXT, envelope_sender="ü@sender.test"))
        assert results[0].reply.startswith("550 5.6.7 ")
    assert len(one.transactions) == 1


@pytest.mark.parametrize(
    "field", ["Cc: bjö@example.test\r\n", "DKIM-Signature: v=1\r\n", "List-Unsubscribe: <https://ü.test>\r\n"]
)
async def test_a_header_that_cannot_be_downgraded_bounces(field: str) -> None:
    async with hosts({}, offers=NO_UTF8) as (one,), desk([direct(one)], zone=ONE) as at:
        [result] = await deliver(at, message(field + HEADER + TEXT))
    assert result.state is State.BOUNCED
    assert result.reply.startswith("554 5.6.9 ")


async def test_raw_octets_that_nobody_announced_go_as_8_bit_content() -> None:
    mail = message(HEADER.encode("latin-1") + TEXT.encode("latin-1"))
    mail = structs.replace(mail, facts=structs.replace(mail.facts, utf8_header=False))
    async with hosts({}, offers=NO_UTF8) as (one,), desk([direct(one)], zone=ONE) as at:
        assert (await deliver(at, mail))[0].state is State.DELIVERED
        assert one.transactions[0].content == mail.content
        one.offers = NEITHER
        await at.couriers.pool.close()
        assert (await deliver(at, mail))[0].state is State.DELIVERED
    assert one.transactions[1].content.isascii()
    assert b"Subject: =?unknown-8bit?q?" in one.transactions[1].content


# SIZE and REQUIRETLS, and the other hosts of a domain


@pytest.mark.parametrize(
    ("offers", "mail", "code"),
    [
        (("PIPELINING", "SIZE 50", "8BITMIME"), message(ASCII_HEADER + TEXT), "5.3.4"),
        (SEVEN, message(SIGNED), "5.6.3"),
        (NO_UTF8, message(ASCII_HEADER + TEXT, "bjö@example.test"), "5.6.7"),
        (NO_UTF8, message("DKIM-Signature: v=1\r\n" + HEADER + TEXT), "5.6.9"),
    ],
    ids=["size", "8-bit", "address", "header"],
)
async def test_what_one_host_cannot_take_another_may(offers: tuple[str, ...], mail: Claimed, code: str) -> None:
    async with hosts({}, {}, {}) as all_of_them, desk([direct(all_of_them[0])]) as at:
        _, two, three = all_of_them
        for host in all_of_them:
            host.offers = offers
        [result] = await deliver(at, mail)
        assert (result.state, result.reply.split()[1]) == (State.BOUNCED, code)
        assert [len(host.conversations) for host in all_of_them] == [1, 1, 1]
    async with hosts({}, {}, {}) as all_of_them, desk([direct(all_of_them[0])]) as at:
        one, two, three = all_of_them
        one.offers = three.offers = offers
        two.script = {"connect": "421 4.3.2 later"}
        [result] = await deliver(at, mail)
        assert (result.state, result.host) == (State.DEFERRED, "two.test")  # it might take it: that is no bounce
        two.script = {}
        [result] = await deliver(at, mail)
        assert (result.state, result.host) == (State.DELIVERED, "two.test")


async def test_the_same_host_at_another_address_changes_nothing() -> None:
    zone = "example.test MX 10 mx.test\nmx.test A 127.0.0.1\nmx.test A 127.0.0.2"
    async with hosts({}, None, offers=SEVEN) as (one, _), desk([direct(one)], zone=zone) as at:
        for _ in range(8):  # whichever address comes first
            assert (await deliver(at, message(SIGNED)))[0].state is State.BOUNCED
            await at.couriers.pool.close()


async def test_requiretls_is_passed_on_or_the_message_comes_back(tmp_path: Path) -> None:
    issuer, server = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    issuer.issue_cert("relay.test").configure_cert(server)
    issuer.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    mail = structs.replace(claimed(), tls_wish=TLS_REQUIRED)
    async with (
        hosts({}, tls=server, offers=OFFERS) as (one,),
        desk([relay(one, tls=HopTls.STARTTLS, verify=True, ca=tmp_path / "ca.pem")]) as at,
    ):
        [result] = await deliver(at, mail, route="relay")
        assert (result.state, result.reply.split()[1], result.tls != "") == (State.BOUNCED, "5.7.30", True)
        one.offers = (*OFFERS, "REQUIRETLS")
        await at.couriers.pool.close()
        [result] = await deliver(at, mail, route="relay")
        assert result.state is State.DELIVERED
    assert [t.mail.endswith(" REQUIRETLS") for t in one.transactions] == [True]


async def test_a_connection_is_not_shared_by_messages_of_another_wish(monkeypatch: pytest.MonkeyPatch) -> None:
    wishes: list[int] = []
    async with hosts({}) as (one,), desk([direct(one)], zone=ONE) as at:
        hops = at.couriers.ways.hops

        async def asked(route: MxRoute, domain: str, wish: int = 0) -> Any:
            wishes.append(wish)
            return await hops(route, domain, wish)

        monkeypatch.setattr(at.couriers.ways, "hops", asked)
        carrier = at.carrier()
        for wish in (BY_POLICY, BY_POLICY, TLS_OPTIONAL, TLS_OPTIONAL, BY_POLICY):
            await carrier.deliver(structs.replace(claimed(), tls_wish=wish))
        carrier.close()
    assert wishes == [BY_POLICY, TLS_OPTIONAL, BY_POLICY]
    assert len(one.transactions) == 5


# LIMITS


async def test_d11_a_host_that_wants_a_connection_for_each_transaction_gets_them() -> None:
    to = [f"r{number}@example.test" for number in range(7)]
    async with hosts({}, offers=(*OFFERS, "LIMITS RCPTMAX=2 MAILMAX=1")) as (one,), desk([direct(one)], zone=ONE) as at:
        results = await deliver(at, claimed(*to))
    assert {result.state for result in results} == {State.DELIVERED}
    assert [len(t.recipients) for t in one.transactions] == [2, 2, 2, 1]
    assert len(one.conversations) == 4


async def test_d11_a_relay_that_takes_one_domain_at_a_time() -> None:
    to = ["a@one.test", "b@two.test", "c@one.test"]
    async with hosts({}, offers=(*OFFERS, "LIMITS RCPTDOMAINMAX=1")) as (one,), desk([relay(one)]) as at:
        results = await deliver(at, claimed(*to), route="relay")
    assert [result.state for result in results] == [State.DELIVERED] * 3
    assert [t.recipients for t in one.transactions] == [["a@one.test", "c@one.test"], ["b@two.test"]]


async def test_d11_a_host_that_offers_nothing_at_all() -> None:
    async with hosts({}, offers=()) as (one,), desk([direct(one)], zone=ONE) as at:
        assert (await deliver(at, message(HEADER + TEXT)))[0].state is State.DELIVERED
    assert one.transactions[0].mail == "MAIL FROM:<a@sender.test>"
    assert one.transactions[0].content.isascii()


# DSN and at most once


async def test_who_took_over_the_duty_to_tell() -> None:
    leased = tuple(
        Leased(number, f"{number}@example.test", 0, 3, possible_duplicate=False, notify=notify, orcpt="rfc822;o@x.test")
        for number, notify in enumerate([ASKED | SUCCESS, SUCCESS, ASKED | SUCCESS])
    )
    mail = structs.replace(claimed(), recipients=leased, ret="HDRS", envid="E1")
    async with hosts({}, offers=(*OFFERS, "DSN")) as (one,), desk([direct(one)], zone=ONE) as at:
        one.script = {"RCPT": [None, None, "450 4.2.0 later"]}
        results = await deliver(at, mail)
        assert [result.dsn_passed for result in results] == [True, False, False]
        assert one.transactions[0].mail.endswith(" RET=HDRS ENVID=E1")
        assert "RCPT TO:<0@example.test> NOTIFY=SUCCESS ORCPT=rfc822;o@x.test" in one.commands
        one.offers = OFFERS
        await at.couriers.pool.close()
        results = await deliver(at, mail)
        assert [result.dsn_passed for result in results] == [False] * 3


async def test_at_most_once_is_marked_before_its_end_and_never_tried_again_in_doubt() -> None:
    queue = Pieces()
    to = ("a@example.test", "b@example.test", "c@example.test")
    mail = structs.replace(claimed(*to), at_most_once=True)
    async with hosts({}, {}) as (one, two), desk([direct(one)], queue=queue) as at:
        one.script = {"RCPT": [None, "550 5.1.1 no", None], "dot": [Do(drop=True)]}
        results = await deliver(at, mail)
        assert queue.marked == [[(0, 3), (2, 3)]]
        assert [result.state for result in results] == [State.FAILED, State.BOUNCED, State.FAILED]
        assert {result.bounce_class for result in results if result.state is State.FAILED} == {BounceClass.UNCERTAIN}
        assert [result.possible_duplicate for result in results] == [True, False, True]
        assert two.conversations == []
        # A clear word is as clear as ever.
        one.script = {"dot": ["451 4.3.0 later"]}
        [result] = await deliver(at, structs.replace(claimed(), at_most_once=True))
        assert (result.state, result.host) == (State.DELIVERED, "two.test")
        assert queue.marked[1:] == [[(0, 3)], [(0, 3)]]


async def test_at_least_once_is_never_marked() -> None:
    queue = Pieces()
    async with hosts({}) as (one,), desk([direct(one)], zone=ONE, queue=queue) as at:
        assert (await at.one("example.test")).state is State.DELIVERED
    assert queue.marked == []


async def test_what_cannot_be_marked_is_not_sent() -> None:
    queue = Pieces()
    queue.away = True
    async with hosts({}) as (one,), desk([direct(one)], zone=ONE, queue=queue) as at:
        [result] = await deliver(at, structs.replace(claimed(), at_most_once=True))
        assert (result.state, result.stage, result.possible_duplicate) == (State.DEFERRED, "store", False)
    assert one.transactions == []


# One by one


async def test_a_form_is_made_and_signed_once() -> None:
    content = (HEADER + TEXT).encode()
    header, _, body = content.partition(b"\r\n\r\n")
    hasher = canonical.BodyHasher()
    hasher.update(body)
    facts = Facts(len(content), len(header) + 4, hasher.digest(), eight_bit=True, utf8_header=True, dot_lines=True)
    signed: list[bytes] = []

    async def sign(header: bytes, body_hash: bytes) -> bytes:
        signed.append(body_hash)
        return b"DKIM-Signature: x\r\n"

    async def nothing() -> AsyncIterator[bytes]:
        yield b""

    variants = Variants(facts, content, nothing, sign)
    plain = await variants.fit(Offer(eight_bit=True, smtputf8=True))
    seven = await variants.fit(Offer(smtputf8=True))
    ascii_header = await variants.fit(Offer(eight_bit=True))
    assert isinstance(plain, Variant)
    assert isinstance(seven, Variant)
    assert isinstance(ascii_header, Variant)
    assert (plain.eight_bit, plain.utf8) == (True, True)
    assert (seven.eight_bit, seven.utf8) == (False, False)
    assert (ascii_header.eight_bit, ascii_header.utf8) == (True, False)
    assert [await variants.fit(Offer(eight_bit=True, smtputf8=True)), await variants.fit(Offer())] == [plain, seven]
    assert signed[0] == signed[2] == facts.body_hash != signed[1]
    assert len(signed) == 3


@pytest.mark.parametrize("offers", [Offer(smtputf8=False), Offer(eight_bit=False, smtputf8=False)])
async def test_a_large_header_is_rewritten_in_a_thread(offers: Offer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Made of names it takes ten milliseconds each 8 KB."""
    threads: list[bool] = []
    downgraded = downgrade.header

    def header(block: bytes) -> bytes:
        threads.append(threading.current_thread() is not threading.main_thread())
        return downgraded(block)

    monkeypatch.setattr(downgrade, "header", header)
    monkeypatch.setattr(sevenbit, "downgraded", header)
    mail = message(f"Cc: {', '.join(['Jürgen <j@example.test>'] * 500)}\r\n{HEADER}{TEXT}", "b@example.test")
    assert mail.content is not None
    content = mail.content

    async def stream() -> AsyncIterator[bytes]:
        yield content

    made = await Variants(mail.facts, content, stream, None).fit(offers)
    assert isinstance(made, Variant)
    assert threads
    assert all(threads)
