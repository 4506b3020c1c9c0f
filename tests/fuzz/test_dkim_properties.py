"""Properties of canonicalisation and signing, held against dkimpy."""

import hashlib
from functools import cache
from itertools import pairwise

import dkim as dkimpy
from dkim.canonicalization import Relaxed
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.message import dkim
from gateway.message.canonical import BodyHasher, header_fields
from gateway.message.dkim import PrivateKey
from tests.fuzz import effort

OCTETS = b" \t\r\n.ab\x80"
bodies = st.lists(st.sampled_from([bytes([octet]) for octet in OCTETS] + [b"\r\n", b"\r\n", b"  "]), max_size=60).map(
    b"".join
)
crlf_bodies = st.lists(st.text(" \t.ab", max_size=8), max_size=12).map(
    lambda lines: "".join(line + "\r\n" for line in lines).encode()
)
cuts = st.lists(st.integers(0, 120), max_size=6)

names = st.sampled_from([*dkim.SIGNED_FIELDS, b"X-Other", b"Received", b"FROM", b"Message-Id", b"x"])
words = st.lists(st.sampled_from([b" ", b"\t", b"a", b":", b".", b"\xc3\xa4", b"\x80"]), max_size=8).map(b"".join)
values = st.lists(words, min_size=1, max_size=3).map(b"\r\n ".join) | st.lists(words, min_size=1, max_size=3).map(
    b"\r\n\t".join
)
fields = st.lists(st.tuples(names, values), max_size=12)


def hash_of(pieces: list[bytes]) -> bytes:
    hasher = BodyHasher()
    for piece in pieces:
        hasher.update(piece)
    return hasher.digest()


def cut(body: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(min(place, len(body)) for place in places), len(body)]
    return [body[start:end] for start, end in pairwise(edges)]


def oracle(body: bytes) -> bytes:
    """dkimpy leaves white space at the end of an unfinished last line; on the wire that line has its CRLF."""
    if body and not body.endswith(b"\r\n"):
        body += b"\r\n"
    return hashlib.sha256(Relaxed.canonicalize_body(body)).digest()


@given(bodies, cuts)
@example(b" \r", [1])
@example(b"a\r\n\n\r\n", [2, 3])
@example(b"\r\r\n\r\n", [1, 2, 3])
@effort.examples(150)
def test_body_hash_equals_dkimpys_for_any_octets_and_cuts(body: bytes, places: list[int]) -> None:
    assert hash_of(cut(body, places)) == oracle(body)


@given(crlf_bodies, cuts)
@effort.examples(80)
def test_body_hash_equals_dkimpys_for_mail(body: bytes, places: list[int]) -> None:
    assert hash_of(cut(body, places)) == hashlib.sha256(Relaxed.canonicalize_body(body)).digest()


def block(pairs: list[tuple[bytes, bytes]]) -> bytes:
    return b"".join(name + b":" + value + b"\r\n" for name, value in pairs) + b"\r\n"


@given(fields)
@effort.examples(100)
def test_header_fields_equal_dkimpys(pairs: list[tuple[bytes, bytes]]) -> None:
    parsed, _ = dkimpy.rfc822_parse(block(pairs))
    theirs = [(name, value.removesuffix(b"\r\n")) for name, value in Relaxed.canonicalize_headers(parsed)]
    assert header_fields(block(pairs)) == theirs


@cache
def key() -> PrivateKey:
    return dkim.load_private_key(dkim.generate_rsa())


def txt(name: bytes, timeout: int = 5) -> bytes:
    return dkim.public_record(key()).encode()


def signed(header: bytes, body: bytes) -> bytes:
    unsigned = dkim.prepare(header, hash_of([body]), domain="example.com", selector="s1", now_s=1_750_000_000)
    return dkim.finish(unsigned, key().sign(unsigned.digest)) + header + body


@given(fields, crlf_bodies)
@effort.examples(60)
def test_dkimpy_verifies_what_we_sign(pairs: list[tuple[bytes, bytes]], body: bytes) -> None:
    assert dkimpy.verify(signed(block(pairs), body), dnsfunc=txt)


@given(fields, st.sampled_from(dkim.SIGNED_FIELDS), st.integers(0, 12))
@effort.examples(60)
def test_one_more_signed_field_anywhere_breaks_the_signature(
    pairs: list[tuple[bytes, bytes]], name: bytes, place: int
) -> None:
    """Any value: also an instance that repeats what is there."""
    message = signed(block(pairs), b"")
    whole = signed(block([*pairs[:place], (name, b" a"), *pairs[place:]]), b"")
    own = message[: len(message) - len(block(pairs))]
    tampered = own + whole[len(whole) - len(block([*pairs, (name, b" a")])) :]
    assert dkimpy.verify(message, dnsfunc=txt)
    assert not dkimpy.verify(tampered, dnsfunc=txt)


@given(st.binary(max_size=200))
@effort.examples(80)
def test_any_octets_can_be_signed(header: bytes) -> None:
    unsigned = dkim.prepare(header, bytes(32), domain="example.com", selector="s1", now_s=0)
    field = dkim.finish(unsigned, bytes(256))
    assert len(header_fields(field)) == 1
    assert field.isascii()
