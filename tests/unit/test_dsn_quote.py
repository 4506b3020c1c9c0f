"""Notifications of international and other odd addresses, and what they show of the message."""

import re
from dataclasses import replace

import pytest

from gateway.message import dsn
from gateway.message.header import HeaderError
from gateway.message.recode.sevenbit import SevenBitSurvey
from tests.unit.test_dsn import (
    BOB,
    BODY,
    HEADER,
    NOTICE,
    UNTIL,
    bounces,
    global_groups,
    groups,
    parse,
    parts,
    wire,
    words,
)

# What is quoted


def test_a_failure_quotes_the_whole_message_where_it_is_wanted() -> None:
    quoted = parts(replace(NOTICE, body=BODY))[2]
    assert quoted.get_content_type() == "message/rfc822"
    assert HEADER + BODY in wire(replace(NOTICE, body=BODY))
    assert HEADER + BODY not in wire(NOTICE)


def test_a_message_of_more_than_50_kb_is_not_quoted_whole() -> None:
    room = dsn.FULL_BYTES - len(HEADER)
    lines = b"x" * 98 + b"\r\n"
    fits = (lines * (room // 100 + 1))[-room:]
    assert parts(replace(NOTICE, body=fits))[2].get_content_type() == "message/rfc822"
    assert parts(replace(NOTICE, body=b"y" + fits))[2].get_content_type() == "text/rfc822-headers"


@pytest.mark.parametrize(
    ("header", "body", "content_type", "encoding"),
    [
        (HEADER, BODY, "message/rfc822", "7bit"),
        (HEADER, "Grüße\r\n".encode(), "message/rfc822", "8bit"),
        (HEADER, b"\xff\xfe\r\n", "message/rfc822", "8bit"),
        ("Subject: Grüße\r\n\r\n".encode(), BODY, "message/global", "8bit"),
        (b"Subject: Gr\xfc\xdfe\r\n\r\n", BODY, "text/rfc822-headers", "quoted-printable"),
        (HEADER, b"x" * 999 + b"\r\n", "text/rfc822-headers", "7bit"),
        (HEADER, b"nul \0\r\n", "text/rfc822-headers", "7bit"),
        (b"X: " + b"y" * 2000 + b"\r\n\r\n", BODY, "text/rfc822-headers", "quoted-printable"),
        ("Subject: Grüße\r\n\r\n".encode(), None, "message/global-headers", "8bit"),
        (b"Subject: Gr\xfc\xdfe\r\n\r\n", None, "text/rfc822-headers", "quoted-printable"),
        (HEADER, None, "text/rfc822-headers", "7bit"),
    ],
)
def test_how_the_message_is_shown(header: bytes, body: bytes | None, content_type: str, encoding: str) -> None:
    notice = replace(NOTICE, header=header, body=body)
    quoted = parts(notice)[2]
    assert (quoted.get_content_type(), quoted["Content-Transfer-Encoding"]) == (content_type, encoding)
    if encoding == "quoted-printable":
        assert quoted.get_payload(decode=True) == header[:-2]
    elif content_type.startswith("text/") or content_type.endswith("headers"):
        assert b"\r\n\r\n" + header[:-2] + b"\r\n--" in wire(notice)
    else:
        assert b"\r\n\r\n" + header + (body or b"") + b"\r\n--" in wire(notice)


def test_a_message_whose_content_is_gone_is_told_of_without_it() -> None:
    assert [part.get_content_type() for part in parts(replace(NOTICE, header=b""))] == [
        "text/plain",
        "message/delivery-status",
    ]


# Addresses


@pytest.mark.parametrize(
    "address", ['"a\\"b c"@d.example', "bob@[192.0.2.1]", "bob@[IPv6:2001:db8::1]", "a.b+c=d@xn--bcher-kva.example"]
)
def test_odd_ascii_addresses(address: str) -> None:
    notice = replace(NOTICE, to=address, fates=(replace(BOB, address=address),))
    _, recipient = groups(notice)
    assert recipient["final-recipient"] == f"rfc822; {address}"
    assert re.sub(r"\r\n", "", parse(notice)["To"]) == address
    assert f"\n<{address}>\n" in words(notice)


def test_an_international_recipient() -> None:
    """RFC 6533: the status part is a global one, and says which address is of which kind."""
    fates = (replace(BOB, address="grün@example.net", reply="550 5.1.1 wer ist grün?"), BOB)
    notice = replace(NOTICE, fates=fates)
    report = parse(notice)
    assert report.get_param("report-type") == "global-delivery-status"
    _, gruen, bob = global_groups(notice)
    assert gruen["final-recipient"] == "utf-8; grün@example.net"
    assert gruen["diagnostic-code"] == "smtp; 550 5.1.1 wer ist grün?"
    assert bob["final-recipient"] == "rfc822; bob@example.net"
    assert wire(notice).partition(b"\r\n\r\n")[0].isascii()  # 8BITMIME is enough
    assert "<grün@example.net>" in words(notice)
    temporary, permanent = bounces(notice)  # it does not know this form, and sees nobody else in it
    assert temporary == []
    assert set(permanent) <= {"bob@example.net"}


def test_an_international_original_recipient() -> None:
    notice = replace(NOTICE, fates=(replace(BOB, original=r"utf-8;gr\x{FC}n@example.net"),))
    _, bob = global_groups(notice)
    assert bob["original-recipient"] == "utf-8; grün@example.net"
    assert bob["final-recipient"] == "rfc822; bob@example.net"


def test_an_international_sender_is_told_by_an_international_header() -> None:
    assert "To: grün@example.com\r\n".encode() in wire(replace(NOTICE, to="grün@example.com"))


def test_a_notification_to_nobody_is_refused() -> None:
    with pytest.raises(HeaderError):
        wire(replace(NOTICE, to=""))


@pytest.mark.parametrize("address", ["grün@example.net", "bob@example.net"])
@pytest.mark.parametrize("header", [HEADER, "Subject: Grüße\r\n\r\n".encode(), b"Subject: Gr\xfc\r\n\r\n"])
@pytest.mark.parametrize("body", [None, "Grüße\r\n".encode()])
def test_a_host_without_8bitmime_can_have_it(address: str, header: bytes, body: bytes | None) -> None:
    """Nothing in it forbids what is done for such a host."""
    notice = replace(NOTICE, fates=(replace(BOB, address=address),), header=header, body=body)
    content = dsn.compose(notice, message_id="n1@gateway.example.org", date=UNTIL, seed=b"0123456789ab")
    survey = SevenBitSurvey(content.header)
    for piece in content.body:
        survey.feed(piece)
    survey.end()
    assert bool(survey.plan) is not b"".join(content.body).isascii()
