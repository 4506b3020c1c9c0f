"""Header fields made ASCII: another reader of mail sees what stood there before."""

import contextlib
import email
import email.policy
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.message import encoded_word
from gateway.message.recode import downgrade
from gateway.message.recode.downgrade import Undowngradable
from tests.fuzz import effort

EXAMPLES = effort.examples(60)
# What a name may hold: no controls, and no characters that readers normalise.
NAMES = st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "S"]), min_size=1, max_size=60)


def made(field: str | bytes) -> bytes:
    octets = field if isinstance(field, bytes) else field.encode()
    new = downgrade.header(octets + b"\r\n\r\n")
    assert new.isascii()
    assert re.search(rb"\r\n[ \t]*\r\n.", new) is None, "a line of nothing in a header"
    for line in new.split(b"\r\n"):
        assert len(line) <= (76 if b"=?" in line else 998)
    assert new.endswith(b"\r\n\r\n")
    return new


def read(field: str | bytes, name: str) -> str:
    return str(email.message_from_bytes(made(field), policy=email.policy.default)[name])


def addresses(field: str) -> list[tuple[str, str]]:
    header = email.message_from_bytes(made(field), policy=email.policy.default)["to"]
    return [(one.display_name, one.addr_spec) for one in header.addresses]


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ("Subject: Grüße aus Köln", "Grüße aus Köln"),
        ("Subject: one =?utf-8?q?=C3=BC?= und\r\n mehr für alle", "one ü und mehr für alle"),
        ("Subject: " + "äöü " * 60 + "x", "äöü " * 60 + "x"),
        ("Subject: " + "日本語" * 50, "日本語" * 50),
        ("X-Note: wörd", "wörd"),
        ("subject :Grüße", "Grüße"),
    ],
)
def test_text(field: str, text: str) -> None:
    assert read(field, field.partition(":")[0].strip()) == text


@pytest.mark.parametrize(
    ("value", "boxes"),
    [
        ("Jürgen Groß <j@example.com>", [("Jürgen Groß", "j@example.com")]),
        ('"Groß, Jürgen" <j@example.com>, b@example.com', [("Groß, Jürgen", "j@example.com"), ("", "b@example.com")]),
        ('"Gr\\"oß" <j@example.com>', [('Gr"oß', "j@example.com")]),
        ("b@exämple.com, <c@ü.test>", [("", "b@xn--exmple-cua.com"), ("", "c@xn--tda.test")]),
        (
            "Freunde für alle: a@b.test, Bjö <b@c.test>;, x@y.test",
            [("", "a@b.test"), ("Bjö", "b@c.test"), ("", "x@y.test")],
        ),
        ("a@b.test (schön), Jö (ä) B <b@c.test>", [("", "a@b.test"), ("Jö B", "b@c.test")]),
        ("=?utf-8?q?J=C3=B6?= Müller\r\n <j@b.test>", [("Jö Müller", "j@b.test")]),
    ],
)
def test_addresses(value: str, boxes: list[tuple[str, str]]) -> None:
    found = addresses("To: " + value)
    assert [box for _, box in found] == [box for _, box in boxes]
    assert [" ".join(name.split()) for name, _ in found] == [name for name, _ in boxes]


@EXAMPLES
@given(
    st.lists(NAMES.map(lambda name: name[:10]), min_size=1, max_size=4)
)  # of longer ones that reader makes more words
def test_any_display_names(names: list[str]) -> None:
    quoted = ['"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"' for name in names]
    field = "To: " + ",\r\n\t".join(f"{name} <a{number}@b.test>" for number, name in enumerate(quoted))
    if field.isascii() or "=?" in field:
        return
    assert addresses(field) == [(name, f"a{number}@b.test") for number, name in enumerate(names)]


def test_a_long_name() -> None:
    name = "Ünï" * 40
    new = made(f"To: {name} <a@b.test>")
    assert encoded_word.decode(new.decode().replace("\r\n", "")) == f"To: {name} <a@b.test>"


@EXAMPLES
@given(NAMES)
def test_any_subject(text: str) -> None:
    if text.isascii() or "=?" in text:
        return
    assert read("Subject: " + text, "subject") == text


@EXAMPLES
@given(st.binary(max_size=200))
def test_any_header_at_all(block: bytes) -> None:
    with contextlib.suppress(Undowngradable):
        assert downgrade.header(block).isascii()


def test_names_of_files() -> None:
    field = 'Content-Disposition: attachment;\r\n filename="Rechnung für Jürgen.pdf"; size=5'
    new = email.message_from_bytes(made(field), policy=email.policy.default)
    assert new.get_filename() == "Rechnung für Jürgen.pdf"
    assert new["content-disposition"].params["size"] == "5"
    typed = email.message_from_bytes(made("Content-Type: image/png; NAME=ü.png"), policy=email.policy.default)
    assert (typed.get_content_type(), typed.get_filename()) == ("image/png", "ü.png")


def test_what_is_ascii_keeps_every_octet() -> None:
    kept = b"Received: from  a\r\n\tby b ;  x\r\nX-Odd:  a \t b\r\nTo: a@b.test ,b@c.test\r\n"
    assert downgrade.header(kept + "Subject: für\r\n\r\n".encode()).startswith(kept)
    assert downgrade.header(kept + b"\r\n") == kept + b"\r\n"


def test_comments_of_trace_fields() -> None:
    assert made("Received: from a (Köln) by b; date") == (
        b"Received: from a\r\n (=?utf-8?b?S8O2bG4=?=) by b; date\r\n\r\n"
    )


def test_octets_of_no_known_charset() -> None:
    """RFC 1428."""
    new = made("Subject: café été plain\r\nFrom: Jürgen <a@b.test>".encode("latin-1"))
    assert new.startswith(b"Subject: =?unknown-8bit?q?=63=61=66=E9=20=E9=74=E9?=\r\n plain\r\n")
    assert b"From: =?unknown-8bit?q?=4A=FC=72=67=65=6E?=\r\n <a@b.test>\r\n" in new


@pytest.mark.parametrize(
    "field",
    [
        "From: ü@b.test",
        "To: Name <ü@b.test>",
        "Message-ID: <ü@b.test>",
        "References: <a@b> <ü@b.test>",
        "List-Unsubscribe: <https://ü.test/>",
        "Content-Type: multipart/mixed; boundary=ü",
        "Content-Type: text/plain; charset=ü",
        "Received: from ü by b",
        "To: a@b.test (never closed ü",
        "To: a@b.test> ü",
        "no field at all ü",
    ],
)
def test_what_has_no_other_form(field: str) -> None:
    with pytest.raises(Undowngradable):
        made(field)


def test_linear_time() -> None:
    for value in ("ü" + " " * 50_000, "(" * 25_000 + "ü", '"ü' + "\\" * 25_000, "ü," * 25_000, "ü \r\n " * 10_000):
        for name in ("To", "Subject", "Content-Type", "Received"):
            try:
                downgrade.header(f"{name}: {value}\r\n\r\n".encode())
            except Undowngradable:
                continue


def test_thousands_of_names_take_linear_time() -> None:
    begin = time.process_time()
    assert made("To: " + ",\r\n ".join(["ü <a@b.c>"] * 9000)).count(b"<a@b.c>") == 9000
    assert time.process_time() - begin < 1  # quadratic was more, and double that for the largest header
