"""Every parser of foreign text, by name, with the one exception that it may raise, and the text to try it with."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any, Final

from hypothesis import strategies as st

from gateway.api import (
    attachment,
    document,
    fields,
    message,
    status,
    templates,
    timing,
    track,
    unsubscribeform,
    variables,
    wishes,
)
from gateway.api.dialects import bodytype, cloudmailsrequest, guide, iassmtp, overton
from gateway.api.fields import Problems
from gateway.api.proxies import TrustedProxies
from gateway.config import Config, Limits
from gateway.delivery import reported, session
from gateway.delivery.reply import MalformedReply, ReplyReader
from gateway.errors import Refused
from gateway.message import (
    address,
    address_list,
    dkim,
    encoded_word,
    fixup,
    header,
    labels,
    plaintext,
    recode,
    reports,
    rewriting,
    schedule,
)
from gateway.message.address import AddressError
from gateway.message.dkim import DkimKeyError
from gateway.message.header import HeaderError
from gateway.message.recode import Unrepairable
from gateway.message.recode import header as part_header
from gateway.message.reports import feedback
from gateway.message.reports import fields as report_fields
from gateway.message.reports import parts as report_parts
from gateway.message.reports import status as status_fields
from gateway.smtp import grammar
from gateway.smtp.grammar import BadCommand
from gateway.tokens import Tokens


@dataclass(frozen=True, slots=True)
class Parser:
    """`run` takes text (foreign bytes as surrogates, as everywhere); `refusals` are what is documented.

    `short`: what it is given is bounded before it gets there, so that its time at more does not matter.
    """

    run: Callable[[str], Any]
    refusals: tuple[type[Exception], ...] = ()
    short: bool = False


def raw(text: str) -> bytes:
    """Text as the bytes that it came as."""
    return text.encode("utf-8", "surrogatepass")


def _fixed_of(header_block: bytes, **more: Any) -> fixup.Fixed:
    return fixup.fix_header(
        header_block, envelope_sender="a@b.example", received=None, message_id="i@b.example", date="x", **more
    )


def _fixed(text: str, **more: Any) -> None:
    data = raw(text)
    data = data[: fixup.split_header(data)]
    fixed = _fixed_of(data, **more)
    assert len(fixed.header) <= len(data) + 500 + 3000 * len(fixed.senders)
    assert all(encoded_word.clean(shown) == shown for shown in (fixed.subject, *fixed.senders))


def _noted(read: Callable[..., Any], value: Any, **more: Any) -> None:
    """A reader of the API: what is wrong is added, in words for people."""
    problems = Problems()
    read(value, "field", problems, **more)
    assert all(str(problem).isprintable() for problem in problems.found)


def _document(text: str) -> object:
    return document.decode(raw(text))


def _object(text: str) -> Any:
    """What a dialect decodes: a document that is an object, of that text and around it."""
    read = document.decode(raw(text))
    return read if isinstance(read, dict) else {"from": _whole(text), "to": read, "subject": _whole(text)}


def _request(text: str) -> object:
    return message.parse(document.decode(raw(text)), Limits())


def _parameters(text: str) -> bytes:
    named = header.filename_parameters("filename", text, "filename")
    return header.parameters("Content-Disposition", "attachment", named, "filename")


def _controlled(text: str) -> None:
    """Labels as they come in SMTP mail: from the bytes of a header on."""
    value = raw(text).replace(b"\n", b"\n ")
    names = ("X-Gateway-Tag", "X-Gateway-Metadata", "X-Gateway-Send-At", "X-Gateway-TTL", "Idempotency-Key")
    for name in names:
        fixed = _fixed_of(name.encode() + b": " + value + b"\r\n\r\n")
        labels.tags(fixed.tags)
        for given, read in (
            (fixed.metadata, labels.metadata),
            (fixed.send_at, labels.start),
            (fixed.ttl, labels.ttl),
            (fixed.idempotency_key, labels.check_idempotency_key),
        ):
            if given is not None:
                read(given)


def _whole(text: str) -> str:
    """Without half characters: the decoder of documents lets none through."""
    return text.encode("utf-8", "replace").decode()


def _walked(text: str) -> None:
    """A message in canonical form through the walk of its parts, twice where it has long lines."""
    data = re.sub(rb"\r\n|\r|\n", b"\r\n", raw(text)) + b"\r\n"
    start = fixup.split_header(data)
    survey = recode.Survey(data[:start])
    survey.feed(data[start:])
    survey.end()
    again = recode.Rewriting(survey)
    body = b"".join([*again.feed(data[start:]), *again.finish()])
    assert not fixup.has_long_line(again.header + body)


def _status(text: str) -> None:
    for told in status_fields.read(report_parts.Part("message/delivery-status", (), raw(text), 0)):
        reported.judge(told.code, told.enhanced, told.text)


def _feedback(text: str) -> None:
    part = report_parts.Part("message/feedback-report", (), raw(text), 0)
    feedback.read(part, report_fields.read(raw(text)))


_TOKENS: Final = Tokens(bytes(32))
_OPENING: Final = "Content-Type: multipart/report; boundary=a\n\n--a\n"
_CONFIG: Final = Config(hostname="mail.b.example")
_CLOUDMAILS: Final = cloudmailsrequest.table(Limits(), from_required=True)
_PROXIES: Final = TrustedProxies([ip_network("127.0.0.0/8")])

PARSERS: Final[dict[str, Parser]] = {
    "address": Parser(address.parse_path, (AddressError,)),
    "domain": Parser(address.parse_domain, (AddressError,)),
    "mailbox": Parser(address.parse_mailbox, (AddressError,)),
    "pattern": Parser(address.check_pattern, (AddressError,)),
    "pattern of a sender": Parser(lambda text: address.matches(text, "a@b.example")),
    "sender of a pattern": Parser(lambda text: address.matches("*@*.b.example", text)),
    "address list": Parser(address_list.parse_mailbox_list, (AddressError,)),
    "From field": Parser(lambda text: address_list.header_addresses(raw(text)), (AddressError,)),
    "encoded words": Parser(encoded_word.decode),
    "looks encoded": Parser(encoded_word.looks_encoded),
    "header": Parser(_fixed),
    "header with a new From": Parser(lambda text: _fixed(text, rewrite_from="n@b.example")),
    "header with a domain": Parser(lambda text: _fixed(text, default_domain="b.example")),
    "parts of a message": Parser(_walked, (Unrepairable,)),
    "nature of a part": Parser(lambda text: part_header.read(raw(text))),
    "new encoding of a part": Parser(lambda text: part_header.with_encoding(raw(text), b"base64", message=True)),
    "signed": Parser(lambda text: part_header.is_signed(raw(text))),
    "name of a new From": Parser(lambda text: rewriting.display_name(raw(text))),
    "From without a domain": Parser(lambda text: rewriting.completed(raw(text), "b.example")),
    "MAIL": Parser(lambda text: grammar.parse_mail("FROM:" + text), (BadCommand,)),
    "RCPT": Parser(lambda text: grammar.parse_rcpt("TO:" + text, utf8=True), (BadCommand,)),
    "reply of a next hop": Parser(lambda text: ReplyReader().feed(raw(text)), (MalformedReply,)),
    "mail that comes back": Parser(lambda text: reports.read(raw(text), _TOKENS)),
    "a delivery status": Parser(_status),
    "an abuse report": Parser(_feedback),
    "parts of mail that comes back": Parser(lambda text: list(report_parts.walk(raw(_OPENING + text)))),
    "DKIM signing": Parser(lambda text: dkim.prepare(raw(text), bytes(32), domain="b.example", selector="s", now_s=0)),
    "DKIM domain": Parser(
        lambda text: dkim.prepare(b"", bytes(32), domain=text, selector=text, now_s=0), (DkimKeyError,), short=True
    ),
    "DKIM key": Parser(lambda text: dkim.load_private_key(raw(text)), (DkimKeyError,)),
    "plain text of HTML": Parser(plaintext.derive),
    "JSON": Parser(_document, (Refused,)),
    "a request": Parser(_request, (Refused,)),
    "a request of Overton": Parser(lambda text: overton._parse(_object(text)), (Refused,)),
    "a request of the guide": Parser(lambda text: guide._parse(_object(text)), (Refused,)),
    "a request of i-as": Parser(lambda text: iassmtp._parse(_object(text), most=100), (Refused,)),
    "a request of CloudMails": Parser(lambda text: cloudmailsrequest.message(_object(text), _CLOUDMAILS), (Refused,)),
    "a batch of CloudMails": Parser(
        lambda text: cloudmailsrequest.recipients(_object(text), config=_CONFIG, from_required=True), (Refused,)
    ),
    "is it HTML": Parser(bodytype.is_html),
    "X-Forwarded-For": Parser(lambda text: _PROXIES.behind("127.0.0.1", [text])),
    "what a next hop offers": Parser(lambda text: session._offer({"size": text, "limits": text})),
    "a template": Parser(lambda text: templates.parse(document.decode(raw(text))), (Refused,)),
    "template texts": Parser(
        lambda text: templates.parse({"subject": text, "html": text, "text": text, "alias": text}), (Refused,)
    ),
    "base64": Parser(attachment.decode),
    "a line": Parser(lambda text: _noted(fields.line, text)),
    "a mailbox of a request": Parser(lambda text: _noted(fields.mailbox, text)),
    "an attachment": Parser(lambda text: _noted(attachment.read, dict.fromkeys(attachment.TABLE.names, text))),
    "metadata of a request": Parser(lambda text: _noted(fields.metadata, {_whole(text): _whole(text)})),
    "tags of a request": Parser(lambda text: _noted(fields.tags, [text])),
    "header fields of a request": Parser(lambda text: _noted(fields.header_fields, {text: text, "X-Foo": text})),
    "idempotency key of a request": Parser(lambda text: _noted(fields.request_key, text)),
    "variables": Parser(lambda text: _noted(variables.read, {_whole(text): [_whole(text), {_whole(text): 1}]})),
    "send_at": Parser(lambda text: _noted(timing.send_at, text)),
    "ttl": Parser(lambda text: _noted(timing.ttl, text)),
    "wait": Parser(lambda text: _noted(timing.wait, text)),
    "track": Parser(lambda text: _noted(wishes.track, {text: True, "text": True})),
    "unsubscribe": Parser(lambda text: _noted(wishes.unsubscribe, {"tag": text, text: text})),
    "X-Gateway-Track": Parser(labels.track, (Refused,)),
    "X-Gateway-Unsubscribe": Parser(labels.unsubscribe, (Refused,)),
    "a form of one click": Parser(
        lambda text: [
            unsubscribeform.means_it(kind, raw(text)) for kind in ("", "multipart/form-data; boundary=a", text)
        ]
    ),
    "the target of a link": Parser(track.location),
    "an id": Parser(status.parse_id),
    "duration": Parser(schedule.duration, (ValueError,)),
    "start": Parser(schedule.start, (ValueError,)),
    "X-Gateway-Send-At": Parser(labels.start, (Refused,)),
    "X-Gateway-TTL": Parser(labels.ttl, (Refused,)),
    "X-Gateway fields": Parser(_controlled, (Refused,)),
    "X-Gateway-Metadata": Parser(lambda text: labels.metadata(_whole(text)), (Refused,)),
    "Idempotency-Key": Parser(labels.check_idempotency_key, (Refused,)),
    "Subject": Parser(lambda text: header.text("Subject", text, "subject"), (HeaderError,)),
    "client field": Parser(lambda text: header.client_fields([("X-Foo", text)]), (HeaderError,)),
    "client field's name": Parser(lambda text: header.client_fields([(text, "x")]), (HeaderError,)),
    "list field": Parser(lambda text: header.client_fields([("List-Unsubscribe", text)]), (HeaderError,)),
    "file name": Parser(_parameters, (HeaderError,), short=True),
}

# What means something to one of them.
PIECES: Final = (
    *("a", "b.example", "@", ".", ",", ";", ":", "<", ">", "(", ")", "[", "]", '"', "\\", '"a\\"', "a@b.example", "*"),
    *(
        "<a@b.example>",
        "(c)",
        "g: a@b.example;",
        "[192.0.2.1]",
        "[IPv6:::1]",
        "xn--",
        "xn--a",
        "ü",
        "日",
        "😀",
        "\u200d",
    ),
    *(" ", "\t", "\r\n", "\n", "\r", "\0", "\x0b", "\x85", "\u2028", "\ud800", "\udcff", "\r\n ", "\r\n\t"),
    *("=?", "?=", "=?utf-8?q?", "=?utf-8?q?a?=", "=?utf-8?b?YQ==?=", "=?utf-7?b?", "=?punycode?q?", "=0A", "=", "_"),
    *(
        "From: ",
        "from:",
        "Sender: ",
        "Subject: ",
        "Date:",
        "Message-ID: <",
        "Received: x\r\n",
        "Bcc: x\r\n",
        "X-A: b\r\n",
    ),
    *("X-Gateway-Tag: ", "x-gateway-metadata: {}\r\n", "\r\n\r\n", "\r\nFrom:", "Reply-To: "),
    *(
        "{",
        "}",
        "{}",
        '{"a":',
        '"from":"a@b.example",',
        '"to":',
        "[",
        "null",
        "true",
        "1e999",
        "-",
        "0",
        "9" * 30,
        "\\u",
    ),
    *('{"from":"a@b.example","to":"c@d.example","text":"', '","headers":{"', '"}}', "\\ud800", "\\u0000", "NaN", "1.5"),
    *(
        "{{",
        "}}",
        "{{{",
        "{{#a}}",
        "{{/a}}",
        "{{^a}}",
        "{{a|",
        "{{a}}",
        "<p>",
        "</p>",
        "<a href=",
        "<!--",
        "-->",
        "&amp;",
    ),
    *("<script>", "<ul><li>", "<pre>", "&#", "&#x110000;", "<", "' "),
    *("in ", "10m", "90s", "2026-11-21T08:30:00Z", "+01:00", "T", "Z", "99999999999d", "0.0001s", "365d", "ms"),
    *(
        "Content-Type: multipart/mixed; boundary=x\r\n",
        "Content-Type:",
        "--x\r\n",
        "--x--\r\n",
        'boundary="',
        "y" * 1000,
    ),
    *(
        "Content-Transfer-Encoding: quoted-printable\r\n",
        "Content-Transfer-Encoding: base64\r\n",
        "DKIM-Signature: a\r\n",
    ),
    *("Content-Type: text/plain\r\n", "message/rfc822", " SIZE=1", " BODY=8BITMIME", "250-", "250 ", "550 5.1.1 x\r\n"),
    *("-----BEGIN PRIVATE KEY-----\n", "-----END PRIVATE KEY-----\n", "MIIB", "===="),
)
TEXT: Final = st.one_of(
    st.lists(st.sampled_from(PIECES), max_size=30).map("".join),
    st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=5)), max_size=12).map("".join),
    st.text(max_size=60),
    st.text(st.characters(), max_size=30).map(json.dumps),
)
