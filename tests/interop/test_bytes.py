"""SMTP mail arrives byte for byte but for the documented header fields: shown on CPython's own email test
data.

What is refused instead is listed with its reply in cpython_email_data.txt; a file of another Python
version that is not listed there must arrive.
"""

import importlib.util
import re
import smtplib
from pathlib import Path

import pytest

from tests.conftest import MakeDaemon
from tests.peers.client import smtp_transaction
from tests.peers.daemon import SECRET, relay_to
from tests.peers.process import missing
from tests.peers.sink import Sink

pytestmark = pytest.mark.slow

GOLDEN = Path(__file__).with_name("cpython_email_data.txt")
SENDER = "shop@example.com"
_NAME = re.compile(rb"(?:>?From [^\r\n]*\r\n)?[!-9;-~]+[ \t]*:")
_FIELD = re.compile(rb"([!-9;-~]+)[ \t]*:(?:[^\r]|\r\n[ \t])*\r\n")
_REMOVED = {b"bcc", b"resent-bcc", b"return-path", b"content-length", b"idempotency-key"}
_ADDED = {b"received", b"date", b"message-id", b"from"}  # unsigned: the data's domains have no key here


def _data() -> Path:
    package = importlib.util.find_spec("test.test_email")
    if package is None or package.origin is None:
        missing("this Python comes without its own tests")
    return Path(package.origin).parent / "data"


def _canonical(raw: bytes) -> bytes:
    """As a client has to send it: CRLF only."""
    text = raw.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")
    return text if text.endswith(b"\r\n") else text + b"\r\n"


def _without_removed(canonical: bytes) -> tuple[bytes, set[bytes]]:
    """The message without the fields that are taken out, and the names of the others.

    One that has a header and no empty line is given one at its end.
    """
    if not _NAME.match(canonical):
        return canonical, set()
    if b"\r\n\r\n" not in canonical:
        canonical += b"\r\n"
    end = canonical.find(b"\r\n\r\n") + 2
    kept, names = [], set()
    for line in re.split(rb"(?<=\r\n)(?![ \t])", canonical[:end]):
        name = line.partition(b":")[0].strip().lower()
        if name in _REMOVED and b":" in line:
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
    if not names:
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


def _send(client: smtplib.SMTP, name: str, raw: bytes) -> str:
    """The refusal, "" where the message was taken."""
    recipient = f"{name.lower()}@example.net"
    try:
        smtp_transaction(client, SENDER, [recipient], _canonical(raw))
    except smtplib.SMTPDataError as error:
        text = error.smtp_error
        return f"{error.smtp_code} {text.decode() if isinstance(text, bytes) else text}"
    return ""


def _listed() -> dict[str, str]:
    lines = (line.partition("\t") for line in GOLDEN.read_text().splitlines() if not line.startswith("#"))
    return {name: reply for name, _, reply in lines}


def test_cpython_email_data_arrives_byte_for_byte(make_daemon: MakeDaemon, sink: Sink) -> None:
    data = {path.name: path.read_bytes() for path in sorted(_data().iterdir()) if path.is_file()}
    assert len(data) > 40
    refused = {}
    with make_daemon(relay_to(sink.port)) as daemon:
        with smtplib.SMTP("127.0.0.1", daemon.smtp_port, timeout=30) as client:
            client.ehlo("client.test")
            client.login("shop", SECRET)
            for name, raw in data.items():
                if reply := _send(client, name, raw):
                    refused[name] = reply
        taken = data.keys() - refused.keys()
        sink.wait_for_recipients({f"{name.lower()}@example.net" for name in taken})
    arrivals = sink.by_recipient()
    differences = {
        name: difference
        for name in sorted(taken)
        if (difference := _difference(data[name], arrivals[f"{name.lower()}@example.net"][0].content))
    }
    assert differences == {}
    assert refused == {name: reply for name, reply in _listed().items() if name in data}
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
