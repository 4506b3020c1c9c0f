"""Properties of every message that the API composes, from the bytes of a request to the bytes of the message (M2)."""

import base64
import json
import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import fields
from datetime import UTC, datetime
from email.utils import unquote
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gateway.api import document, message
from gateway.config import Limits
from gateway.errors import Refused
from gateway.message import composing, header, plaintext
from gateway.message.model import PIECE_BYTES, Attachment, Content, Draft, Facts, Submission
from tests.fuzz import effort, goreader, readers
from tests.fuzz.goreader import GoReader
from tests.fuzz.readers import File, Read, Reader
from tests.peers.process import find

DATE = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
SEED = bytes(range(12))
BCC = "hidden.copy@nobody.example"
SINGLE = ("From", "To", "Cc", "Reply-To", "Subject", "Date", "Message-ID", "MIME-Version", "Content-Type")
CONTROLS = [*map(chr, range(32)), "\x7f", "\x85", "\u2028", "\u2029"]
_PLAIN_NAME = re.compile(r"[\w!#$&'()+,.=@^`{}~-]+( [\w!#$&'()+,.=@^`{}~-]+)*", re.ASCII)

# What is refused is drawn now and then: most requests should make a message.
SAFE = st.characters(exclude_categories=["Cs"], exclude_characters=CONTROLS)
WORD = st.sampled_from(
    [
        *("a", "word", "ü", "日本", "😀", "e\u0301", " ", "  ", "'", "=", "_", "?", "%0d%0a", "\\", '"', "x" * 80),
        *("=?utf-8?q?x?=", "=?UTF-8?Q?=0A?=", "=?", "?=", "(c)", "[x]", "a:b", "a;b", ".", "\u200b", "\ufeff", "\xa0"),
    ]
)
WORDS = st.lists(WORD, max_size=30).map("".join)
LINE = st.one_of(st.text(SAFE, max_size=60), WORDS, st.text(SAFE, min_size=900, max_size=1100))
# `Name <a@b>` takes these only in double quotes.
NAME = LINE.map(lambda text: re.sub('[<>",;\\\\]', "", text))
LOCAL = st.sampled_from(["a", "user.name+tag", '"a b"', '"<,\\">"', "x" * 64, "jürgen", "用户"])
DOMAIN = st.sampled_from(["b.de", "example.com", "bücher.de", "例え.jp", "[192.0.2.1]", "[IPv6:2001:db8::1]"])
ADDRESS = st.builds("{}@{}".format, LOCAL, DOMAIN)
PLAIN_ADDRESS = ADDRESS.filter(lambda text: "<" not in text)
BOX: st.SearchStrategy[Any] = st.one_of(
    ADDRESS, st.builds("{} <{}>".format, NAME, PLAIN_ADDRESS), st.fixed_dictionaries({"email": ADDRESS, "name": LINE})
)
BOXES = st.one_of(BOX, st.lists(BOX, max_size=4))
BODY = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=200),
    st.lists(
        st.sampled_from(
            [
                "line\n",
                "ü\r\n",
                "日本",
                "x" * 1100,
                " \t\n",
                ".\n",
                "\r",
                "--=_",
                "=",
                "From x\n",
                "<p>",
                "<li>",
                "&amp;",
            ]
        ),
        max_size=30,
    ).map("".join),
).map(lambda text: text or "x")
FILE = st.fixed_dictionaries(
    {
        "filename": st.one_of(LINE, st.sampled_from(["a.pdf", 'q"uote.txt', "täst.txt", "..", "=?utf-8?q?x?="])).map(
            lambda name: name[:255] or "x"
        ),
        "content": st.binary(min_size=1, max_size=300).map(lambda content: base64.b64encode(content).decode()),
        "content_type": st.sampled_from(["image/png", "text/csv; charset=utf-8", "application/pdf", "Application/X-Y"]),
    },
    optional={
        "content_id": st.sampled_from(["logo", "<id@example.com>"]),
        "disposition": st.sampled_from(["attachment", "inline"]),
    },
)
EXTRA = st.fixed_dictionaries(
    {},
    optional={
        "X-Foo": LINE,
        "Comments": LINE,
        "x-" + "n" * 70: LINE,
        "List-Unsubscribe": st.sampled_from(["<https://x.de/u?a=b>, <mailto:u@x.de>", f"<https://x.de/{'u' * 2000}>"]),
        "References": st.lists(st.just("<" + "r" * 70 + "@x.de>"), max_size=40).map(" ".join),
    },
)
COMMON = {"from": BOX, "to": BOXES.filter(bool), "bcc": st.just([BCC])}
MORE = {
    "cc": BOXES,
    "reply_to": BOXES,
    "subject": LINE,
    "attachments": st.lists(FILE, max_size=3),
    "headers": EXTRA,
}
REQUEST = st.one_of(
    st.fixed_dictionaries({**COMMON, "text_body": BODY}, optional=MORE),
    st.fixed_dictionaries({**COMMON, "html_body": BODY}, optional=MORE),
    st.fixed_dictionaries({**COMMON, "html_body": BODY, "text_body": BODY}, optional=MORE),
    st.fixed_dictionaries({**COMMON, "attachments": st.lists(FILE, min_size=1, max_size=3), "headers": EXTRA}),
    st.fixed_dictionaries({**COMMON, "subject": st.text(max_size=10), "text_body": st.text(max_size=10)}),
)


