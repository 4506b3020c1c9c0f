"""Notifications read back by other parsers: Python's email package under both policies, and flufl.bounce."""

import email.policy
import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from email.message import Message
from email.parser import BytesParser
from email.utils import parsedate_to_datetime

import pytest
from flufl.bounce import all_failures

from gateway.message import dsn
from gateway.message.dsn import notice as notices
from gateway.message.dsn.notice import Action, Fate, Notice

ARRIVED = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
TRIED = datetime(2026, 1, 2, 3, 5, 0, tzinfo=UTC)
UNTIL = datetime(2026, 1, 7, 3, 4, 5, tzinfo=UTC)
HEADER = b"From: ann@example.com\r\nTo: bob@example.net\r\nSubject: Hi\r\nMessage-ID: <1@example.com>\r\n\r\n"
BODY = b"Hello Bob\r\n.\r\n--\r\nAnn\r\n"
BOB = Fate(
    address="bob@example.net",
    original="",
    action=Action.FAILED,
    reason="InvalidRecipient",
    reply="550 5.1.1 no such user",
    host="mx.example.net",
    at=TRIED,
    tries=1,
)
NOTICE = Notice(
    hostname="gateway.example.org",
    to="ann@example.com",
    id="eml_0123",
    subject="Hi",
    message_id="1@example.com",
    envelope_id="",
    arrived_at=ARRIVED,
    retry_until=UNTIL,
    fates=(BOB,),
    header=HEADER,
)


def wire(notice: Notice) -> bytes:
    """The notification, checked to be mail."""
    content = dsn.compose(notice, message_id="n1@gateway.example.org", date=UNTIL, seed=b"0123456789ab")
    data = content.header + b"".join(content.body)
    bare = data.replace(b"\r\n", b"")
    assert not re.search(rb"[\r\n\0]", bare)
    assert max(map(len, data.split(b"\r\n"))) <= 998
    assert content.header.endswith(b"\r\n\r\n")
    assert data.endswith(b"--\r\n")
    return data


def parse(notice: Notice, policy: email.policy.Policy = email.policy.compat32) -> Message:
    message = BytesParser(policy=policy).parsebytes(wire(notice))
    assert not message.defects
    return message


def parts(notice: Notice) -> list[Message]:
    payload = parse(notice).get_payload()
    assert isinstance(payload, list)
    return payload  # type: ignore[return-value]  # of a multipart


def words(notice: Notice) -> str:
    text = parts(notice)[0].get_payload(decode=True)
    assert isinstance(text, bytes)
    return text.decode().replace("\r\n", "\n")


def groups(notice: Notice) -> list[dict[str, str]]:
    """The fields of message/delivery-status, unfolded: those of the message, then of each recipient."""
    (part,) = [one for one in parts(notice) if one.get_content_type() == "message/delivery-status"]
    blocks = part.get_payload()
    assert isinstance(blocks, list)
    assert all(isinstance(block, Message) and not block.defects for block in blocks)
    return [{k.lower(): re.sub(r"\r?\n", "", v) for k, v in block.items()} for block in blocks if block.keys()]  # type: ignore[union-attr]


def global_groups(notice: Notice) -> list[dict[str, str]]:
    """Those of message/global-delivery-status, which email does not know: read by hand."""
    found = re.search(
        rb"Content-Type: message/global-delivery-status\r\n.*?\r\n\r\n(.*?)\r\n--=_", wire(notice), re.DOTALL
    )
    assert found is not None
    unfolded = re.sub(r"\r\n(?=[ \t])", "", found[1].decode())
    return [
        {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in group.splitlines())}
        for group in unfolded.strip().split("\r\n\r\n")
    ]


def bounces(notice: Notice) -> tuple[list[str], list[str]]:
    """Those that have to wait, and those that failed for good, as flufl.bounce sees it."""
    temporary, permanent = all_failures(parse(notice))
    return sorted(map(bytes.decode, temporary)), sorted(map(bytes.decode, permanent))


