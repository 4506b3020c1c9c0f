"""The SMTP grammar without sockets. Sessions as a client sees them are in tests/dialogs."""

import itertools
import tracemalloc
from dataclasses import replace
from typing import Any

import pytest

from gateway.config import Auth, Listen, ListenerTls, SmtpListener
from gateway.errors import GatewayError, Reason, Refused, StoreError, StoreFull
from gateway.message import notify
from gateway.message.model import PIECE_BYTES, SmtpEnvelope
from gateway.smtp import grammar, replies
from gateway.smtp.client import harmless_name
from gateway.smtp.content import ContentReader
from gateway.smtp.engine import Engine
from gateway.smtp.need import FREE_BYTES, MEMORY_FACTOR, Need
from gateway.smtp.rules import Rules, rules_of
from tests.fakes.smtp_door import FakeDoor

LOOPBACK = SmtpListener(listen=Listen("127.0.0.1", 0), auth=Auth.OPTIONAL)
HELLO = b"EHLO client.example.org\r\n"
TRANSACTION = b"MAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n"
LOGIN = b"AUTH PLAIN AHNob3AAc2VjcmV0\r\n"


def rules(listener: SmtpListener = LOOPBACK, *, max_bytes: int = 1_000_000) -> Rules:
    return rules_of(listener, hostname="mail.example.com", max_bytes=max_bytes, max_recipients=100)


def engine(given: Rules | None = None, *, door: FakeDoor | None = None, key: str | None = "printers") -> Engine:
    door = door or FakeDoor()

    def authenticate(login: bytes, password: bytes) -> Any:
        return door.authenticate(login.decode(), password.decode(), "192.0.2.7")

    made = Engine(given or rules(), door, peer="192.0.2.7", network_key=key, tls=False, authenticate=authenticate)
    assert made.take() == b"220 mail.example.com ESMTP\r\n"
    return made


def in_content(given: Rules | None = None) -> Engine:
    made = engine(given)
    assert made.feed(HELLO + TRANSACTION) is Need.INPUT
    assert made.take().endswith(replies.GO_AHEAD)
    return made


def read(
    data: bytes, *, convert: bool = False, max_bytes: int = 10**9, step: int = 10**9
) -> tuple[ContentReader, list[bytes]]:
    """A reader that was fed data in steps, and the pieces that came out."""
    reader = ContentReader(max_bytes=max_bytes, convert=convert)
    pieces = []
    for at in range(0, len(data), step):
        reader.feed(data[at : at + step])
        while not reader.ended and (piece := reader.pull()) is not None:
            pieces.append(piece)
    return reader, pieces


# Content


@pytest.mark.parametrize(
    ("sent", "content"),
    [
        (b".\r\n", b""),
        (b"\r\n.\r\n", b"\r\n"),
        (b"a\r\n.\r\n", b"a\r\n"),
        (b"..\r\n.\r\n", b".\r\n"),
        (b"..a\r\n...\r\n.b\r\n.\r\n", b".a\r\n..\r\nb\r\n"),
        (b"a.\r\n.\r\n", b"a.\r\n"),
        (b"a\r\n..\r\n\r\n..\r\n.\r\n", b"a\r\n.\r\n\r\n.\r\n"),
    ],
)
def test_content_is_unstuffed_whatever_the_segments(sent: bytes, content: bytes) -> None:
    for step in range(1, len(sent) + 4):
        reader, pieces = read(sent + b"QUIT\r\n", step=step)
        assert reader.ended
        assert reader.fault is None
        assert b"".join(pieces) == content


def test_what_follows_the_content_is_kept() -> None:
    reader, _ = read(b"a\r\n.\r\nMAIL FROM:<x@y.z>\r\n.\r\n")
    assert reader.rest == b"MAIL FROM:<x@y.z>\r\n.\r\n"


