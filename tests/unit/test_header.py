"""The strict header writer and encoded-words, read back by Python's email package."""

import email.header
import email.policy
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from email.parser import BytesParser
from email.utils import parseaddr

import pytest

from gateway.message import encoded_word, header
from gateway.message.header import HeaderError
from gateway.message.model import Mailbox

PARSER = BytesParser(policy=email.policy.default)


def read(field: bytes) -> str:
    """The value that a reader sees, with lengths and line ends checked."""
    assert field.endswith(b"\r\n")
    lines = field[:-2].split(b"\r\n")
    for line in lines:
        assert len(line) <= 998
        assert line.strip(), "an empty fold"
        assert b"\n" not in line
        assert b"\r" not in line
        if b"=?" in line:
            assert len(line) <= 76  # RFC 2047, 2
    message = PARSER.parsebytes(field + b"\r\n")
    assert len(message.keys()) == 1
    return str(message[message.keys()[0]])


@pytest.mark.parametrize(
    "subject",
    [
        "Hello",
        "word " * 40 + "end",
        "x" * 500,
        "x" * 2000,
        "two  spaces   here",
        "Grüße",
        "Re: [list] Grüße aus dem Süden, mit vielen Wörtern, die nicht auf eine Zeile passen (wirklich nicht)",
        "日本語" * 60,
        "😀" * 50,
        "plain words first and then at the very end of a long line that has to be folded somewhere: ü",
        "ü then plain words, so many that the line has to be folded at least once more, in fact twice, or not",
        "=?utf-8?q?=0ABcc:_evil=40example.com?=",
        "a =?utf-8?b?SGk=?= b",
        "=? ü",
        "=? =??Q?",
        "100% = _?=",
        "e\u0301" * 40,
    ],
)
def test_text_reads_back(subject: str) -> None:
    assert read(header.text("Subject", subject, "subject")) == subject


def test_ascii_text_stays_literal_and_folds_at_its_own_spaces() -> None:
    value = "word " * 40 + "end"
    field = header.text("Subject", value, "subject")
    assert field.replace(b"\r\n", b"") == b"Subject: " + value.encode()
    assert max(map(len, field.split(b"\r\n"))) <= 78
    assert header.text("Subject", "a\tb ", "subject") == b"Subject: a b\r\n"


def test_no_encoded_word_stands_behind_what_begins_like_one() -> None:
    """Go's reader takes all between the two for a charset, and shows the true word as it is."""
    assert header.text("Subject", "=? ü", "subject") == b"Subject: =?utf-8?b?PT8gw7w=?=\r\n"
    assert header.text("Subject", "a=?b c", "subject") == b"Subject: =?utf-8?q?a=3D=3Fb?= c\r\n"


def test_only_the_words_that_need_it_are_encoded() -> None:
    field = header.text("List-Id", "Liste für alle <all.example.com>", "x")
    assert field == b"List-Id: Liste =?utf-8?q?f=C3=BCr?= alle <all.example.com>\r\n"


@pytest.mark.parametrize(
    ("box", "field"),
    [
        (Mailbox("", "a@b.de"), b"To: a@b.de\r\n"),
        (Mailbox("Ann Example", "a@b.de"), b"To: Ann Example <a@b.de>\r\n"),
        (Mailbox("Example, Ann", "a@b.de"), b'To: "Example, Ann" <a@b.de>\r\n'),
        (Mailbox('A "B" \\', "a@b.de"), b'To: "A \\"B\\" \\\\" <a@b.de>\r\n'),
        (Mailbox("J. Doe", "a@b.de"), b'To: "J. Doe" <a@b.de>\r\n'),
        (Mailbox("  two\t spaces ", "a@b.de"), b"To: two spaces <a@b.de>\r\n"),
        (Mailbox("Jürgen", "a@b.de"), b"To: =?utf-8?q?J=C3=BCrgen?= <a@b.de>\r\n"),
        (Mailbox("x@y.de <z@y.de>", "a@b.de"), b'To: "x@y.de <z@y.de>" <a@b.de>\r\n'),
        # RFC 6532: raw UTF-8 in the address only; the name stays an encoded-word.
        (Mailbox("Jürgen", "jürgen@b.de"), "To: =?utf-8?q?J=C3=BCrgen?= <jürgen@b.de>\r\n".encode()),
        (Mailbox("", '"a b"@b.de'), b'To: "a b"@b.de\r\n'),
    ],
)
def test_mailboxes(box: Mailbox, field: bytes) -> None:
    assert header.mailboxes("To", [(box, "to[0]")]) == field


def test_many_mailboxes_fold_between_each_other() -> None:
    boxes = [Mailbox(f"Name {i}, Dept" if i % 3 else f"Näme {i}", f"user{i}@example.com") for i in range(500)]
    field = header.mailboxes("To", [(box, f"to[{i}]") for i, box in enumerate(boxes)])
    read(field)
    message = PARSER.parsebytes(field + b"\r\n")
    assert [(a.display_name, a.addr_spec) for a in message["To"].addresses] == [
        (box.name, box.address) for box in boxes
    ]


