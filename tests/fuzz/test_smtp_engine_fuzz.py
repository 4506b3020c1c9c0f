"""Any bytes, in any segments, whatever the gateway behind answers: the SMTP engine never breaks, never says what is no
reply, never makes two messages of one content (trust.md, S6 and S21a)."""

import functools
import gc
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.config import Auth, BareNewlines, Listen, SmtpListener
from gateway.errors import Reason, Refused, StoreError, StoreFull
from gateway.message import xtext
from gateway.message.address import parse_path
from gateway.message.model import PIECE_BYTES
from gateway.smtp import grammar, replies
from gateway.smtp.engine import Engine
from gateway.smtp.need import Need
from gateway.smtp.rules import rules_of
from tests.fakes.smtp_door import FakeDoor
from tests.fuzz import effort

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
    b" RET=HDRS ENVID=a+2Bb",
    b" NOTIFY=NEVER ORCPT=rfc822;b",
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


def session(*, convert: bool, door: FakeDoor | None = None) -> Engine:
    listener = SmtpListener(
        listen=Listen("127.0.0.1", 0),
        auth=Auth.OPTIONAL,
        bare_newlines=BareNewlines.CONVERT if convert else BareNewlines.REJECT,
    )
    rules = rules_of(listener, hostname="mail.example.com", max_bytes=100_000, max_recipients=10)
    door = door or FakeDoor()

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
        while need in {Need.STORE, Need.COMMIT, Need.ROOM}:
            if need is Need.ROOM:
                need = engine.admitted(True)
                continue
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


@effort.examples(300)
@given(TALK, CUTS, st.booleans())
@example(b"x" * 600 + b"\n", [1], False)
def test_any_talk_is_answered_alike_in_any_segments(talk: bytes, cuts: list[int], convert: bool) -> None:
    said, taken = play(session(convert=convert), segments(talk, cuts))
    assert REPLY.fullmatch(said)
    assert said.startswith(b"220 ")
    assert all(b"\0" not in content and content.count(b"\r\n") == content.count(b"\n") for content in taken)
    assert play(session(convert=convert), [talk] if talk else []) == (said, taken)


@effort.examples(300)
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


# Arguments

CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
ADDRESSES = st.lists(
    st.sampled_from(
        ["a", "@", ".", '"', "\\\\", "<", ">", " ", ":", "[", "]", "1", "ü", "\0", "\r", "xn--", "%", "!", ","]
    )
    | st.text(max_size=3),
    max_size=20,
).map("".join)


@effort.examples(500)
@given(
    ADDRESSES,
    st.sampled_from(["", " SIZE=1", " SMTPUTF8", " BODY=8BITMIME AUTH=<>", " RET=FULL ENVID=a+2Bb REQUIRETLS", " X=1"]),
    st.booleans(),
)
def test_an_argument_is_an_address_in_normal_form_or_refused(address: str, more: str, utf8: bool) -> None:
    parsed = parsed_or_refused(lambda: grammar.parse_mail(f"FROM:<{address}>{more}").address)
    if parsed is not None:
        local = "@" not in parsed or parsed.endswith('"')  # `"a@b"` is a local part alone
        assert parsed == "" or not CONTROL.search(parse_path(f"{parsed}@x" if local else parsed))
        assert grammar.parse_mail(f"FROM:<{parsed}> SMTPUTF8").address == parsed
    parsed = parsed_or_refused(lambda: grammar.parse_rcpt(f"TO:<{address}> NOTIFY=NEVER", utf8=utf8).address)
    assert parsed != ""
    assert utf8 or parsed is None or parsed.isascii()


CODED: Final = st.lists(
    st.sampled_from(
        ["rfc822;", "utf-8;", ";", "a@b.de", "+2B", "+0D", "+2b", "+FF", "\\x{FC}", "\\x{D}", "ü", " ", "="]
    )
    | st.text(max_size=3),
    max_size=12,
).map("".join)


