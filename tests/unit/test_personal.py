"""What each recipient gets for himself: links, a pixel, a way out, an envelope sender; over real hosts."""

import base64
import email
import email.policy
import re
import threading
from collections.abc import AsyncIterator
from email.message import EmailMessage
from typing import Any

import dkim as dkimpy
import pytest
from msgspec import structs

from gateway.delivery import attempt, forming
from gateway.delivery import personal as personal_module
from gateway.delivery.envelope import Offer
from gateway.delivery.errand import Errand
from gateway.delivery.forming import Form
from gateway.delivery.personal import Addresses, Personal, Sample
from gateway.delivery.variants import Stream, Variants
from gateway.events import State
from gateway.message import canonical, dkim, notify
from gateway.message.model import PIECE_BYTES, TRACK_CLICKS, TRACK_OPENS, TRACK_TEXT
from gateway.message.tracking import stencil, survey
from gateway.policy.domains import Domains, SendingDomain, SigningKey
from gateway.store.queue import Claimed, Result
from gateway.tokens import SECRET_BYTES, Purpose, Subject, Tokens
from tests.fakes.carrying import Desk, Pieces, claimed, desk, direct, hosts
from tests.fakes.mx import OFFERS, FakeMx

URL = "https://mail.test"
BACK = "bounces.sender.test"
TOKENS = Tokens(b"s" * SECRET_BYTES)
ALL = TRACK_OPENS | TRACK_CLICKS | TRACK_TEXT
ONE = "example.test MX 10 one.test\none.test A 127.0.0.1"
HEADER = b"From: a@sender.test\r\nTo: b@example.test\r\nSubject: hello\r\nMIME-Version: 1.0\r\n"
HTML = (
    b'<html><body>Sch\xc3\xb6n: <a href="https://shop.test/?a=1&amp;b=2">shop</a> <a href="mailto:x@y.test">us</a>'
    b"</body></html>\r\n"
)
TARGET = "https://shop.test/?a=1&b=2"
MAIL = HEADER + b"Content-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n" + HTML
ATTACHMENT = base64.encodebytes(bytes(range(256)) * 1200).replace(b"\n", b"\r\n")
LARGE = (
    HEADER
    + b'Content-Type: multipart/mixed; boundary="b"\r\n\r\n--b\r\nContent-Type: text/html; charset=utf-8\r\n\r\n'
    + HTML
    + b"--b\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n"
    + b"Content-Disposition: attachment; filename=x\r\n\r\n"
    + ATTACHMENT
    + b"--b--\r\n"
)
_TOKEN = re.compile(r"^X-Gateway-Token: (\S+)\r$", re.MULTILINE)


def returning(return_path: str | None = BACK) -> Domains:
    domains = Domains()
    domains.load([SendingDomain("sender.test", require_dkim=False, key=None, return_path=return_path)])
    return domains


def personal(public_url: str | None = URL, return_path: str | None = BACK) -> Personal:
    return Personal(TOKENS, public_url=public_url, return_path_of=returning(return_path).return_path)


def message(content: bytes, *recipients: str, **changes: Any) -> Claimed:
    """As intake stores it."""
    made = claimed(*recipients, content=content)
    facts = structs.replace(made.facts, eight_bit=not content.isascii(), dot_lines=b"\n." in content)
    count = len(made.recipients)
    return structs.replace(made, **({"facts": facts, "track": ALL, "recipient_count": count} | changes))


def pieces_of(content: bytes) -> list[bytes]:
    """As they are stored: cut after a line end."""
    pieces, start = [], 0
    while start < len(content):
        end = content.rfind(b"\n", start, start + PIECE_BYTES) + 1
        pieces.append(content[start:end])
        start = end
    return pieces


def streaming(content: bytes, reads: list[int] | None = None) -> Stream:
    async def stream() -> AsyncIterator[bytes]:
        if reads is not None:
            reads.append(1)
        for piece in pieces_of(content):
            yield piece

    return stream