@pytest.mark.parametrize("ending", [b"\n.\n", b"\r.\r", b"\n.\r\n", b"\r\n.\n", b"\r\n.\r", b"\r\r\n.\n", b"\n\r.\r\n"])
def test_nothing_else_ends_the_content(ending: bytes) -> None:
    for convert in (False, True):
        assert not read(b"a" + ending + b"b", convert=convert)[0].ended
        reader, _ = read(b"a" + ending + b"b\r\n.\r\n", convert=convert)
        assert reader.ended
        assert reader.fault == (None if convert else replies.BARE_NEWLINE)


def test_bare_newlines_become_line_ends_where_asked() -> None:
    reader, pieces = read(b"a\nb\rc\r\r\nd\n\n..e\n..f\r\n..g\r\n.\r\n", convert=True)
    assert reader.fault is None
    assert b"".join(pieces) == b"a\r\nb\r\nc\r\n\r\nd\r\n\r\n..e\r\n..f\r\n.g\r\n"


def test_nul_is_refused_also_where_newlines_are_converted() -> None:
    assert read(b"a\0\nb\r\n.\r\n", convert=True)[0].fault == replies.NUL


@pytest.mark.parametrize("line_end", [b"\r\n", b"\n"])
@pytest.mark.parametrize("step", [1000, 65_536, 262_144, 10**9])
def test_large_content_comes_in_pieces_cut_at_line_ends(line_end: bytes, step: int) -> None:
    line = b".. " + b"x" * 71 + line_end
    sent = line * 12_000
    reader, pieces = read(sent + b"\r\n.\r\n", convert=True, step=step)
    assert reader.fault is None
    assert len(pieces) > 3
    assert all(0 < len(piece) <= PIECE_BYTES and piece.endswith(b"\r\n") for piece in pieces[:-1])
    assert len(pieces[-1]) <= PIECE_BYTES
    original = b"\r\n" + sent + b"\r\n"
    expected = original.replace(b"\r\n.", b"\r\n")[2:].replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    assert b"".join(pieces) == expected


def test_content_of_newlines_only_grows_and_still_fits_its_pieces() -> None:
    reader, pieces = read(b"\n" * 600_000 + b"\r\n.\r\n", convert=True, step=100_000)
    assert reader.fault is None
    assert b"".join(pieces) == b"\r\n" * 600_001
    assert max(map(len, pieces)) <= PIECE_BYTES


def test_a_line_of_sixty_megabytes_costs_no_memory() -> None:
    reader = ContentReader(max_bytes=10**6, convert=False)
    chunk = b"x" * 262_144
    tracemalloc.start()
    for _ in range(240):
        reader.feed(chunk)
        while reader.pull() is not None:
            pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * PIECE_BYTES
    reader.feed(b"\r\n.\r\nNOOP\r\n")
    assert reader.pull() == b""
    assert reader.ended
    assert reader.fault == replies.TOO_LARGE
    assert reader.rest == b"NOOP\r\n"


@pytest.mark.parametrize("offset", [*range(-6, 7), 100])
@pytest.mark.parametrize("step", [100_000, 10**9])
def test_a_line_longer_than_a_piece_is_cut_inside_it(offset: int, step: int) -> None:
    line = b"x" * (PIECE_BYTES + offset) + b"\r\n"
    for before in (b"", b"short\r\n", b"..dots\r\n"):
        sent = before + line + b"..dot\r\n" + line + line
        reader, pieces = read(sent + b".\r\nNOOP\r\n", step=step)
        assert reader.fault is None
        assert reader.rest == b"NOOP\r\n" or step < 10**9
        assert b"".join(pieces) == sent.replace(b"..", b".")
        assert all(len(piece) <= PIECE_BYTES for piece in pieces)
        for piece, after in itertools.pairwise(pieces):
            assert not (piece.endswith(b"\r") and after.startswith(b"\n"))