def test_most_requests_make_a_message() -> None:
    """The property below would say nothing of refusals only."""
    made: Counter[bool] = Counter()

    @settings(max_examples=100, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(REQUEST)
    def count(request: dict[str, Any]) -> None:
        made[_composed(request) is not None] += 1

    count()
    assert made[True] > 2 * made[False], made


def check(request: dict[str, Any], go: GoReader | None = None) -> None:
    """All that is promised of a composed message."""
    made = _composed(request)
    if made is None:
        return
    submission, draft, content, facts = made
    wire = content.header + b"".join(content.body)
    _check_form(content, facts, wire)
    _check_fields(content.header, draft)
    assert BCC.encode() not in wire
    assert len(wire) <= bound(draft)
    assert submission.subject == request.get("subject", "")
    for reader in readers.READERS:
        read, wanted = reader(wire, _compared(draft)), _wanted(draft, reader)
        for one in fields(Read):
            assert getattr(read, one.name) == getattr(wanted, one.name), (reader.__name__, one.name)
    if go is not None:
        assert go(wire, _compared(draft)) == goreader.as_read(_wanted(draft, go))


@effort.examples(80)
@given(REQUEST)
@example({"from": "a@b.de", "to": "c@d.de", "text_body": "x", "subject": "=?UTF-8?Q?=0ABcc:_e=40x.de?="})
@example({"from": "a@b.de", "to": "c@d.de", "text_body": "x", "subject": "=? =??Q?"})
@example(
    {
        "from": "a@b.de",
        "to": "c@d.de",
        "text_body": "x",
        "headers": {"List-Unsubscribe": "<https://x.de/" + "u" * 2000 + ">"},
    }
)
def test_composed_messages(request: dict[str, Any]) -> None:
    check(request)


@pytest.fixture(scope="module")
def go() -> Iterator[GoReader | None]:
    """None where there is no Go; CI has it."""
    if find("go") is None and os.environ.get("CI") != "true":
        yield None
        return
    with GoReader() as reader:
        yield reader


@pytest.mark.slow
@settings(max_examples=5000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(mail=REQUEST)
@example(mail={"from": "a@b.de", "to": ["a@[192.0.2.1]", "0 <a@b.de>"], "text_body": "x", "subject": "=? =??Q?"})
@example(mail={"from": "a@b.de", "to": "c@d.de", "attachments": [{"filename": '""', "content": "AA=="}]})
@example(mail={"from": "a@b.de", "to": "c@d.de", "attachments": [{"filename": "<a>", "content": "AA=="}]})
def test_five_thousand_composed_messages(go: GoReader | None, mail: dict[str, Any]) -> None:
    check(mail, go)


def bound(draft: Draft) -> int:
    """The most octets that a draft may become.

    A text in quoted-printable takes three octets for one and a soft line break in 75; base64 adds a third and line
    ends. Text of fields takes at most twice its octets in encoded-words, a file name four times in RFC 2231's form and
    what the fallback takes. A derived text is at most six times its HTML (a list item's bullet and indent).
    """
    lines = [draft.subject, *(text for field in draft.headers for text in field)]
    boxes = (draft.sender, *draft.to, *draft.cc, *draft.reply_to)
    lines += [text for box in boxes for text in (box.name, box.address)]
    size = 1000 + sum(2 * len(line.encode()) + 100 for line in lines)
    size += sum(16 * len(text.encode()) // 5 + 300 for text in (draft.text or "", draft.html or ""))
    if draft.html and not draft.text:
        size += 6 * len(draft.html.encode())
    for file in draft.attachments:
        size += len(file.content) * 7 // 5 + 4 * len(file.filename.encode()) + 1000
    return size


def _composed(request: dict[str, Any]) -> tuple[Submission, Draft, Content, Facts] | None:
    """As intake does it; None where the request is refused."""
    submission = _decoded(json.dumps(request, ensure_ascii=False).encode("utf-8", "surrogatepass"))
    if submission is None or submission.sender is None:
        return None
    draft = Draft(
        sender=submission.sender,
        to=submission.to,
        cc=submission.cc,
        reply_to=submission.reply_to,
        subject=submission.subject,
        html=submission.html,
        text=submission.text,
        attachments=submission.attachments,
        headers=submission.headers,
    )
    content, facts = composing.compose(draft, message_id="id@example.com", date=DATE, seed=SEED)
    return submission, draft, content, facts


def _decoded(body: bytes) -> Submission | None:
    """None for a refusal, whose texts must be fit for people."""
    refused: list[Refused] = []
    try:
        return message.parse(document.decode(body), Limits())
    except Refused as refusal:
        refused.append(refusal)
    assert refused[0].reason.answer.http in {400, 422}
    assert all(str(problem).isprintable() for problem in refused[0].problems)
    return None


def _check_form(content: Content, facts: Facts, wire: bytes) -> None:
    bare = wire.replace(b"\r\n", b"")
    assert b"\r" not in bare
    assert b"\n" not in bare
    assert b"\0" not in wire
    assert max(map(len, wire.split(b"\r\n"))) <= 998
    assert wire.endswith(b"\r\n")
    assert content.header.count(b"\r\n\r\n") == 1
    assert content.header.endswith(b"\r\n\r\n")
    for piece in content.body:
        assert 0 < len(piece) <= PIECE_BYTES
    assert b"".join(content.body).isascii()
    assert facts.size == len(wire)
    assert facts.eight_bit is False
    assert facts.utf8_header is (not content.header.isascii())
    assert facts.dot_lines is (b"\n." in wire)


def _check_fields(block: bytes, draft: Draft) -> None:
    block_fields = re.sub(rb"\r\n(?=[ \t])", b"", block).removesuffix(b"\r\n\r\n").split(b"\r\n")
    names = [field.partition(b":")[0].decode() for field in block_fields]
    wanted = Counter(["From", "Date", "Message-ID", "MIME-Version", "Content-Type"])
    wanted.update(name for name, given in (("To", draft.to), ("Cc", draft.cc), ("Reply-To", draft.reply_to)) if given)
    wanted.update(["Subject"] * bool(draft.subject.strip(" ")))
    wanted.update(name for name, value in draft.headers if value.strip(" "))
    assert Counter(name for name in names if name != "Content-Transfer-Encoding") == wanted
    assert names.count("Content-Transfer-Encoding") <= 1
    counted = Counter(name.lower() for name in names)
    assert all(counted[name.lower()] <= 1 for name in (*SINGLE, "List-Unsubscribe", "References"))
    for line in block.split(b"\r\n")[:-2]:
        assert line.strip()
    for field in block_fields:
        _check_words(field, draft)


def _check_words(field: bytes, draft: Draft) -> None:
    """Encoded-words of ours: short, whole characters, in no address, no quoted string and no structured field."""
    name, _, value = field.partition(b":")
    given = [text.encode() for key, text in draft.headers if key == name.decode() and text.isascii()]
    if given:
        assert value.strip(b" ").translate(None, b"\t") == given[0].strip(b" ")
        return
    without = re.sub(rb'"(?:[^"\\]|\\.)*"', b"", value)
    for word in re.findall(rb"=\?[^ ]*\?=", value):
        assert word in without
        assert len(word) <= 75
        _decode_word(word)
    for angle in re.findall(rb"<[^>]*>", without):
        assert b"=?" not in angle


def _decode_word(word: bytes) -> None:
    found = re.fullmatch(rb"=\?utf-8\?([qb])\?([!->@-~]+)\?=", word)
    assert found is not None, word
    if found[1] == b"b":
        octets = base64.b64decode(found[2], validate=True)
    else:
        octets = re.sub(rb"=([0-9A-F]{2})", lambda m: bytes.fromhex(m[1].decode()), found[2].replace(b"_", b" "))
    octets.decode()  # RFC 2047, 5: a character is never cut in two


def _wanted(draft: Draft, reader: Reader) -> Read:
    fields = (("From", (draft.sender,)), ("To", draft.to), ("Cc", draft.cc), ("Reply-To", draft.reply_to))
    of_name = readers.squeezed if reader is readers.modern else readers.tidy
    of_subject = readers.squeezed if reader is readers.third else readers.tidy
    return Read(
        {name: [(of_name(box.name), box.address) for box in given] for name, given in fields if given},
        of_subject(draft.subject),
        [(name, readers.squeezed(value)) for name, value in draft.headers if name in _compared(draft)],
        readers.same_text(draft.text or (plaintext.derive(draft.html) if draft.html else "")),
        readers.same_text(draft.html or ""),
        [_file(file, reader) for file in _in_order(draft)],
    )


def _compared(draft: Draft) -> frozenset[str]:
    """Fields of the request's own. What looks encoded in ASCII stays as it was given: a reader shows something else."""
    return frozenset(n for n, value in draft.headers if value.strip(" ") and not (value.isascii() and "=?" in value))


def _in_order(draft: Draft) -> list[Attachment]:
    """What the HTML shows comes first."""
    shown = [a for a in draft.attachments if draft.html and _belongs(a, draft.html)]
    return shown + [a for a in draft.attachments if a not in shown]


def _belongs(attachment: Attachment, html: str) -> bool:
    return attachment.disposition == "inline" or f"cid:{attachment.content_id}" in html


def _file(file: Attachment, reader: Reader) -> File:
    """mail-parser takes the plain one of two names; it and Python's new parser drop quotes (and angle brackets) that a
    name begins and ends with."""
    name = file.filename
    if reader is readers.third and not (len(name) <= 60 and _PLAIN_NAME.fullmatch(name) and "=?" not in name):
        name = header.fallback_filename(name)
    if reader in {readers.modern, readers.third}:
        name = unquote(name)
    content_type = file.content_type.partition(";")[0].lower()
    return File(name.strip(), content_type, file.disposition, file.content_id or "", file.content)
