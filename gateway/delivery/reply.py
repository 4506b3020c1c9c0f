"""What a next hop said: replies as values, and their parsing. Pure."""

import functools
import re
from dataclasses import dataclass
from typing import Final

MAX_LINE: Final = 8192  # octets; RFC 5321, 4.5.3.1.5 says 512, some hosts say more
MAX_TEXT: Final = 4000  # characters of one reply that are kept
MAX_LINES: Final = 200  # of one reply
_SHORT: Final = 200  # octets; replies of such lines are remembered
_SEPARATORS: Final = frozenset({b" ", b"-", b"\r", b""})
_ENHANCED: Final = re.compile(r"[245]\.\d{1,3}\.\d{1,3}(?=\s|$)")  # RFC 3463, 2


@dataclass(frozen=True, slots=True)
class Reply:
    """One reply. `text` is what was said, code first, the lines of a long one joined by spaces."""

    code: int
    enhanced: str  # "" where none was said
    text: str

    @property
    def positive(self) -> bool:
        return 200 <= self.code < 300


class MalformedReply(ValueError):
    """What came is no SMTP reply; `before` are the replies that were whole before it."""

    def __init__(self, text: str, before: list[Reply]) -> None:
        super().__init__(text)
        self.before = before


class ReplyReader:
    """Bytes in, replies out (RFC 5321, 4.2)."""

    __slots__ = ("_buffer", "_lines")

    def __init__(self) -> None:
        self._buffer = b""
        self._lines: list[bytes] = []

    def feed(self, data: bytes) -> list[Reply]:
        """Every reply that is whole now. Raises MalformedReply."""
        lines = (self._buffer + data if self._buffer else data).split(b"\n")
        self._buffer = lines.pop()
        replies: list[Reply] = []
        for line in lines:
            if not line[:3].isdigit() or line[3:4] not in _SEPARATORS:
                raise MalformedReply(f"not a reply: {line[:80]!r}", replies)
            if line[3:4] != b"-" and not self._lines and len(line) <= _SHORT:
                replies.append(_one_line(line))
                continue
            if len(line) > MAX_LINE:
                raise MalformedReply("a line without an end", replies)
            self._lines.append(line)
            if line[3:4] != b"-":
                replies.append(make_reply(self._lines))
                self._lines = []
            elif len(self._lines) > MAX_LINES:
                raise MalformedReply("a reply without an end", replies)
        if len(self._buffer) > MAX_LINE:
            raise MalformedReply("a line without an end", replies)
        return replies


@functools.lru_cache(maxsize=256)
def _one_line(line: bytes) -> Reply:
    """A host says the same to every MAIL, RCPT and DATA: a quarter of the work of parsing it."""
    return make_reply([line])


def make_reply(lines: list[bytes]) -> Reply:
    """A reply from its lines, each `250-text` or `250 text`."""
    code = int(lines[-1][:3])
    texts = [line[4:].decode("utf-8", "replace").strip() for line in lines]
    match = _ENHANCED.match(texts[0])
    enhanced = match[0] if match else ""
    if enhanced and len(texts) > 1:  # said once is enough: Google and others begin every line with it
        texts[1:] = [text.removeprefix(enhanced).strip() for text in texts[1:]]
    return Reply(code, enhanced, f"{code} {' '.join(texts)}".strip()[:MAX_TEXT])