def test_a_failure_byte_for_byte() -> None:
    assert wire(NOTICE).decode() == (
        "From: Mail Delivery System <MAILER-DAEMON@gateway.example.org>\r\n"
        "To: ann@example.com\r\n"
        "Subject: Mail could not be delivered\r\n"
        "Date: Wed, 07 Jan 2026 03:04:05 +0000\r\n"
        "Message-ID: <n1@gateway.example.org>\r\n"
        "In-Reply-To: <1@example.com>\r\n"
        "References: <1@example.com>\r\n"
        "Auto-Submitted: auto-replied\r\n"
        "MIME-Version: 1.0\r\n"
        "Content-Type: multipart/report; report-type=delivery-status;\r\n"
        ' boundary="=_303132333435363738396162d"\r\n'
        "\r\n"
        "--=_303132333435363738396162d\r\n"
        "Content-Type: text/plain; charset=utf-8\r\n"
        "Content-Transfer-Encoding: 7bit\r\n"
        "\r\n"
        "This is the mail system at gateway.example.org.\r\n"
        "\r\n"
        "Your message could not be delivered to the recipient named below.\r\n"
        "It is not tried again.\r\n"
        "\r\n"
        "    Subject: Hi\r\n"
        "    Message-ID: <1@example.com>\r\n"
        "    Accepted: Fri, 02 Jan 2026 03:04:05 +0000\r\n"
        "    Known here as: eml_0123\r\n"
        "\r\n"
        "<bob@example.net>\r\n"
        "    The mail host does not know this address.\r\n"
        "    The mail host mx.example.net said:\r\n"
        "        550 5.1.1 no such user\r\n"
        "    What to do: Check the address for typing errors, or ask the recipient for the right one.\r\n"
        "\r\n"
        "The parts below hold the same for programs, and which message is meant.\r\n"
        "\r\n"
        "--=_303132333435363738396162d\r\n"
        "Content-Type: message/delivery-status\r\n"
        "Content-Transfer-Encoding: 7bit\r\n"
        "\r\n"
        "Reporting-MTA: dns; gateway.example.org\r\n"
        "Arrival-Date: Fri, 02 Jan 2026 03:04:05 +0000\r\n"
        "\r\n"
        "Final-Recipient: rfc822; bob@example.net\r\n"
        "Action: failed\r\n"
        "Status: 5.1.1\r\n"
        "Remote-MTA: dns; mx.example.net\r\n"
        "Diagnostic-Code: smtp; 550 5.1.1 no such user\r\n"
        "Last-Attempt-Date: Fri, 02 Jan 2026 03:05:00 +0000\r\n"
        "\r\n"
        "--=_303132333435363738396162d\r\n"
        "Content-Type: text/rfc822-headers\r\n"
        "Content-Transfer-Encoding: 7bit\r\n"
        "\r\n"
        "From: ann@example.com\r\n"
        "To: bob@example.net\r\n"
        "Subject: Hi\r\n"
        "Message-ID: <1@example.com>\r\n"
        "\r\n"
        "--=_303132333435363738396162d--\r\n"
    )


def test_flufl_sees_failures_as_permanent_and_delays_as_temporary() -> None:
    carol = replace(BOB, address="carol@example.net")
    assert bounces(replace(NOTICE, fates=(BOB, carol))) == ([], ["bob@example.net", "carol@example.net"])
    delayed = replace(BOB, action=Action.DELAYED, reply="451 4.3.0 later")
    assert bounces(replace(NOTICE, fates=(delayed,))) == (["bob@example.net"], [])


@pytest.mark.parametrize("action", [Action.RELAYED, Action.DELIVERED])
def test_flufl_sees_no_bounce_in_a_success(action: Action) -> None:
    good = replace(BOB, action=action, reason="", reply="250 2.0.0 ok")
    assert bounces(replace(NOTICE, fates=(good,))) == ([], [])


def test_dates_have_a_numeric_zone() -> None:
    """Trap 6: a zone by name ("UTC") is not read everywhere."""
    message, bob = groups(replace(NOTICE, fates=(replace(BOB, action=Action.DELAYED),)))
    assert parsedate_to_datetime(message["arrival-date"]) == ARRIVED
    assert parsedate_to_datetime(bob["last-attempt-date"]) == TRIED
    assert parsedate_to_datetime(bob["will-retry-until"]) == UNTIL
    for value in (message["arrival-date"], bob["last-attempt-date"], bob["will-retry-until"]):
        assert value.endswith(" +0000")


@pytest.mark.parametrize("given", ["1@example.com", "<1@example.com>", "<<1@example.com>>"])
def test_the_message_id_has_one_pair_of_brackets(given: str) -> None:
    """Trap 9."""
    message = parse(replace(NOTICE, message_id=given))
    assert message["In-Reply-To"] == message["References"] == "<1@example.com>"
    assert "    Message-ID: <1@example.com>\n" in words(replace(NOTICE, message_id=given))


@pytest.mark.parametrize("given", ["", "a b@example.com", "ü@example.com", "x" * 1000, "a\r\nBcc: eve@example.org"])
def test_an_id_that_no_field_can_hold_is_not_referred_to(given: str) -> None:
    message = parse(replace(NOTICE, message_id=given))
    assert message["In-Reply-To"] is message["References"] is message["Bcc"] is None


