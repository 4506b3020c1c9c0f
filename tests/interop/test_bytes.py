"""SMTP mail arrives byte for byte but for the documented header fields: shown on the messages of other projects'
tests, and on odd messages one by one (M1, S6).

What is refused of the corpora is listed with its reply in corpora_refused.txt; all else must arrive.
"""

import random
import re
import smtplib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings

from gateway.message import fixup, recode
from tests.conftest import MakeDaemon
from tests.peers import corpora
from tests.peers.daemon import SECRET, Daemon, broken_twin, relay_to
from tests.peers.parts import Node, leaves, leaves_by_go, messages, render
from tests.peers.process import free_port, wait_until
from tests.peers.sink import Sink

pytestmark = pytest.mark.slow

LISTED: Final = Path(__file__).with_name("corpora_refused.txt")
SENDER: Final = "shop@example.com"
MOST_REFUSED: Final = 0.03
_NAME: Final = re.compile(rb"(?:>?From [^\r\n]*\r\n)?[!-9;-~]+[ \t]*:")
_FIELD: Final = re.compile(rb"([!-9;-~]+)[ \t]*:(?:[^\r]|\r\n[ \t])*\r\n")
_REMOVED: Final = {b"bcc", b"resent-bcc", b"return-path", b"content-length", b"idempotency-key"}
_ADDED: Final = {b"received", b"date", b"message-id", b"from"}  # unsigned: the data's domains have no key here
_COMPLETED: Final = {b"date", b"message-id", b"from"}  # without a value they count as missing


def _canonical(raw: bytes) -> bytes:
    """As a client has to send it: CRLF only."""
    text = raw.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")
    return text if text.endswith(b"\r\n") else text + b"\r\n"


_MAILBOX_LINE: Final = re.compile(rb"\A>?From (?![ \t]*:)[^\r\n]*\r\n")


def _without_removed(canonical: bytes) -> tuple[bytes, set[bytes]]:
    """The message without the fields that are taken out, and the names of the others.

    One that has a header and no empty line is given one at its end.
    """
    if not _NAME.match(canonical):
        return canonical, set()
    canonical = _MAILBOX_LINE.sub(b"", canonical)
    if b"\r\n\r\n" not in canonical:
        canonical += b"\r\n"
    end = canonical.find(b"\r\n\r\n") + 2
    kept, names = [], set()
    for line in re.split(rb"(?<=\r\n)(?![ \t])", canonical[:end]):
        name, colon, value = line.partition(b":")
        name = name.strip().lower()
        if colon and (name in _REMOVED or (name in _COMPLETED and not value.strip())):
            continue
        kept.append(line)
        names.add(name)
    return b"".join(kept) + canonical[end:], names


def _difference(sent: bytes, arrived: bytes) -> str:
    """What is not as documented, "" where all is."""
    expected, names = _without_removed(_canonical(sent))
    if not arrived.endswith(expected):
        return f"sent {expected!r}, arrived {arrived!r}"
    before = arrived[: len(arrived) - len(expected)]
    if not names and not expected.startswith(b"\r\n"):
        # No header at all: an empty line ends ours.
        if not before.endswith(b"\r\n\r\n"):
            return f"no empty line before the text: {before!r}"
        before = before[:-2]
    added = [found[1].lower() for found in _FIELD.finditer(before)]
    if b"".join(found[0] for found in _FIELD.finditer(before)) != before or len(set(added)) != len(added):
        return f"more than fields was put before: {before!r}"
    if not {b"received"} <= set(added) <= _ADDED or set(added) & (names - {b"received"}):
        return f"these fields were put before {sorted(names)}: {added}"
    return ""


@pytest.fixture
def connected(make_daemon: MakeDaemon, sink: Sink) -> Iterator[smtplib.SMTP]:
    with make_daemon(relay_to(sink.port)) as daemon, _login(daemon) as client:
        yield client


def _login(daemon: Daemon) -> smtplib.SMTP:
    client = smtplib.SMTP("127.0.0.1", daemon.smtp_port, local_hostname="client.test", timeout=30)
    client.ehlo()
    client.login("shop", SECRET)
    return client