NEVER = streaming(b"what is in memory is not read\n")


async def whole(form: Form) -> bytes:
    pieces = [piece async for piece in form.stream()]
    assert form.content is None or form.content == b"".join(pieces)
    return b"".join(pieces)


def check(form: Form, content: bytes) -> None:
    """The facts of a form are those of what leaves."""
    header = content.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
    hasher = canonical.BodyHasher()
    hasher.update(content[len(header) :])
    facts = form.facts
    assert (facts.size, facts.header_size, facts.body_hash) == (len(content), len(header), hasher.digest())
    assert facts.eight_bit or content.isascii()
    assert facts.dot_lines or b"\n." not in content


def links_in(content: bytes) -> list[tuple[Subject, str] | None]:
    html = _html(content)
    found = re.findall(rf'"{URL}/t/c/([^/"]+)/([^/"]+)"', html)
    return [TOKENS.read_click(token, target) for token, target in found]


def pixels_in(content: bytes) -> list[Subject | None]:
    return [TOKENS.read_link(Purpose.OPEN, token) for token in re.findall(rf'"{URL}/t/o/(\S+)\.gif"', _html(content))]


def _html(content: bytes) -> str:
    parsed = email.message_from_bytes(content, policy=email.policy.default)
    part = parsed.get_body(("html",))
    assert isinstance(part, EmailMessage)
    text = part.get_content()
    assert isinstance(text, str)
    return text


# Forms