@effort.examples(500)
@given(CODED, st.booleans())
def test_what_is_told_is_fit_for_a_header_or_refused(coded: str, utf8: bool) -> None:
    assert parsed_or_refused(lambda: grammar.parse_rcpt(f"TO:<a@b.de> NOTIFY={coded}", utf8=utf8).address) in {
        None,
        "a@b.de",
    }
    orcpt = parsed_or_refused(lambda: grammar.parse_rcpt(f"TO:<a@b.de> ORCPT={coded}", utf8=utf8).orcpt)
    if orcpt:
        assert utf8 or orcpt.isascii()
        assert not CONTROL.search("".join(xtext.original_recipient(orcpt)))
    envid = parsed_or_refused(lambda: grammar.parse_mail(f"FROM:<> ENVID={coded}").envid)
    assert not envid or xtext.decode(envid).isprintable()


def parsed_or_refused(parse: Callable[[], str]) -> str | None:
    try:
        return parse()
    except grammar.BadCommand as bad:
        reply = bad.reply
    assert LINE.fullmatch(reply)
    return None


# Twenty thousand sessions

CASES: Final = 20_000
MOST_GROWTH_MB: Final = 50
LINE: Final = re.compile(rb"[2-5][0-9]{2}[ -][ -~]{0,506}\r\n")
BARE_CODES: Final = (b"220 mail.example.com ", b"250 mail.example.com\r\n", b"250-", b"250 ENHANCED", b"334 ", b"354 ")
ENHANCED: Final = re.compile(rb"([245])[0-9]{2} \1\.[0-9]{1,3}\.[0-9]{1,3} [ -~]+\r\n")
INSIDES: Final = re.compile(rb"[A-Z]\w*(?:Error|Exception)\b|Traceback|<class|object at 0x|/var/|Planted")
SAYINGS: Final = tuple(
    word + b"\r\n"
    for word in (
        b"EHLO client.example.org",
        b"HELO x",
        b"AUTH PLAIN AHNob3AAc2VjcmV0",
        b"AUTH PLAIN AHNob3AAd3Jvbmc=",
        b"AUTH LOGIN",
        b"c2hvcA==",
        b"MAIL FROM:<a@example.com>",
        b"MAIL FROM:<> SIZE=90000 BODY=8BITMIME",
        b"MAIL FROM:<scanner>",
        b"MAIL FROM:<a@example.com> RET=HDRS ENVID=a+2Bb",
        b"MAIL FROM:<a@example.com> REQUIRETLS RET=x",
        b"RCPT TO:<b@example.org> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;b@example.org",
        b"RCPT TO:<b@example.org> NOTIFY=NEVER,DELAY ORCPT=x",
        b'RCPT TO:<"b c"@example.org>',
        b"RCPT TO:<b@example.org>",
        b"RCPT TO:<@x.example:b@[192.0.2.1]>",
        b"DATA",
        b"BDAT 4 LAST",
        b"RSET",
        b"NOOP",
        b"VRFY x",
        b"HELP",
        b"QUIT",
        b"STARTTLS",
        b".",
        b"..",
        b"Subject: x",
        b"x" * 1000,
        b"y" * 40_000,
    )
)
OPENING: Final = b"EHLO x\r\nMAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n"
PHRASES: Final = (
    OPENING,
    OPENING + b"Subject: x\r\n\r\ntext\r\n.\r\n",
    OPENING + b"y" * 40_000 + b"\r\n.\r\n",
    b"text\r\n.\r\n",
    b"z" * 300_000 + b"\r\n.\r\n",
    b"\n" * 200_000 + b".\r\n",
)
BYTES: Final = (
    b"\r",
    b"\n",
    b"\0",
    b"\xff",
    b" ",
    b"<",
    b">",
    b'"',
    b".",
    b"\t",
    "ü".encode(),
    b"\x1b[2J",
    b"\x7f",
    b"=",
)


class Planted(Exception):
    """What the gateway behind raises by mistake."""