@pytest.mark.parametrize("octets", [b"\r", b"\n", b"\rx", b"\n\r", b"x\r\r", b"\r\n\r"])
def test_bare_newlines_at_the_borders_of_pieces(octets: bytes) -> None:
    for shift in range(3):
        sent = b"x" * shift + octets * (700_000 // len(octets)) + b"\r\n"
        reader, pieces = read(sent + b".\r\n", convert=True, step=200_001)
        assert reader.fault is None
        expected = sent.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")
        assert b"".join(pieces) == expected
        assert all(len(piece) <= PIECE_BYTES and not piece.endswith(b"\r") for piece in pieces)
        assert read(sent + b".\r\n", step=200_001)[0].fault == replies.BARE_NEWLINE


def test_size_is_counted_without_the_stuffing() -> None:
    sent = b"..\r\n" * 10 + b".\r\n"
    assert read(sent, max_bytes=30)[0].fault is None
    assert read(sent, max_bytes=29)[0].fault == replies.TOO_LARGE


def test_too_large_content_is_dropped_while_it_comes() -> None:
    reader = ContentReader(max_bytes=300_000, convert=False)
    line = b"x" * 98 + b"\r\n"
    stored = 0
    for _ in range(100):
        reader.feed(line * 1000)
        while (piece := reader.pull()) is not None:
            stored += len(piece)
    assert stored <= 300_000
    assert reader.fault == replies.TOO_LARGE
    reader.feed(b".\r\n")
    assert reader.pull() == b""
    assert reader.ended


# Needs


def test_small_content_is_one_need() -> None:
    session = in_content()
    assert session.feed(b"a\r\n.\r\n") is Need.COMMIT
    assert session.piece == b"a\r\n"
    assert session.take() == b""
    assert session.proceed(replies.queued("eml_1")) is Need.INPUT
    assert session.take() == b"250 2.0.0 queued as eml_1\r\n"
    assert session.transaction is None


def test_large_content_is_stored_piece_by_piece_and_commands_wait() -> None:
    session = in_content()
    lines = (b"x" * 98 + b"\r\n") * 6000
    assert session.feed(lines + b".\r\nNOOP\r\n") is Need.ROOM
    assert session.room.bytes == MEMORY_FACTOR * PIECE_BYTES
    need = session.admitted(True)
    stored = b""
    while need is Need.STORE:
        session.keep(b"")
        stored += session.piece
        need = session.proceed(None)
    assert need is Need.COMMIT
    assert stored + session.piece == lines
    session.keep(b"QUIT\r\n")
    assert session.buffered == len(b"NOOP\r\nQUIT\r\n")
    assert session.proceed(replies.queued("eml_1")) is Need.CLOSE
    assert session.take() == b"250 2.0.0 queued as eml_1\r\n" + replies.OK + replies.BYE


def test_a_piece_that_cannot_be_stored_refuses_the_content_at_its_end() -> None:
    session = in_content()
    lines = (b"x" * 98 + b"\r\n") * 3000
    assert session.feed(lines) is Need.ROOM
    assert session.admitted(True) is Need.STORE
    assert session.proceed(replies.NO_ROOM) is Need.INPUT
    assert session.feed(lines) is Need.INPUT
    assert session.take() == b""
    assert session.feed(b".\r\nNOOP\r\n") is Need.INPUT
    assert session.take() == replies.NO_ROOM + replies.OK


def test_small_content_needs_no_room_and_large_content_asks_as_it_grows() -> None:
    session = in_content()
    assert session.feed(b"x" * FREE_BYTES) is Need.INPUT
    assert session.feed(b"x") is Need.ROOM
    asked = session.room.bytes
    assert 2 * FREE_BYTES <= asked < MEMORY_FACTOR * PIECE_BYTES
    assert session.admitted(True) is Need.INPUT
    assert session.feed(b"x" * FREE_BYTES * 2) is Need.ROOM
    assert session.room.bytes > asked
    assert session.admitted(True) is Need.INPUT
    while session.feed(b"x" * 100_000) is not Need.ROOM:
        pass
    assert session.room.bytes == MEMORY_FACTOR * PIECE_BYTES
    need = session.admitted(True)
    while need is not Need.COMMIT:  # never again
        assert need is not Need.ROOM
        need = session.proceed(None) if need is Need.STORE else session.feed(b"x" * 300_000 + b"\r\n.\r\n")


def test_content_without_room_is_dropped_and_refused_at_its_end() -> None:
    session = in_content()
    assert session.feed(b"x" * 100_000) is Need.ROOM
    kept = [session.keeps_content]
    assert session.admitted(False) is Need.INPUT
    kept.append(session.keeps_content)
    assert kept == [True, False]
    for _ in range(100):
        assert session.feed(b"x" * 100_000) is Need.INPUT
    assert session.feed(b"\r\n.\r\nNOOP\r\n") is Need.INPUT
    assert session.take() == replies.NO_ROOM + replies.OK


def test_room_for_a_declared_size_is_asked_before_it_comes() -> None:
    for granted, reply in ((True, replies.GO_AHEAD), (False, replies.NO_ROOM)):
        session = engine()
        session.feed(HELLO + b"MAIL FROM:<a@example.com> SIZE=900000\r\nRCPT TO:<b@example.org>\r\n")
        session.take()
        assert session.feed(b"DATA\r\n") is Need.ROOM
        assert session.take() == b""
        assert session.room.bytes == MEMORY_FACTOR * PIECE_BYTES
        assert session.admitted(granted) is Need.INPUT
        assert session.take() == reply
        assert session.in_content is granted


def test_the_gateways_421_is_the_last_word() -> None:
    stopping = Refused(Reason.SHUTTING_DOWN, "later")
    for where in ("a@example.com", "b@example.org"):
        session = engine(door=FakeDoor(failures={where: stopping}))
        assert session.feed(HELLO + TRANSACTION + b"NOOP\r\n") is Need.CLOSE
        assert session.take().endswith(b"421 4.3.2 later\r\n")
    session = in_content()
    assert session.feed(b"a\r\n.\r\nNOOP\r\n") is Need.COMMIT
    assert session.proceed(replies.of(stopping)) is Need.CLOSE
    assert session.take() == b"421 4.3.2 later\r\n"


def test_the_door_says_which_sender_it_is() -> None:
    session = engine(door=FakeDoor(default_domain="example.net"))
    session.feed(HELLO + b"MAIL FROM:<scanner>\r\nRCPT TO:<root>\r\nDATA\r\n")
    assert session.envelope.sender == "scanner@example.net"
    assert session.envelope.recipients == ("root@example.net",)


def test_starttls_forgets_everything() -> None:
    session = engine(rules(replace(LOOPBACK, tls=ListenerTls.STARTTLS)))
    session.feed(HELLO + LOGIN + b"MAIL FROM:<a@example.com>\r\n")
    session.take()
    assert session.feed(b"STARTTLS\r\nNOOP\r\n") is Need.STARTTLS
    assert session.take() == replies.READY_FOR_TLS
    assert session.secured() is Need.INPUT
    assert session.transaction is None
    session.feed(TRANSACTION)
    assert session.take() == replies.HELO_FIRST + replies.MAIL_FIRST * 2


def test_draining_waits_for_the_transaction() -> None:
    idle = engine()
    idle.feed(HELLO)
    idle.take()
    assert idle.drain() is Need.CLOSE
    assert idle.take() == replies.SHUTTING_DOWN

    busy = in_content()
    assert busy.drain() is Need.INPUT
    assert busy.feed(b"a\r\n.\r\nMAIL FROM:<a@example.com>\r\n") is Need.COMMIT
    assert busy.drain() is Need.COMMIT
    assert busy.proceed(replies.queued("eml_1")) is Need.CLOSE
    assert busy.take() == b"250 2.0.0 queued as eml_1\r\n" + replies.SHUTTING_DOWN


def test_an_unforeseen_error_is_the_shells_and_the_session_goes_on() -> None:
    door = FakeDoor(failures={"a@example.com": RuntimeError("boom")})
    session = engine(door=door)
    session.feed(HELLO)
    session.take()
    with pytest.raises(RuntimeError):
        session.feed(b"MAIL FROM:<a@example.com>\r\nNOOP\r\n")
    assert session.fault() is Need.INPUT
    assert session.take() == replies.OUR_FAULT + replies.OK


def test_an_unforeseen_error_in_content_ends_the_session() -> None:
    session = in_content()
    assert session.fault() is Need.CLOSE
    assert session.take() == replies.BROKEN


# The client, as the message will tell


@pytest.mark.parametrize(
    ("before", "mail", "protocol"),
    [
        (b"HELO x\r\n", b"", "SMTP"),
        (b"EHLO x\r\n", b"", "ESMTP"),
        (b"EHLO x\r\n" + LOGIN, b"", "ESMTPA"),
        (b"HELO x\r\n" + LOGIN, b"", "ESMTPA"),
        (b"EHLO x\r\n" + LOGIN, b" SMTPUTF8 BODY=8BITMIME", "UTF8SMTPA"),
    ],
)
def test_the_envelope(before: bytes, mail: bytes, protocol: str) -> None:
    session = engine()
    session.feed(before + b"MAIL FROM:<a@example.com>" + mail + b"\r\nRCPT TO:<b@example.org>\r\nDATA\r\n.\r\n")
    assert session.envelope == SmtpEnvelope(
        sender="a@example.com",
        recipients=("b@example.org",),
        helo="x",
        peer="192.0.2.7",
        protocol=protocol,
        smtputf8=bool(mail),
        eight_bit=bool(mail),
    )


def test_the_protocol_under_tls() -> None:
    session = engine(rules(replace(LOOPBACK, tls=ListenerTls.STARTTLS)))
    session.feed(b"EHLO x\r\nSTARTTLS\r\n")
    session.secured()
    session.feed(b"EHLO x\r\n" + LOGIN + TRANSACTION)
    assert session.envelope.protocol == "ESMTPSA"


def test_the_authenticated_key_wins_over_the_network() -> None:
    session = engine()
    session.feed(HELLO + TRANSACTION)
    assert session.transaction is not None
    assert session.transaction.principal == "printers"
    session = engine()
    session.feed(HELLO + LOGIN + TRANSACTION)
    assert session.transaction is not None
    assert session.transaction.principal == "shop"


def test_a_network_whose_key_is_gone_is_not_let_in() -> None:
    session = engine(door=FakeDoor(networks={}))
    session.feed(HELLO + b"MAIL FROM:<a@example.com>\r\n")
    assert session.take().endswith(replies.AUTH_REQUIRED)


def test_a_network_is_not_enough_where_auth_is_required() -> None:
    session = engine(rules(replace(LOOPBACK, auth=Auth.REQUIRED)))
    session.feed(HELLO + b"MAIL FROM:<a@example.com>\r\n")
    assert session.take().endswith(replies.AUTH_REQUIRED)


def test_auth_while_the_store_is_away_is_temporary() -> None:
    session = engine(door=FakeDoor(failures={"authenticate": StoreError("gone")}))
    session.feed(HELLO + LOGIN)
    assert session.take().endswith(replies.AUTH_AWAY)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("client.example.org", "client.example.org"),
        ("[192.0.2.1]", "[192.0.2.1]"),
        ("[IPv6:::1]", "[IPv6:::1]"),
        ("my_printer", "my_printer"),
        ("My PC (evil)\t", "My?PC??evil??"),
        ("bücher", "b?cher"),
        ("x" * 300, "x" * 255),
    ],
)
def test_the_name_of_a_client_is_made_harmless(name: str, shown: str) -> None:
    assert harmless_name(name) == shown


