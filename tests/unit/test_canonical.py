"""The relaxed canonical forms: RFC examples, cuts at every place, and work that stays linear."""

import hashlib
import time

import pytest

from gateway.message.canonical import BodyHasher, header_fields


def body_hash(*pieces: bytes) -> bytes:
    hasher = BodyHasher()
    for piece in pieces:
        hasher.update(piece)
    return hasher.digest()


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


@pytest.mark.parametrize(
    ("body", "canonical"),
    [
        (b" C \r\nD \t E\r\n\r\n\r\n", b" C\r\nD E\r\n"),  # RFC 6376, 3.4.5
        (b"", b""),
        (b"\r\n", b""),
        (b"\r\n\r\n\r\n", b""),
        (b" \t\r\n\t\r\n", b""),
        (b" ", b""),
        (b"a", b"a\r\n"),
        (b"a \t", b"a\r\n"),
        (b"a\r\n", b"a\r\n"),
        (b"\r\n\r\na\r\n", b"\r\n\r\na\r\n"),
        (b"a\r\n \r\n\r\nb\t\r\n", b"a\r\n\r\n\r\nb\r\n"),
        (b"\t a  b\t\tc\r\n", b" a b c\r\n"),
        (b" " * 1000 + b"x\r\n", b" x\r\n"),
        (b"a\rb\nc\r\n", b"a\rb\nc\r\n"),  # only CRLF ends a line
        (b"a \rb \nc\r\n", b"a \rb \nc\r\n"),
        (b"a\n\n", b"a\n\n\r\n"),
        (b"a\r", b"a\r\r\n"),
        (b"a\r\r\n\r\n", b"a\r\r\n"),
        (b"a\r\n\n\r\n\r\n", b"a\r\n\n\r\n"),
        (b"a\0\r\n\xe4\x80 \xff\r\n", b"a\0\r\n\xe4\x80 \xff\r\n"),
        (b"a\x0b \x0c\r\n", b"a\x0b \x0c\r\n"),  # white space is SP and TAB alone
    ],
)
def test_body_is_canonical_however_it_is_cut(body: bytes, canonical: bytes) -> None:
    expected = sha256(canonical)
    assert body_hash(body) == expected
    assert body_hash(*(body[place : place + 1] for place in range(len(body)))) == expected
    for place in range(len(body)):
        assert body_hash(body[:place], body[place:]) == expected


def test_digest_can_be_asked_twice() -> None:
    hasher = BodyHasher()
    hasher.update(b"a\r\nb ")
    assert hasher.digest() == hasher.digest() == sha256(b"a\r\nb\r\n")


@pytest.mark.parametrize(
    ("unit", "end", "canonical"),
    [
        (b" ", b"", b""),
        (b"\t ", b"x\r\n", b" x\r\n"),
        (b"\r\n", b"", b""),
        (b" \r\n", b"", b""),
        (b"\r", b"\n", None),
        (b"\n", b"\r\n", None),
        (b" \r", b"\r\n", None),
        (b" " * 4097 + b"x\r\n", b"", None),
    ],
)
def test_hostile_bodies_cost_no_more_than_their_length(unit: bytes, end: bytes, canonical: bytes | None) -> None:
    """8 MB in one piece and in many: a form that is quadratic, or that has a slow step per octet, takes minutes."""
    body = unit * (8 * 1024 * 1024 // len(unit)) + end
    if canonical is None:
        canonical = body.replace(b" " * 4097, b" ").removesuffix(b"\r\n") + b"\r\n"
    started = time.process_time()
    assert body_hash(body) == sha256(canonical)
    pieces = [body[start : start + 60_000] for start in range(0, len(body), 60_000)]
    assert body_hash(*pieces) == sha256(canonical)
    assert time.process_time() - started < 4  # measured: 0.1 to 0.2 s


def test_withheld_line_ends_come_back_when_text_follows() -> None:
    ends = b"\r\n" * 300_000
    assert body_hash(b"a", ends, b"b\r\n") == sha256(b"a" + ends + b"b\r\n")
    assert body_hash(ends, b"b\r\n", ends) == sha256(ends + b"b\r\n")


def test_header_fields_are_canonical() -> None:
    # RFC 6376, 3.4.5, and what real mail adds to it
    header = (
        b"A: X\r\nB : Y\t\r\n\tZ  \r\n"
        b"Subject:no space\r\n"
        b"From\t : a@b\r\n"
        b"X-Empty:\r\nX-Blank: \r\n \t\r\n"
        b"X-Colon: a: b:c \r\n"
        b"Utf8: \xc3\xa4\xc3\x84  \xff\r\n"
        b"\r\n"
    )
    assert header_fields(header) == [
        (b"a", b"X"),
        (b"b", b"Y Z"),
        (b"subject", b"no space"),
        (b"from", b"a@b"),
        (b"x-empty", b""),
        (b"x-blank", b""),
        (b"x-colon", b"a: b:c"),
        (b"utf8", b"\xc3\xa4\xc3\x84 \xff"),
    ]


@pytest.mark.parametrize("header", [b"", b"\r\n", b"no colon\r\n\r\n", b"no colon\r\n folded: here\r\n\r\n"])
def test_header_without_fields(header: bytes) -> None:
    names = [name for name, _ in header_fields(header)]
    assert b"folded" not in names
    assert b"no colon" not in names


def test_a_line_that_starts_with_white_space_is_never_a_field_of_its_own() -> None:
    assert [name for name, _ in header_fields(b" From: a@b\r\nTo: c@d\r\n From: e@f\r\n\r\n")] == [b" from", b"to"]
