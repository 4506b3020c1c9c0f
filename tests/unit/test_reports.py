"""Mail that comes back, read: in the form of many hosts, and in no form at all."""

import binascii
import time

import pytest

from gateway.delivery import reported
from gateway.message import reports
from gateway.message.model import PIECE_BYTES
from gateway.message.reports import MAX_BYTES, Action, parts, status
from gateway.smtp import need
from gateway.tokens import Purpose, Subject, Tokens
from tests.fakes import returned
from tests.fakes.returned import STANDARD, TO, Sample

TOKENS = Tokens(b"s" * 32)
SUBJECT = Subject(5_000_000, 7_000_000)
TOKEN = TOKENS.local(Purpose.RETURN_PATH, SUBJECT)

QUIET_QMAIL = returned.QMAIL.replace(b"From: MAILER-DAEMON@mx.example.net\n", b"").replace(b"failure notice", b"x")


@pytest.mark.parametrize("sample", STANDARD, ids=lambda sample: sample.name)
def test_a_notification_by_the_book(sample: Sample) -> None:
    report = reports.read(sample.message(TOKEN), TOKENS)
    (told,) = report.failed
    assert told.addresses == sample.addresses
    assert told.host == sample.host
    assert reported.judge(told.code, told.enhanced, told.text) == sample.meaning
    assert (report.automatic, report.wish, report.complaint) == (False, False, None)
    assert report.quoted == SUBJECT


def test_each_recipient_has_its_own_action() -> None:
    report = reports.read(returned.two_recipients(), TOKENS)
    assert [(told.addresses[0], told.action) for told in report.told] == [
        ("ann@example.net", Action.FAILED),
        ("bob@example.net", Action.DELAYED),
        ("carl@example.net", Action.DELIVERED),
    ]
    assert [told.status for told in report.failed] == ["5.1.1"]


@pytest.mark.parametrize(
    "zone", ["UTC", "Z", "+0000 (UTC)", "CEST", "GMT+2", "-0000", "+9999", "", "(Mitteleuropäische Zeit)"]
)
def test_no_zone_of_a_date_costs_a_report(zone: str) -> None:
    date = f"Arrival-Date: Sun, 22 Nov 2026 10:00:00 {zone}\n"
    sample = STANDARD[0]
    changed = Sample(sample.name, sample.text, date + sample.status + "Last-" + date, sample.meaning)
    (told,) = reports.read(changed.message(), TOKENS).failed
    assert told.addresses == (TO,)


def test_a_message_id_in_double_brackets_is_no_matter() -> None:
    content = STANDARD[0].message(TOKEN).replace(b"<1@example.com>", b"<<1@example.com>>")
    report = reports.read(b"Message-ID: <<x@mx>>\r\n" + content, TOKENS)
    assert len(report.failed) == 1
    assert report.quoted == SUBJECT


def test_lines_may_end_in_any_way() -> None:
    for end in (b"\n", b"\r"):
        (told,) = reports.read(STANDARD[0].message().replace(b"\r\n", end), TOKENS).failed
        assert told.addresses == (TO,)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'boundary="=_b0/1:2"', b"boundary=wrong"),
        (b';\r\n\tboundary="=_b0/1:2"', b""),
        (b"--=_b0/1:2--\r\n", b""),
        (b"report-type=delivery-status", b"report-type=x"),
        (b"multipart/report", b"multipart/mixed"),
        (b"charset=us-ascii", b"charset=no-such-set"),
        (b"Content-Type: message/rfc822", b"Content-Type: text/rfc822-headers"),
        (b"I'm sorry", b"\xff\xfe sorry"),
    ],
)
def test_what_is_wrong_with_the_rest_does_not_matter(old: bytes, new: bytes) -> None:
    content = STANDARD[0].message(TOKEN)
    assert old in content
    report = reports.read(content.replace(old, new), TOKENS)
    assert [told.addresses for told in report.failed] == [(TO,)]
    assert report.quoted == SUBJECT