# Announcements and words


def test_ehlo_announces_what_holds_now() -> None:
    def ehlo(listener: SmtpListener) -> tuple[bytes, bytes]:
        made = rules(listener)
        return made.ehlo_clear, made.ehlo_tls

    public = replace(LOOPBACK, listen=Listen("192.0.2.1", 0), tls=ListenerTls.STARTTLS)
    clear, secure = ehlo(public)
    assert b"AUTH" not in clear
    assert b"250-STARTTLS\r\n" in clear
    assert b"STARTTLS" not in secure
    assert b"250-AUTH PLAIN LOGIN\r\n" in secure
    clear, _ = ehlo(replace(public, plaintext_auth=True))
    assert b"250-AUTH PLAIN LOGIN\r\n250-AUTH=PLAIN LOGIN\r\n" in clear
    clear, secure = ehlo(replace(public, auth=Auth.NONE, plaintext_auth=True))
    assert b"AUTH" not in clear + secure
    clear, _ = ehlo(replace(LOOPBACK, listen=Listen("::1", 0)))
    assert b"250-AUTH PLAIN LOGIN\r\n" in clear
    assert b"250-DSN\r\n" in clear
    assert b"250-DSN\r\n" in secure
    assert b"250-REQUIRETLS\r\n" in secure  # RFC 8689, 2
    assert b"REQUIRETLS" not in clear
    for word in (b"CHUNKING", b"VRFY"):
        assert word not in clear + secure


