"""`log.addresses: hashed`: a code stands for each address, wherever it is in a line."""

import io
import logging

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway import observe
from gateway.observe import MailLog, Mask
from gateway.tokens import SECRET_BYTES, Tokens

BOB = "Bob.Smith@Example.net"
MASK = Mask(Tokens(bytes(SECRET_BYTES)).hashed)
CODE = MASK.address(BOB).partition("@")[0]


def test_the_code_is_short_the_same_and_keeps_the_domain() -> None:
    assert MASK.address(BOB) == f"{CODE}@Example.net"
    assert MASK.address(BOB.lower()) == f"{CODE}@example.net"
    assert len(CODE) == len("h:") + 8
    assert Mask(Tokens(b"x" * SECRET_BYTES).hashed).address(BOB) != MASK.address(BOB)
    assert (MASK.address(""), MASK.address("root"), MASK.text("none: @ here")) == ("", "root", "none: @ here")


@pytest.mark.parametrize(
    "text",
    [
        "550 5.1.1 <{}>: Recipient address rejected: User unknown",
        "{} is over quota",
        "said: [{}]",
        "see mailto:{}, please",
        "unknown {}.",
        "'{}'",
        "({})",
        'to "{}"',
    ],
)
def test_wherever_it_stands(text: str) -> None:
    shown = MASK.text(text.format(BOB))
    assert shown == text.format(f"{CODE}@Example.net")


@pytest.mark.parametrize(
    ("text", "gone"),
    [
        ("https://help.example/?mail=bob%40example.net&why=1", "bob"),
        ('<"bob smith"@example.net> unknown', "smith"),
        ('<"bo\\"b smith"@example.net> unknown', "smith"),
        ("<bob@[192.0.2.1]> unknown", "bob"),
        ("<jörg@münchen.example> unbekannt", "jörg"),
        ("SRS0=abcd=ef=example.net=bob@relay.example gone", "bob"),
        ("<bob@example.net>,<alice@example.net>", "alice"),
    ],
)
def test_in_other_forms(text: str, gone: str) -> None:
    assert gone not in MASK.text(text)


@example(local='a"b', around=("", ""))
@given(
    local=st.from_regex(r"\A[A-Za-z0-9!#$&*+/=?^_`{|}~-]{3,64}\Z"),
    around=st.sampled_from([("<", ">"), (" ", " "), ("", ""), ("x,", ";y"), (":", ".")]),
)
def test_no_address_is_left(local: str, around: tuple[str, str]) -> None:
    before, after = around
    shown = MASK.text(f"550 {before}{local}@example.net{after}")
    assert f"{local}@example.net" not in shown


def test_a_code_stays_what_it_is() -> None:
    once = MASK.text(f"{BOB} was erased, <{BOB}>")
    assert MASK.text(once) == once
    assert BOB not in MASK.text(f"h:{BOB}")
    assert "bobsmith" not in MASK.text("reach:bobsmith@example.net")


@pytest.mark.parametrize("part", ["a", "@", "%40", '"', "\\", "a@", "a@b.", "a%40", '"\\', "[", "a@["])
def test_a_long_reply_takes_no_time(part: str) -> None:
    """A pattern that looks at a character again and again would take minutes for this."""
    MASK.text(part * 20_000 + "@")


@pytest.mark.parametrize("as_json", [False, True])
def test_every_field_of_every_line(as_json: bool) -> None:
    stream = io.StringIO()
    log = MailLog(stream, as_json=as_json)
    log.mask = MASK
    log.accepted(message="e", door="smtp", key="k", sender=BOB, recipients=1, size=1, client="c")
    log.refused(door="smtp", key="k", client="c", reason="suppressed", text=f"{BOB} is suppressed")
    log.reported(message="e", notice="n", key="k", to=BOB, kind="failure", recipients=[BOB, "Al.Smith@x.test"])
    log.attempted(
        "bounced",
        message="e",
        to='"Bob Smith"@example.net',
        route="r",
        host="h",
        address="192.0.2.1",
        tls="",
        attempt=1,
        took_ms=1,
        reply=f"550 <{BOB}> unknown",
        extra={"note": f"for {BOB}", "possible_duplicate": True},
    )
    text = stream.getvalue()
    assert text.count("\n") == 4
    assert "Smith" not in text
    assert text.count(CODE) == 6
    log.mask = None
    log.refused(door="smtp", key="k", client="c", reason="other", text=f"{BOB} is suppressed")
    assert BOB in stream.getvalue()


def test_the_daemons_own_lines_and_their_tracebacks() -> None:
    stream = io.StringIO()
    root = logging.getLogger()
    before, level = root.handlers[:], logging.getLogger("gateway").level
    try:
        observe.setup_logging("info", as_json=False, stream=stream)
        observe.set_mask(MASK)
        try:
            int(f"<{BOB}>")
        except ValueError:
            logging.getLogger("gateway").exception("it failed for %s", BOB, extra={"fields": {"to": BOB}})
        assert BOB not in stream.getvalue()
        assert stream.getvalue().count(CODE) == 3
        observe.set_mask(None)
        logging.getLogger("gateway").info("hello %s", BOB)
        assert BOB in stream.getvalue()
    finally:
        root.handlers[:] = before
        logging.getLogger("gateway").setLevel(level)