def test_a_status_part_may_be_encoded_or_cut() -> None:
    whole = STANDARD[0].message()
    marked = whole.replace(b"delivery-status\r\n\r\n", b"delivery-status\r\nContent-Transfer-Encoding: base64\r\n\r\n")
    assert [told.addresses for told in reports.read(marked, TOKENS).failed] == [(TO,)]  # though it was none
    cut = whole[: whole.index(b"Diagnostic-Code")]
    assert [told.status for told in reports.read(cut, TOKENS).failed] == ["5.1.1"]


def test_a_bounce_within_a_message_is_found() -> None:
    inner = STANDARD[0].message(TOKEN).decode().replace("\r\n", "\n")
    wrapped = returned.report("x", [("text/plain", "fwd"), ("message/rfc822", inner)], "Subject: Fwd\n", "outer")
    assert [told.addresses for told in reports.read(wrapped, TOKENS).failed] == [(TO,)]


def test_what_is_quoted_is_not_what_is_said() -> None:
    """A notification about mail that is itself one speaks of the outer."""
    quoted = returned.report(
        "x", [("message/delivery-status", STANDARD[1].status)], "Subject: inner\n", "inner"
    ).decode()
    outer = "Final-Recipient: rfc822; bob@example.net\nAction: failed\nStatus: 5.1.1\n"
    content = returned.report(
        "x", [("message/rfc822", quoted), ("message/delivery-status", outer)], "Subject: x\n", "o"
    )
    assert [told.addresses for told in reports.read(content, TOKENS).failed] == [("bob@example.net",)]


def test_words_that_no_standard_knows() -> None:
    (told,) = reports.read(returned.QMAIL, TOKENS).failed
    assert (told.addresses, told.code, told.enhanced) == ((TO,), 550, "5.1.1")
    assert told.text == "550 5.1.1 sorry, no mailbox here by that name"
    (told,) = reports.read(returned.NOBODY_NAMED, TOKENS).failed
    assert told.addresses == ()


@pytest.mark.parametrize("author", [b"", b"From:\n", b"From: ,\n", b"From: \xff\n"])
def test_words_that_no_standard_knows_of_no_author(author: bytes) -> None:
    content = author + QUIET_QMAIL
    assert [told.addresses for told in reports.read(content, TOKENS).failed] == [(TO,)]


@pytest.mark.parametrize("name", returned.AUTOMATIC)
def test_an_answer_of_a_program_is_no_bounce_and_no_wish(name: str) -> None:
    report = reports.read(returned.AUTOMATIC[name], TOKENS)
    assert (report.automatic, report.wish, report.told) == (True, False, ())


def test_mail_of_a_person_is_a_wish() -> None:
    report = reports.read(returned.PERSONAL, TOKENS)
    assert (report.automatic, report.wish, report.told) == (False, True, ())
    assert reports.read(b"Precedence: bulk\nSubject: Unsubscribe\n\n", TOKENS).wish
    program = b"Auto-Submitted: auto-generated\nSubject: unsubscribe\n\n"
    assert reports.read(program, TOKENS).wish
    assert not reports.read(program.replace(b"generated", b"replied"), TOKENS).wish
    assert reports.read(b"Auto-Submitted: no\nSubject: x\n\n", TOKENS).wish


@pytest.mark.parametrize("kind", ["abuse", "fraud", "virus", "other", "not-spam", "opt-out-list"])
def test_a_complaint_by_the_book(kind: str) -> None:
    original = "Original-Rcpt-To: <ann@example.net>\n"
    report = reports.read(returned.complaint(TOKEN, kind=kind, original=original), TOKENS)
    assert report.complaint is not None
    assert (report.complaint.kind, report.complaint.addresses[0]) == (kind, TO)
    assert (report.told, report.quoted) == ((), SUBJECT)