class RandomDoor(FakeDoor):
    """A gateway that answers anything."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__(default_domain="example.com" if rng.random() < 0.5 else None)
        self.rng = rng

    def fail(self, where: str) -> None:
        if self.rng.random() < 0.03:
            text = f"no \r\n250 {where} in /var/lib\x1b ü " + "x" * self.rng.choice((0, 600))
            raise self.rng.choice(
                (
                    Refused(self.rng.choice(tuple(Reason)), text.replace("/var/lib", "it")),
                    StoreError(text),
                    StoreFull(text),
                    Planted(text),
                )
            )


def one_case(seed: int) -> int:
    """A session made of this number: how many messages it sent. AssertionError, or what the engine raises of its
    own."""
    rng = random.Random(seed)
    engine = session(convert=rng.random() < 0.5, door=RandomDoor(rng))
    said = engine.take()
    while len(said) < 20_000:
        if len(parts := mutated(rng)) == 0:
            break
        need = Need.INPUT
        for part in parts:
            need = served(engine, rng, functools.partial(engine.feed, part))
            said += engine.take()
            assert engine.buffered <= 20_000 + len(part)
            if need is Need.CLOSE:
                break
        if need is Need.CLOSE or rng.random() < 0.05:
            break
    check(said)
    return said.count(b" queued as ")


def mutated(rng: random.Random) -> list[bytes]:
    """Some commands, a few of their octets changed, cut anywhere."""
    if rng.random() < 0.5:
        words = rng.choices(PHRASES, (6, 6, 2, 6, 0.1, 0.1), k=rng.randrange(1, 4))
    else:
        words = rng.choices(SAYINGS, k=rng.randrange(1, 6))
    data = bytearray(b"".join(words))
    for _ in range(rng.choice((0, 0, 0, 1, 3, 10))):
        at = rng.randrange(len(data))
        data[at : at + rng.randrange(3)] = rng.choice(BYTES)
    cut = rng.randrange(1, len(data) + 1)
    return [bytes(part) for part in (data[:cut], data[cut:]) if part]


def served(engine: Engine, rng: random.Random, first: Callable[[], Need]) -> Need:
    """As connection.py serves an engine: the need that is left."""
    go_on = first
    while True:
        try:
            need = go_on()
        except Planted:
            go_on = engine.fault
            continue
        if need is Need.ROOM:
            go_on = functools.partial(engine.admitted, rng.random() < 0.8)
        elif need is Need.STARTTLS:
            engine.take()
            go_on = engine.secured
        elif need in {Need.STORE, Need.COMMIT}:
            assert len(engine.piece) <= PIECE_BYTES
            assert engine.envelope.recipients
            assert b"\0" not in engine.piece
            assert engine.piece.count(b"\r\n") == engine.piece.count(b"\n") == engine.piece.count(b"\r")
            done = replies.queued("eml_1") if need is Need.COMMIT else None
            reply = replies.of(Refused(rng.choice(tuple(Reason)), "no")) if rng.random() < 0.2 else done
            go_on = functools.partial(engine.proceed, reply)
        else:
            return need


def check(said: bytes) -> None:
    """Whether this is what a server may say."""
    lines = said.splitlines(keepends=True)
    assert b"".join(lines) == said
    for number, line in enumerate(lines):
        assert LINE.fullmatch(line), line
        assert line.startswith(BARE_CODES) or ENHANCED.fullmatch(line), line
        assert not INSIDES.search(line), line
        assert not line.startswith(b"421") or number == len(lines) - 1


@pytest.mark.parametrize(
    "said",
    [
        b"500 5.5.2 no\r\r\n",
        b"500 no code\r\n",
        b"451 5.3.0 another class\r\n",
        b"500 5.5.2 \xc3\xbc\r\n",
        b"451 4.3.0 (RuntimeError) boom\r\n",
        b"451 4.3.0 /var/lib/x\r\n",
        b"421 4.7.0 bye\r\n250 2.0.0 OK\r\n",
        b"250 2.0.0 " + b"x" * 600 + b"\r\n",
        b"250 2.0.0 OK\n",
    ],
)
def test_the_check_sees_what_is_no_reply(said: bytes) -> None:
    with pytest.raises(AssertionError):
        check(said)


def test_a_thousand_sessions() -> None:
    taken = sum(one_case(seed) for seed in range(1000))
    assert taken > 200  # they get somewhere


@pytest.mark.slow
def test_twenty_thousand_sessions() -> None:
    for seed in range(500):
        one_case(seed)
    gc.collect()
    before = resident_mb()
    for seed in range(500, CASES):
        one_case(seed)
    gc.collect()
    assert resident_mb() - before < MOST_GROWTH_MB


def resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6