def test_long_names() -> None:
    compat32 = BytesParser(policy=email.policy.compat32)
    for name in ("word " * 50 + "end", "x" * 300, "a, " * 60 + "end", "ü" * 200):
        field = header.mailboxes("From", [(Mailbox(name, "a@b.de"), "from")])
        read(field)
        # Python's newer parser keeps the space between two encoded-words of a phrase, against RFC 2047, 6.2.
        shown, found = parseaddr(compat32.parsebytes(field + b"\r\n")["From"].replace("\r\n", ""))
        assert str(email.header.make_header(email.header.decode_header(shown))) == name
        assert found == "a@b.de"


BAD = [
    "\0",
    "\n",
    "\r",
    "\r\n",
    "\r\nBcc: x@y.de",
    "\x0b",
    "\x1b",
    "\x7f",
    "\x85",
    "\u2028",
    "\u2029",
    "\ud800",
    "\udfff",
]


@pytest.mark.parametrize("bad", BAD)
def test_no_control_character_becomes_a_header(bad: str) -> None:
    tries: list[tuple[str, Callable[[], object]]] = [
        ("subject", lambda: header.text("Subject", f"a{bad}b", "subject")),
        ("subject", lambda: header.text("Subject", bad, "subject")),
        ("to[3]", lambda: header.mailboxes("To", [(Mailbox(f"a{bad}b", "a@b.de"), "to[3]")])),
        ("to[3]", lambda: header.mailboxes("To", [(Mailbox("a", f"a{bad}@b.de"), "to[3]")])),
        ("to[3]", lambda: header.mailboxes("To", [(Mailbox("a", f"a@b.de{bad}"), "to[3]")])),
        ("headers.X-Foo", lambda: header.client_fields([("X-Foo", f"a{bad}b")])),
        ("headers.X-Foo", lambda: header.client_fields([("X-Foo", f"a{bad}")])),
        ("filename", lambda: header.filename_parameters("filename", f"a{bad}.txt", "filename")),
    ]
    for path, attempt in tries:
        with pytest.raises(HeaderError) as caught:
            attempt()
        assert caught.value.path == path
        assert str(caught.value).isprintable()
    with pytest.raises(HeaderError) as caught:
        header.client_fields([(f"X-A{bad}", "v")])
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("name", ["", "X Foo", ".x", "X-Foo:", "X-Föö", "x" * 77, *sorted(header.RESERVED)])
@pytest.mark.parametrize("change", [str.lower, str.upper, str.title])
def test_names_that_a_client_may_not_set(name: str, change: Callable[[str], str]) -> None:
    with pytest.raises(HeaderError):
        header.client_fields([(change(name), "value")])


@pytest.mark.parametrize("name", ["Resent-To", "content-anything", "X-Gateway-Tag", "x-gateway-"])
def test_families_of_names_that_a_client_may_not_set(name: str) -> None:
    assert header.reserved(name)
    with pytest.raises(HeaderError):
        header.client_fields([(name, "value")])


def test_client_fields() -> None:
    fields = header.client_fields(
        [
            ("X-Twice", "1"),
            ("X-Twice", "2"),
            ("X-Empty", " \t"),
            ("References", "<a@b> <c@d>"),
            ("X-Text", "Grüße\tan"),
            ("X-Literal", "=?utf-8?q?as_given?="),
        ]
    )
    assert fields == [
        b"X-Twice: 1\r\n",
        b"X-Twice: 2\r\n",
        b"References: <a@b> <c@d>\r\n",
        b"X-Text: =?utf-8?b?R3LDvMOfZQ==?= an\r\n",
        b"X-Literal: =?utf-8?q?as_given?=\r\n",
    ]


def test_singletons_stand_once_and_stay_ascii() -> None:
    for name in ("In-Reply-To", "references", "List-Unsubscribe", "List-Unsubscribe-Post"):
        with pytest.raises(HeaderError, match="once"):
            header.client_fields([(name, "<a@b>"), (name.upper(), "<c@d>")])
        with pytest.raises(HeaderError, match="ASCII"):
            header.client_fields([(name, "<ü@b>")])


def test_a_long_list_unsubscribe_stays_literal() -> None:
    value = f"<https://example.com/{'a' * 950}>, <mailto:u@example.com?subject={'b' * 900}>"
    (field,) = header.client_fields([("List-Unsubscribe", value)])
    assert field.replace(b"\r\n", b"") == b"List-Unsubscribe: " + value.encode()
    assert max(map(len, field.split(b"\r\n"))) <= 998