def test_bare_newlines_by_default() -> None:
    assert rules(LOOPBACK).convert
    assert not rules(replace(LOOPBACK, listen=Listen("0.0.0.0", 0))).convert


def test_every_reply_is_well_formed() -> None:
    constants = [value for value in vars(replies).values() if isinstance(value, bytes) and value != replies.CLOSING]
    assert len(constants) > 40
    for reply in constants:
        code, enhanced = reply[:3], reply[4:].split(b" ")[0]
        assert reply.endswith(b"\r\n")
        assert reply.count(b"\n") == reply.count(b"\r") == 1
        assert len(reply) <= 512
        if code[:1] in b"245":
            assert enhanced.startswith(code[:1] + b"."), reply


@pytest.mark.parametrize(
    ("error", "reply"),
    [
        (Refused(Reason.SENDER_NOT_ALLOWED, "not as a@b"), b"550 5.7.1 not as a@b\r\n"),
        (Refused(Reason.SENDER_NOT_ALLOWED, "a\r\n250 b\0\x7fü"), b"550 5.7.1 a??250 b???\r\n"),
        (StoreFull("/var is full"), b"452 4.3.1 No room for mail, try again later\r\n"),
        (StoreError("/var/db is locked"), b"451 4.3.0 An error of ours, try again later\r\n"),
        (GatewayError("secret"), b"451 4.3.0 An error of ours, try again later\r\n"),
    ],
)
def test_errors_as_replies(error: GatewayError, reply: bytes) -> None:
    assert replies.of(error) == reply


