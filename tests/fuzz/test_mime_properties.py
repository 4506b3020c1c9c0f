"""Properties of every composed message and of the address parsers, on generated input."""

import email.header
import email.policy
import re
from collections.abc import Callable
from datetime import UTC, datetime
from email.message import Message
from email.parser import BytesParser
from email.utils import collapse_rfc2231_value, getaddresses
from typing import TypeVar

from hypothesis import assume, example, given
from hypothesis import strategies as st

from gateway.message import address, address_list, encoded_word, fixup, mime, plaintext
from gateway.message.address import AddressError
from gateway.message.header import HeaderError
from gateway.message.model import Attachment, Draft, Mailbox
from tests.fuzz import effort

Parsed = TypeVar("Parsed", str, bytes)
Result = TypeVar("Result")

EXAMPLES = effort.examples(60)
DATE = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
SEED = bytes(range(12))

# Text without what is refused: the refusals are tested by tables.
SAFE = st.characters(
    exclude_categories=["Cs"], exclude_characters=[*map(chr, range(32)), "\x7f", "\x85", "\u2028", "\u2029"]
)
WORDS = st.sampled_from(
    ["a", "word", "ü", "日本", "😀", " ", "  ", '"', "\\", "=?utf-8?q?x?=", "=?", "?=", "<x@y.de>", ",", "x" * 80]
)
LINE = st.one_of(
    st.text(SAFE, max_size=60), st.lists(WORDS, max_size=40).map("".join), st.text(SAFE, min_size=900, max_size=1200)
)
ADDRESS = st.sampled_from(
    [
        "a@b.de",
        "user.name+tag@example.com",
        '"a b"@c.de',
        '"<,\\">"@c.de',
        "x" * 64 + "@example.org",
        "jürgen@xn--bcher-kva.de",
    ]
)
BOX = st.builds(Mailbox, LINE, ADDRESS)
BODY = st.one_of(
    st.none(),
    st.text(max_size=200).map(lambda s: s.encode("utf-8", "replace").decode()),
    st.lists(
        st.sampled_from(["line\n", "ü\r\n", "x" * 1100, " \t\n", ".\n", "\r", "\0", "--=_", "="]), max_size=30
    ).map("".join),
)
FILE = st.builds(
    Attachment,
    filename=st.one_of(LINE, st.sampled_from(["", "a.pdf", 'q"uote.txt', "täst.txt"])),
    content=st.one_of(st.binary(max_size=300), st.just(b"Subject: x\r\n\r\nbody\r\n")),
    content_type=st.sampled_from(["image/png", "text/plain; charset=utf-8", "message/rfc822", "application/pdf"]),
    content_id=st.sampled_from([None, "logo", "id@example.com"]),
    disposition=st.sampled_from(["attachment", "inline"]),
)
EXTRA = st.lists(st.tuples(st.sampled_from(["X-Foo", "X-Bar", "Comments", "x-" + "n" * 70]), LINE), max_size=4).map(
    tuple
)
DRAFT = st.builds(
    Draft,
    sender=BOX,
    to=st.lists(BOX, max_size=4).map(tuple),
    cc=st.lists(BOX, max_size=2).map(tuple),
    reply_to=st.lists(BOX, max_size=2).map(tuple),
    subject=LINE,
    html=BODY,
    text=BODY,
    attachments=st.lists(FILE, max_size=3).map(tuple),
    headers=EXTRA,
)


def _compose(draft: Draft) -> tuple[bytes, bytes]:
    try:
        content = mime.compose(draft, message_id="id@example.com", date=DATE, seed=SEED)
    except HeaderError as error:
        assume(error.text.endswith("cannot be folded"))  # an ASCII word of more than 998 octets
        assume(False)
        raise
    return content.header, b"".join(content.body)


def _old(wire: bytes) -> Message:
    return BytesParser(policy=email.policy.compat32).parsebytes(wire)


def _leaves(part: Message) -> list[Message]:
    """The parts that are no multipart; an attached message counts as one."""
    if part.get_content_maintype() != "multipart":
        return [part]
    children = part.get_payload()
    assert isinstance(children, list)
    return [leaf for child in children if isinstance(child, Message) for leaf in _leaves(child)]


def _attempt(parse: Callable[[Parsed], Result], value: Parsed) -> Result | None:
    """What was parsed; None for a refusal, whose text must be fit for people."""
    reason = ""
    try:
        return parse(value)
    except AddressError as error:
        reason = str(error)
    assert reason
    assert reason.isprintable()
    return None


