"""What an engine needs of the shell round it before it can go on; each with the method to call then.

INPUT     nothing: more bytes are needed (`feed`)
STORE     store `piece` (large content only), then `proceed`
COMMIT    store `piece` as the last one and commit, then `proceed` with the reply
ROOM      have `room.bytes` of memory in all for the content, then `admitted`
RECIPIENT have the `suspect` of the transaction judged, then `judged` with a reply where it is refused
STARTTLS  write the replies, upgrade, then `secured`
CLOSE     write the replies and close
"""

from enum import Enum
from typing import Final

from gateway.message.model import PIECE_BYTES

FREE_BYTES: Final = 16 * 1024  # of a content: most mail needs no leave
MEMORY_FACTOR: Final = 3  # a piece is received while one is being stored, and each is copied once


class Need(Enum):
    INPUT = 0
    STORE = 1
    COMMIT = 2
    ROOM = 3
    RECIPIENT = 4
    STARTTLS = 5
    CLOSE = 6


class Room:
    """The memory of one content. What is more than a piece goes to the store, so that is the most it asks for."""

    __slots__ = ("_most", "bytes")

    def __init__(self) -> None:
        self.bytes = 0  # to be had
        self._most = FREE_BYTES

    def reset(self) -> None:
        self._most = FREE_BYTES

    def lacks(self, held: int) -> bool:
        """Whether so many octets of content are more than it may hold; then `bytes` says what to have."""
        if held <= self._most or self._most == PIECE_BYTES:
            return False
        self._most = min(2 * held, PIECE_BYTES)
        self.bytes = MEMORY_FACTOR * self._most
        return True
