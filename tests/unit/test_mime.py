"""The composer: structure, encodings and refusals, read back by Python's email package."""

import email.policy
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from email.message import EmailMessage
from email.parser import BytesParser
from email.utils import collapse_rfc2231_value
from typing import Any

import pytest

from gateway.message import mime, transfer
from gateway.message.header import HeaderError
from gateway.message.model import PIECE_BYTES, Attachment, Content, Draft, Mailbox

DATE = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
PNG = b"\x89PNG\r\n\x1a\n\0" * 9
DRAFT = Draft(
    sender=Mailbox("Ann", "ann@example.com"),
    to=(Mailbox("", "bob@example.com"),),
    cc=(),
    reply_to=(),
    subject="Hello",
    html=None,
    text="Hi\n",
    attachments=(),
    headers=(),
)


def compose(draft: Draft) -> Content:
    content = mime.compose(draft, message_id="id@example.com", date=DATE, seed=b"0123456789ab")
    wire = content.header + b"".join(content.body)
    assert content.header.endswith(b"\r\n\r\n")
    assert wire.replace(b"\r\n", b"").translate(None, b"\r\n\0") == wire.replace(b"\r\n", b"")
    assert max(map(len, wire.split(b"\r\n"))) <= 998
    for piece in content.body:
        assert 0 < len(piece) <= PIECE_BYTES
        assert piece.endswith(b"\r\n")
    return content


def parse(draft: Draft) -> EmailMessage:
    content = compose(draft)
    message = BytesParser(policy=email.policy.default).parsebytes(content.header + b"".join(content.body))
    assert isinstance(message, EmailMessage)
    for part in message.walk():
        assert not part.defects
    return message


def tree(part: Any) -> Any:
    if part.is_multipart() and part.get_content_maintype() == "multipart":
        return (part.get_content_subtype(), [tree(child) for child in part.iter_parts()])
    return part.get_content_type()


def test_a_plain_message_byte_for_byte() -> None:
    content = compose(
        replace(
            DRAFT,
            to=(Mailbox("", "bob@example.com"), Mailbox("Carol", "carol@example.com")),
            cc=(Mailbox("", "dan@example.com"),),
            reply_to=(Mailbox("", "re@example.com"),),
            headers=(("X-Foo", "bar"),),
        )
    )
    assert content.header == (
        b"From: Ann <ann@example.com>\r\n"
        b"To: bob@example.com, Carol <carol@example.com>\r\n"
        b"Cc: dan@example.com\r\n"
        b"Reply-To: re@example.com\r\n"
        b"Subject: Hello\r\n"
        b"Date: Fri, 02 Jan 2026 03:04:05 +0000\r\n"
        b"Message-ID: <id@example.com>\r\n"
        b"X-Foo: bar\r\n"
        b"MIME-Version: 1.0\r\n"
        b"Content-Type: text/plain; charset=utf-8\r\n"
        b"Content-Transfer-Encoding: 7bit\r\n"
        b"\r\n"
    )
    assert content.body == (b"Hi\r\n",)


def test_what_is_not_given_is_not_written() -> None:
    content = compose(replace(DRAFT, to=(), subject="", text=None))
    names = [line.split(b":")[0] for line in content.header.split(b"\r\n") if line]
    assert names == [b"From", b"Date", b"Message-ID", b"MIME-Version", b"Content-Type", b"Content-Transfer-Encoding"]
    assert content.body == ()


FILE = Attachment("a.bin", b"\0\xff" * 100, "application/octet-stream")
LOGO = Attachment("logo.png", PNG, "image/png", "logo@x", "inline")


@pytest.mark.parametrize(
    ("text", "html", "attachments", "shape"),
    [
        ("t", None, (), "text/plain"),
        (None, None, (), "text/plain"),
        ("t", "<p>h", (), ("alternative", ["text/plain", "text/html"])),
        (None, "<p>h", (), ("alternative", ["text/plain", "text/html"])),
        (None, None, (FILE,), ("mixed", ["application/octet-stream"])),
        ("t", None, (FILE, FILE), ("mixed", ["text/plain", "application/octet-stream", "application/octet-stream"])),
        ("t", None, (LOGO,), ("mixed", ["text/plain", "image/png"])),
        ("t", "<p>h", (LOGO,), ("alternative", ["text/plain", ("related", ["text/html", "image/png"])])),
        (
            "t",
            "<p>h",
            (FILE, LOGO),
            (
                "mixed",
                [
                    ("alternative", ["text/plain", ("related", ["text/html", "image/png"])]),
                    "application/octet-stream",
                ],
            ),
        ),
        # An id makes an inline part where the HTML refers to it, and only there.
        (
            "t",
            "<img src='cid:logo@x'>",
            (replace(LOGO, disposition="attachment"),),
            ("alternative", ["text/plain", ("related", ["text/html", "image/png"])]),
        ),
        (
            "t",
            "<img src='cid:other'>",
            (replace(LOGO, disposition="attachment"),),
            ("mixed", [("alternative", ["text/plain", "text/html"]), "image/png"]),
        ),
    ],
)
def test_structure(text: str | None, html: str | None, attachments: tuple[Attachment, ...], shape: Any) -> None:
    assert tree(parse(replace(DRAFT, text=text, html=html, attachments=attachments))) == shape