def _shown(value: str) -> str:
    """A value as a reader shows it: unfolded, encoded-words decoded."""
    raw = value.encode("ascii", "surrogateescape").decode("utf-8")
    return encoded_word.decode(raw.replace("\r\n", ""))


@EXAMPLES
@given(DRAFT)
def test_form(draft: Draft) -> None:
    header, body = _compose(draft)
    wire = header + body
    bare = wire.replace(b"\r\n", b"")
    assert b"\r" not in bare
    assert b"\n" not in bare
    assert b"\0" not in wire
    assert max(map(len, wire.split(b"\r\n"))) <= 998
    assert body.isascii()
    assert header.count(b"\r\n\r\n") == 1
    assert header.endswith(b"\r\n\r\n")
    for line in header[:-4].split(b"\r\n"):
        assert line.strip()
        # Only an address may stand in raw UTF-8 (RFC 6532).
        assert line.replace("jürgen@".encode(), b"").isascii()
        for word in re.findall(rb"=\?utf-8\?[qb]\?[^?]*\?=", line):
            assert len(word) <= 75 or word in b" ".join(value.encode() for _, value in draft.headers)


@EXAMPLES
@given(DRAFT)
def test_exactly_the_fields_asked_for(draft: Draft) -> None:
    header, _ = _compose(draft)
    names = [line.split(b":")[0].decode() for line in header.split(b"\r\n") if line and line[:1] != b" "]
    wanted = ["From", "Date", "Message-ID", "MIME-Version", "Content-Type"]
    wanted += [name for name, given in (("To", draft.to), ("Cc", draft.cc), ("Reply-To", draft.reply_to)) if given]
    wanted += ["Subject"] * bool(draft.subject.strip(" "))
    wanted += [name for name, value in draft.headers if value.strip(" ")]
    assert sorted(n for n in names if n != "Content-Transfer-Encoding") == sorted(wanted)
    assert names.count("Content-Transfer-Encoding") <= 1


@EXAMPLES
@given(DRAFT)
def test_headers_read_back(draft: Draft) -> None:
    header, body = _compose(draft)
    message = _old(header + body)
    raw = dict(message.raw_items())
    assert _shown(message.get("Subject", "")) == draft.subject.strip(" ")
    decoded = email.header.make_header(email.header.decode_header(message.get("Subject", "").replace("\r\n", "")))
    assert re.sub(" +", " ", str(decoded)).strip(" ") == re.sub(" +", " ", draft.subject).strip(" ")
    for name, boxes in (("From", (draft.sender,)), ("To", draft.to), ("Cc", draft.cc), ("Reply-To", draft.reply_to)):
        value = raw.get(name, "").encode("ascii", "surrogateescape")
        found = address_list.parse_mailbox_list(value.decode("utf-8").replace("\r\n", "")) if boxes else ()
        assert [m.address for m in found] == [m.address for m in boxes]
        assert [m.name for m in found] == [re.sub(" +", " ", m.name).strip(" ") for m in boxes]
        plain = [m.address for m in boxes if m.address.isascii() and '"' not in m.address]
        if len(plain) == len(boxes) and boxes:
            stdlib = getaddresses([value.decode("ascii").replace("\r\n", "")])
            assert [found_address for _, found_address in stdlib] == plain
    literal = [(n, v.strip(" ")) for n, v in draft.headers if v.isascii() and v.strip(" ")]
    kept = [(n, v.replace("\r\n", "")) for n, v in message.raw_items() if (n, v.replace("\r\n", "")) in literal]
    assert kept == literal


@EXAMPLES
@given(DRAFT)
def test_parts_read_back(draft: Draft) -> None:
    header, body = _compose(draft)
    leaves = _leaves(_old(header + body))
    texts = [
        p for p in leaves if p.get_content_type() in ("text/plain", "text/html") and not p.get("Content-Disposition")
    ]
    payloads = [p.get_payload(decode=True) for p in texts]
    assert all(isinstance(payload, bytes) for payload in payloads)
    wanted = []
    if draft.text or draft.html:
        wanted.append(draft.text or plaintext.derive(draft.html or ""))
    if draft.html:
        wanted.append(draft.html)
    if not wanted and not draft.attachments:
        wanted.append("")
    canonical = [re.sub("\r\n|\r|\n", "\r\n", text).encode() for text in wanted]
    if len(leaves) == 1 and canonical and canonical[0] and not canonical[0].endswith(b"\r\n"):
        # The end of the message ends its last line; an encoded part keeps its own end.
        assert payloads in (canonical, [canonical[0] + b"\r\n"])
    else:
        assert payloads == canonical