@pytest.mark.parametrize(
    ("action", "reason", "reply", "status"),
    [
        (Action.FAILED, "InvalidRecipient", "550 5.1.1 no such user", "5.1.1"),
        (Action.FAILED, "InvalidRecipient", "550 no such user", "5.1.1"),
        (Action.FAILED, "Uncategorized", "554 no", "5.0.0"),
        (Action.FAILED, "MessageExpired", "451 4.2.2 mailbox full", "4.4.7"),
        (Action.FAILED, "MessageExpired", "", "4.4.7"),
        (Action.FAILED, "BadDomain", "550 5.1.10 nobody takes mail for example.net", "5.1.10"),
        (Action.FAILED, "Uncertain", "the connection was lost", "4.4.2"),
        (Action.FAILED, "AuthenticationFailed", "535 5.7.8 wrong password", "4.7.8"),
        (Action.FAILED, "NoAnswerFromHost", "connection refused", "4.4.1"),
        (Action.FAILED, "of tomorrow", "250 2.0.0 ok", "5.0.0"),
        (Action.RELAYED, "", "550 5.1.1 no", "2.0.0"),
        (Action.FAILED, "TransientFailure", "451 4.7.1 no", "4.7.1"),
        (Action.DELAYED, "TransientFailure", "451 4.7.1 greylisted", "4.7.1"),
        (Action.DELAYED, "NoAnswerFromHost", "connection refused", "4.4.1"),
        (Action.DELAYED, "BadConnection", "554 5.7.1 not you", "4.7.1"),
        (Action.DELAYED, "TransientFailure", "450 wait", "4.0.0"),
        (Action.RELAYED, "", "250 2.6.0 queued", "2.6.0"),
        (Action.RELAYED, "", "250 ok", "2.0.0"),
        (Action.DELIVERED, "", "captured: nothing left this machine", "2.0.0"),
        (Action.FAILED, "InvalidRecipient", "550 5.1.1234 too long a number", "5.1.1"),
    ],
)
def test_the_status_code(action: Action, reason: str, reply: str, status: str) -> None:
    fate = replace(BOB, action=action, reason=reason, reply=reply)
    assert notices.status(fate) == status
    (_, recipient) = groups(replace(NOTICE, fates=(fate,)))
    assert (recipient["action"], recipient["status"]) == (action.value, status)


def test_what_the_gateway_saw_is_not_called_a_reply() -> None:
    broken = replace(BOB, reply="the connection was lost", reason="BadConnection")
    unknown = replace(BOB, reply="550 5.1.2 the domain does not exist", reason="BadDomain", host="", tries=0)
    _, first, second = groups(replace(NOTICE, fates=(broken, unknown)))
    assert first["diagnostic-code"] == "x-gateway; the connection was lost"
    assert second["diagnostic-code"] == "x-gateway; 550 5.1.2 the domain does not exist"
    assert "remote-mta" not in second
    assert "last-attempt-date" not in second
    assert " said:" not in words(replace(NOTICE, fates=(broken, unknown)))


@pytest.mark.parametrize(
    ("host", "shown"),
    [
        ("mx.example.net", "dns; mx.example.net"),
        ("192.0.2.1", "dns; [192.0.2.1]"),
        ("2001:db8::1", "dns; [IPv6:2001:db8::1]"),
        ("x\r\nAction: delivered", None),
        ("", None),
    ],
)
def test_the_remote_host(host: str, shown: str | None) -> None:
    (_, recipient) = groups(replace(NOTICE, fates=(replace(BOB, host=host),)))
    assert recipient.get("remote-mta") == shown
    assert recipient["action"] == "failed"


# What the submitter said


@pytest.mark.parametrize(
    ("orcpt", "shown"),
    [
        ("rfc822;bob+2Bsales@example.com", "rfc822; bob+sales@example.com"),
        ("RFC822;Bob@Example.Com", "rfc822; Bob@Example.Com"),
        ("x400;/C+3Dde/ADMD+3D+20/", "x400; /C=de/ADMD= /"),
        ("x400;/C=de/", None),  # this is no xtext
        ("bob@example.com", None),
        ("rfc822;a+0D+0AAction:+20delivered", None),
        ("", None),
    ],
)
def test_the_original_recipient(orcpt: str, shown: str | None) -> None:
    _, recipient = groups(replace(NOTICE, fates=(replace(BOB, original=orcpt),)))
    assert recipient.get("original-recipient") == shown
    assert recipient["action"] == "failed"