def test_a_long_text_is_cut() -> None:
    assert len(replies.line("550 5.7.1 " + "x" * 1000)) == 512


def test_mail_with_its_parameters() -> None:
    parsed = grammar.parse_mail("FROM: <a@EXAMPLE.com>  SIZE=12  BODY=8BITMIME SMTPUTF8 AUTH=a+40b")
    assert parsed == grammar.Mail("a@example.com", 12, eight_bit=True, utf8=True)
    parsed = grammar.parse_mail("FROM:<a@example.com> requiretls ENVID=a+2Bb ret=hdrs")
    assert parsed == grammar.Mail("a@example.com", ret="HDRS", envid="a+2Bb", require_tls=True)
    assert grammar.parse_mail("FROM:<>").address == ""


def test_rcpt_with_its_parameters() -> None:
    parsed = grammar.parse_rcpt("TO:<b@EXAMPLE.org> ORCPT=rfc822;B+2Bx@EXAMPLE.org  notify=delay,Success", utf8=False)
    told = notify.ASKED | notify.DELAY | notify.SUCCESS
    assert parsed == grammar.Rcpt("b@example.org", told, "rfc822;B+2Bx@EXAMPLE.org")
    assert grammar.parse_rcpt("TO:<b@example.org> NOTIFY=never", utf8=False).notify == notify.ASKED
    assert grammar.parse_rcpt("TO:<b@example.org>", utf8=False) == grammar.Rcpt("b@example.org", None, "")