@pytest.mark.parametrize("length", [1, 850, 851, 899, 900, 948, 949, 950, 1000, 1782, 1783, 2000, 7900])
@pytest.mark.parametrize("name", ["List-Unsubscribe", "list-help"])
def test_a_url_that_no_line_can_hold_is_folded_inside(name: str, length: int) -> None:
    """RFC 2369, 2: a reader passes over white space inside the angle brackets."""
    url = f"<https://example.com/u?t={'a' * length}>"
    for value in (url, f"<mailto:u@example.com>, {url}, {url}"):
        (field,) = header.client_fields([(name, value)])
        assert b"=?" not in field
        lines = field[:-2].split(b"\r\n")
        assert max(map(len, lines)) <= 998
        assert all(line[:1] in (b" ", b"\t") and line.strip() for line in lines[1:])
        assert b"".join(lines).replace(b"\t", b"") == f"{name}: {value}".encode()
        assert (b"\t" in field) is (len(url) + (len(name) + 2 if value is url else 1) > 998)


@pytest.mark.parametrize("before", ["<mailto:u@x.de>,", ",", ", ", "<mailto:u@x.de> ,"])
def test_a_long_url_behind_a_comma(before: str) -> None:
    value = f"{before}<https://x.de/{'a' * 2000}>"
    (field,) = header.client_fields([("List-Unsubscribe", value)])
    assert max(map(len, field[:-2].split(b"\r\n"))) <= 998
    assert field.replace(b"\r\n", b"").replace(b"\t", b"") == b"List-Unsubscribe: " + value.encode()


def test_other_words_are_not_folded_inside() -> None:
    for name, value in (("X-Token", f"<{'a' * 1000}>"), ("List-Unsubscribe", "a" * 1000), ("List-Id", "a" * 1000)):
        with pytest.raises(HeaderError, match="998"):
            header.client_fields([(name, value)])


@pytest.mark.parametrize(
    ("filename", "fallback"),
    [
        ("report.pdf", "report.pdf"),
        ("my report (2).pdf", "my report (2).pdf"),
        ("Müller.pdf", "Muller.pdf"),
        ("日本語.txt", "_.txt"),
        ('a"b\\c.txt', "a_b_c.txt"),
        ("a;b%41.txt", "a_b_41.txt"),
        ("=?utf-8?q?x?=.txt", "_utf-8?q?x?=.txt"),
        ("x" * 200 + ".html", "x" * 49 + ".html"),
        ("noextension" * 20, ("noextension" * 20)[:49]),
    ],
)
def test_filenames(filename: str, fallback: str) -> None:
    params = header.filename_parameters("filename", filename, "x")
    field = header.parameters("Content-Disposition", "attachment", params, "x")
    assert max(map(len, field.split(b"\r\n"))) <= 78
    assert field.isascii()
    assert PARSER.parsebytes(field + b"\r\n").get_filename() == filename
    assert params[-1] == ("filename", f'"{fallback}"')


def test_format_date() -> None:
    assert header.format_date(datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)) == "Fri, 02 Jan 2026 03:04:05 +0000"
    west = datetime(2025, 12, 31, 22, 0, 0, tzinfo=timezone(timedelta(hours=-5)))
    assert header.format_date(west) == "Thu, 01 Jan 2026 03:00:00 +0000"


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("plain", "plain"),
        ("=?utf-8?q?Gr=C3=BC=C3=9Fe?=", "Grüße"),
        ("=?ISO-8859-1?Q?Gr=FC=DFe_an?= alle", "Grüße an alle"),
        ("=?utf-8?b?R3LDvA==?= =?utf-8?b?w59l?=", "Grüße"),
        ("=?utf-8?b?R3LD?= =?utf-8?b?vMOfZQ==?=", "Grüße"),  # a character cut in two
        ("=?utf-8*de?q?x?=", "x"),
        ("a =?utf-8?q?b?= c", "a b c"),
        ("=?x-unknown?q?abc?=", "abc"),
        ("=?utf-8?b?!!!?=", ""),
        ("=?utf-8?b?A?=", "=?utf-8?b?A?="),
        ("=?utf-8?q?a=0D=0ABcc:_x?=", "a  Bcc: x"),
        ("=?utf-7?q?+2AA-?=", " "),
        ("=?rot13?q?abc?=", "abc"),
        ("=?utf-8?q?unclosed", "=?utf-8?q?unclosed"),
        ("a\0b\x1bc\u2028d", "a b c d"),
    ],
)
def test_decode(given: str, shown: str) -> None:
    decoded = encoded_word.decode(given)
    assert decoded == shown
    decoded.encode("utf-8")


def test_decoding_hostile_text_takes_linear_time() -> None:
    begin = time.process_time()
    for unit in ("=?", "=?x?q?", "=?utf-8?q?a?= ", "=?punycode?q?a-" + "b" * 1000 + "?=", "=?utf-8?b?"):
        encoded_word.decode(unit * (300_000 // len(unit)))
    assert time.process_time() - begin < 3
