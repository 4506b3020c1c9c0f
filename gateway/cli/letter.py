"""A message as a program hands it to sendmail(8): lines end as they like, and half of the header may be missing.

Guarantees: of what was handed in, only a mailbox's `From ` line and all behind a lone dot (where that ends it) are left
out; a missing From is put before it. All else is the gateway's to complete. Pure; nothing here raises on foreign bytes.
"""

import re
from dataclasses import dataclass
from typing import Final

from gateway.message import header
from gateway.message.model import Mailbox

_FIELD: Final = re.compile(rb"^([!-9;-~]+)[ \t]*:((?:[^\n]|\n[ \t])*+)", re.MULTILINE)
_HEADER_END: Final = re.compile(rb"(?:\A|\n)\r?\n")
_LONE_DOT: Final = re.compile(rb"(?:\A|(?<=\n))\.\r?(?:\n|\Z)")
_MAILBOX_LINE: Final = re.compile(rb">?From [^\n]*\n")
_TO: Final = frozenset({b"to", b"cc", b"bcc"})
# A quoted string, a literal, an escape, a character that means something, or a run of those that do not.
_PART: Final = re.compile(r'"(?:[^"\\]|\\.)*+"|\[[^\[\]]*+\]|\\.|[(),:;<>]|[^"\\\[(),:;<>]++|.', re.DOTALL)


@dataclass(frozen=True, slots=True)
class Letter:
    """`content` has the line ends it came with. `recipients` are those of To, Cc and Bcc, or, of mail that is sent on,
    of their Resent- kin: each as written, without name and comments."""

    content: bytes
    recipients: tuple[str, ...]
    has_from: bool

    def with_from(self, name: str, sender: str) -> bytes:
        """The content, with a From in front where it has none. `sender` may lack its domain."""
        return self.content if self.has_from else _from(name, sender) + self.content


def read(raw: bytes, *, dot_ends: bool) -> Letter:
    """Look at what was handed in; `dot_ends`: a line with a dot alone is its end."""
    if dot_ends and (end := _LONE_DOT.search(raw)) is not None:
        raw = raw[: end.start()]
    if (line := _MAILBOX_LINE.match(raw)) is not None:
        raw = raw[line.end() :]
    end = _HEADER_END.search(raw)
    head = (raw if end is None else raw[: end.start()]).replace(b"\r\n", b"\n")
    if head and _FIELD.match(head) is None:
        return Letter(b"\n" + raw, (), has_from=False)  # a text without a header
    # A line that is no field is passed by, as the gateway does.
    fields = [(match[1].lower(), match[2].replace(b"\n", b"")) for match in _FIELD.finditer(head)]
    resent = any(name.startswith(b"resent-") for name, _ in fields)
    wanted = {b"resent-" + name for name in _TO} if resent else _TO
    recipients = [one for name, value in fields if name in wanted for one in addresses(_text(value))]
    has_from = any(name == b"from" and value.strip() for name, value in fields)
    return Letter(raw, tuple(dict.fromkeys(recipients)), has_from)


def addresses(text: str) -> list[str]:
    """The addresses of a list, as written: `Name <a@b>, root (the boss), friends: c@d, e@f;`."""
    found: list[str] = []
    words, angle, depth, inside = "", "", 0, False
    for part in [*_PART.findall(text), ","]:
        if depth or part in {"(", ")"}:  # comments may stand in one another
            depth = max(0, depth + {"(": 1, ")": -1}.get(part, 0))
        elif part in {"<", ">"}:
            inside = part == "<"
        elif inside:
            angle += part
        elif part == ":":
            words = ""  # the name of a group
        elif part in {",", ";"}:
            if one := (angle or words).strip():
                found.append(one)
            words = angle = ""
        else:
            words += part
    return found


def _text(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")


def _from(name: str, sender: str) -> bytes:
    """A From field; the gateway adds the domain of an address without one."""
    try:
        written = header.mailboxes("From", [(Mailbox(name, "a@b"), "From")])
    except header.HeaderError:  # a control character
        written = header.mailboxes("From", [(Mailbox("", "a@b"), "From")])
    before, _, behind = written.rpartition(b"a@b")
    return (before + sender.encode("utf-8", "surrogateescape") + behind).replace(b"\r\n", b"\n")