def test_a_text_part_is_derived_from_html() -> None:
    message = parse(replace(DRAFT, text=None, html="<h1>Hi</h1><p>See <a href='https://x.y/z'>this</a>"))
    body = message.get_body(("plain",))
    assert body is not None
    assert body.get_content() == "Hi\r\n\r\nSee this (https://x.y/z)\r\n"


def test_attachments_read_back() -> None:
    message = parse(replace(DRAFT, html="<img src='cid:logo@x'>", attachments=(FILE, LOGO)))
    parts = {part.get_filename(): part for part in message.walk() if part.get_filename()}
    assert parts["a.bin"].get_content() == FILE.content
    assert parts["a.bin"].get_content_disposition() == "attachment"
    assert parts["logo.png"].get_content() == PNG
    assert parts["logo.png"].get_content_disposition() == "inline"
    assert parts["logo.png"]["Content-ID"] == "<logo@x>"


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("plain\n", "7bit"),
        ("x" * 998, "7bit"),
        ("x" * 999, "quoted-printable"),
        ("nul \0 inside", "quoted-printable"),
        ("mostly ASCII, with an ü and no line end", "quoted-printable"),
        (" lead and trail \t\n.\n..\nFrom x\n=3D\n", "7bit"),
        ("ü lead and trail \t\n.\n..\nFrom x\n=3D\n" * 9, "quoted-printable"),
        ("日本語日本語\n", "base64"),
        ("ü" * 3000, "base64"),
        ("a\rb\r\nc\n\n", "7bit"),
        ("\u2028\x85 are no line ends in a text" * 5, "quoted-printable"),
    ],
)
def test_text_encoding(text: str, encoding: str) -> None:
    message = parse(replace(DRAFT, text=text, html="<p>h"))
    part = message.get_body(("plain",))
    assert part is not None
    assert part["Content-Transfer-Encoding"] == encoding
    payload = part.get_payload(decode=True)
    assert isinstance(payload, bytes)
    assert payload == text.replace("\r\n", "\n").replace("\r", "\n").replace("\n", "\r\n").encode()


