"""Any bytes, in any segments: the SMTP engine never breaks, never says what is no reply, never makes two messages of
one content."""

import re
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.config import Auth, BareNewlines, Listen, SmtpListener
from gateway.message.model import PIECE_BYTES
from gateway.smtp import replies
from gateway.smtp.engine import Engine, Need
from gateway.smtp.rules import rules_of
from tests.fakes.smtp_door import FakeDoor

REPLY = re.compile(rb"(?:[2-5][0-9][0-9][ -][ -~]*\r\n)*")
WORDS = [
    b"EHLO x",
    b"HELO ",
    b"AUTH PLAIN AHNob3AAc2VjcmV0",
    b"AUTH LOGIN",
    b"MAIL FROM:<a@example.com>",
    b"MAIL FROM:",
    b"RCPT TO:<b@example.org>",
    b"RCPT TO:<",
    b" SIZE=1 SMTPUTF8",
    b"DATA",
    b"RSET",
    b"QUIT",
    b"STARTTLS",
    b"\r\n",
    b"\r\n.\r\n",
    b"\n",
    b"\r",
    b".",
    b"\0",
    b'"',
    b"\\",
    b"\xff",
    "ü".encode(),
    b"x" * 600,
    b"=",
    b"*",
]
TALK = st.lists(st.sampled_from(WORDS) | st.binary(max_size=8), max_size=60).map(b"".join)
CONTENT = st.lists(st.sampled_from([b"\r", b"\n", b".", b"\r\n", b"\r\n.", b"x", b"\0"]), max_size=40).map(b"".join)
CUTS = st.lists(st.integers(min_value=1, max_value=50), min_size=1, max_size=20)


def session(*, convert: bool) -> Engine:
    listener = SmtpListener(
        listen=Listen("127.0.0.1", 0),
        auth=Auth.OPTIONAL,
        bare_newlines=BareNewlines.CONVERT if convert else BareNewlines.REJECT,
    )
    rules = rules_of(listener, hostname="mail.example.com", max_bytes=100_000, max_recipients=10)
    door = FakeDoor()

    def authenticate(login: bytes, password: bytes) -> Any:
        return door.authenticate(login.decode("latin-1"), password.decode("latin-1"), "192.0.2.7")

    return Engine(rules, door, peer="192.0.2.7", network_key="printers", tls=False, authenticate=authenticate)


def segments(data: bytes, cuts: list[int]) -> list[bytes]:
    parts, at, turn = [], 0, 0
    while at < len(data):
        size = cuts[turn % len(cuts)]
        parts.append(data[at : at + size])
        at, turn = at + size, turn + 1
    return parts


def play(engine: Engine, parts: list[bytes]) -> tuple[bytes, list[bytes]]:
    """What it said, and the contents it took."""
    said, taken, pieces = engine.take(), [], b""
    for part in parts:
        need = engine.feed(part)
        while need in {Need.STORE, Need.COMMIT}:
            assert len(engine.piece) <= PIECE_BYTES
            assert engine.envelope.recipients
            pieces += engine.piece
            if need is Need.COMMIT:
                taken.append(pieces)
                pieces = b""
                need = engine.proceed(replies.queued("eml_1"))
            else:
                need = engine.proceed(None)
        said += engine.take()
        if need is Need.CLOSE:
            break
    return said, taken


@settings(max_examples=300, deadline=None)
@given(TALK, CUTS, st.booleans())
def test_any_talk_is_answered_alike_in_any_segments(talk: bytes, cuts: list[int], convert: bool) -> None:
    said, taken = play(session(convert=convert), segments(talk, cuts))
    assert REPLY.fullmatch(said)
    assert said.startswith(b"220 ")
    assert all(b"\0" not in content and content.count(b"\r\n") == content.count(b"\n") for content in taken)
    assert play(session(convert=convert), [talk] if talk else []) == (said, taken)


@settings(max_examples=300, deadline=None)
@given(CONTENT, CUTS, st.booleans())
@example(b"x\r\n.\rx", [1], True)
@example(b"\r\n.", [2], False)
def test_a_stuffed_content_is_one_message_or_none(content: bytes, cuts: list[int], convert: bool) -> None:
    """trust.md S6: whatever a client that stuffs its dots sends is taken once, canonical, or refused."""
    content += b"\r\n"
    stuffed = (b"\r\n" + content).replace(b"\r\n.", b"\r\n..")[2:]
    engine = session(convert=convert)
    play(engine, [b"EHLO x\r\nMAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n"])
    said, taken = play(engine, segments(stuffed + b".\r\nNOOP\r\n", cuts))
    bare = re.search(rb"\r(?!\n)|(?<!\r)\n", content) is not None
    if b"\0" in content or (bare and not convert):
        assert said.startswith(b"550 5.6.0 ")
        assert taken == []
    else:
        assert said.startswith(b"250 2.0.0 queued")
        assert taken == [re.sub(rb"\r\n|\r|\n", b"\r\n", content)]
    assert said.endswith(replies.OK)
    assert said.count(b"\n") == 2