def _send(client: smtplib.SMTP, recipient: str, content: bytes) -> str:
    """The refusal, "" where the message was taken. Dots are stuffed where RFC 5321, 4.5.2 has lines: after CRLF."""
    client.mail(SENDER)
    client.rcpt(recipient)
    assert client.docmd("DATA")[0] == 354
    ended = content if content.endswith(b"\r\n") else content + b"\r\n"
    client.send((b"\r\n" + ended).replace(b"\r\n.", b"\r\n..")[2:] + b".\r\n")
    code, text = client.getreply()
    return "" if code == 250 else f"{code} {text.decode()}"


def _listed() -> dict[str, str]:
    lines = (line.partition("\t") for line in LISTED.read_text().splitlines() if not line.startswith("#"))
    return {name: reply for name, _, reply in lines}


@pytest.mark.parametrize("corpus", ["cpython", "packages"])
def test_a_corpus_arrives_byte_for_byte(corpus: str, connected: smtplib.SMTP, sink: Sink) -> None:
    data = getattr(corpora, corpus)()
    assert len(data) > 40
    recipients = {name: f"{number}@example.net" for number, name in enumerate(data)}
    refused = {name: reply for name in data if (reply := _send(connected, recipients[name], _canonical(data[name])))}
    taken = data.keys() - refused.keys()
    sink.wait_for_recipients({recipients[name] for name in taken}, timeout_s=60)
    arrivals = sink.by_recipient()
    listed = {name: reply for name, reply in _listed().items() if name in data}
    differences = {}
    for name in sorted(taken):
        (arrival,) = arrivals[recipients[name]]
        if difference := _difference(data[name], arrival.content):
            differences[name] = difference
    assert differences == {}
    assert refused == listed
    assert len(refused) <= MOST_REFUSED * len(data)
    assert all(re.match(r"5\d\d 5\.\d+\.\d+ ", reply) for reply in refused.values())


def test_the_comparison_sees_a_changed_byte() -> None:
    sent = b"From: a@example.com\nBcc: x@example.com\n y\nSubject: x\n\nHello\n"
    good = b"Received: x\r\n\ty\r\nDate: z\r\nFrom: a@example.com\r\nSubject: x\r\n\r\nHello\r\n"
    assert _difference(sent, good) == ""
    for wrong in (
        good.replace(b"Hello", b"hello"),
        good.replace(b"Date: z", b"From: z"),
        good.replace(b"Date: z", b"X-Extra: z"),
        good.replace(b"Date: z\r\n", b"Date: z\r\nDate: z\r\n"),
        good.replace(b"From: a@", b"Bcc: x@example.com\r\nFrom: a@"),
        good + b"\r\n",
        good[len(b"Received: x\r\n\ty\r\n") :],
    ):
        assert _difference(sent, wrong) != ""


# One by one