def test_a_complaint_of_which_the_address_is_painted_over() -> None:
    painted = returned.complaint(TOKEN, to="undisclosed", original="Original-Mail-From: <redacted>\n")
    report = reports.read(painted, TOKENS)
    assert report.complaint is not None
    assert (report.complaint.addresses, report.quoted) == ((), SUBJECT)
    several = reports.read(returned.complaint(TOKEN, to="a@example.net, b@example.net"), TOKENS)
    assert several.complaint is not None
    assert several.complaint.addresses == ()  # which of them, nothing says


@pytest.mark.parametrize(
    "mark",
    [
        f"X-Gateway-Token: {TOKEN}",
        f"x-gateway-token:\r\n\t{TOKEN.upper()}",
        f"List-Unsubscribe: <mailto:u+{TOKENS.local(Purpose.UNSUBSCRIBE, SUBJECT)}@bounces.example.com>",
        f"List-Unsubscribe: <https://mail.example.com/t/u/{TOKENS.link(Purpose.UNSUBSCRIBE, SUBJECT)}>",
        f"Return-Path: <b+{TOKEN}@bounces.example.com>",
        f"> X-Gateway-Token: {TOKEN}",
    ],
)
@pytest.mark.parametrize("encoding", ["", "base64", "quoted-printable"])
def test_our_token_is_found_wherever_it_stands(mark: str, encoding: str) -> None:
    text = f"From: shop@example.com\r\n{mark}\r\nSubject: x\r\n\r\nHello\r\n".encode()
    if encoding == "base64":
        text = binascii.b2a_base64(text)
    elif encoding:
        text = binascii.b2a_qp(text)
    types = ["message/rfc822", "text/rfc822-headers", "text/plain"]
    for type_ in types if not mark.startswith(">") else types[2:]:
        part = f"--x\r\nContent-Type: {type_}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n".encode() + text
        content = b"Content-Type: multipart/mixed; boundary=x\r\n\r\n" + part + b"\r\n--x--\r\n"
        assert reports.read(content, TOKENS).quoted == SUBJECT, type_


def test_a_recipient_is_better_than_a_message_alone() -> None:
    whole = TOKENS.local(Purpose.RETURN_PATH, Subject(SUBJECT.message, 0))
    better = TOKENS.local(Purpose.UNSUBSCRIBE, SUBJECT)
    content = f"X-Gateway-Token: {whole}\nList-Unsubscribe: <mailto:u+{better}@b.example>\n\n".encode()
    assert reports.read(content, TOKENS).quoted == SUBJECT


def test_no_token_but_ours_and_no_end_of_trying() -> None:
    others = Tokens(b"o" * 32).local(Purpose.RETURN_PATH, SUBJECT)
    assert reports.read(f"X-Gateway-Token: {others}\n\n".encode(), TOKENS).quoted is None
    many = f"X-Gateway-Token: {others}\n".encode() * 500 + f"X-Gateway-Token: {TOKEN}\n\n".encode()
    assert reports.read(many, TOKENS).quoted is None


def test_only_a_bounded_part_is_read() -> None:
    content = b"Subject: x\n\n" + b"x" * MAX_BYTES + f"\nX-Gateway-Token: {TOKEN}\n".encode()
    assert reports.read(content, TOKENS).quoted is None


@pytest.mark.parametrize("more", range(4))
def test_what_is_cut_within_base64_is_read(more: int) -> None:
    start = b"Content-Type: message/rfc822\nContent-Transfer-Encoding: base64\nX: " + b"x" * more + b"\n\n"
    quoted = f"X-Gateway-Token: {TOKEN}\n\n".encode() + b"x" * MAX_BYTES
    content = start + binascii.b2a_base64(quoted, newline=False)
    assert reports.read(content, TOKENS).quoted == SUBJECT


def test_what_is_kept_of_a_report_fits_into_the_memory_that_it_had() -> None:
    """It is kept as it came, and copied once to be read."""
    assert 2 * MAX_BYTES <= need.MEMORY_FACTOR * PIECE_BYTES


