"""Mail as it comes back from hosts of many makes: the form is theirs, names and addresses are examples."""

from dataclasses import dataclass

from gateway.events import BounceClass, Scope

TO = "ann@example.net"
QUOTED = """\
Received: from mail.example.com (mail.example.com [192.0.2.1]) by mx.example.net; Sun, 22 Nov 2026 10:00:00 +0000
X-Gateway-Token: {token}
From: shop@example.com
To: ann@example.net
Subject: Your order
Message-ID: <1@example.com>
"""
NONE = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

_GONE = (BounceClass.INVALID_RECIPIENT, Scope.RECIPIENT)


@dataclass(frozen=True, slots=True)
class Sample:
    """`status` is the machine's part; the human's is `text`. `meaning` None: no rule knows it."""

    name: str
    text: str
    status: str
    meaning: tuple[BounceClass, Scope]
    header: str = "From: MAILER-DAEMON@mx.example.net\nSubject: Undelivered Mail Returned to Sender\n"
    addresses: tuple[str, ...] = (TO,)
    host: str = "mx.example.net"

    def message(self, token: str = NONE) -> bytes:
        parts = [
            ("text/plain; charset=us-ascii", self.text),
            ("message/delivery-status", self.status),
            ("message/rfc822", QUOTED.format(token=token) + "\nHello\n"),
        ]
        return report("delivery-status", parts, self.header)


def report(kind: str, parts: list[tuple[str, str]], header: str, boundary: str = "=_b0/1:2") -> bytes:
    """A multipart/report of (content type, body)."""
    top = f'{header}MIME-Version: 1.0\nContent-Type: multipart/report; report-type={kind};\n\tboundary="{boundary}"\n\n'
    body = "".join(f"--{boundary}\nContent-Type: {type_}\n\n{text}\n" for type_, text in parts)
    return f"{top}This is a MIME message.\n\n{body}--{boundary}--\n".replace("\n", "\r\n").encode()


