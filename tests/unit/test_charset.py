"""Character sets that mail names: known ones are read, and no others are ever asked of Python."""

import codecs
from collections.abc import Iterator

import pytest

from gateway.message import charset, encoded_word, reports
from gateway.tokens import Tokens

TEXT = "Grüße"


@pytest.mark.parametrize(
    "name",
    ["UTF-8", "utf8", "iso-8859-1", "ISO_8859-15", "latin1", "windows-1252", "cp1252", "utf-16", "macintosh", "utf-7"],
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


def test_nothing_that_strangers_name_is_asked_of_python(asked: list[str]) -> None:
    """It would keep the name for as long as it runs."""
    header = b"Subject: Returned mail\nContent-Type: text/plain; charset=x-made-up-1"
    (told,) = reports.read(header + b"\n\n550 no\n", Tokens(bytes(32))).failed
    assert told.text == "550 no"
    assert encoded_word.decode("=?x-made-up-2?q?a?= =?x-made-up-3?b?YWJj?=") == "aabc"
    assert asked == []
