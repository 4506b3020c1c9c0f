"""Fix-up of SMTP mail: byte for byte but for what is documented."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.message import fixup
from gateway.message.received import received_field

RECEIVED = b"Received: from x ([192.0.2.1])\r\n\tby y with ESMTP id z;\r\n\tnow\r\n"
DATE = b"Date: Fri, 02 Jan 2026 03:04:05 +0000\r\n"
FROM = b"From: env@example.com\r\n"
ID = b"Message-ID: <new@example.com>\r\n"


def fix(raw: bytes) -> fixup.Fixed:
    return fixup.fix_header(
        raw,
        envelope_sender="env@example.com",
        received=RECEIVED,
        message_id="new@example.com",
        date="Fri, 02 Jan 2026 03:04:05 +0000",
    )


COMPLETE = b"From: a@b.de\r\nDate: d\r\nMessage-ID: <i@b.de>\r\n"


@pytest.mark.parametrize(
    ("message", "body_start"),
    [
        (b"Subject: a\r\n\r\nbody\r\n", 14),
        (b"\r\nbody\r\n", 2),
        (b"no field here\r\nFrom: a@b\r\n\r\n", 0),
        (b" folded: first\r\n\r\n", 0),
        (b": no name\r\n\r\n", 0),
        (b"S\xc3\xbc: x\r\n\r\n", 0),
        (b"Subject: a\r\n", 12),
        (b"Subject : a\r\n\r\nb", 15),
        (b"From root Mon Jan  1 00:00:00 2026\r\nSubject: a\r\n\r\nb", 50),
        (b">From root Mon Jan  1 00:00:00 2026\r\nSubject: a\r\n\r\nb", 51),
        (b"From here on it is text\r\nand more\r\n\r\n", 0),
        (b"A: b\r\nodd line\r\nC: d\r\n\r\nbody", 24),
        (b"A: b\r\n \r\nC: d\r\n\r\nbody", 17),
        (b"", 0),
    ],
)
def test_split_header(message: bytes, body_start: int) -> None:
    assert fixup.split_header(message) == body_start


def test_a_complete_header_is_only_preceded() -> None:
    raw = b"Subject: x\r\n" + COMPLETE + b"X-Odd : \xff\xfe\r\nodd line\r\n\ttab\r\n \r\n: \r\nX:\r\n\r\n"
    fixed = fix(raw)
    assert fixed.header == RECEIVED + raw
    assert fixed.removed == ()
    assert (fixed.header_from, fixed.message_id, fixed.subject) == ("a@b.de", "i@b.de", "x")
    assert (fixed.from_count, fixed.received_count, fixed.long_line) == (1, 0, False)


@pytest.mark.parametrize(
    ("raw", "added"),
    [
        (b"Date: d\r\nMessage-ID: <i@b>\r\n\r\n", FROM),
        (b"From: a@b\r\nMessage-ID: <i@b>\r\n\r\n", DATE),
        (b"DATE: d\r\nFROM : a@b\r\n\r\n", ID),
        (b"X: y\r\n\r\n", DATE + FROM + ID),
        (b"\r\n", DATE + FROM + ID),
        (b"Resent-From: a@b\r\nX-Date: d\r\nOriginal-Message-ID: x\r\n\r\n", DATE + FROM + ID),
    ],
)
def test_what_is_missing_is_added(raw: bytes, added: bytes) -> None:
    assert fix(raw).header == RECEIVED + added + raw


@pytest.mark.parametrize(
    ("raw", "header"),
    [
        (b"", DATE + FROM + ID + b"\r\n"),
        (COMPLETE, COMPLETE + b"\r\n"),
        (COMPLETE[:-2], COMPLETE + b"\r\n"),
    ],
)
def test_the_empty_line_is_always_there(raw: bytes, header: bytes) -> None:
    assert fix(raw).header == RECEIVED + header


@pytest.mark.parametrize(
    "field",
    [
        b"Bcc: x@y.de,\r\n z@y.de\r\n",
        b"bcc : x@y.de\r\n",
        b"Resent-Bcc:\r\n\tx@y.de\r\n",
        b"Return-Path: <x@y.de>\r\n",
        b"CONTENT-LENGTH: 5\r\n",
        b"Idempotency-Key: k\r\n",
        b"X-Gateway-Tag: t\r\n",
        b"X-Gateway-Metadata: {}\r\n",
        b"X-Gateway-Anything: x\r\n",
        b"\x0bBcc\x0c: x@y.de\r\n",
    ],
)
def test_what_is_removed(field: bytes) -> None:
    parts = [b"Subject: x\r\n", b"odd\r\n", COMPLETE, b"Bccx: no\r\nX-Bcc: no\r\nX-Gateway: no\r\n"]
    for i in range(len(parts) + 1):
        raw = b"".join([*parts[:i], field, *parts[i:], field, b"\r\n"])
        fixed = fix(raw)
        assert fixed.header == RECEIVED + b"".join(parts) + b"\r\n"
        assert fixed.removed == (field.split(b":")[0].strip().decode(),) * 2


def test_a_field_without_a_value_counts_as_missing() -> None:
    fixed = fix(b"From:\r\nDate: \r\n \r\nMessage-ID:\t\r\nSubject:\r\n\r\n")
    assert fixed.header == RECEIVED + DATE + FROM + ID + b"Subject:\r\n\r\n"
    assert fixed.removed == ("From", "Date", "Message-ID")
    assert (fixed.header_from, fixed.message_id, fixed.subject) == ("env@example.com", "new@example.com", "")


@pytest.mark.parametrize(
    ("fields", "senders", "header_from", "count"),
    [
        (b"From: A <a@B.de>\r\n", ("a@b.de",), "a@b.de", 1),
        (b"Sender: s@b.de\r\nFrom: A\r\n <a@b.de>, c@d.de\r\n", ("a@b.de", "c@d.de", "s@b.de"), "a@b.de", 1),
        (b"From: a@b.de\r\nFROM : evil@x.de\r\n", ("a@b.de", "evil@x.de"), "a@b.de", 2),
        (b"From: a@b.de\r\n\x0bFrom\x0b: evil@x.de\r\n", ("a@b.de", "evil@x.de"), "a@b.de", 2),
        (b"From: a@b.de\r\nodd line\r\nFrom: evil@x.de\r\n", ("a@b.de", "evil@x.de"), "a@b.de", 2),
        (b"From: a@b.de\r\n \r\nFrom: evil@x.de\r\n", ("a@b.de", "evil@x.de"), "a@b.de", 2),
        (b"Sender: s@b.de\r\n", ("env@example.com", "s@b.de"), "env@example.com", 0),
        (b"From: root (Cron)\r\n", ("root",), "root", 1),
        (b"From: Ann Example\r\n", ("unreadable From field",), "", 1),
        (b"From: a@b.de\r\nSender: x y z\r\n", ("a@b.de", "unreadable Sender field"), "a@b.de", 1),
        (b"From: \xff@b.de\r\n", ("unreadable From field",), "", 1),
    ],
)
def test_senders(fields: bytes, senders: tuple[str, ...], header_from: str, count: int) -> None:
    fixed = fix(b"Date: d\r\nMessage-ID: <i@b>\r\n" + fields + b"\r\n")
    assert fixed.senders == senders
    assert fixed.header_from == header_from
    assert fixed.from_count == count
    assert fixed.header.endswith(fields + b"\r\n")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (b"plain", "plain"),
        (b"folded\r\n value\r\n\there", "folded value here"),
        (b"=?utf-8?q?Gr=C3=BC=C3=9Fe?=", "Grüße"),
        ("roh: Grüße".encode(), "roh: Grüße"),
        (b"bad \xff byte", "bad \ufffd byte"),
        (b"=?utf-8?q?a=00=0D=0Ab?=", "a   b"),
        (b"x" * 5000, "x" * 200),
    ],
)
def test_subject(value: bytes, shown: str) -> None:
    assert fix(b"Subject: " + value + b"\r\n\r\n").subject == shown


@pytest.mark.parametrize(
    ("value", "id_"),
    [
        (b" <a@b>", "a@b"),
        (b"\r\n <a@b> (comment)", "a@b"),
        (b" a@b ", "a@b"),
        (b" <a@b", "<a@b"),
        (b" <<a@b>>", "a@b"),  # trap 9
        (b" <\xff\x01@b>", "\ufffd @b"),
        (b" <" + b"x" * 3000 + b">", "x" * 995),
    ],
)
def test_message_id(value: bytes, id_: str) -> None:
    assert fix(b"Message-Id:" + value + b"\r\n\r\n").message_id == id_


def test_control_fields_are_read() -> None:
    fixed = fix(
        b'Idempotency-Key: "order-1"\r\nX-Gateway-Tag: one\r\nX-GATEWAY-TAG: =?utf-8?q?zw=C3=B6lf?=\r\n'
        b'X-Gateway-Tag:\r\nX-Gateway-Metadata: {"a":\r\n 1}\r\nX-Gateway-TTL: 5m\r\nX-Gateway-Send-At: in 1h\r\n'
        b"X-Gateway-Track: opens,\r\n clicks\r\nX-Gateway-Unsubscribe: =?utf-8?q?zw=C3=B6lf?=\r\nX-Gateway-: x\r\n\r\n"
    )
    assert fixed.idempotency_key == "order-1"
    assert fixed.tags == ("one", "zwölf")
    assert fixed.metadata == '{"a": 1}'
    assert (fixed.ttl, fixed.send_at, fixed.priority) == ("5m", "in 1h", None)
    assert (fixed.track, fixed.unsubscribe) == ("opens, clicks", "zwölf")
    assert fixed.unknown_controls == ("X-Gateway-",)
    assert fixed.repeated_controls == ()
    fixed = fix(b"Idempotency-Key: a\r\nidempotency-key: b\r\nX-Gateway-Metadata: 1\r\nX-Gateway-Metadata: 2\r\n\r\n")
    assert (fixed.idempotency_key, fixed.metadata) == ("a", "1")
    assert fixed.repeated_controls == ("idempotency-key", "X-Gateway-Metadata")


def test_tracking_and_unsubscribing_are_taken_out_and_said_once() -> None:
    for name in ("X-Gateway-Track", "X-Gateway-Unsubscribe"):
        fixed = fix(COMPLETE + f"{name}: one\r\n{name.lower()} : two\r\n\r\n".encode())
        assert fixed.header == RECEIVED + COMPLETE + b"\r\n"
        assert "one" in (fixed.track, fixed.unsubscribe)
        assert fixed.repeated_controls == (name.lower(),)
        assert fixed.unknown_controls == ()
    nothing = fix(COMPLETE + b"\r\n")
    assert (nothing.track, nothing.unsubscribe) == (None, None)


def test_priority_is_taken_out() -> None:
    fixed = fix(COMPLETE + b"X-Gateway-Priority: High \r\nx-gateway-priority: low\r\n\r\n")
    assert fixed.priority == "High"
    assert fixed.repeated_controls == ("x-gateway-priority",)
    assert fixed.header == RECEIVED + COMPLETE + b"\r\n"


@pytest.mark.parametrize(
    ("field", "optional"),
    [
        (b"TLS-Required: No\r\n", True),
        (b"tls-required:\r\n NO \r\n", True),
        (b"TLS-Required: yes\r\n", False),
        (b"TLS-Required: no, really\r\n", False),
        (b"TLS-Required:\r\n", False),
        (b"TLS-Required: yes\r\nTLS-Required: no\r\n", False),
        (b"X-TLS-Required: no\r\n", False),
    ],
)
def test_tls_required_is_read_and_stays(field: bytes, optional: bool) -> None:
    """RFC 8689, 3."""
    fixed = fix(COMPLETE + field + b"\r\n")
    assert fixed.tls_optional is optional
    assert fixed.header == RECEIVED + COMPLETE + field + b"\r\n"


def test_counts_received_and_long_lines() -> None:
    assert fix(b"Received: a\r\n\tb\r\nreceived : c\r\nX-Received: d\r\n\r\n").received_count == 2
    assert not fix(b"X: " + b"a" * 995 + b"\r\n\r\n").long_line
    assert fix(b"X: " + b"a" * 996 + b"\r\n\r\n").long_line


def test_received() -> None:
    field = received_field(
        helo="client.example",
        peer="192.0.2.1",
        by="mail.example.com",
        protocol="ESMTPSA",
        id="eml_1",
        for_="a@b.de",
        date="Fri, 02 Jan 2026 03:04:05 +0000",
    )
    assert field == (
        b"Received: from client.example ([192.0.2.1])\r\n"
        b"\tby mail.example.com with ESMTPSA id eml_1\r\n"
        b"\tfor <a@b.de>;\r\n"
        b"\tFri, 02 Jan 2026 03:04:05 +0000\r\n"
    )


@given(helo=st.text(), peer=st.text(), name=st.text(), recipient=st.text())
def test_received_is_safe_whatever_the_client_says(helo: str, peer: str, name: str, recipient: str) -> None:
    field = received_field(
        helo=helo, peer=peer, peer_name=name, by="b", protocol="SMTP", id="i", for_=recipient, date="d"
    )
    start = rb"Received: from [!-~]+ \((?:[!-~]+ )?[!-~]+\)\r\n\tby b with SMTP id i"
    assert re.fullmatch(start + rb"(?:\r\n\tfor <[!-~]+>)?;\r\n\td\r\n", field)
    assert max(map(len, field.split(b"\r\n"))) <= 998
    assert b"[IPv6:2001:db8::1]" in received_field(
        helo="h", peer="2001:db8::1", by="b", protocol="SMTP", id="i", for_=None, date="d"
    )


NAMES = st.sampled_from(
    b"From|from |FROM|Sender|Date|Message-ID|Subject|Received|To|X-Foo|Bcc|Resent-Bcc|Return-path|Content-Length"
    b"|X-Gateway-Tag|Idempotency-Key|Bccc|X-Gateway".split(b"|")
)
TEXT = st.binary(max_size=30).map(lambda b: b.translate(None, b"\r\n\0"))
FIELDS = st.one_of(
    st.tuples(NAMES, st.lists(TEXT, min_size=1, max_size=3)).map(
        lambda pair: pair[0] + b":" + b"\r\n ".join(pair[1]) + b"\r\n"
    ),
    TEXT.filter(lambda t: t and t[0] not in b" \t").map(lambda t: t + b"\r\n"),
)
GONE = re.compile(
    rb"[\v\f]*(bcc|resent-bcc|return-path|content-length|idempotency-key|x-gateway-[^:\s]*)[ \t\v\f]*:", re.IGNORECASE
)
MAILBOX_LINE = re.compile(rb">?From (?!\s*:)")
EMPTY = re.compile(rb"[\v\f]*(from|date|message-id)[ \t\v\f]*:\s*$", re.IGNORECASE)


@pytest.mark.parametrize("line", [b"From a@b Thu Jan  1 00:00:00 2026\r\n", b">From root\r\n"])
def test_the_line_of_a_mailbox_is_taken_out(line: bytes) -> None:
    assert fix(line + FROM + b"Subject: a\r\n\r\n") == fix(FROM + b"Subject: a\r\n\r\n")
    spaced = fix(b"From : ann@example.org\r\n\r\n")  # RFC 5322, 4.5: as old programs wrote it
    assert spaced.senders == ("ann@example.org",)


@given(st.lists(FIELDS, max_size=12))
def test_output_is_input_but_for_what_is_documented(fields: list[bytes]) -> None:
    raw = b"".join(fields) + b"\r\n"
    fixed = fix(raw)
    kept = [f for f in fields if not GONE.match(f) and not EMPTY.match(f)]
    if kept and fields[0] is kept[0] and MAILBOX_LINE.match(kept[0]):
        del kept[0]
    body = b"".join(kept) + b"\r\n"
    assert fixed.header.startswith(RECEIVED)
    assert fixed.header.endswith(body)
    added = fixed.header[len(RECEIVED) : len(fixed.header) - len(body)]
    wanted = [
        line
        for name, line in ((rb"date", DATE), (rb"from", FROM), (rb"message-id", ID))
        if not any(re.match(rb"[\v\f]*" + name + rb"[ \t\v\f]*:", f, re.IGNORECASE) for f in kept)
    ]
    assert added == b"".join(wanted)
    assert fixed.senders
    assert len(fixed.removed) == len(fields) - len(kept)


LINES = st.lists(st.sampled_from([b"", b".", b"a", b"." * 5, b"x" * 997, b"x" * 998, b"x" * 999, b"\xff"]), max_size=8)


@given(LINES, st.lists(st.booleans(), min_size=8, max_size=8), st.booleans())
def test_body_scan_sees_what_a_look_at_every_line_sees(lines: list[bytes], cuts: list[bool], open_: bool) -> None:
    pieces = [b""]
    for i, line in enumerate(lines):
        end = b"" if open_ and i == len(lines) - 1 else b"\r\n"
        pieces[-1] += line + end
        if cuts[i]:
            pieces.append(b"")
    scan = fixup.BodyScan()
    for piece in pieces:
        scan.update(piece)
    assert scan.eight_bit == any(b"\xff" in line for line in lines)
    assert scan.dot_lines == any(line.startswith(b".") for line in lines)
    assert scan.long_line == any(len(line) > 998 for line in lines)


# Old clients: another sender, a domain


def put_right(
    fields: bytes,
    *,
    rewrite_from: str | None = None,
    default_domain: str | None = None,
    aliases: tuple[tuple[str, str], ...] = (),
) -> fixup.Fixed:
    return fixup.fix_header(
        fields + b"Date: d\r\nMessage-ID: <i@b>\r\n\r\n",
        envelope_sender="env@example.com",
        received=None,
        message_id="new@example.com",
        date="now",
        rewrite_from=rewrite_from,
        default_domain=default_domain,
        aliases=aliases,
    )


REST = b"Date: d\r\nMessage-ID: <i@b>\r\n\r\n"
PUT = b"device@example.com"


@pytest.mark.parametrize(
    ("fields", "header"),
    [
        (b"From: scanner\r\nTo: t@x.de\r\n", b"From: device@example.com\r\nTo: t@x.de\r\n"),
        (b"From: Lobby <scanner>\r\n", b"From: Lobby <device@example.com>\r\n"),
        (b"From: root (Cron Daemon)\r\n", b"From: Cron Daemon <device@example.com>\r\n"),
        (
            b'To: t@x.de\r\nFrom: "Ann, B"\r\n <ann@Old.example>\r\nX: y\r\n',
            b'From: "Ann, B" <device@example.com>\r\nReply-To: ann@old.example\r\nTo: t@x.de\r\nX: y\r\n',
        ),
        (
            b"From: ann@old.example\r\nREPLY-TO: r@x.de\r\n",
            b"From: device@example.com\r\nREPLY-TO: r@x.de\r\n",
        ),
        (
            b"From: ann@old.example, bob@old.example\r\n",
            b"From: device@example.com\r\nReply-To: ann@old.example, bob@old.example\r\n",
        ),
        (b"From: device@example.com\r\n", b"From: device@example.com\r\n"),
        (b"From: root@localhost\r\n", b"From: device@example.com\r\n"),
        (
            b"From: =?utf-8?q?M=C3=BCller?= <m@x.de>\r\n",
            b"From: =?utf-8?q?M=C3=BCller?= <device@example.com>\r\nReply-To: m@x.de\r\n",
        ),
        (
            "From: Müller <m@x.de>\r\n".encode(),
            b"From: =?utf-8?q?M=C3=BCller?= <device@example.com>\r\nReply-To: m@x.de\r\n",
        ),
        (b"Sender: s@x.de\r\nSubject: s\r\n", b"From: device@example.com\r\nSubject: s\r\n"),
        (b"From:\r\nSender: s@x.de\r\n", b"From: device@example.com\r\n"),
        (
            b"Sender: s@x.de\r\nBcc: b\r\nFrom: a@x.de\r\nX: y\r\n",
            b"From: device@example.com\r\nReply-To: a@x.de\r\nX: y\r\n",
        ),
        (b"From: Ann Example\r\n", b"From: device@example.com\r\n"),
        (b'From: "evil@x.de" <a@x.de>\r\n', b"From: device@example.com\r\nReply-To: a@x.de\r\n"),
    ],
)
def test_another_sender(fields: bytes, header: bytes) -> None:
    fixed = put_right(fields, rewrite_from="device@example.com", default_domain="example.org")
    assert fixed.header == header + REST
    assert fixed.senders == ("device@example.com",)
    assert fixed.header_from == "device@example.com"


def test_two_from_are_two_with_another_sender_too() -> None:
    fixed = put_right(b"From: a@x.de\r\nFrom: b@x.de\r\n", rewrite_from="device@example.com")
    assert fixed.from_count == 2
    assert fixed.header.count(b"From:") == 1


@pytest.mark.parametrize(
    ("fields", "header", "senders"),
    [
        (b"From: scanner\r\nX: y\r\n", b"From: scanner@example.org\r\nX: y\r\n", ("scanner@example.org",)),
        (
            b"X: y\r\nFROM: root (Cron Daemon)\r\n",
            b"FROM: Cron Daemon <root@example.org>\r\nX: y\r\n",
            ("root@example.org",),
        ),
        (b"From: Lobby <scanner>\r\n", b"From: Lobby <scanner@example.org>\r\n", ("scanner@example.org",)),
        (
            b"From: a@x.de\r\nSender: root\r\n",
            b"Sender: root@example.org\r\nFrom: a@x.de\r\n",
            ("a@x.de", "root@example.org"),
        ),
        (b"Sender: root\r\n", b"From: env@example.com\r\nSender: root@example.org\r\n", None),
        (b"From: a@x.de\r\n", b"From: a@x.de\r\n", ("a@x.de",)),
        (b"From: root, a@x.de\r\n", b"From: root, a@x.de\r\n", ("root", "a@x.de")),
        (b"From: Ann Example\r\n", b"From: Ann Example\r\n", ("unreadable From field",)),
        (b'From: "a b" c d\r\n', b'From: "a b" c d\r\n', ("unreadable From field",)),
    ],
)
def test_a_domain_for_those_without(fields: bytes, header: bytes, senders: tuple[str, ...] | None) -> None:
    fixed = put_right(fields, default_domain="example.org")
    assert fixed.header == header + REST
    assert fixed.senders == (senders or ("env@example.com", "root@example.org"))


@pytest.mark.parametrize(
    ("fields", "domain", "header"),
    [
        (b"From: ROOT (Cron)\r\n", None, b"From: Cron <ops@x.de>\r\n"),
        (b"From: root\r\n", "example.org", b"From: ops@x.de\r\n"),
        (b"From: other\r\n", "example.org", b"From: other@example.org\r\n"),
        (b"From: other\r\n", None, b"From: other\r\n"),
        (b"From: root@b.c\r\nSender: root\r\n", None, b"Sender: ops@x.de\r\nFrom: root@b.c\r\n"),
    ],
)
def test_an_alias_comes_before_the_domain(fields: bytes, domain: str | None, header: bytes) -> None:
    assert put_right(fields, default_domain=domain, aliases=(("root", "ops@x.de"),)).header == header + REST


@given(
    st.binary(max_size=80).filter(lambda value: b"\n" not in value and b"\r" not in value),
    st.sampled_from([{"rewrite_from": PUT.decode()}, {"default_domain": "example.org"}]),
)
def test_whatever_stands_in_from(value: bytes, asked: dict[str, Any]) -> None:
    fixed = put_right(b"From: " + value + b"\r\nSubject: s\r\n", **asked)
    assert fixed.header.endswith(b"Subject: s\r\n" + REST)
    lines = fixed.header.split(b"\r\n")
    assert sum(line.lower().startswith(b"from:") for line in lines) == 1
    if "rewrite_from" in asked:
        assert fixed.senders == ("device@example.com",)
        field = next(line for line in lines if line.startswith(b"From:"))
        assert PUT in b"".join(lines)
        assert field.isascii()


def test_how_much_is_read_for_senders() -> None:
    """Nothing well-meant is longer, and all of it would hold the loop."""
    many = b",".join([b"a@xn--9ca.example"] * 400)
    fixed = fix(b"From: " + many + b"\r\n\r\n")
    assert len(many) < 8000
    assert fixed.senders == ("a@xn--9ca.example",)
    fixed = fix(b"From: " + many + b"," + many + b"\r\n\r\n")
    assert (fixed.senders, fixed.header_from) == (("unreadable From field",), "")
    fixed = fix(b"From: a@b.de\r\n" + b"Sender: s@b.de\r\n" * 9 + b"\r\n")
    assert fixed.senders == ("a@b.de",) + ("s@b.de",) * 9
    fixed = fix(b"From: a@b.de\r\n" + b"Sender: s@b.de\r\n" * 5000 + b"\r\n")
    assert fixed.senders == ("a@b.de",) + ("s@b.de",) * 9 + ("unreadable Sender field",)
