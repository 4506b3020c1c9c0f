"""The content after DATA: from the stream of a client to canonical pieces.

Guarantees: only CR LF . CR LF ends the content (it is looked for in the original bytes, so that no
conversion can make or hide one); what comes out has CR LF line ends only and no NUL; pieces are at most
PIECE_BYTES long and end after a line end (inside a line only where it is longer than a piece, and then not between
CR and LF); memory is bounded by about two pieces and what one read brings, also for a line without end. Refused
content is read to its end and dropped.
"""

import re
from typing import Final

from gateway.message import fixup
from gateway.message.model import PIECE_BYTES
from gateway.smtp import replies

_END: Final = b"\r\n.\r\n"
_DOT: Final = re.compile(rb"\r\n\.")  # a search for a literal: half the time of `find` for three bytes
_BLOCK_BYTES: Final = PIECE_BYTES - 1  # a line with a bare LF grows by one when it is converted


class ContentReader:
    """Reads one content. `feed` what arrives, then `pull` until None.

    `ended` is set with the last piece (which may be empty): then `fault` is the reply if the content is
    refused, and `rest` is what the client sent after it.
    """

    __slots__ = (
        "_convert",
        "_dots",
        "_end",
        "_left",
        "_max_bytes",
        "_raw",
        "_read",
        "_scanned",
        "_size",
        "ended",
        "fault",
        "rest",
    )

    def __init__(self, *, max_bytes: int, convert: bool) -> None:
        self.ended = False
        self.fault: bytes | None = None
        self.rest = b""
        self._max_bytes = max_bytes
        self._convert = convert
        # Two octets of context stand before what is not consumed: a line end, here that of the DATA command.
        self._raw = bytearray(b"\r\n")
        self._scanned = 0  # no end begins before this offset
        self._end = -1  # offset of the end, once it is known
        self._read = False  # the end was reached: nothing is left in `_raw`
        self._dots = False  # a line may begin with a dot
        self._left = b""  # converted, and too much for one piece
        self._size = 0

    @property
    def held(self) -> int:
        """Octets in hand; what is on its way to be dropped does not count."""
        return len(self._raw) - 2 if self.fault is None else 0

    def feed(self, data: bytes) -> None:
        self._raw += data

    def refuse(self, reply: bytes) -> None:
        """Drop the rest of the content; the first reason stays."""
        self.fault = self.fault or reply

    def pull(self) -> bytes | None:
        """The next piece; None when more bytes are needed."""
        if self.fault is None and self._left:
            return self._split(self._left)
        if self.fault is not None:
            return self._discard()
        if self._end < 0:
            self._find_end()
        return self._next_block()

    def _find_end(self) -> None:
        # An end and a line to unstuff begin alike, and most content has none of these: one search does for
        # both.
        raw = self._raw
        found = _DOT.search(raw, self._scanned)
        if found is not None:
            dot = found.start()
            if raw[dot : dot + 5] == _END:
                self._end = dot
                return
            self._dots = True
            self._end = raw.find(_END, dot)
        if self._end < 0:
            self._scanned = max(0, len(raw) - 4)

    def _next_block(self) -> bytes | None:
        raw, end = self._raw, self._end
        if 0 <= end <= _BLOCK_BYTES:
            block = bytes(raw[: end + 2])
            self._finish()
            return self._clean(block, last=True)
        if end < 0 and len(raw) - 2 <= _BLOCK_BYTES:
            return None
        cut = _cut(raw, 2, 2 + _BLOCK_BYTES)
        block = bytes(raw[:cut])
        self._drop(cut - 2)
        return self._clean(block, last=False)

    def _clean(self, block: bytes, *, last: bool) -> bytes | None:
        """Canonical bytes of a block that begins with two octets of context."""
        if self._dots:
            # RFC 5321, 4.5.2: the first dot of a line is not content.
            block = block.replace(b"\r\n.", b"\r\n")
        text = block[2:]
        if not fixup.only_crlf(text):
            if not self._convert:
                self.refuse(replies.BARE_NEWLINE)
            # A block never ends between CR and LF: each is judged in its block.
            text = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")
        if b"\0" in text:
            self.refuse(replies.NUL)
        self._size += len(text)
        if self._size > self._max_bytes:
            self.refuse(replies.TOO_LARGE)
        if self.fault is not None:
            self.ended = last
            return b"" if last else self._discard()
        if len(text) > PIECE_BYTES:
            return self._split(text)
        self.ended = last
        return text

    def _split(self, text: bytes) -> bytes:
        if len(text) <= PIECE_BYTES:
            piece, self._left = text, b""
        else:
            cut = _cut(text, 0, PIECE_BYTES)
            piece, self._left = text[:cut], text[cut:]
        self.ended = self._read and not self._left
        return piece

    def _discard(self) -> bytes | None:
        self._left = b""
        if not self._read:
            if self._end < 0:
                self._find_end()
            if self._end < 0:
                self._drop(max(0, len(self._raw) - 4))
                return None
            self._finish()
        self.ended = True
        return b""

    def _finish(self) -> None:
        self.rest = bytes(self._raw[self._end + 5 :])
        self._raw.clear()
        self._read = True

    def _drop(self, count: int) -> None:
        del self._raw[:count]
        self._scanned = max(0, self._scanned - count)
        if self._end >= 0:
            self._end -= count


def _cut(data: bytes | bytearray, start: int, end: int) -> int:
    """Where to cut more than `end` octets: behind the last line end, else at `end` or between CR LF and it."""
    cut = data.rfind(b"\n", start, end) + 1
    return cut or end - (data[end - 1 : end + 1] == b"\r\n")
