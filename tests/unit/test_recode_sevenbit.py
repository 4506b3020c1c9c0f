"""Eight bits made seven: what a part decodes to stays, whatever the message, or it is refused with a reason."""

import base64
import re

import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from gateway.message import fixup
from gateway.message.model import PIECE_BYTES
from gateway.message.recode import Rewriting, Unrepairable
from gateway.message.recode.downgrade import Undowngradable
from gateway.message.recode.sevenbit import SevenBitSurvey
from tests.fuzz import effort
from tests.peers import corpora
from tests.peers.parts import Node, leaves, messages, render
from tests.unit.test_recode import cut
from tests.unit.test_recode import recoded as repaired

EXAMPLES = effort.examples(20, HealthCheck.filter_too_much)
HEAD = b"From: a@example.com\r\nMIME-Version: 1.0\r\n"


def seven_bit(message: bytes, *, size: int = PIECE_BYTES) -> bytes:
    start = fixup.split_header(message)
    survey = SevenBitSurvey(message[:start])
    pieces = cut(message[start:], size)
    for piece in pieces:
        survey.feed(piece)
    survey.end()
    rewriting = Rewriting(survey)
    out = [new for piece in pieces for new in rewriting.feed(piece)] + rewriting.finish()
    return rewriting.header + b"".join(out)


def fits(message: bytes) -> bool:
    lines = message.split(b"\r\n")
    return message.isascii() and max(map(len, lines)) <= fixup.MAX_LINE and b"8bit" not in message.lower()


@EXAMPLES
@given(messages(), st.integers(1000, 1100))
def test_parts_decode_the_same(tree: Node, size: int) -> None:
    message = repaired(render(tree))
    new = seven_bit(message)
    assert fits(new)
    assert leaves(new) == leaves(message)
    assert leaves(seven_bit(message, size=size)) == leaves(message)
    assert seven_bit(new) == new


@EXAMPLES
@given(st.binary(max_size=600), st.sampled_from([b"", b"8bit", b"binary", b"x-odd"]), st.booleans())
def test_any_body_at_all(body: bytes, encoding: bytes, multipart: bool) -> None:
    field = b"Content-Transfer-Encoding: %b\r\n" % encoding if encoding else b""
    kind = b"Content-Type: multipart/mixed; boundary=a\r\n" if multipart else b""
    text = body.replace(b"\r", b"").replace(b"\n", b"\r\n").replace(b"\0", b"")
    message = HEAD + kind + field + b"\r\n--a\r\n\r\n" + text + b"\r\n--a--\r\n"
    try:
        new = seven_bit(message)
    except (Unrepairable, Undowngradable):
        return
    assert new.isascii()
    assert leaves(new) == leaves(message)


def test_messages_of_cpythons_tests() -> None:
    refused = 0
    for name, raw in corpora.cpython().items():
        message = raw.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")
        start = fixup.split_header(message)
        message = message[:start] + message[start:].replace(b" the ", " thé ".encode())
        try:
            new = seven_bit(repaired(message))
        except (Unrepairable, Undowngradable):
            refused += 1
            continue
        assert new.isascii(), name
        assert leaves(new) == leaves(message), name
    assert refused <= 5  # texts before and between the parts, and two parts that nobody can be sure of


def test_what_says_eight_bits_and_has_none_says_seven() -> None:
    message = HEAD + b"Content-Transfer-Encoding: binary\r\n\r\nplain\r\n"
    assert seven_bit(message) == message.replace(b"binary", b"7bit")


def test_a_message_in_seven_bits_stays_as_it_is() -> None:
    message = HEAD + b"X-Odd:  a\tb  \r\n\r\n.plain  \r\n\r\n"
    assert seven_bit(message) == message


def test_an_international_report_may_be_encoded() -> None:
    """RFC 6533, 4."""
    part = "Original-Recipient: utf-8;bjö@example.com\r\n".encode()
    message = HEAD + b"Content-Type: message/global-delivery-status\r\n\r\n" + part
    [(_, encoded)] = re.findall(rb"base64\r\n(\r\n)(.*)\Z", seven_bit(message), re.DOTALL)
    assert base64.b64decode(encoded) == part


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("message/delivery-status", "may not be encoded"),
        ("message/partial; id=x", "may not be encoded"),
        ("multipart/mixed; boundary*=utf-8''x", "cannot be read for certain"),
    ],
)
def test_what_may_not_be_encoded(kind: str, why: str) -> None:
    with pytest.raises(Unrepairable) as error:
        seven_bit(HEAD + f"Content-Type: {kind}\r\n\r\nfür\r\n".encode())
    assert why in error.value.why
