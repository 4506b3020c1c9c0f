"""Intake over a real store: what is decided, what is stored, and what is told of a refusal."""

import base64
import contextlib
import email
import json
import os
import re
import threading
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from gateway.errors import Reason, Refused, StoreError
from gateway.intake import HEADER_BYTES
from gateway.message import composing, recode
from gateway.message.canonical import BodyHasher
from gateway.message.model import PIECE_BYTES, Attachment, Content, Draft, Facts, Mailbox
from gateway.policy.domains import SendingDomain
from tests.unit.conftest import MAIL, NOW, ONLY_EXAMPLE, SHOP, Desk, boxes, letter, sender_and_recipients


def check_facts(facts: Facts, content: bytes) -> None:
    """What intake found out about a content while it streamed by, against the whole of it."""
    header, empty, body = content.partition(b"\r\n\r\n")
    header += empty
    hasher = BodyHasher()
    hasher.update(body)
    assert facts == Facts(
        size=len(content),
        header_size=len(header),
        body_hash=hasher.digest(),
        eight_bit=any(byte > 127 for byte in body),
        utf8_header=any(byte > 127 for byte in header),
        dot_lines=content.startswith(b".") or b"\n." in content,
    )


# JSON


async def test_every_recipient_once_and_no_bcc_in_the_header(desk: Desk) -> None:
    receipt = await desk.submit(
        letter(
            to=boxes("b@example.net", "c@example.net", "b@example.net"),
            cc=boxes("d@example.net", "c@example.net"),
            bcc=boxes("secret@example.net", "d@example.net"),
        )
    )
    view = await desk.view(receipt.uuid)
    assert [recipient.address for recipient in view.recipients] == [
        "b@example.net",
        "c@example.net",
        "d@example.net",
        "secret@example.net",
    ]
    content = await desk.content(receipt.uuid)
    assert b"secret" not in content
    assert b"bcc" not in content.lower()
    check_facts(desk.facts, content)


async def test_what_is_stored_beside_the_content(desk: Desk) -> None:
    receipt = await desk.submit(letter(tags=("a", "ü"), metadata='{"order":1}', return_path="bounce@example.com"))
    view = await desk.view(receipt.uuid)
    assert (receipt.status, receipt.replayed) == ("queued", False)
    assert (view.account, view.key, view.door) == ("acme", "shop", "http")
    assert (view.envelope_sender, view.header_from) == ("bounce@example.com", "a@example.com")
    assert (json.loads(view.tags), json.loads(view.metadata)) == (["a", "ü"], {"order": 1})
    assert (view.created_at, view.expires_at) == (NOW, NOW + 3_600_000)
    header = await desk.header(receipt.uuid)
    assert f"Message-ID: <{view.message_id}>\r\n".encode() in header
    assert b"Date: Fri, 15 Jan 2027 08:00:00 +0000\r\n" in header
    assert " accepted id=eml_" in desk.log.getvalue()


async def test_a_key_without_a_from_stands_in_for_it(desk: Desk) -> None:
    key = replace(SHOP, default_from="The Shop <shop@example.com>")
    receipt = await desk.submit(letter(sender=None), key)
    assert (await desk.view(receipt.uuid)).envelope_sender == "shop@example.com"
    assert b"From: The Shop <shop@example.com>\r\n" in await desk.header(receipt.uuid)


@pytest.mark.parametrize(("default", "reason"), [(None, "missing_parameter"), ("a..b@", "invalid_parameter")])
async def test_no_from_at_all(desk: Desk, default: str | None, reason: str) -> None:
    key = replace(SHOP, default_from=default)
    refusal = await desk.refused(Reason[reason.upper()], desk.submit(letter(sender=None), key))
    assert refusal.param == "from"


@pytest.mark.parametrize(
    ("changes", "param"),
    [({"sender": Mailbox("", "a@example.org")}, "from"), ({"return_path": "a@example.org"}, "return_path")],
)
async def test_a_sender_that_the_key_may_not_use(desk: Desk, changes: dict[str, Any], param: str) -> None:
    refusal = await desk.refused(Reason.SENDER_NOT_ALLOWED, desk.submit(letter(**changes), ONLY_EXAMPLE))
    assert refusal.param == param