STANDARD = (
    Sample(
        "postfix",
        "I'm sorry to have to inform you that your message could not be delivered\n",
        "Reporting-MTA: dns; mx.example.net\nX-Postfix-Queue-ID: 4F1\n"
        "X-Postfix-Sender: rfc822; b+x@bounces.example.com\nArrival-Date: Sun, 22 Nov 2026 10:00:00 +0000 (UTC)\n\n"
        "Final-Recipient: rfc822; ann@example.net\nOriginal-Recipient: rfc822;ann@example.net\nAction: failed\n"
        "Status: 5.1.1\nRemote-MTA: dns; inner.example.net\n"
        "Diagnostic-Code: smtp; 550 5.1.1 <ann@example.net>: Recipient address\n    rejected: User unknown\n",
        _GONE,
    ),
    Sample(
        "postfix, expired",
        "",
        "Reporting-MTA: dns; mx.example.net\n\nFinal-Recipient: rfc822; ann@example.net\nAction: failed\n"
        "Status: 4.4.1\nDiagnostic-Code: X-Postfix; connect to inner.example.net[192.0.2.2]:25: Connection timed out\n",
        (BounceClass.NO_ANSWER_FROM_HOST, Scope.INFRASTRUCTURE),
    ),
    Sample(
        "exim",
        "This message was created automatically by mail delivery software.\n",
        "Reporting-MTA: dns; mx.example.net\n\nAction: failed\nFinal-Recipient: rfc822;ann@example.net\nStatus: 5.0.0\n"
        "Remote-MTA: dns; inner.example.net\nDiagnostic-Code: smtp; 550 5.1.1 <ann@example.net> User doesn't exist\n",
        _GONE,
        header="Auto-Submitted: auto-replied\nFrom: Mail Delivery System <Mailer-Daemon@mx.example.net>\n"
        "X-Failed-Recipients: ann@example.net\nSubject: Mail delivery failed: returning message to sender\n",
    ),
    Sample(
        "opensmtpd",
        "    Hi!\n\n    This is the MAILER-DAEMON, please DO NOT REPLY to this email.\n\n"
        "    Below is the message that was sent:\n\nann@example.net: 550 5.1.1 nobody of that name\n",
        "Reporting-MTA: dns; mx.example.net\n\nFinal-Recipient: rfc822; ann@example.net\nAction: failed\n"
        "Status: 5.0.0\n",
        _GONE,
        header="Subject: Delivery status notification: error\nFrom: Mailer Daemon <MAILER-DAEMON@mx.example.net>\n",
    ),
    Sample(
        "sendmail",
        "   ----- The following addresses had permanent fatal errors -----\n<ann@example.net>\n",
        "Reporting-MTA: dns; mx.example.net\nReceived-From-MTA: DNS; mail.example.com\n"
        "Arrival-Date: Sun, 22 Nov 2026 10:00:00 GMT\n\nFinal-Recipient: RFC822; ann@example.net\n"
        "Action: failed\nStatus: 5.1.1\nDiagnostic-Code: SMTP; 550 5.1.1 <ann@example.net>... User unknown\n"
        "Last-Attempt-Date: Sun, 22 Nov 2026 10:00:01 GMT\n",
        _GONE,
        header="Auto-Submitted: auto-generated (failure)\nFrom: Subsystem <MAILER-DAEMON@mx.example.net>\n"
        "Subject: Returned mail: see transcript for details\n",
    ),
    Sample(
        "gmail",
        "** Address not found **\n\nYour message wasn't delivered to ann@example.net\n",
        "Reporting-MTA: dns; googlemail.com\nReceived-From-MTA: dns; b+x@bounces.example.com\n"
        "Arrival-Date: Sun, 22 Nov 2026 02:00:00 -0800 (PST)\nX-Original-Message-ID: <<1@example.com>>\n\n"
        "Final-Recipient: rfc822; ann@example.net\nAction: failed\nStatus: 5.1.1\n"
        "Remote-MTA: dns; gmail-smtp-in.l.google.com. (192.0.2.3, the server for the domain example.net.)\n"
        "Diagnostic-Code: smtp; 550-5.1.1 The email account that you tried to reach does not exist. Please try\n"
        " 550-5.1.1 double-checking the recipient's email address for typos or\n"
        " 550 5.1.1  https://support.google.com/mail/?p=NoSuchUser a1si - gsmtp\n"
        "Last-Attempt-Date: Sun, 22 Nov 2026 02:00:01 -0800 (PST)\n",
        _GONE,
        header="From: Mail Delivery Subsystem <mailer-daemon@googlemail.com>\nAuto-Submitted: auto-replied\n"
        "X-Failed-Recipients: ann@example.net\nSubject: Delivery Status Notification (Failure)\n",
        host="googlemail.com",
    ),
    Sample(
        "gmail, reputation",
        "",
        "Reporting-MTA: dns; googlemail.com\n\nFinal-Recipient: rfc822; ann@example.net\nAction: failed\n"
        "Status: 5.7.1\nDiagnostic-Code: smtp; 550-5.7.1 [192.0.2.1] Our system has detected an unusual rate of\n"
        " 550 5.7.1 unsolicited mail originating from your IP address.\n",
        (BounceClass.REPUTATION_BLOCK, Scope.INFRASTRUCTURE),
        host="googlemail.com",
    ),
    Sample(
        "exchange online",
        "Delivery has failed to these recipients or groups:\n",
        "Reporting-MTA: dns;AM0PR01MB0001.eurprd01.prod.exchangelabs.com\nReceived-From-MTA: dns;mail.example.com\n"
        "Arrival-Date: Sun, 22 Nov 2026 10:00:00 +0000\n\nFinal-Recipient: rfc822;ann@example.net\nAction: failed\n"
        "Status: 5.1.10\nDiagnostic-Code: smtp;550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient ann@example.net\n"
        " not found by SMTP address lookup\nX-Display-Name: ann@example.net\n",
        (BounceClass.BAD_DOMAIN, Scope.RECIPIENT),
        header="From: <MicrosoftExchange329e71ec88ae4615bbc36ab6ce41109e@example.net>\n"
        "X-MS-Exchange-Message-Is-Ndr:\nAuto-Submitted: auto-replied\nSubject: Undeliverable: Your order\n",
        host="AM0PR01MB0001.eurprd01.prod.exchangelabs.com",
    ),
    Sample(
        "exchange on premises",
        "",
        "Reporting-MTA: dns;EX01.corp.example.net\nReceived-From-MTA: dns;mx.example.net\n\n"
        "Original-Recipient: rfc822;ann@example.net\nFinal-Recipient: rfc822;ann@example.net\nAction: failed\n"
        "Status: 5.2.2\nDiagnostic-Code: smtp;554 5.2.2 mailbox full; STOREDRV.Deliver; mailbox full.\n",
        (BounceClass.QUOTA_ISSUES, Scope.RECIPIENT),
        host="EX01.corp.example.net",
    ),
    Sample(
        "outlook.com",
        "This is an automatically generated Delivery Status Notification.\n",
        "Reporting-MTA: dns;DM6.hotmail.com\n\nFinal-Recipient: rfc822;ann@example.net\nAction: failed\nStatus: 5.5.0\n"
        "Diagnostic-Code: smtp;550 5.5.0 Requested action not taken: mailbox unavailable (S2017062302).\n",
        _GONE,
        host="DM6.hotmail.com",
    ),
    Sample(
        "yahoo",
        "Sorry, we were unable to deliver your message to the following address.\n",
        "Reporting-MTA: dns; sonic.consmr.mail.ne1.yahoo.com\n\nFinal-Recipient: rfc822; ann@example.net\n"
        "Action: failed\nStatus: 5.0.0\nRemote-MTA: dns; mta6.am0.yahoodns.net\n"
        "Diagnostic-Code: smtp; 554 delivery error: dd This user doesn't have a yahoo.com account\n"
        " (ann@example.net) [0] - mta4001.mail.ne1.yahoo.com\n",
        _GONE,
        header="From: MAILER-DAEMON@yahoo.com\nSubject: Failure Notice\n",
        host="sonic.consmr.mail.ne1.yahoo.com",
    ),
    Sample(
        "icloud",
        "",
        "Reporting-MTA: dns; ms1.mail.icloud.com\n\nFinal-Recipient: rfc822;ann@example.net\nAction: failed\n"
        "Status: 5.1.1 (unknown or illegal alias)\nDiagnostic-Code: smtp;550 5.1.1 unknown or illegal alias: ann@x\n",
        _GONE,
        host="ms1.mail.icloud.com",
    ),
    Sample(
        "amazon ses",
        "An error occurred while trying to deliver the mail to the following recipients:\nann@example.net\n",
        "Reporting-MTA: dns; a8-1.smtp-out.amazonses.com\n\nAction: failed\nFinal-Recipient: rfc822; ann@example.net\n"
        "Diagnostic-Code: smtp; 550 4.4.7 Message expired: unable to deliver in 840 minutes.<421 4.4.0 no answer>\n"
        "Status: 4.4.7\n",
        (BounceClass.MESSAGE_EXPIRED, Scope.INFRASTRUCTURE),
        host="a8-1.smtp-out.amazonses.com",
    ),
    Sample(
        "proofpoint",
        "",
        "Reporting-MTA: dns; mx0a-1.pphosted.com\n\nFinal-Recipient: rfc822;ann@example.net\nAction: failed\n"
        "Status: 5.7.1\nDiagnostic-Code: smtp;554 5.7.1 Blocked - see https://ipcheck.proofpoint.com/?ip=192.0.2.1\n",
        (BounceClass.REPUTATION_BLOCK, Scope.INFRASTRUCTURE),
        host="mx0a-1.pphosted.com",
    ),
    Sample(
        "mimecast",
        "",
        "Reporting-MTA: dns; eu-smtp-1.mimecast.com\n\nFinal-Recipient: rfc822; ann@example.net\nAction: failed\n"
        "Status: 5.0.0\nDiagnostic-Code: smtp; 550 Administrative prohibition - envelope blocked\n",
        (BounceClass.POLICY_RELATED, Scope.INFRASTRUCTURE),
        host="eu-smtp-1.mimecast.com",
    ),
    Sample(
        "domino",
        "Your message\n\n  Subject: Your order\n\nwas not delivered to:\n  ann@example.net\n",
        "Reporting-MTA: dns;notes.example.net\n\nFinal-Recipient: rfc822;ann@example.net\nAction: failed\n"
        "Status: 5.1.1\nDiagnostic-Code: X-Notes; User ann (ann@example.net) not listed in Domino\n Directory\n",
        _GONE,
        header="Subject: DELIVERY FAILURE: User ann (ann@example.net) not listed in Domino Directory\n",
        host="notes.example.net",
    ),
    Sample(
        "gmx",
        "",
        "Reporting-MTA: dns; mout.gmx.net\n\nFinal-Recipient: rfc822;ann@example.net\nAction: Failed\nStatus: 5.1.1\n"
        "Diagnostic-Code: smtp; 550 Requested action not taken: mailbox unavailable [For explanation visit x]\n",
        _GONE,
        host="mout.gmx.net",
    ),
    Sample(
        "mail.ru",
        "",
        "Reporting-MTA: dns; f1.i.mail.ru\n\nFinal-Recipient: rfc822; ann@example.net\nAction: failed\nStatus: 5.2.1\n"
        "Diagnostic-Code: smtp; 550 5.2.1 user is terminated\n",
        (BounceClass.INACTIVE_MAILBOX, Scope.RECIPIENT),
        host="f1.i.mail.ru",
    ),
    Sample(
        "netease",
        "",
        "Reporting-MTA: dns; 163.com\n\nFinal-Recipient: RFC822; ann@example.net\nAction: failed\n"
        "Diagnostic-Code: smtp; 550 User not found: ann@example.net\nStatus: 5.0.0\n",
        _GONE,
        host="163.com",
    ),
    Sample(
        "beyond ascii, RFC 6533",
        "",
        "Reporting-MTA: dns; mx.example.net\n\nFinal-Recipient: utf-8; \\x{E4}nn@ex\\x{E4}mple.net\nAction: failed\n"
        "Status: 5.1.1\nDiagnostic-Code: smtp; 550 5.1.1 no such user\n",
        _GONE,
        addresses=("änn@exämple.net",),
    ),
    Sample(
        "forwarded on: both addresses",
        "",
        "Reporting-MTA: dns; mx.example.net\n\nOriginal-Recipient: rfc822;ann@example.net\n"
        "Final-Recipient: rfc822; <anna@other.example> (expanded from ann)\nAction: failed (no such user)\n"
        "Status: 5.1.1\n",
        _GONE,
        addresses=(TO, "anna@other.example"),
    ),
)


