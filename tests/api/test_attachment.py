"""Base64 as it stands in JSON: exact, strict, and the same for long contents as for short ones."""

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.api import attachment
from gateway.api.document import LongString

STEP = 48 * 1024  # bytes of base64 decoded at a time


def long(text: str) -> LongString:
    """The string as a large document holds it: JSON escapes and all."""
    return LongString(memoryview(json.dumps(text)[1:-1].encode()))


@given(st.binary(max_size=300), st.integers(0, 80))
def test_round_trip_with_and_without_line_breaks(content: bytes, width: int) -> None:
    text = base64.b64encode(content).decode()
    broken = "\r\n".join(text[n : n + width] for n in range(0, len(text), width)) if width else text
    assert attachment.decode(broken) == content
    assert attachment.decode(long(broken)) == content


@pytest.mark.parametrize("size", [STEP * 3 // 4 + n for n in range(-4, 5)] + [STEP * 3 + 1])
def test_contents_of_several_steps(size: int) -> None:
    content = bytes(n % 251 for n in range(size))
    text = base64.b64encode(content).decode()
    mime = base64.encodebytes(content).decode()
    assert attachment.decode(long(text)) == content
    assert attachment.decode(long(mime)) == content
    assert attachment.decode(long(mime.replace("\n", "\r\n"))) == content


@pytest.mark.parametrize("shift", range(8))
def test_escapes_are_understood_wherever_a_step_ends(shift: int) -> None:
    content = b"\xfb\xef\xbe" * STEP + b"\xff" * shift + b"x"
    raw = base64.b64encode(content)
    for plus, slash in ((b"\\u002B", b"\\/"), (b"\\u002b", b"\\u002F")):
        escaped = raw.replace(b"+", plus).replace(b"/", slash)
        assert attachment.decode(LongString(memoryview(b"\\r\\n" * shift + escaped))) == content


@pytest.mark.parametrize(
    "text",
    [
        "A",
        "AB",
        "ABC",
        "A===",
        "====",
        "AA=A",
        "AA==AAAA",
        "AA==AA==",
        "A A=",
        "AA-_",
        "AA=",
        "AAAA=",
        "AAAA====",
        "\u00c4AAA",
    ],
)
def test_what_is_not_base64_is_refused_short_and_long(text: str) -> None:
    assert attachment.decode(text) is None
    assert attachment.decode(long(text)) is None
    assert attachment.decode(long("AAAA" * STEP + text)) is None
    assert attachment.decode(long(text + "AAAA" * STEP)) is None


@given(st.text(alphabet="AB+/=\n\\ ", max_size=12))
def test_short_and_long_agree(text: str) -> None:
    assert attachment.decode(text) == attachment.decode(long(text))