def test_half_a_surrogate_pair_is_not_passed_on() -> None:
    content = returned.QMAIL.replace(b"\n\n", b"\nContent-Type: text/plain; charset=utf-7\n\n", 1)
    (told,) = reports.read(content.replace(b"550 ", b"550 +2AA-@"), TOKENS).failed
    assert told.text.startswith("550 +2AA-@")


def test_nothing_is_nothing() -> None:
    report = reports.read(b"", TOKENS)
    assert (report.told, report.complaint, report.quoted, report.automatic) == ((), None, None, False)


@pytest.mark.parametrize(
    ("value", "address"),
    [
        ("rfc822; ann@example.net", TO),
        ("RFC822;<ann@example.net>", TO),
        ("ann@example.net", TO),
        ('rfc822; "ann@example.net"', TO),
        ("smtp; ann@example.net (user unknown)", TO),
        ("rfc822; Ann <ann@example.net>", TO),
        ("utf-8; \\x{1F600}@example.net", "\N{GRINNING FACE}@example.net"),
        ("utf-8; \\x{D800}\\x{FFFFFF}", "\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}"),
        ("", ""),
        (";", ";"),
    ],
)
def test_addresses_as_hosts_write_them(value: str, address: str) -> None:
    assert status.address(value) == address


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("550 5.1.1 no", (550, "5.1.1")),
        ("550-5.7.26 a 550 5.7.26 b", (550, "5.7.26")),
        ("host 192.0.2.1 said: 452 4.2.2 full", (452, "4.2.2")),
        ("5.1.1 no", (0, "5.1.1")),
        ("192.4.5.5 [5.4.3.2] no", (0, "")),
        ("no", (0, "")),
        ("#5.1.10", (0, "5.1.10")),
        ("5\u0661\u0661 5.\u0661.\u0661 no", (0, "")),
    ],
)
def test_codes_in_the_words_of_a_host(text: str, found: tuple[int, str]) -> None:
    assert status.codes(text) == found


def test_without_a_word_for_it_the_status_says_what_happened() -> None:
    for digit, action in (("5", Action.FAILED), ("4", Action.DELAYED), ("2", Action.DELIVERED)):
        body = f"Final-Recipient: rfc822; a@b.example\nStatus: {digit}.0.0\n".encode()
        (told,) = status.read(parts.Part("message/delivery-status", (), body, 0))
        assert told.action is action
    nothing = b"Final-Recipient: rfc822; a@b.example\nStatus: what\n"
    assert status.read(parts.Part("message/delivery-status", (), nothing, 0)) == []


def test_parts_and_depth_are_bounded() -> None:
    many = b"Content-Type: multipart/mixed; boundary=x\n\n" + b"--x\n\na\n" * 5000
    assert len(list(parts.walk(many))) == parts.MAX_PARTS
    nested = b"".join(b"Content-Type: multipart/mixed; boundary=x%d\n\n--x%d\n" % (n, n) for n in range(1000, 1100))
    assert len(list(parts.walk(nested))) <= parts.MAX_DEPTH + 1
    messages = b"Content-Type: message/rfc822\n\n" * 100
    assert len(list(parts.walk(messages))) <= parts.MAX_DEPTH + 1


def test_what_no_rule_knows_is_nobodys_fault() -> None:
    class_, scope = reported.judge(0, "", "it did not work")
    assert (class_.value, scope.value) == ("Uncategorized", "content")
    assert reported.judge(0, "5.1.1", "")[1].value == "recipient"
    assert reported.judge(250, "4.4.1", "")[0].value == "NoAnswerFromHost"


def _wordless(parts_of_text: int) -> bytes:
    """A megabyte: a thousand recipients without a reply code, and text in which one could be found for each."""
    said = [("text/plain", "550 a\r\n" * 600)] * parts_of_text
    groups = "".join(
        f"Final-Recipient: rfc822; {n}@example.net\nAction: failed\nStatus: 5.1.1\n\n" for n in range(1000)
    )
    return returned.report("delivery-status", [*said, ("message/delivery-status", groups)], "")