def two_recipients() -> bytes:
    """A notification of which one recipient failed, one waits, and one was delivered; no blank lines between."""
    group = "Final-Recipient: rfc822; {0}@example.net\nAction: {1}\nStatus: {2}\n"
    groups = [("ann", "failed", "5.1.1"), ("bob", "delayed", "4.4.1"), ("carl", "delivered", "2.0.0")]
    status = "Reporting-MTA: dns; mx.example.net\n" + "".join(group.format(*one) for one in groups)
    return report("delivery-status", [("text/plain", "x"), ("message/delivery-status", status)], "Subject: x\n")


def two_failed() -> bytes:
    status = "Reporting-MTA: dns; mx\n\n" + "\n".join(
        f"Final-Recipient: rfc822; {name}@example.net\nAction: failed\nStatus: 5.1.1\n" for name in ("ann", "bob")
    )
    return report("delivery-status", [("message/delivery-status", status)], "Subject: x\n")


QMAIL = b"""From: MAILER-DAEMON@mx.example.net
Subject: failure notice

Hi. This is the qmail-send program at mx.example.net.
I'm afraid I wasn't able to deliver your message to the following addresses.
This is a permanent error; I've given up. Sorry it didn't work out.

<ann@example.net>:
192.0.2.2 does not like recipient.
Remote host said: 550 5.1.1 sorry, no mailbox here by that name
Giving up on 192.0.2.2.

--- Below this line is a copy of the message.

Return-Path: <shop@example.com>
"""

