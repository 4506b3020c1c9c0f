"""Strict JSON, small and large: what is refused, and that nothing else is."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.api import document
from gateway.api.document import CUT_BYTES, LARGE_BYTES, LongString
from gateway.errors import Reason, Refused

PADDING = b" " * (LARGE_BYTES + 1)  # makes any document a large one
LONG = b'"' + b"x" * CUT_BYTES * 5 + b'"'  # makes one large by a string that is cut out


def refused(body: bytes) -> str:
    with pytest.raises(Refused) as caught:
        document.decode(body)
    assert caught.value.reason is Reason.INVALID_JSON
    return caught.value.text


BAD: list[tuple[bytes, str]] = [
    (b"", "Expecting value"),
    (b"{", "line 1, column 2"),
    (b'{"a": 1,}', "line 1"),
    (b'{"a": 1}\n x', "line 2, column 2: Extra data"),
    (b"{'a': 1}", "property name enclosed in double quotes"),
    (b'{"a": NaN}', "NaN is not JSON"),
    (b'{"a": Infinity}', "Infinity is not JSON"),
    (b'{"a": [-Infinity]}', "-Infinity is not JSON"),
    (b'{"a": 1, "a": 1}', "The name 'a' stands twice"),
    (b'{"x": [{"b": 1, "\\u0062": 2}]}', "The name 'b' stands twice"),
    (b'{"a": "\xff"}', "not valid UTF-8 (byte 7)"),
    (b'{"a": "\xed\xa0\x80"}', "not valid UTF-8"),
    (b'{"a": "\\ud800"}', "lone surrogate"),
    (b'{"a": ["\\uDFFF\\ud800"]}', "lone surrogate"),
    (b'{"\\ud800": 1}', "lone surrogate"),
    (b'{"a": "line\nbreak"}', "Invalid control character"),
    (b'{"a": ' + b"1" * 100_000 + b"}", "too many digits"),
    (b'{"a":' * 100_000, "nested too deeply"),
    (b"[" * 100_000, "nested too deeply"),
    (b"[]", "must be a JSON object"),
    (b'"text"', "must be a JSON object"),
    (b"null", "must be a JSON object"),
    ("{“from”: “a@example.com”}".encode(), "typographic quotes (“)"),
    ('{"from": “a@example.com”}'.encode(), "typographic quotes (“)"),
    ('{"from”: "a@example.com"}'.encode(), "typographic quotes (”)"),
]


@pytest.mark.parametrize(("body", "text"), BAD, ids=range(len(BAD)))
def test_refused_with_place_and_reason(body: bytes, text: str) -> None:
    assert text in refused(body)


@pytest.mark.parametrize(("body", "text"), BAD, ids=range(len(BAD)))
def test_refused_in_a_large_document_too(body: bytes, text: str) -> None:
    assert refused(PADDING + body)
    if body.startswith(b"{") and body != b"{":
        assert refused(b'{"long": ' + LONG + b", " + body[1:].lstrip())


def test_good_documents() -> None:
    assert document.decode(b'\xef\xbb\xbf{"a": 1}') == {"a": 1}  # a byte order mark, as .NET writes it
    assert document.decode(b'{"a": "\\ud83d\\ude00 \\\\ud800", "b": 1.5}') == {"a": "😀 \\ud800", "b": 1.5}
    assert document.decode('{"a": "“quoted” and \'so\'"}'.encode()) == {"a": "“quoted” and 'so'"}


def test_long_strings_are_cut_and_whole() -> None:
    text = 'a"b\\c\n/é😀' * 5000
    body = json.dumps({"a": text, "b": [{"c": text, "d": "short"}], "e": "\\" * CUT_BYTES * 3}).encode()
    decoded = document.decode(bytearray(body))
    first, second, third = decoded["a"], decoded["b"][0]["c"], decoded["e"]
    assert decoded["b"][0]["d"] == "short"
    for cut, whole in ((first, text), (second, text), (third, "\\" * CUT_BYTES * 3)):
        assert isinstance(cut, LongString)
        assert cut.text() == whole


@pytest.mark.parametrize(
    ("inside", "text"),
    [(b"\xff", "UTF-8"), (b"\\x", "malformed"), (b"\n", "malformed"), (b"\\ud800", "lone surrogate")],
)
def test_a_long_string_that_is_not_one(inside: bytes, text: str) -> None:
    body = b'{"a": ' + LONG[:-1] + inside + b'"}'
    with pytest.raises(Refused, match=text):
        document.decode(body)["a"].text()


@pytest.mark.parametrize(
    "body",
    [
        b'{"a": [' + LONG + b"]}",
        b"{" + LONG + b": 1}",
        LONG,
        b'{"a": ' + LONG[:-1],
        b'{"a": ' + LONG + LONG + b"}",
        b'{"a": [' + b"[]," * 200_000 + b"1]}",
        b'{"a": [' + b'"",' * 1_000_001 + b"1]}",
        b'{"a": "' + b'\\"' * 1_000_001 + b'"}',
    ],
    ids=["in a list", "as a name", "alone", "open", "twice", "values", "strings", "quotes"],
)
def test_large_documents_that_no_client_means(body: bytes) -> None:
    refused(body)


def test_no_string_of_a_client_is_taken_for_a_cut() -> None:
    body = b'{"a": ' + LONG + b', "b": "0000000000000000000000000000000000"}'
    assert document.decode(body)["b"] == "0" * 34


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), values), st.booleans(), st.booleans())
def test_any_document_is_read_as_the_standard_library_does(
    expected: dict[str, Any], ascii_only: bool, large: bool
) -> None:
    body = json.dumps(expected, ensure_ascii=ascii_only).encode()
    assert document.decode(PADDING + body if large else body) == expected


@settings(deadline=None)
@given(st.binary(max_size=200), st.booleans())
def test_any_bytes_are_decoded_or_refused(body: bytes, large: bool) -> None:
    try:
        decoded: object = document.decode(PADDING + body if large else body)
    except Refused as error:
        decoded = error.reason
    assert isinstance(decoded, dict) or decoded is Reason.INVALID_JSON