def _in_a_codec(name: bytes) -> bytes:
    """What the library for bounces and we decode by whatever charset is named."""
    header = b"Content-Type: text/plain; charset=" + name + b"\nContent-Transfer-Encoding: 8bit\n\n"
    return header + b"\xff" + b"a" * 20_000 + b"-" + b"9" * 1_000_000


def _in_a_field(value: bytes) -> tuple[bytes, ...]:
    """What the library for bounces reads for each line, before it begins, and as a recipient's address."""
    return (
        b"Content-Type: text/plain; " + value + b"\n\n\xff\n",
        b"From: a@example.net\rContent-Type: multipart/mixed; " + value + b"\n\n\xff\n",
        b"Content-Type: multipart/report; boundary=b\n\n--b\nContent-Type: message/delivery-status\n\n"
        b"Action: error\nOriginal-Recipient: " + value + b"\n\n--b--\n",
    )


@pytest.mark.parametrize(
    "content",
    [
        _wordless(150),
        _in_a_codec(b"punycode"),
        _in_a_codec(b"-Punycode-"),
        _in_a_codec(b'"p\\unycode"'),
        _in_a_codec(b"idna"),
        b"From: a@example.net\n\n" + b"," * 30_000 + b"@" * 30_000,
        b"From: a@example.net\nContent-Transfer-Encoding: base64\n\n"
        + binascii.b2a_base64(b"This Message was undeliverable due to the following reason:\n" + b"<" * 20_000),
        *_in_a_field(b'"' + b";" * 30_000),
    ],
    ids=[
        *("words", "codec", "codec-spelled", "codec-escaped", "codec-idna", "line", "line-encoded"),
        *("field", "field-of-many", "field-of-status"),
    ],
)
def test_a_megabyte_that_takes_minutes_to_read_as_it_wants_to_be_read(content: bytes) -> None:
    began = time.thread_time()
    report = reports.read(content, TOKENS)  # or the run never ends
    assert report.complaint is None
    assert time.thread_time() - began < 0.8


def test_the_words_about_each_recipient_are_those_behind_its_address() -> None:
    text = "<bob@example.net>: 552 5.2.2 full\nAnn@example.net: 550 5.1.1 nobody\nann@example.net: 451 later\n"
    groups = [
        f"Final-Recipient: rfc822; {name}@example.net\nAction: failed\nStatus: 5.0.0\n" for name in ("ann", "bob")
    ]
    content = returned.report(
        "delivery-status", [("text/plain", text), ("message/delivery-status", "\n" + "\n".join(groups))], ""
    )
    ann, bob = reports.read(content, TOKENS).failed
    assert (ann.code, ann.enhanced, ann.text) == (550, "5.1.1", "550 5.1.1 nobody")
    assert (bob.code, bob.text) == (552, "552 5.2.2 full")


def test_a_complaint_that_bounces_is_a_bounce() -> None:
    complaint = returned.complaint().decode().replace("\r\n", "\n")
    status_of = "Final-Recipient: rfc822; abuse@example.net\nAction: failed\nStatus: 5.1.1\n"
    content = returned.report(
        "delivery-status",
        [("text/plain", "No.\n"), ("message/delivery-status", "\n" + status_of), ("message/rfc822", complaint)],
        "",
        "outer",
    )
    report = reports.read(content, TOKENS)
    assert report.complaint is None
    assert [told.addresses for told in report.failed] == [("abuse@example.net",)]


def test_the_kind_of_a_complaint_can_be_printed() -> None:
    content = returned.complaint().replace(b"Feedback-Type: abuse", b"Feedback-Type: ab\x07use\xff")
    complaint = reports.read(content, TOKENS).complaint
    assert complaint is not None
    assert complaint.kind == "abuse"