NOBODY_NAMED = b"""From: ndr@mx.example.net
Subject: Mail delivery failed: returning message to sender

One or more of the recipients are not a valid user of the system.
"""


def complaint(
    token: str = NONE, *, kind: str = "abuse", to: str = TO, original: str = "", quoted: str = QUOTED
) -> bytes:
    """By RFC 5965."""
    said = f"Feedback-Type: {kind}\nUser-Agent: SomeGenerator/1.0\nVersion: 1\n{original}Source-IP: 192.0.2.1\n"
    copied = quoted.format(token=token).replace("To: ann@example.net", f"To: {to}")
    parts = [
        ("text/plain", "This is an email abuse report.\n"),
        ("message/feedback-report", said),
        ("message/rfc822", copied + "\nHello\n"),
    ]
    return report("feedback-report", parts, "From: fbl@example.net\nSubject: FW: Your order\n")


AUTOMATIC = {
    "vacation": b"Auto-Submitted: auto-replied (vacation)\nSubject: Re: Your order\n\nI am away.\n",
    "exchange": b"Auto-Submitted: auto-generated\nX-Auto-Response-Suppress: All\n"
    b"Subject: Automatic reply: Your order\n\nI am out.\n",
    "precedence": b"Precedence: auto_reply\nSubject: thanks\n\nWe got it.\n",
    "a field": b"X-Autoreply: yes\nSubject: Re: x\n\nBack on Monday.\n",
    "a subject": b"Subject: Out of Office: Your order\n\nBack on Monday.\n",
    "an encoded subject": b"Subject: =?utf-8?B?QWJ3ZXNlbmhlaXQ6IElocmUgTWFpbA==?=\n\nIch bin weg.\n",
}
PERSONAL = b"From: ann@example.net\nSubject: Re: Your order\n\nWhere is it?\n"
