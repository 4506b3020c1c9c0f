"""MIME trees with long lines: made by hypothesis, written by hand, read by the standard library and by Go's.

A tree knows which octets it stands for, so a test can say what must not have changed.
"""

import base64
import email
import quopri
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from email.message import Message as Parsed
from pathlib import Path
from typing import Final

from hypothesis import strategies as st

from tests.peers import packages

_READER: Final = Path(__file__).with_name("parts_reader.go")
_MAX_DEPTH: Final = 3


@dataclass(frozen=True, slots=True)
class Leaf:
    header: bytes
    body: bytes  # without the line end that belongs to a delimiter

    def octets(self) -> bytes:
        return self.header + b"\r\n" + self.body


@dataclass(frozen=True, slots=True)
class Message:
    header: bytes
    inner: "Node"

    def octets(self) -> bytes:
        return self.header + b"\r\n" + self.inner.octets()


@dataclass(frozen=True, slots=True)
class Multipart:
    header: bytes
    boundary: bytes
    children: tuple["Node", ...]
    preamble: bytes
    epilogue: bytes

    def delimiter(self) -> bytes:
        return b"\r\n--" + self.boundary + b"\r\n"

    def close(self) -> bytes:
        return b"\r\n--" + self.boundary + b"--" + self.epilogue

    def octets(self) -> bytes:
        children = b"".join(self.delimiter() + child.octets() for child in self.children)
        return self.header + b"\r\n" + self.preamble + children + self.close()


Node = Leaf | Message | Multipart


def render(tree: Node) -> bytes:
    """The whole message; it ends with a line end."""
    return tree.octets() + b"\r\n"


_WORDS: Final = [
    b"a",
    b"word ",
    b" ",
    b"\t",
    b"=",
    b"=3D",
    b".",
    b"-",
    b"--",
    b"--b0",
    b"--b1--",
    b"From ",
    b"\xc3\xa9",
]
_LONG: Final = [b"x" * 999, b"y " * 700, b"\xc3\xa9" * 600, b"--b0" * 300, b"=" * 1100, b"-" * 1000, b" " * 1000]


@st.composite
def _texts(draw: st.DrawFn) -> bytes:
    lines = draw(
        st.lists(st.lists(st.sampled_from(_WORDS + _LONG), max_size=8).map(b"".join), max_size=6)
        | st.lists(st.binary(max_size=90).map(lambda line: re.sub(rb"[\0\r\n]", b"", line)), max_size=6)
    )
    # No line of the text may be a delimiter; what is made of it must not become one either.
    return b"\r\n".join(b"z" + line if line.startswith(b"--") else line for line in lines)


@st.composite
def _leaves(draw: st.DrawFn) -> Leaf:
    text = draw(_texts())
    kind = draw(st.sampled_from([b"", b"text/plain; charset=utf-8", b"text/html", b"application/pdf", b"Image/GIF"]))
    encoding = draw(st.sampled_from([b"", b"7bit", b"8BIT", b"binary", b"base64", b"Quoted-Printable"]))
    if encoding == b"base64":
        width = draw(st.sampled_from([76, 996, 1000, 4000]))
        coded = base64.b64encode(text)
        text = b"\r\n".join(coded[start : start + width] for start in range(0, len(coded), width))
    elif encoding == b"Quoted-Printable":
        text = quopri.encodestring(text.replace(b"\r\n", b"\n")).replace(b"\n", b"\r\n")
        if draw(st.booleans()):
            text = text.replace(b"=\r\n", b"")
        text = re.sub(rb"(?m)^-", b"=2D", text).rstrip(b"=\r\n")
    fields = [b"X-Odd:  a\tb  \r\n", b"X-Folded: a\r\n\tb\r\n"]
    if kind:
        fields.append(b"content-type: %b\r\n" % kind)
    if encoding:
        fields.append(b"Content-Transfer-Encoding:  %b\r\n" % encoding)
    return Leaf(b"".join(draw(st.permutations(fields))), text)


@st.composite
def _nodes(draw: st.DrawFn, depth: int) -> Node:
    choice = draw(st.integers(0, 3)) if depth < _MAX_DEPTH else 0
    if choice == 0:
        return draw(_leaves())
    if choice == 1:
        return Message(b"Content-Type: message/rfc822\r\n", _headed(draw(_nodes(depth + 1))))
    boundary = b"b%d" % depth + draw(st.sampled_from([b"", b"=", b"_ x", b"'()+"]))
    children = draw(st.lists(_nodes(depth + 1), min_size=1, max_size=3))
    return Multipart(
        b'Content-Type: multipart/mixed;\r\n charset=x; Boundary="%b"\r\n' % boundary,
        boundary,
        tuple(children),
        draw(st.sampled_from([b"", b"A preamble.\r\n--b", b"--"])),
        draw(st.sampled_from([b"", b" \t", b"\r\n", b"\r\nAn epilogue.\r\n--b\r\n"])),
    )


def _headed(node: Node) -> Node:
    """As a message of its own."""
    header = b"From: a@example.com\r\n" + node.header + b"MIME-Version: 1.0\r\n"
    match node:
        case Leaf():
            return Leaf(header, node.body)
        case Message():
            return Message(header, node.inner)
        case Multipart():
            return Multipart(header, node.boundary, node.children, node.preamble, node.epilogue)


def messages() -> st.SearchStrategy[Node]:
    """Messages of leaves, multiparts and messages within messages."""
    return _nodes(0).map(_headed)


def leaves(message: bytes) -> list[tuple[str, bytes]]:
    """Type and decoded content of every leaf, as the standard library reads them."""
    return [_leaf(part) for part in email.message_from_bytes(message).walk() if not part.is_multipart()]


def _leaf(part: Parsed) -> tuple[str, bytes]:
    content = part.get_payload(decode=True)
    assert isinstance(content, bytes)
    return part.get_content_type(), content


def leaves_by_go(many: Sequence[bytes]) -> list[list[tuple[str, bytes]]]:
    """The same of several messages, as Go's net/mail, mime/multipart and mime/quotedprintable read them."""
    asked = b"".join(b"%d\n%b" % (len(message), message) for message in many)
    done = subprocess.run([packages.go(_READER)], input=asked, capture_output=True, timeout=120, check=True)
    out: list[list[tuple[str, bytes]]] = [[] for _ in many]
    for line in done.stdout.splitlines():
        number, kind, content = line.split(b" ")
        out[int(number)].append((kind.decode(), base64.b64decode(content)))
    return out
