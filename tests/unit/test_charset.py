"""Character sets that mail names: known ones are read, and no others are ever asked of Python."""

import codecs
from collections.abc import Iterator

import pytest

from gateway.api import unsubscribeform
from gateway.message import charset, encoded_word, reports
from gateway.tokens import Tokens

TEXT = "Grüße"


@pytest.mark.parametrize(
    "name",
    [
        *("UTF-8", "utf8", "'utf-8'", "iso-8859-1", "ISO_8859-1:1987", "ISO_8859-15", "latin1", "windows-1252"),
        *("cp1252", "utf-16", "macintosh", "utf-7"),
    ],
)
def test_what_mail_names_is_read(name: str) -> None:
    codec = charset.codec(name)
    assert codec is not None
    assert TEXT.encode(name).decode(codec) == TEXT


@pytest.mark.parametrize("name", ["us-ascii", "koi8-r", "koi8-u", "gb2312", "GB18030", "Shift_JIS", "iso-2022-jp"])
def test_what_mail_of_other_scripts_names_is_read(name: str) -> None:
    codec = charset.codec(name)
    assert codec is not None
    assert b"Hello".decode(codec) == "Hello"


@pytest.mark.parametrize("name", ["", "x", "punycode", "idna", "hex", "base64", "rot13", "zip", "unicode_escape", "ü"])
def test_what_is_no_character_set_is_none(name: str) -> None:
    assert charset.codec(name) is None


@pytest.fixture
def asked() -> Iterator[list[str]]:
    """Names that Python was asked for and did not know."""
    names: list[str] = []

    def search(name: str) -> None:
        names.append(name)

    codecs.register(search)
    yield names
    codecs.unregister(search)


@pytest.mark.parametrize("name", [b"x-made-up-1", b"utf-8-made-up-1", b'"utf-8 made-up-1"', b"utf-8\n made-up-1"])
def test_nothing_that_strangers_name_is_asked_of_python(name: bytes, asked: list[str]) -> None:
    """It would keep the name for as long as it runs."""
    header = b"Subject: Returned mail\nContent-Type: text/plain; charset=" + name
    (told,) = reports.read(header + b"\n\n550 no\xff\n", Tokens(bytes(32))).failed
    assert told.text == "550 no\xff"
    assert encoded_word.decode("=?x-made-up-2?q?a?= =?x-made-up-3?b?YWJj?=") == "aabc"
    assert asked == []


def test_nor_is_what_a_boundary_names(asked: list[str]) -> None:
    """RFC 2231, 4."""
    kind, body = "boundary*=made-up-4''x", b"\r\n\r\n--x\r\n\r\n550 no\r\n--x--\r\n"
    header = f"Subject: Returned mail\r\nContent-Type: multipart/mixed; {kind}"
    assert len(reports.read(header.encode() + body, Tokens(bytes(32))).failed) == 1
    form = f"multipart/form-data; {kind}"
    assert not unsubscribeform.means_it(form, body)
    assert not unsubscribeform.means_it(
        "multipart/form-data; boundary=y", f"--y\r\nContent-Type: {form}".encode() + body
    )
    assert asked == []
