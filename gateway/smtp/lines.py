"""Command lines out of a stream, with their limits.

Guarantees: a line ends with CR LF; a bare LF ends one only where `convert` says so (old clients on trusted
listeners). A line that is refused is refused once and dropped whole: no part of it is ever taken for a
command. What is kept is bounded by the limits and by what one `feed` brings.
"""

from typing import Final

from gateway.smtp import replies
from gateway.smtp.grammar import BadCommand

MAX_COMMAND: Final = 512  # octets with CRLF, RFC 5321 4.5.3.1.4
# 512 + SIZE 26 + BODY 17 + SMTPUTF8 10 + AUTH 500 + RET and ENVID 107 + REQUIRETLS 11 (RFC 1870, 6152, 6531, 4954,
# 3461, 8689); RCPT needs less.
MAX_PATH_COMMAND: Final = 1200
MAX_AUTH_LINE: Final = 12_288  # RFC 4954, 4


class LineReader:
    """The input of a connection, consumed line by line or (`rest`) as a whole."""

    __slots__ = ("_at", "_convert", "_input", "_skipping", "pending")

    def __init__(self, *, convert: bool) -> None:
        self.pending = False  # there is something that was not looked at
        self._convert = convert
        self._input = b""
        self._at = 0  # of `_input`, what is consumed
        self._skipping = False  # the rest of a refused line

    @property
    def buffered(self) -> int:
        """Octets kept."""
        return len(self._input) - self._at

    def feed(self, data: bytes) -> None:
        self._input = self._input[self._at :] + data if self._at < len(self._input) else data
        self._at = 0
        self.pending = bool(data)

    def clear(self) -> None:
        self._input, self._at, self._skipping, self.pending = b"", 0, False, False

    def rest(self) -> bytes:
        """Everything kept, consumed."""
        rest = self._input[self._at :] if self._at else self._input
        self._input, self._at, self.pending = b"", 0, False
        return rest

    def next(self, *, in_auth: bool) -> bytes | None:
        """The next line without its end; None where more bytes are needed. `in_auth`: a response to AUTH.

        Raises BadCommand for a line that is too long or ends with a bare LF; the next call goes on behind it.
        """
        if self._skipping and not self._skip():
            return None
        data, at = self._input, self._at
        end = data.find(b"\n", at)
        self.pending = 0 <= end < len(data) - 1
        if end < 0:
            if len(data) - at > MAX_COMMAND and len(data) - at > _limit(data[at : at + 5], in_auth):
                self._skipping = True
                raise _too_long(in_auth)
            return None
        self._at = end + 1
        if end > at and data[end - 1] == 13:
            line = data[at : end - 1]
        elif self._convert:
            line = data[at:end]
        else:
            self._skipping = True
            too_long = end - at > MAX_COMMAND and end - at > _limit(data[at : at + 5], in_auth)
            raise _too_long(in_auth) if too_long else BadCommand(replies.BARE_LF)
        if len(line) > MAX_COMMAND - 2 and len(line) > _limit(line[:5], in_auth) - 2:
            raise _too_long(in_auth)
        return line

    def _skip(self) -> bool:
        ending = b"\n" if self._convert else b"\r\n"
        end = self._input.find(ending, self._at)
        if end < 0:
            self._at = len(self._input) - self._input.endswith(b"\r")
            self.pending = False
            return False
        self._at = end + len(ending)
        self._skipping = False
        return True


def _limit(start: bytes, in_auth: bool) -> int:
    if in_auth:
        return MAX_AUTH_LINE
    match start.upper():
        case b"MAIL " | b"RCPT ":
            return MAX_PATH_COMMAND
        case b"AUTH ":
            return MAX_AUTH_LINE
        case _:
            return MAX_COMMAND


def _too_long(in_auth: bool) -> BadCommand:
    return BadCommand(replies.AUTH_TOO_LONG if in_auth else replies.TOO_LONG)