@pytest.mark.parametrize("content", [MAIL, LARGE], ids=["small", "large"])
async def test_a_form_is_for_one_recipient_and_its_facts_are_its_own(content: bytes) -> None:
    mail = message(content, "b@example.test", "c@example.test", unsubscribe="*")
    stored = content if len(content) < 1 << 16 else None
    forms = personal()
    made = [
        await forms.form(mail, recipient, stored, NEVER if stored is not None else streaming(content))
        for recipient in mail.recipients
    ]
    texts = [await whole(form) for form in made]
    for number, (form, text) in enumerate(zip(made, texts, strict=True)):
        check(form, text)
        assert form.note == ""
        assert links_in(text) == [(Subject(7, number), TARGET)]
        assert pixels_in(text) == [Subject(7, number)]
        parsed = email.message_from_bytes(text, policy=email.policy.compat32)
        url, address = re.findall(r"<([^>]*)>", parsed["List-Unsubscribe"])
        assert TOKENS.read_link(Purpose.UNSUBSCRIBE, url.removeprefix(f"{URL}/t/u/")) == Subject(7, number)
        local, _, domain = address.removeprefix("mailto:u+").partition("@")
        assert TOKENS.read_local(Purpose.UNSUBSCRIBE, local) == Subject(7, number)
        assert domain == f"{BACK}?subject=unsubscribe"
        assert parsed["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
        assert text.count(ATTACHMENT) == content.count(ATTACHMENT)
    assert len(texts[0]) == len(texts[1])


async def test_a_message_for_many_is_read_once() -> None:
    reads: list[int] = []
    forms = personal()
    mail = message(LARGE, "b@example.test", "c@example.test", "d@example.test")
    for recipient in mail.recipients:
        await forms.form(mail, recipient, None, streaming(LARGE, reads))
    # For each its header and its hash; the links are found once.
    assert len(reads) == 3 * 2 + 1


async def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    forms = personal()
    reads: list[int] = []

    async def read(number: int) -> int:
        """How often it is read for a recipient of this message."""
        mail = message(LARGE, "b@example.test", "c@example.test", message=number)
        reads.clear()
        await forms.form(mail, mail.recipients[0], None, streaming(LARGE, reads))
        return len(reads)

    assert [await read(number) for number in (1, 1)] == [3, 2]
    size = next(iter(forms._plans.values())).size
    monkeypatch.setattr(personal_module, "REMEMBERED_BYTES", 2 * size)
    # The one that was not used for the longest time goes.
    assert [await read(number) for number in (2, 1, 3, 1, 2, 3)] == [3, 2, 3, 2, 3, 3]


class Watched(Tokens):
    """`threads` are those in which the targets of links were sealed."""

    def __init__(self) -> None:
        super().__init__(b"s" * SECRET_BYTES)
        self.threads: set[int] = set()

    def click(self, subject: Subject, target: str) -> str:
        self.threads.add(threading.get_ident())
        return super().click(subject, target)


LINK = f'<a href="{TARGET}">x</a>\r\n'.encode()


@pytest.mark.parametrize(
    ("content", "apart"),
    [
        (MAIL, False),
        (MAIL + LINK * (forming.READ_BYTES // len(LINK)), True),
        (HEADER + b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\n\r\n" * 2000 + b"--b--\r\n", True),
        (HEADER + b"X-More: yes\r\n" * 1000 + b"\r\nHello\r\n", True),
        (LARGE, True),
    ],
    ids=["small", "many links", "many parts", "many fields", "large"],
)
async def test_what_may_take_long_is_read_apart_from_the_loop(
    content: bytes, *, apart: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = set[int]()

    class Watched(survey.Survey):
        def feed(self, data: bytes) -> None:
            threads.add(threading.get_ident())
            super().feed(data)

        def plan(self, sample: stencil.Addresses) -> survey.Plan:
            threads.add(threading.get_ident())
            return super().plan(sample)

    monkeypatch.setattr(forming, "Survey", Watched)
    mail = message(content)
    stored = content if len(content) < 1 << 16 else None
    await personal().form(mail, mail.recipients[0], stored, NEVER if stored is not None else streaming(content))
    assert (threading.get_ident() not in threads) is apart


@pytest.mark.parametrize(
    ("more", "alone"),
    [
        (b"", True),
        ((b"x" * 78 + b"\r\n") * (forming.FILL_BYTES // 80 + 1), False),
        (LINK * forming.FILL_HOLES, False),
    ],
    ids=["small", "large", "many links"],
)
async def test_a_large_text_does_not_hold_up_the_loop(more: bytes, *, alone: bool) -> None:
    tokens = Watched()
    content = MAIL + more
    mail = message(content)
    forms = Personal(tokens, public_url=URL, return_path_of=returning().return_path)
    form = await forms.form(mail, mail.recipients[0], content, NEVER)
    assert (tokens.threads == {threading.get_ident()}) is alone
    check(form, await whole(form))
    assert set(links_in(await whole(form))) == {(Subject(7, 0), TARGET)}


@pytest.mark.parametrize(
    ("url", "back", "track", "unsubscribe", "each", "field"),
    [
        (URL, BACK, 0, "", False, None),
        (URL, BACK, ALL, "", True, None),
        (None, BACK, ALL, "", False, None),
        (None, BACK, ALL, "news", True, r"<mailto:u\+\S+>"),
        (None, None, ALL, "news", False, None),
        (URL, None, 0, "news", True, r"<https:\S+>"),
        ("http://mail.test", None, 0, "news", True, r"<http:\S+>"),
    ],
)
async def test_what_is_possible(
    url: str | None, back: str | None, track: int, unsubscribe: str, each: bool, field: str | None
) -> None:
    mail = message(MAIL, track=track, unsubscribe=unsubscribe)
    forms = personal(url, back)
    assert forms.wanted(mail) is each
    form = await forms.form(mail, mail.recipients[0], MAIL, NEVER)
    text = await whole(form) if form.content is None else form.content
    parsed = email.message_from_bytes(text, policy=email.policy.compat32)
    found = parsed["List-Unsubscribe"]
    assert found is None if field is None else re.fullmatch(field, found)
    assert (parsed["List-Unsubscribe-Post"] is not None) == (field is not None and "https" in field)
    tracked = bool(track) and url is not None
    assert (len(links_in(text)) == 1) is tracked
    assert (text == MAIL) is (not tracked and field is None)
    check(form, text)


async def test_an_unsubscribe_field_of_the_sender_stays() -> None:
    content = b"List-Unsubscribe: <https://shop.test/out>\r\n" + MAIL
    mail = message(content, unsubscribe="*", track=0)
    form = await personal().form(mail, mail.recipients[0], content, NEVER)
    assert form.content == content


async def test_a_message_with_a_signature_is_not_touched_and_says_so() -> None:
    content = b"DKIM-Signature: v=1; d=sender.test\r\n" + MAIL
    mail = message(content, unsubscribe="*")
    form = await personal().form(mail, mail.recipients[0], content, NEVER)
    assert (form.content, form.facts, form.note) == (content, mail.facts, survey.DKIM)


async def test_a_public_url_that_changes_meanwhile_is_not_mixed_in() -> None:
    forms = personal()
    mail = message(LARGE, "b@example.test", "c@example.test", unsubscribe="*")
    reads: list[int] = []

    async def stream() -> AsyncIterator[bytes]:
        reads.append(1)
        if len(reads) > 1:  # the header is read
            forms.reconfigure(None)
        async for piece in streaming(LARGE)():
            yield piece

    form = await forms.form(mail, mail.recipients[0], None, stream)
    text = await whole(form)
    assert links_in(text) == [(Subject(7, 0), TARGET)]
    again = await forms.form(mail, mail.recipients[0], None, stream)
    assert links_in(await whole(again)) == []


async def test_a_public_url_that_comes_meanwhile_is_that_of_what_is_remembered() -> None:
    forms = personal(public_url=None)
    mail = message(LARGE, "b@example.test", "c@example.test", unsubscribe="*")

    async def stream() -> AsyncIterator[bytes]:
        if forms._public_url is None:
            forms.reconfigure(URL)
            await forms.form(mail, mail.recipients[1], None, streaming(LARGE))
        async for piece in streaming(LARGE)():
            yield piece

    form = await forms.form(mail, mail.recipients[0], None, stream)
    assert links_in(await whole(form)) == [(Subject(7, 0), TARGET)]


async def test_a_signed_part_is_no_reason_where_only_unsubscribing_is_offered() -> None:
    content = HEADER + b'Content-Type: multipart/signed; boundary="b"\r\n\r\n--b\r\n\r\nx\r\n--b--\r\n'
    mail = message(content, unsubscribe="*", track=0)
    form = await personal().form(mail, mail.recipients[0], content, NEVER)
    assert form.note == ""
    assert form.content is not None
    assert form.content.partition(b"\r\n\r\n")[2] == content.partition(b"\r\n\r\n")[2]
    assert (await personal().form(structs.replace(mail, track=ALL), mail.recipients[0], content, NEVER)).note == (
        survey.SIGNED
    )


async def test_another_public_url_is_for_the_next_form() -> None:
    forms = personal()
    mail = message(MAIL, "b@example.test", "c@example.test")
    await forms.form(mail, mail.recipients[0], MAIL, NEVER)
    forms.reconfigure("https://other.test:8443/mail")
    form = await forms.form(mail, mail.recipients[0], MAIL, NEVER)
    assert form.content is not None
    assert b"https://other.test:8443/mail/t/c/" in form.content
    assert b"mail.test/t/" not in form.content.replace(b"other.test:8443/mail", b"")


@pytest.mark.parametrize("target", ["https://a.test", "https://a.test/1", "https://a.test/12", "https://a.test/123"])
def test_a_sample_is_as_long_as_what_it_stands_for(target: str) -> None:
    made, sample = Addresses(TOKENS, URL, Subject(1 << 60, 3)), Sample(URL)
    assert len(made.click(target)) == len(sample.click(target))
    assert len(made.pixel()) == len(sample.pixel())


# The envelope sender


@pytest.mark.parametrize(
    ("changes", "ours"),
    [
        ({}, True),
        ({"track": 0}, True),
        ({"envelope_sender": ""}, False),
        ({"own_return_path": True}, False),
        ({"header_from": "a@news.sender.test"}, True),
        ({"header_from": "a@elsewhere.test"}, False),
    ],
)
def test_whose_mail_has_an_envelope_sender_of_ours(changes: dict[str, Any], ours: bool) -> None:
    mail = message(MAIL, "b@example.test", "c@example.test", **changes)
    mail = structs.replace(mail, unsubscribe="*")  # so it has a mark in any case
    mark = personal().mark(mail, mail.recipients[1:])
    assert mark is not None
    if not ours:
        assert mark.sender == mail.envelope_sender
        return
    local, _, domain = mark.sender.partition("@")
    assert (domain, TOKENS.read_local(Purpose.RETURN_PATH, local.removeprefix("b+"))) == (BACK, Subject(7, 1))
    several = personal().mark(mail, mail.recipients)
    assert several is not None
    assert TOKENS.read_local(Purpose.RETURN_PATH, several.sender.partition("@")[0].removeprefix("b+")) == Subject(7, 0)


def test_mail_that_has_nothing_of_it_is_not_marked() -> None:
    mail = message(MAIL, track=0)
    assert personal(return_path=None).mark(mail, mail.recipients) is None


# Over the wire


@pytest.fixture(scope="module")
def key() -> dkim.PrivateKey:
    return dkim.load_private_key(dkim.generate_rsa())


async def deliver(at: Desk, mail: Claimed, forms: Personal) -> list[Result]:
    at.couriers.personal = forms
    carrier = at.carrier()
    (made,) = await carrier.deliver(mail)
    carrier.close()
    assert {result.state for result in made.results} == {State.DELIVERED}
    return list(made.results)


def senders(host: FakeMx) -> list[str]:
    return [re.findall("FROM:<(.*?)>", transaction.mail)[0] for transaction in host.transactions]


SEVEN = tuple(offer for offer in OFFERS if offer != "8BITMIME")


@pytest.mark.parametrize("offers", [OFFERS, SEVEN], ids=["8BITMIME", "7 bit"])
@pytest.mark.parametrize("content", [MAIL, LARGE], ids=["small", "large"])
async def test_two_recipients_have_two_transactions_and_signatures(
    offers: tuple[str, ...], content: bytes, key: dkim.PrivateKey
) -> None:
    mail = message(content, "b@example.test", "c@example.test", unsubscribe="*")
    stored = pieces_of(content)
    if content is LARGE:
        mail = structs.replace(mail, content=None, piece_count=len(stored))
    signing = SendingDomain("sender.test", require_dkim=False, key=SigningKey("sender.test", "s", key))
    async with (
        hosts({}, offers=offers) as (one,),
        desk([direct(one)], zone=ONE, queue=Pieces(*stored), keys=[signing]) as at,
    ):
        await deliver(at, mail, personal())
    record = dkim.public_record(key).encode()
    assert [transaction.recipients for transaction in one.transactions] == [["b@example.test"], ["c@example.test"]]
    for number, (sender, transaction) in enumerate(zip(senders(one), one.transactions, strict=True)):
        text = transaction.content
        (token,) = _TOKEN.findall(text.decode("latin-1"))
        assert sender == f"b+{token}@{BACK}"
        assert TOKENS.read_local(Purpose.RETURN_PATH, token) == Subject(7, number)
        assert links_in(text) == [(Subject(7, number), TARGET)]
        assert dkimpy.verify(text, dnsfunc=lambda *_, **__: record)
        signed = re.findall(r"h=([^;]*);", text.decode("latin-1"))[0]
        assert {"list-unsubscribe", "list-unsubscribe-post"} <= set(re.sub(r"\s", "", signed).split(":"))
        assert f"SIZE={len(text)}" in transaction.mail
        assert offers is OFFERS or text.isascii()


async def test_what_takes_long_is_written_down_before_the_next_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempt, "EACH_S", 0.0)
    mail = message(MAIL, "b@example.test", "c@example.test", "d@example.test")
    async with hosts({}) as (host,), desk([direct(host)], zone=ONE) as at:
        at.couriers.personal = personal()
        carrier = at.carrier()
        (made,) = await carrier.deliver(mail)
        carrier.close()
        assert len(host.transactions) == 1
    first, *others = made.results
    assert (first.state, first.attempts) == (State.DELIVERED, 1)
    assert [(one.state, one.event, one.attempts) for one in others] == [(State.QUEUED, None, 0)] * 2
    assert made.tried


async def test_what_is_not_personal_shares_a_transaction() -> None:
    mail = message(MAIL, "b@example.test", "c@example.test", track=0)
    async with hosts({}) as (one,), desk([direct(one)], zone=ONE) as at:
        await deliver(at, mail, personal())
        await deliver(at, mail, personal(return_path=None))
    (ours, theirs) = one.transactions
    assert ours.recipients == theirs.recipients == ["b@example.test", "c@example.test"]
    (token,) = _TOKEN.findall(ours.content.decode("latin-1"))
    assert senders(one) == [f"b+{token}@{BACK}", "a@sender.test"]
    assert TOKENS.read_local(Purpose.RETURN_PATH, token) == Subject(7, 0)
    assert (ours.content.endswith(MAIL), theirs.content) == (True, MAIL)


async def test_why_it_was_not_tracked_is_told_with_the_result() -> None:
    mail = message(b"DKIM-Signature: v=1; d=sender.test\r\n" + MAIL)
    async with hosts({}) as (one,), desk([direct(one)], zone=ONE) as at:
        (result,) = await deliver(at, mail, personal())
    assert result.note == survey.DKIM
    assert one.transactions[0].content.endswith(MAIL)


async def test_a_sender_of_ours_needs_no_smtputf8() -> None:
    mail = message(MAIL, envelope_sender="jürgen@sender.test")

    async def fit(forms: Personal) -> str:
        variants = Variants(mail.facts, MAIL, NEVER, None)
        errand = Errand(direct(FakeMx()), "example.test", mail, variants, queue=Pieces(), said={}, personal=forms)  # type: ignore[arg-type]  # two verbs
        fitted = await errand.fit(Offer(eight_bit=True), list(mail.recipients))
        return fitted.word.enhanced if fitted.mail is None else fitted.mail.sender.partition("@")[2]

    assert await fit(personal()) == BACK
    assert await fit(personal(return_path=None)) == "5.6.7"


async def test_to_a_sender_of_ours_failures_come_back_whatever_the_submitter_wished() -> None:
    """Else NOTIFY=NEVER would keep late bounces from us, and nobody would tell who asked for SUCCESS."""
    mail = message(MAIL, track=0, ret="FULL", envid="envelope+21")
    (recipient,) = mail.recipients
    asked = structs.replace(recipient, notify=notify.ASKED | notify.SUCCESS, orcpt="rfc822;b@example.test")
    mail = structs.replace(mail, recipients=(asked,))
    async with hosts({}, offers=(*OFFERS, "DSN")) as (one,), desk([direct(one)], zone=ONE) as at:
        (ours,) = await deliver(at, mail, personal())
        (theirs,) = await deliver(at, mail, personal(return_path=None))
    first, second = (line for line in one.commands if line.startswith("RCPT"))
    assert first == "RCPT TO:<b@example.test> ORCPT=rfc822;b@example.test"
    assert "NOTIFY=SUCCESS" in second
    assert "RET=HDRS" in one.transactions[0].mail
    assert "ENVID" not in one.transactions[0].mail
    assert "RET=FULL ENVID=envelope+21" in one.transactions[1].mail
    assert (ours.dsn_passed, theirs.dsn_passed) == (False, True)