FROM: Final = b"From: a@example.com\r\n"
ODD: Final = {
    "no From": b"Subject: x\r\n\r\nb\r\n",
    "no Date, no Message-ID": FROM + b"\r\nb\r\n",
    "nothing is missing": FROM + b"Date: Thu, 1 Jan 2026 00:00:00 +0000\r\nMessage-ID: <1@a>\r\n\r\nb\r\n",
    "empty fields": b"From:\r\nDate: \r\nMessage-ID:\t\r\nSubject:\r\n\r\nb\r\n",
    "fields that go": FROM + b"Bcc: x@y,\r\n z@y\r\nReturn-Path: <a@b>\r\nContent-Length: 1\r\nX: y\r\n\r\nb\r\n",
    "8-bit header": FROM + b"Subject: caf\xe9 \xc3\xa9\r\n\r\n\xff\xfe\r\n",
    "odd header lines": FROM + b"no field at all\r\nX-Odd :  a\tb  \r\n: empty name\r\nX\x01: \x02\r\n\r\nb\r\n",
    "no header": b"just text\r\n\r\nand more\r\n",
    "no header but an empty line": b"\r\nbody only\r\n",
    "empty body": FROM + b"\r\n",
    "header only": FROM + b"Subject: x\r\n",
    "a mailbox's From line": b"From a@b Thu Jan  1 00:00:00 2026\r\n" + FROM + b"\r\nFrom here on\r\n>From b\r\n",
    "folded in old ways": FROM + b"Subject:\r\n \r\n\t x\r\n \r\nX: a\r\n\tb\r\n   \r\n\r\nb\r\n",
    "dots": FROM + b"\r\n.\r\n..\r\n.a\r\n\r\n.\r\n",
    "dots in the header": FROM + b".X: y\r\n\r\n.\r\n",
    "white space at line ends": FROM + b"Subject: x  \t\r\n\r\n  b \t\r\n\t\r\n\r\n\r\n",
    "a line of 998": FROM + b"X: " + b"x" * 995 + b"\r\n\r\n" + b"y" * 998 + b"\r\n",
    "form feeds and controls": FROM + b"\r\n\x0c\x0b\x07\x7f\x1b\r\n",
    "50 Received": b"Received: x\r\n" * 50 + FROM + b"\r\nb\r\n",
    "an idempotency key": b"Idempotency-Key: k\r\n" + FROM + b"\r\nb\r\n",
    "many pieces": FROM + b"\r\n" + b"".join(b"%08d%b\r\n" % (n, b"." * (n % 300)) for n in range(6_000)),
}
REFUSED: Final = {
    "two From": (FROM + FROM + b"\r\nb\r\n", "550 5.6.0 .*more than one From"),
    "51 Received": (b"Received: x\r\n" * 51 + FROM + b"\r\nb\r\n", "554 5.4.6 "),
    "NUL": (FROM + b"\r\na\0b\r\n", "550 5.6.0 .*NUL"),
    "NUL in the header": (FROM + b"X: \0\r\n\r\nb\r\n", "550 5.6.0 .*NUL"),
    "a long line that is signed": (
        b"DKIM-Signature: x\r\n" + FROM + b"\r\n" + b"x" * 999 + b"\r\n",
        "550 5.6.0 .*DKIM",
    ),
    "a long word in the header": (FROM + b"X: " + b"x" * 999 + b"\r\n\r\nb\r\n", "550 5.6.0 .*white space"),
    "other content under the same key": (
        b"Idempotency-Key: k\r\n" + FROM + b"\r\nc\r\n",
        "550 5.5.0 .*idempotency key",
    ),
}


def test_odd_messages_arrive_or_are_refused_for_a_reason(connected: smtplib.SMTP, sink: Sink) -> None:
    for number, (name, message) in enumerate(ODD.items()):
        assert _send(connected, f"{number}@example.net", message) == "", name
    for name, (message, reply) in REFUSED.items():
        assert re.match(reply, _send(connected, "refused@example.net", message)), name
    arrivals = sink.wait_for(len(ODD))
    by_recipient = {arrival.recipients[0]: arrival.content for arrival in arrivals}
    for number, (name, message) in enumerate(ODD.items()):
        assert _difference(message, by_recipient[f"{number}@example.net"]) == "", name
    assert len(sink.transactions) == len(ODD)


@pytest.mark.parametrize("mode", ["convert", "reject"])
def test_bare_newlines(mode: str, make_daemon: MakeDaemon, sink: Sink) -> None:
    bare = [
        FROM + b"\r\na\nb\r\n",
        FROM + b"\r\na\rb\r\n",
        b"From: a@example.com\n\nb\r\n",
        FROM + b"\r\na\n.\nb\n\r\r\n",
    ]
    with _listening(make_daemon, sink, mode) as daemon, _login(daemon) as client:
        replies = [_send(client, f"{number}@example.net", message) for number, message in enumerate(bare)]
        if mode == "reject":
            assert all(re.match("550 5.6.0 ", reply) for reply in replies)
            return
        assert replies == [""] * len(bare)
        arrivals = {arrival.recipients[0]: arrival.content for arrival in sink.wait_for(len(bare))}
    for number, message in enumerate(bare):
        assert _difference(message, arrivals[f"{number}@example.net"]) == ""


def test_long_lines_are_re_encoded(connected: smtplib.SMTP, sink: Sink) -> None:
    head = FROM + b"Date: x\r\nMessage-ID: <1@a>\r\nMIME-Version: 1.0\r\n"
    texts = [b".\r\n" + b"x." * size + b"\r\n" for size in (500, 400_000)]
    kinds = [b"Content-Type: text/plain; charset=utf-8\r\n\r\n", b"Content-Type: application/pdf\r\n\r\n"]
    start = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n"
    many = [head + kind + text for kind in kinds for text in texts]
    many.append(head + start + b"\xff" * 600_000 + b"\r\n--b--\r\n")
    for number, message in enumerate(many):
        assert _send(connected, f"{number}@example.net", message) == ""
    arrivals = {arrival.recipients[0]: arrival.content for arrival in sink.wait_for(len(many))}
    for number, message in enumerate(many):
        arrived = arrivals[f"{number}@example.net"]
        assert max(map(len, arrived.split(b"\r\n"))) <= 998
        assert leaves(arrived) == leaves(message)


