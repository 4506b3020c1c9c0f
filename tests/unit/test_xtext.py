"""xtext and international addresses: both ways, and what is neither."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.message import xtext

PRINTABLE = st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp")))


@pytest.mark.parametrize(
    ("text", "encoded"),
    [
        ("QQ314159", "QQ314159"),
        ("a+b=c d@example.com", "a+2Bb+3Dc+20d@example.com"),
        ('"a b"@example.com', '"a+20b"@example.com'),
        ("jürgen", "j+C3+BCrgen"),
        ("", ""),
    ],
)
def test_xtext(text: str, encoded: str) -> None:
    assert xtext.encode(text) == encoded
    assert xtext.decode(encoded) == text


@given(PRINTABLE)
def test_xtext_comes_back(text: str) -> None:
    encoded = xtext.encode(text)
    assert encoded.isascii()
    assert not set(encoded) & set(" =\x7f")
    assert xtext.decode(encoded) == text


@pytest.mark.parametrize(
    "text", ["a b", "a=b", "a+2", "a+2b", "+", "a\r", "ü", "+0D+0A", "+00", "+7F", "+C2+85", "+FF", "+E2+80+A8", "+GG"]
)
def test_what_is_no_xtext(text: str) -> None:
    with pytest.raises(ValueError, match=r"xtext|control|utf-8"):
        xtext.decode(text)


@given(PRINTABLE)
def test_an_international_address_comes_back(text: str) -> None:
    encoded = xtext.encode_address(text)
    assert encoded.isascii()
    assert not set(encoded) & set(" =+")
    assert xtext.decode_address(encoded) == text


def test_an_international_address() -> None:
    assert xtext.encode_address("jürgen+x@例え.example") == r"j\x{FC}rgen\x{2B}x@\x{4F8B}\x{3048}.example"
    assert xtext.decode_address(r"jürgen\x{2B}x@例え.example") == "jürgen+x@例え.example"
    assert xtext.decode_address(r"\x{10348}\x{10FFFF}\x{D7FF}") == "\U00010348\U0010ffff\ud7ff"


@pytest.mark.parametrize(
    "text",
    [
        "a+b", "a=b", "a b", "a\\", r"\x{}", r"\x{2b}", r"\x{41}", r"\x{0FC}", r"\x{0D}", r"\x{7F}", r"\x{85}",
        r"\x{2028}", r"\x{D800}", r"\x{110000}", r"\x{FC", "a\r\nb", "\x85",
    ],
)  # fmt: skip
def test_what_is_no_international_address(text: str) -> None:
    with pytest.raises(ValueError, match=r"xtext|control"):
        xtext.decode_address(text)


@pytest.mark.parametrize(
    ("orcpt", "found"),
    [
        ("rfc822;a+2Bb@example.com", ("rfc822", "a+b@example.com")),
        ("RFC822;a@example.com", ("rfc822", "a@example.com")),
        ("x400;/C=de/", None),
        ("x400;/C+3Dde/", ("x400", "/C=de/")),
        (r"utf-8;j\x{FC}rgen@example.com", ("utf-8", "jürgen@example.com")),
        ("UTF-8;jürgen@example.com", ("utf-8", "jürgen@example.com")),
        ("rfc822;not an address", None),
        ("rfc822;anything+20goes;here", ("rfc822", "anything goes;here")),
        ("rfc822;", None),
        ("rfc822", None),
        (";a@example.com", None),
        ("a b;a@example.com", None),
        ("rfc822;" + "a" * 493, ("rfc822", "a" * 493)),
        ("rfc822;" + "a" * 494, None),
    ],
)
def test_an_original_recipient(orcpt: str, found: tuple[str, str] | None) -> None:
    if found is not None:
        assert xtext.original_recipient(orcpt) == found
        return
    with pytest.raises(ValueError, match=r"type;address|xtext"):
        xtext.original_recipient(orcpt)


def test_an_original_recipient_for_a_host_without_smtputf8() -> None:
    assert xtext.seven_bit("UTF-8;jürgen@example.com") == r"utf-8;j\x{FC}rgen@example.com"
    assert xtext.seven_bit("rfc822;a+2Bb@example.com") == "rfc822;a+2Bb@example.com"
    with pytest.raises(ValueError, match="xtext"):
        xtext.seven_bit("rfc822;jürgen@example.com")
    with pytest.raises(ValueError, match="too long"):
        xtext.seven_bit("utf-8;" + "ü" * 83)
    assert len(xtext.seven_bit("utf-8;" + "ü" * 82)) == 498