async def test_a_key_without_the_scope(desk: Desk) -> None:
    key = replace(SHOP, scopes=frozenset({"read"}))
    await desk.refused(Reason.INSUFFICIENT_PERMISSIONS, desk.submit(letter(), key))


async def test_a_domain_that_requires_a_signature_and_has_no_key(desk: Desk) -> None:
    desk.domains.load([SendingDomain("example.com", require_dkim=True, key=None)])
    sender = Mailbox("", "a@news.example.com")
    await desk.refused(Reason.SENDER_NOT_ALLOWED, desk.submit(letter(sender=sender)))


async def test_too_many_recipients(desk: Desk) -> None:
    many = boxes(*(f"{number}@example.net" for number in range(4)))
    refusal = await desk.refused(
        Reason.TOO_MANY_RECIPIENTS, desk.submit(letter(to=many, bcc=boxes("x@example.net", "y@example.net")))
    )
    assert refusal.text == "6 recipients; at most 5 a message."


async def test_too_large(desk: Desk) -> None:
    attachment = Attachment("big.bin", bytes(3_500_000), "application/octet-stream")
    await desk.refused(Reason.PAYLOAD_TOO_LARGE, desk.submit(letter(attachments=(attachment,))))
    assert desk.queue.piece_sizes == []


async def test_a_header_that_does_not_fit_the_first_piece(desk: Desk) -> None:
    names = tuple(Mailbox("n" * 70_000, f"{number}@example.net") for number in range(4))
    await desk.refused(Reason.MALFORMED_MESSAGE, desk.submit(letter(to=names)))


async def test_what_cannot_be_a_header_is_refused_with_its_place(desk: Desk) -> None:
    refusal = await desk.refused(Reason.MALFORMED_MESSAGE, desk.submit(letter(subject="a\r\nBcc: x@example.net")))
    assert refusal.param == "subject"


async def test_the_route_comes_from_the_key_only(desk: Desk) -> None:
    for route, domain in ((None, "example.net"), ("relay", ""), ("inbox", "")):
        receipt = await desk.submit(
            letter(headers=(("X-Route", "inbox"),), tags=("inbox",)), replace(SHOP, route=route)
        )
        recipient = (await desk.view(receipt.uuid)).recipients[0]
        assert (recipient.route, recipient.domain) == (route or "direct", domain)
        assert receipt.status == ("captured" if route == "inbox" else "queued")


async def test_a_route_that_is_gone(desk: Desk) -> None:
    refusal = await desk.refused(Reason.NO_ROUTE, desk.submit(letter(), replace(SHOP, route="gone")))
    assert refusal.retry_after_s is not None


async def test_large_attachments_are_stored_in_pieces(desk: Desk) -> None:
    bytes_ = os.urandom(1_500_000)
    text = "A line.\n.dot\n" + "ü" * 70 + "\n"
    receipt = await desk.submit(
        letter(text=text, attachments=(Attachment("a.bin", bytes_, "application/octet-stream"),))
    )
    content = await desk.content(receipt.uuid)
    assert len(desk.queue.piece_sizes) > 5
    assert max(desk.queue.piece_sizes) <= PIECE_BYTES
    assert sum(desk.queue.piece_sizes) == len(content)
    check_facts(desk.facts, content)
    encoded = content.split(b"base64\r\n")[-1].split(b"\r\n\r\n")[1].split(b"\r\n--")[0]
    assert base64.b64decode(encoded) == bytes_