def test_another_language_reads_the_same_in_what_is_re_encoded() -> None:
    made: list[bytes] = []

    @settings(max_examples=400, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(messages())
    def collect(tree: Node) -> None:
        made.append(render(tree))

    collect()
    assert leaves_by_go([_recoded(message) for message in made]) == [leaves(message) for message in made]


def _recoded(message: bytes) -> bytes:
    start = fixup.split_header(message)
    survey = recode.Survey(message[:start])
    survey.feed(message[start:])
    survey.end()
    rewriting = recode.Rewriting(survey)
    pieces = [*rewriting.feed(message[start:]), *rewriting.finish()]
    return rewriting.header + b"".join(pieces)


# S6


def _listening(make_daemon: MakeDaemon, sink: Sink, mode: str, **more: Any) -> Daemon:
    """A daemon that converts bare newlines, or rejects them."""
    port = free_port()
    listener = {"listen": f"127.0.0.1:{port}", "tls": "none", "auth": "required", "bare_newlines": mode}
    daemon = make_daemon(relay_to(sink.port) | {"smtp": {"listeners": [listener]}}, **more)
    daemon.smtp_port = port
    return daemon


def _bodies(count: int) -> list[bytes]:
    """Random, and the same in every run: CR, LF, dots and x in every order, and a NUL now and then."""
    rng = random.Random(6)
    pieces = [b"\r", b"\n", b"\r\n", b".", b"x", b"\r\n.", b"\n.\n", b"\r.\r"]
    bodies = [b"".join(rng.choices(pieces, k=rng.randrange(14))) for _ in range(count)]
    return [body + b"\0" if number % 50 == 0 else body for number, body in enumerate(bodies)]


def _play(daemon: Daemon, bodies: list[bytes], *, convert: bool) -> dict[str, bytes]:
    """Send each as a client that stuffs dots; what was taken, by recipient. Each gets one reply, and the right one."""
    taken = {}
    client = _login(daemon)
    for number, body in enumerate(bodies):
        recipient = f"{number}@example.net"
        message = FROM + b"\r\n" + body + b"\r\n"
        reply = _send(client, recipient, message)
        bad = b"\0" in body or not (convert or fixup.only_crlf(message))
        assert bool(reply) == bad, (body, reply)
        if not reply:
            taken[recipient] = _canonical(message)
    client.close()
    return taken


def _arrives(daemon: Daemon, sink: Sink, count: int, *, mode: str) -> None:
    taken = _play(daemon, _bodies(count), convert=mode == "convert")
    wait_until(lambda: len(sink.accepted) >= len(taken), f"{len(taken)} messages at the sink", 60)
    arrivals = sink.by_recipient()
    assert arrivals.keys() == taken.keys()
    assert len(sink.transactions) == len(taken)
    for recipient, content in taken.items():
        (arrival,) = arrivals[recipient]
        assert _difference(content, arrival.content) == "", content


@pytest.mark.parametrize("mode", ["convert", "reject"])
@pytest.mark.parametrize("count", [150, pytest.param(5000, marks=pytest.mark.slow)])
def test_every_body_is_one_message_or_a_refusal(mode: str, count: int, make_daemon: MakeDaemon, sink: Sink) -> None:
    with _listening(make_daemon, sink, mode) as daemon:
        _arrives(daemon, sink, count, mode=mode)


def test_a_twin_that_does_not_stuff_dots_is_found(make_daemon: MakeDaemon, sink: Sink, tmp_path: Path) -> None:
    stuff = 'data = data.replace(b"\\r\\n.", b"\\r\\n..")'
    twin = broken_twin(tmp_path / "twin", "delivery/framing.py", stuff, "pass")
    with (
        _listening(make_daemon, sink, "convert", source=twin) as daemon,
        pytest.raises((AssertionError, TimeoutError)),
    ):
        _arrives(daemon, sink, 150, mode="convert")