@EXAMPLES
@given(st.lists(FILE, min_size=1, max_size=3))
def test_files_read_back(files: list[Attachment]) -> None:
    draft = Draft(Mailbox("", "a@b.de"), (), (), (), "", None, "t", tuple(files), ())
    header, body = _compose(draft)
    message = BytesParser(policy=email.policy.compat32).parsebytes(header + body)
    parts = message.get_payload()
    assert isinstance(parts, list)
    for file, part in zip(files, parts[1:], strict=True):
        assert isinstance(part, Message)
        if part.get_content_type() == "message/rfc822":
            assert file.content + b"\r\n--=_" in body
        else:
            assert part.get_payload(decode=True) == file.content
        names = [v for k, v in part.get_params([], header="content-disposition") if k == "filename"]
        shown = [collapse_rfc2231_value(name) for name in names]
        assert (file.filename in shown) if file.filename else (names == [])
        assert part.get_content_disposition() == file.disposition
        assert part.get("Content-ID") == (f"<{file.content_id}>" if file.content_id else None)


NOISE = st.text(st.sampled_from('ab@.,;:<>()[]"\\ \t=?uü\u2028\n\x00\x85-_1*'), max_size=40)


@EXAMPLES
@given(st.one_of(NOISE, st.text(max_size=80)))
@example('"@"@b')
@example("a@[IPv6:::]")
def test_a_parsed_address_is_normal(text: str) -> None:
    normal = _attempt(address.parse_path, text)
    if normal is None:
        return
    assert address.parse_path(normal) == normal
    assert len(normal.encode()) <= 254
    assert re.search("[\x00-\x1f\x7f-\x9f\u2028\u2029]", normal) is None
    domain = address.domain_of(normal)
    assert domain.isascii()
    assert re.fullmatch(r"[a-z0-9.-]+|\[[A-Za-z0-9.:]+\]", domain)
    assert address.matches(f"*@{domain}", normal)


@EXAMPLES
@given(st.one_of(NOISE.map(str.encode), st.binary(max_size=60)))
def test_senders_are_read_or_refused(value: bytes) -> None:
    found = _attempt(address_list.header_addresses, value)
    if found is None:
        return
    assert found
    # Whatever Python's lenient reader takes for an address is among what was found.
    text = value.replace(b"\r\n", b"").decode("utf-8", "replace")
    for _, lenient in getaddresses([text]):
        if re.fullmatch(r"[a-z0-9]+@[a-z0-9]+(\.[a-z]+)+", lenient):
            assert lenient in found


@EXAMPLES
@given(st.one_of(NOISE, st.text(max_size=80)))
def test_one_mailbox(text: str) -> None:
    box = _attempt(address.parse_mailbox, text)
    if box is None:
        return
    assert address.parse_path(box.address) == box.address
    header, _ = _compose(Draft(box, (), (), (), "s", None, "t", (), ()))
    fixed = fixup.fix_header(header, envelope_sender="e@x", received=None, message_id="m@x", date="d")
    # A name that reads like another address is not taken for certain.
    assert fixed.senders == (box.address,) or ("<" in box.name and "@" in box.name)


@EXAMPLES
@given(st.text(max_size=300))
def test_decoding_never_fails(text: str) -> None:
    for noisy in (text, f"=?utf-8?q?{text}?=", f"=?{text}?b?QUJD?="):
        decoded = encoded_word.decode(noisy)
        decoded.encode("utf-8")
        assert "\n" not in decoded
        assert "\r" not in decoded


@EXAMPLES
@given(
    st.lists(
        st.sampled_from(
            [
                "<p>",
                "</p>",
                "<a href='https://x.y'>",
                "</a>",
                "<ul>",
                "<li>",
                "</ul>",
                "<pre>",
                "x",
                " ",
                "\n",
                "<",
                '"',
                ">",
                "&lt;",
                "<!--",
                "-->",
                "<script>",
                "</script>",
            ]
        ),
        max_size=40,
    )
)
def test_derived_text_is_tidy(parts: list[str]) -> None:
    text = plaintext.derive("".join(parts))
    assert text == "" or text.endswith("\n")
    assert "\r" not in text
    assert "\n\n\n" not in text