@pytest.mark.parametrize(
    ("changes", "in_loop"),
    [
        ({}, True),
        ({"html": "<p>x</p>" * 1000, "text": "x"}, True),
        ({"html": "<p>x</p>" * 2000, "text": None}, False),  # plain text is made of it
        ({"text": "x\n" * 200_000}, False),
        ({"attachments": (Attachment("a", bytes(300_000), "application/octet-stream"),)}, False),
        ({"cc": (Mailbox("ü" * 300_000, "c@example.net"),)}, False),
    ],
)
async def test_what_takes_long_is_composed_off_the_loop(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], in_loop: bool
) -> None:
    compose, threads = composing.compose, []

    def watched(draft: Draft, *, message_id: str, date: datetime, seed: bytes) -> tuple[Content, Facts]:
        threads.append(threading.current_thread())
        return compose(draft, message_id=message_id, date=date, seed=seed)

    monkeypatch.setattr(composing, "compose", watched)
    with contextlib.suppress(Refused):  # the last one's header is too large
        await desk.submit(letter(**changes))
    assert [thread is threading.main_thread() for thread in threads] == [in_loop]


@pytest.mark.parametrize("size", [PIECE_BYTES - 600, PIECE_BYTES - 300, PIECE_BYTES])
async def test_around_the_size_of_a_piece(desk: Desk, size: int) -> None:
    receipt = await desk.submit(letter(text="x" * 62 + "\n" + ("y" * 62 + "\n") * (size // 64)))
    assert max(desk.queue.piece_sizes) <= PIECE_BYTES
    check_facts(desk.facts, await desk.content(receipt.uuid))


@pytest.mark.parametrize("text", [".a\n", "ü\n", "a", "  \n\n", ".\n..\n"])
async def test_facts_of_small_messages(desk: Desk, text: str) -> None:
    receipt = await desk.submit(letter(text=text, subject="Grüße"))
    check_facts(desk.facts, await desk.content(receipt.uuid))


async def test_a_request_repeated_is_one_message(desk: Desk) -> None:
    first = await desk.submit(letter(), idempotency=("k1", b"h" * 32))
    again = await desk.submit(letter(), idempotency=("k1", b"h" * 32))
    assert (again.uuid, again.replayed) == (first.uuid, True)
    with pytest.raises(Refused) as refusal:
        await desk.submit(letter(subject="Other"), idempotency=("k1", b"i" * 32))
    assert refusal.value.reason is Reason.IDEMPOTENCY_CONFLICT
    assert refusal.value.reason.answer.http == 409
    other_account = await desk.submit(letter(), replace(SHOP, account="b"), idempotency=("k1", b"i" * 32))
    assert not other_account.replayed
    assert sum(count.ready for count in await desk.store.counts()) == 2
    assert desk.log.getvalue().count(" accepted ") == 2


# SMTP


async def test_a_small_message_byte_for_byte(desk: Desk) -> None:
    original = (
        b"X-Odd :  a\tb  \r\nFrom: a@example.com\r\nDate: Thu, 1 Jan 2026 00:00:00 +0000\r\n"
        b"Message-ID: <1@example.com>\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n folded\r\n\r\n"
        b".dot\r\n..\r\n  trailing  \r\n\xff\xfe\r\n\r\n\r\n"
    )
    uuid = await desk.receive(original)
    content = await desk.content(uuid)
    received, _, rest = content.partition(b"X-Odd :")
    assert b"X-Odd :" + rest == original
    view = await desk.view(uuid)
    assert re.fullmatch(
        rb"Received: from client\.example\.com \(\[192\.0\.2\.7\]\)\r\n"
        rb"\tby mail\.example\.org with ESMTPSA id eml_[0-9a-z]{24}\r\n"
        rb"\tfor <b@example\.net>;\r\n\tFri, 15 Jan 2027 08:00:00 \+0000\r\n",
        received,
    )
    assert (view.subject, view.message_id, view.door) == ("Grüße folded", "1@example.com", "smtp")
    check_facts(desk.facts, content)


async def test_for_names_nobody_where_there_are_several(desk: Desk) -> None:
    uuid = await desk.receive(MAIL, to=["b@example.net", "c@example.net", "b@example.net"])
    assert b"for <" not in await desk.header(uuid)
    assert [recipient.address for recipient in (await desk.view(uuid)).recipients] == ["b@example.net", "c@example.net"]


async def test_what_is_missing_is_added_and_bcc_is_taken_out(desk: Desk) -> None:
    uuid = await desk.receive(b"Bcc: secret@example.net\r\nSubject: x\r\n\r\nb\r\n", protocol="ESMTPA")
    header = await desk.header(uuid)
    assert b"secret" not in header
    assert b"From: a@example.com\r\n" in header
    assert b"Date: Fri, 15 Jan 2027 08:00:00 +0000\r\n" in header
    assert f"Message-ID: <{(await desk.view(uuid)).message_id}>\r\n".encode() in header
    assert b" with ESMTPA id " in header


def large(lines: int, header: bytes = b"From: a@example.com\r\nSubject: big\r\n\r\n") -> list[bytes]:
    """A message of many lines, cut as the listener cuts it."""
    content = header + b"".join(b"%07d " % number + b"z" * 60 + b"\r\n" for number in range(lines))
    pieces = []
    while len(content) > PIECE_BYTES:
        cut = content.rfind(b"\n", 0, PIECE_BYTES) + 1
        pieces.append(content[:cut])
        content = content[cut:]
    return [*pieces, content]


@pytest.mark.parametrize("ending", [b"", b".last \xff line\r\n"])
async def test_a_large_message_byte_for_byte(desk: Desk, ending: bytes) -> None:
    pieces = [*large(20_000), ending]
    uuid = await desk.receive(*pieces)
    content = await desk.content(uuid)
    assert content.endswith(b"".join(pieces))
    assert max(desk.queue.piece_sizes) <= PIECE_BYTES
    check_facts(desk.facts, content)


@pytest.mark.parametrize("room", [0, 1, 100, 400, 1000])
async def test_what_is_added_to_a_full_piece_does_not_burst_it(desk: Desk, room: int) -> None:
    start = b"From: a@example.com\r\nSubject: big\r\n\r\n"
    size = PIECE_BYTES - room - len(start)
    body = (b"z" * 98 + b"\r\n") * (size // 100) + b"y" * (size % 100 - 2) + b"\r\n" * (size % 100 >= 2)
    uuid = await desk.receive(start + body)
    content = await desk.content(uuid)
    assert content.endswith(start[-20:] + body)
    assert max(desk.queue.piece_sizes) <= PIECE_BYTES
    check_facts(desk.facts, content)


@pytest.mark.parametrize(
    ("message", "body"),
    [
        (b"", b""),
        (b"\r\n", b""),
        (b"From: a@example.com\r\n", b""),
        (b"From: a@example.com\r\n\r\n", b""),
        (b"just text\r\n", b"just text\r\n"),
        (b"\r\nbody only\r\n", b"body only\r\n"),
    ],
)
async def test_messages_that_lack_something(desk: Desk, message: bytes, body: bytes) -> None:
    content = await desk.content(await desk.receive(message))
    assert content.partition(b"\r\n\r\n")[2] == body
    assert content.count(b"\r\nFrom: ") == 1
    check_facts(desk.facts, content)


async def test_the_null_sender(desk: Desk) -> None:
    uuid = await desk.receive(MAIL, sender="")
    assert (await desk.view(uuid)).envelope_sender == ""
    bare = await desk.receive(b"Subject: x\r\n\r\n", sender="")
    assert b"From: MAILER-DAEMON@mail.example.org\r\n" in await desk.header(bare)
    desk.intake.check_sender(ONLY_EXAMPLE, "", client="192.0.2.9")


async def test_the_control_fields(desk: Desk) -> None:
    fields = (
        b'X-Gateway-Tag: a\r\nX-Gateway-Tag: b\r\nX-Gateway-Tag: a\r\nX-Gateway-Metadata: {"b": 2, "a": "\xc3\xbc"}\r\n'
    )
    uuid = await desk.receive(fields + MAIL)
    view = await desk.view(uuid)
    assert (view.tags, view.metadata) == ('["a","b"]', '{"a":"ü","b":2}')
    assert b"x-gateway" not in (await desk.header(uuid)).lower()


async def test_an_idempotency_key(desk: Desk) -> None:
    first = await desk.receive(b"Idempotency-Key: k\r\n" + MAIL)
    assert await desk.receive(b"Idempotency-Key: k\r\n" + MAIL) == first
    assert b"idempotency" not in (await desk.header(first)).lower()
    for other in (MAIL.replace(b"Body", b"Bodies"), MAIL + b" \r\n", b"X-More: 1\r\n" + MAIL):
        with pytest.raises(Refused) as refusal:
            await desk.receive(b"Idempotency-Key: k\r\n" + other)
        assert refusal.value.reason is Reason.IDEMPOTENCY_CONFLICT
    with pytest.raises(Refused):
        await desk.receive(b"Idempotency-Key: k\r\n" + MAIL, to=["c@example.net"])
    assert sum(count.ready for count in await desk.store.counts()) == 1


@pytest.mark.parametrize(
    ("message", "reason", "words"),
    [
        (b"From: a@example.com\r\nFrom: b@example.com\r\n\r\n", Reason.MALFORMED_MESSAGE, "more than one From"),
        (b"Received: x\r\n" * 4 + MAIL, Reason.LOOP, "mail loop"),
        (b"X-Gateway-Colour: red\r\n" + MAIL, Reason.NOT_SUPPORTED, "X-Gateway-Colour"),
        (b"X-Gateway-Metadata: [1]\r\n" + MAIL, Reason.MALFORMED_MESSAGE, "JSON object"),
        (b"X-Gateway-Metadata: {\r\n" + MAIL, Reason.MALFORMED_MESSAGE, "JSON object"),
        (b'X-Gateway-Metadata: {"a": {}}\r\n' + MAIL, Reason.MALFORMED_MESSAGE, "strings without NUL"),
        (b'X-Gateway-Metadata: {"a": "\\u0000"}\r\n' + MAIL, Reason.MALFORMED_MESSAGE, "strings without NUL"),
        (b'X-Gateway-Metadata: {"\\u0000": 1}\r\n' + MAIL, Reason.MALFORMED_MESSAGE, "strings without NUL"),
        (b'X-Gateway-Metadata: {"a": 9223372036854775808}\r\n' + MAIL, Reason.MALFORMED_MESSAGE, "64-bit"),
        (b"X-Gateway-Metadata: " + b'{"a":' * 2000 + b"\r\n" + MAIL, Reason.MALFORMED_MESSAGE, ""),
        (b"X-Gateway-Metadata: {}\r\nX-Gateway-Metadata: {}\r\n" + MAIL, Reason.MALFORMED_MESSAGE, "once"),
        (b"".join(b"X-Gateway-Tag: %d\r\n" % n for n in range(51)) + MAIL, Reason.MALFORMED_MESSAGE, "at most 50"),
        (b"X-Gateway-Tag: " + b"t" * 129 + b"\r\n" + MAIL, Reason.MALFORMED_MESSAGE, "128 characters"),
        (b"Idempotency-Key: " + b"k" * 256 + b"\r\n" + MAIL, Reason.MALFORMED_MESSAGE, "1 to 255"),
        (b"Idempotency-Key:\r\n" + MAIL, Reason.MALFORMED_MESSAGE, "1 to 255"),
        (b"DKIM-Signature: v=1\r\n" + MAIL + b"x" * 999 + b"\r\n", Reason.MALFORMED_MESSAGE, "DKIM signature"),
        (b"DKIM-Signature: v=1\r\nX: " + b"x " * 999 + b"\r\n" + MAIL, Reason.MALFORMED_MESSAGE, "DKIM signature"),
        (b"Content-Type: message/partial\r\n" + MAIL + b"x" * 999 + b"\r\n", Reason.MALFORMED_MESSAGE, "998"),
        (b"X: " + b"x" * 999 + b"\r\n" + MAIL, Reason.MALFORMED_MESSAGE, "998"),
        (b"X: " + b"x\r\n " * (HEADER_BYTES // 4) + b"\r\n" + MAIL, Reason.MALFORMED_MESSAGE, "larger than"),
    ],
    ids=lambda value: value[:24].decode() if isinstance(value, bytes) else "",
)
async def test_refused(desk: Desk, message: bytes, reason: Reason, words: str) -> None:
    refusal = await desk.refused(reason, desk.receive(message))
    assert words in refusal.text
    assert desk.queue.piece_sizes == []


async def test_a_large_metadata_is_refused(desk: Desk) -> None:
    lines = b",\r\n ".join(b'"%d": "%s"' % (number, b"v" * 500) for number in range(40))
    refusal = await desk.refused(
        Reason.MALFORMED_MESSAGE, desk.receive(b"X-Gateway-Metadata: {" + lines + b"}\r\n" + MAIL)
    )
    assert "16384 bytes" in refusal.text


@pytest.mark.parametrize(
    "header",
    [
        b"From: a@example.org\r\n",
        b"From: a@example.com, b@example.org\r\n",
        b"From: a@example.com\r\nSender: b@example.org\r\n",
        b"From: @@@\r\n",
    ],
)
async def test_a_from_that_the_key_may_not_use(desk: Desk, header: bytes) -> None:
    await desk.refused(Reason.SENDER_NOT_ALLOWED, desk.receive(header + b"\r\n", key=ONLY_EXAMPLE))


async def test_an_unsigned_from_where_a_signature_is_required(desk: Desk) -> None:
    desk.domains.load([SendingDomain("example.com", require_dkim=True, key=None)])
    await desk.refused(Reason.SENDER_NOT_ALLOWED, desk.receive(MAIL))


async def test_a_sender_is_judged_at_mail(desk: Desk) -> None:
    for key, sender, reason in (
        (ONLY_EXAMPLE, "a@example.org", Reason.SENDER_NOT_ALLOWED),
        (replace(SHOP, scopes=frozenset({"read"})), "a@example.com", Reason.INSUFFICIENT_PERMISSIONS),
        (replace(SHOP, route="gone"), "a@example.com", Reason.NO_ROUTE),
    ):
        with pytest.raises(Refused) as refusal:
            desk.intake.check_sender(key, sender, client="192.0.2.9")
        assert refusal.value.reason is reason
        assert f"reason={reason.code}" in desk.log.getvalue()
    desk.intake.check_sender(ONLY_EXAMPLE, "a@example.com", client="192.0.2.9")


async def test_pieces_of_a_refused_message_are_orphans(desk: Desk) -> None:
    pieces = large(8_000, b"From: a@example.com\r\nContent-Type: multipart/signed; boundary=b\r\n\r\n")
    await desk.refused(Reason.MALFORMED_MESSAGE, desk.receive(*pieces, b"x" * 999 + b"\r\n"))
    assert len(desk.queue.piece_sizes) == len(pieces)
    assert desk.queue.enqueued == []
    message, index = desk.queue.pieces[-1]
    assert await desk.store.piece(message, index)
    await desk.store.sweep(NOW + 2 * 3_600_000)
    for orphan in desk.queue.pieces:
        with pytest.raises(StoreError):
            await desk.store.piece(*orphan)


async def test_a_large_header_in_the_first_of_many_pieces_is_told_too(desk: Desk) -> None:
    header = b"From: a@example.com\r\n" + b"X-Long: x\r\n" * (HEADER_BYTES // 11) + b"\r\n"
    await desk.refused(Reason.MALFORMED_MESSAGE, desk.receive(*large(5_000, header)))
    assert desk.queue.piece_sizes == []


async def test_a_long_line_that_may_not_be_repaired_ends_it_at_once(desk: Desk) -> None:
    receiving = desk.intake.receive(SHOP, sender_and_recipients())
    with pytest.raises(Refused, match="998"):
        await receiving.add(b"DKIM-Signature: v=1\r\n" + MAIL + b"x" * 2000 + b"\r\n")
    assert desk.queue.piece_sizes == []


async def test_a_long_line_is_re_encoded(desk: Desk) -> None:
    uuid = await desk.receive(MAIL + b"x" * 999 + b"\r\n")
    content = await desk.content(uuid)
    head, _, body = content.partition(b"\r\n\r\n")
    assert head.endswith(b"\r\nSubject: Hi\r\nMIME-Version: 1.0\r\nContent-Transfer-Encoding: quoted-printable")
    assert body.startswith(b"Body\r\nxxxxx")
    assert body.replace(b"=\r\n", b"") == b"Body\r\n" + b"x" * 999 + b"\r\n"
    assert desk.queue.pieces == []
    check_facts(desk.facts, content)


async def test_a_long_header_line_is_folded(desk: Desk) -> None:
    field = b"Cc: " + b", ".join([b"%d@example.net" % number for number in range(100)]) + b"\r\n"
    content = await desk.content(await desk.receive(field + MAIL))
    assert content.partition(b"Cc: ")[2].replace(b"\r\n ", b" ") == (field + MAIL)[4:]
    assert 980 < max(map(len, content.split(b"\r\n"))) <= 998  # at the last space that does
    check_facts(desk.facts, content)


@pytest.mark.parametrize("line", [b"y " * 400_000, b"\xff" * 700_000, b"z" * 998 + b"y" * (PIECE_BYTES - 998)])
async def test_a_line_of_many_pieces(desk: Desk, line: bytes) -> None:
    """What no piece holds is cut within; it is read again, re-encoded and stored under another id."""
    whole = b"".join(large(6_000)) + line + b"\r\nend\r\n"
    pieces = []
    while len(whole) > PIECE_BYTES:
        cut = whole.rfind(b"\n", 0, PIECE_BYTES) + 1 or PIECE_BYTES
        pieces.append(whole[:cut])
        whole = whole[cut:]
    uuid = await desk.receive(*pieces, whole)
    content = await desk.content(uuid)
    assert max(map(len, content.split(b"\r\n"))) <= 76
    payload = email.message_from_bytes(content).get_payload(decode=True)
    assert payload == b"".join([*pieces, whole]).partition(b"\r\n\r\n")[2]
    assert max(desk.queue.piece_sizes) <= PIECE_BYTES
    check_facts(desk.facts, content)
    before, after = sorted({message for message, _ in desk.queue.pieces})
    assert after == desk.queue.enqueued[0].id
    await desk.store.sweep(NOW + 2 * 3_600_000)
    with pytest.raises(StoreError):
        await desk.store.piece(before, 1)
    assert await desk.content(uuid) == content


async def test_re_encoding_is_off_the_loop(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    feed, threads = recode.Rewriting.feed, []

    def watched(self: recode.Rewriting, data: bytes) -> list[bytes]:
        threads.append(threading.current_thread() if data else None)
        return feed(self, data)

    monkeypatch.setattr(recode.Rewriting, "feed", watched)
    await desk.receive(MAIL + b"x" * 2000 + b"\r\n")
    assert threads[0] not in {None, threading.main_thread()}


async def test_an_idempotency_key_of_a_message_that_is_re_encoded(desk: Desk) -> None:
    mail = b"Idempotency-Key: k\r\n" + MAIL + b"x" * 2000 + b"\r\n"
    assert await desk.receive(mail) == await desk.receive(mail)
    with pytest.raises(Refused) as refusal:
        await desk.receive(mail.replace(b"xx", b"yx", 1))
    assert refusal.value.reason is Reason.IDEMPOTENCY_CONFLICT


async def test_a_key_that_rewrites_from_and_one_that_completes_addresses(desk: Desk) -> None:
    uuid = await desk.receive(b"From: Scan <scanner>\r\n\r\n", key=replace(SHOP, rewrite_from="mfp@example.com"))
    assert b"From: Scan <mfp@example.com>\r\n" in await desk.header(uuid)
    assert (await desk.view(uuid)).header_from == "mfp@example.com"
    uuid = await desk.receive(b"From: root\r\n\r\n", key=replace(ONLY_EXAMPLE, default_domain="example.com"))
    assert b"From: root@example.com\r\n" in await desk.header(uuid)