@pytest.mark.parametrize(("letters", "told"), [(480, True), (486, False)])
def test_an_original_recipient_that_no_line_holds_is_left_out(letters: int, told: bool) -> None:
    original = "utf-8;" + "ü" * letters + "@b.test"  # at most 500 characters, RFC 3461 4.2
    data = wire(replace(NOTICE, fates=(replace(BOB, original=original),)))
    assert (b"Original-Recipient: utf-8; " in data) is told


@pytest.mark.parametrize(
    ("envid", "shown"),
    [
        ("QQ314159", "QQ314159"),
        ("a+2Bb+3Dc+20d", "a+b=c d"),
        ("a+0D+0AAction:+20delivered", "a+0D+0AAction:+20delivered"),
        ("not xtext\r\nReporting-MTA: dns; other", "not xtext  Reporting-MTA: dns; other"),
        ("+C3+BC", "+C3+BC"),
        ("", None),
    ],
)
def test_the_envelope_id_is_decoded(envid: str, shown: str | None) -> None:
    message, _ = groups(replace(NOTICE, envelope_id=envid))
    assert message.get("original-envelope-id") == shown
    assert message["reporting-mta"] == "dns; gateway.example.org"


# What hosts say


def test_a_plain_notification_stays_ascii_whatever_the_host_says() -> None:
    fate = replace(BOB, reply="550 5.1.1 unbekannt: grün")
    _, recipient = groups(replace(NOTICE, fates=(fate,)))
    assert recipient["diagnostic-code"] == "smtp; 550 5.1.1 unbekannt: gr?n"
    assert "        550 5.1.1 unbekannt: grün\n" in words(replace(NOTICE, fates=(fate,)))


def test_replies_cannot_make_fields_or_parts() -> None:
    reply = (
        "550 no\r\n\r\nFinal-Recipient: rfc822; eve@example.org\r\nAction: failed\n--=_303132333435363738396162d--\n"
    )
    notice = replace(NOTICE, fates=(replace(BOB, reply=reply, host="mx.example.net"),), subject="x\r\nBcc: eve\r\n\r\n")
    assert len(parts(notice)) == 3
    assert len(groups(notice)) == 2
    assert bounces(notice) == ([], ["bob@example.net"])


@pytest.mark.parametrize("reply", ["550 " + "x" * 3900, "550 " + "ü" * 3900, "550 " + "a b " * 900, "550 \x85\u2028\0"])
def test_huge_and_odd_replies(reply: str) -> None:
    _, recipient = groups(replace(NOTICE, fates=(replace(BOB, reply=reply),)))
    assert recipient["diagnostic-code"].startswith("smtp; 550")
    assert len(recipient["diagnostic-code"]) < 2200


def test_a_delay_says_until_when_it_is_tried_and_that_nothing_is_to_be_done() -> None:
    text = words(replace(NOTICE, fates=(replace(BOB, action=Action.DELAYED, reason="TransientFailure"),)))
    assert "It is tried again until Wed, 07 Jan 2026 03:04:05 +0000.\n" in text
    assert "you need not send it again" in text
    assert "What to do" not in text


def test_a_relayed_message_says_that_its_end_is_not_known() -> None:
    text = words(replace(NOTICE, fates=(replace(BOB, action=Action.RELAYED, reason="", reply="250 2.0.0 ok"),)))
    assert "It was handed over to the mail host mx.example.net, which does not report deliveries:" in text


@pytest.mark.parametrize("policy", [email.policy.compat32, email.policy.default, email.policy.SMTPUTF8])
def test_every_policy_reads_the_same_parts(policy: email.policy.Policy) -> None:
    message = parse(replace(NOTICE, body=BODY), policy)
    assert [part.get_content_type() for part in message.walk()][:3] == [
        "multipart/report",
        "text/plain",
        "message/delivery-status",
    ]
    assert message["Auto-Submitted"] == "auto-replied"
    assert str(message["To"]) == "ann@example.com"


def test_a_thousand_recipients_come_in_pieces() -> None:
    fates: Sequence[Fate] = [replace(BOB, address=f"u{i}@example.net", reply="550 " + "x" * 900) for i in range(1000)]
    notice = replace(NOTICE, fates=tuple(fates))
    content = dsn.compose(notice, message_id="n1@gateway.example.org", date=UNTIL, seed=b"0123456789ab")
    assert len(content.body) > 1
    assert all(piece.endswith(b"\r\n") and len(piece) <= 256 * 1024 for piece in content.body)
    assert len(bounces(notice)[1]) == 1000