@pytest.mark.parametrize("size", [0, 1, 56, 57, 58, 3360 * 57 - 1, 3360 * 57, 3360 * 57 + 1, 600_000])
def test_base64_in_pieces(size: int) -> None:
    data = (b"\0\1\2\xff\r\n" * (size // 6 + 1))[:size]
    chunks = transfer.encode_base64(data)
    assert all(len(chunk) <= PIECE_BYTES and chunk.endswith(b"\r\n") for chunk in chunks[:-1])
    lines = b"".join(chunks).split(b"\r\n")
    assert all(len(line) == 76 for line in lines[:-1])
    message = parse(replace(DRAFT, attachments=(replace(FILE, content=data),)))
    assert [part.get_content() for part in message.iter_attachments()] == [data]


def test_a_large_text_is_cut_at_line_ends() -> None:
    text = "".join(f"line {i} with some words\n" for i in range(50_000))
    content = compose(replace(DRAFT, text=text))
    assert len(content.body) == len(text) // PIECE_BYTES + 1
    assert b"".join(content.body) == text.replace("\n", "\r\n").encode()


@pytest.mark.parametrize(
    ("given", "content", "sent", "encoding"),
    [
        ("message/rfc822", b"Subject: x\r\n\r\nbody", "message/rfc822", "7bit"),
        ("message/rfc822", b"Subject: x\n\nbody", "application/octet-stream", "base64"),
        ("message/rfc822", b"Subject: \xff\r\n\r\n", "application/octet-stream", "base64"),
        ("message/rfc822", b"Subject: " + b"x" * 1000, "application/octet-stream", "base64"),
        ("message/rfc822", b"Subject: \0", "application/octet-stream", "base64"),
        ("multipart/mixed", b"x", "application/octet-stream", "base64"),
        ("text/csv; charset=utf-8", b"a,b\n", "text/csv", "base64"),
        ("IMAGE/PNG", b"x", "image/png", "base64"),
        ("application/vnd.ms-excel+xml", b"x", "application/vnd.ms-excel+xml", "base64"),
    ],
)
def test_content_types(given: str, content: bytes, sent: str, encoding: str) -> None:
    wire = compose(replace(DRAFT, text=None, attachments=(Attachment("f", content, given),))).body
    head = wire[0].split(b"\r\n\r\n")[0].decode()
    assert f"Content-Type: {sent};" in head
    assert f"Content-Transfer-Encoding: {encoding}" in head


def test_filenames_under_both_readers() -> None:
    name = "Rechnung für März 2026 mit einem langen Namen, der nicht auf eine Zeile passt.pdf"
    content = compose(replace(DRAFT, attachments=(replace(FILE, filename=name),)))
    wire = content.header + b"".join(content.body)
    new = BytesParser(policy=email.policy.default).parsebytes(wire)
    assert [part.get_filename() for part in new.walk()][-1] == name
    old = [*BytesParser(policy=email.policy.compat32).parsebytes(wire).walk()][-1]
    fallback = "Rechnung fur Marz 2026 mit einem langen Namen, de.pdf"
    assert old.get_filename() == old.get_param("name") == fallback
    values = [v for key, v in old.get_params(header="content-disposition") or [] if key == "filename"]
    assert [collapse_rfc2231_value(value) for value in values] == [fallback, name]


def test_utf8_addresses_stand_raw_and_nothing_else_does() -> None:
    content = compose(replace(DRAFT, to=(Mailbox("Jürgen", "jürgen@xn--bcher-kva.de"),), subject="ü"))
    raw = [line for line in content.header.split(b"\r\n") if not line.isascii()]
    assert raw == ["To: =?utf-8?q?J=C3=BCrgen?= <jürgen@xn--bcher-kva.de>".encode()]


BAD = ["\0", "\t", "\n", "\r", "\r\n", "\r\nBcc: x@y.de", "\x0b", "\x1b", "\x7f", "\x85", "\u2028", "\u2029", "\ud800"]
FIELDS: dict[str, Callable[[str], Draft]] = {
    "from": lambda s: replace(DRAFT, sender=Mailbox(f"A{s}n", "a@b.de")),
    "to[0]": lambda s: replace(DRAFT, to=(Mailbox(f"A{s}n", "a@b.de"),)),
    "cc[1]": lambda s: replace(DRAFT, cc=(Mailbox("", "a@b.de"), Mailbox("A", f"a{s}@b.de"))),
    "reply_to[0]": lambda s: replace(DRAFT, reply_to=(Mailbox("", f"a@b{s}.de"),)),
    "subject": lambda s: replace(DRAFT, subject=f"a{s}b"),
    "headers.X-Foo": lambda s: replace(DRAFT, headers=(("X-Foo", f"a{s}b"),)),
    "attachments[0].filename": lambda s: replace(DRAFT, attachments=(replace(FILE, filename=f"a{s}b"),)),
    "attachments[1].content_type": lambda s: replace(
        DRAFT, attachments=(FILE, replace(FILE, content_type=f"text/x{s}y"))
    ),
    "attachments[0].content_id": lambda s: replace(DRAFT, html="h", attachments=(replace(LOGO, content_id=f"a{s}b"),)),
}


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("path", FIELDS)
def test_injection(path: str, bad: str) -> None:
    draft = FIELDS[path](bad)
    if bad == "\t" and path in ("from", "to[0]", "subject", "headers.X-Foo"):
        compose(draft)  # a tab is a space there
        return
    with pytest.raises(HeaderError) as caught:
        compose(draft)
    assert caught.value.path == path


@pytest.mark.parametrize("path", ["text", "html"])
def test_a_lone_surrogate_in_a_body_is_refused(path: str) -> None:
    bodies = {"text": "t", "html": "h", path: "a\ud800"}
    with pytest.raises(HeaderError) as caught:
        compose(replace(DRAFT, text=bodies["text"], html=bodies["html"]))
    assert caught.value.path == path


@pytest.mark.parametrize(
    "content_type",
    ["", "text", "text/", "/plain", "text/plain; name=x", "text/plain; charset=a b", "te xt/plain", "a/b/c"],
)
def test_content_types_that_are_refused(content_type: str) -> None:
    with pytest.raises(HeaderError, match="content_type"):
        compose(replace(DRAFT, attachments=(replace(FILE, content_type=content_type),)))


@pytest.mark.parametrize("content_id", ["<a@b>", "a b", "ü", "x" * 256])
def test_content_ids_that_are_refused(content_id: str) -> None:
    with pytest.raises(HeaderError, match="content_id"):
        compose(replace(DRAFT, attachments=(replace(LOGO, content_id=content_id),)))


@pytest.mark.parametrize("message_id", ["", "x", "a@b\r\nBcc: x", "<a@b>", "a b@c", "ü@b"])
def test_message_ids_that_are_refused(message_id: str) -> None:
    with pytest.raises(HeaderError, match="message_id"):
        mime.compose(DRAFT, message_id=message_id, date=DATE, seed=b"s")