def test_the_longest_original_recipient_fits_a_line() -> None:
    orcpt = "rfc822;" + "a" * 493
    session = engine()
    session.feed(HELLO + b"MAIL FROM:<a@example.com>\r\n")
    address = b"b" * 64 + b"@" + b"c" * 63 + b".example.org"
    session.feed(b"RCPT TO:<" + address + b"> NOTIFY=SUCCESS,FAILURE,DELAY ORCPT=" + orcpt.encode() + b"\r\n")
    assert session.take().endswith(replies.RECIPIENT_OK)
    assert session.envelope.orcpt == (orcpt,)


def test_nothing_is_kept_of_what_nobody_said() -> None:
    session = engine()
    session.feed(HELLO + b"MAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.org>\r\nRCPT TO:<c@example.org>\r\n")
    assert (session.envelope.notify, session.envelope.orcpt) == ((), ())
    session.feed(b"RCPT TO:<d@example.org> NOTIFY=NEVER\r\n")
    assert (session.envelope.notify, session.envelope.orcpt) == ((None, None, notify.ASKED), ("", "", ""))


def test_a_refused_parameter_leaves_the_transaction_as_it_was() -> None:
    session = engine()
    session.feed(HELLO + b"MAIL FROM:<a@example.com> RET=FULL\r\n")
    session.feed(b"RCPT TO:<b@example.org> NOTIFY=NEVER,DELAY\r\nRCPT TO:<c@example.org>\r\n")
    assert session.take().endswith(replies.BAD_NOTIFY + replies.RECIPIENT_OK)
    assert (session.envelope.recipients, session.envelope.ret) == (("c@example.org",), "FULL")


@pytest.mark.parametrize("said", [b"NOTIFY=x", b"ORCPT=x", b"ORCPT=rfc822;+2b", b"NOTIFY=DELAY NOTIFY=DELAY"])
def test_a_list_of_bad_parameters_ends_no_session(said: bytes) -> None:
    session = engine()
    session.feed(HELLO + b"MAIL FROM:<a@example.com>\r\n")
    session.take()
    for number in range(100):
        assert session.feed(b"RCPT TO:<b%d@example.org> %b\r\n" % (number, said)) is Need.INPUT
        assert session.take().startswith(b"501 5.5.4 ")
    session.feed(b"RCPT TO:<b@example.org>\r\n")
    assert session.take() == replies.RECIPIENT_OK


@pytest.mark.parametrize(
    ("path", "address"),
    [
        ("root", "root"),
        ("Postmaster", "Postmaster"),
        ("@relay.example:root", "root"),
        ('"root"', "root"),
        ('"a@b"', '"a@b"'),
        ("a%b@Example.com", "a%b@example.com"),
    ],
)
def test_an_address_may_lack_its_domain(path: str, address: str) -> None:
    assert grammar.parse_mail(f"FROM:<{path}>").address == address
    assert grammar.parse_rcpt(f"TO:<{path}>", utf8=False).address == address


@pytest.mark.parametrize(
    "path", ["root@", "@", "@relay.example", "@relay.example:", "a b", "x" * 65, "[192.0.2.1]", ".", '""x']
)
def test_what_is_no_local_part_is_no_address(path: str) -> None:
    with pytest.raises(grammar.BadAddress, match=r"501 5\.1\.3"):
        grammar.parse_mail(f"FROM:<{path}>")


def test_a_path_of_quotes_takes_linear_time() -> None:
    with pytest.raises(grammar.BadAddress):
        grammar.parse_rcpt("TO:<" + '"\\"' * 5000, utf8=False)
