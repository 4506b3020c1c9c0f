"""What a recipient of a message can unsubscribe from.

Guarantees: nothing is written here; a recipient or a message that is not in the store any more is None.
"""

from dataclasses import dataclass
from functools import partial
from typing import Final

from gateway.store import db
from gateway.store.db import Cursor, Statements
from gateway.store.readers import Readers

ALL_MAIL: Final = "*"  # as a message's scope


@dataclass(frozen=True, slots=True)
class Offer:
    """`message` and `recipient` are row ids. `scope` is that of the message: ALL_MAIL of the account, a tag, or ""
    where it offers nothing. `sender` is its From address, `address` the recipient."""

    message: int
    recipient: int
    scope: str
    sender: str
    address: str

    @property
    def tag(self) -> str:
        """As `Heard.tag` has it: "" is all mail, also where nothing was offered."""
        return "" if self.scope == ALL_MAIL else self.scope


class Offers:
    """Asks the readers."""

    def __init__(self, readers: Readers) -> None:
        self._readers = readers
        self._sql = db.load("offers")

    async def find(self, message: int, recipient: int) -> Offer | None:
        """`recipient` 0: the only one of the message; None where there are several. Raises StoreError."""
        return await self._readers.read(partial(_find, sql=self._sql, message=message, recipient=recipient))


def _find(cursor: Cursor, *, sql: Statements, message: int, recipient: int) -> Offer | None:
    rows = cursor.execute(sql["offer_find"], (message, recipient)).fetchall()
    if len(rows) != 1:
        return None
    id_, found, scope, header_from, envelope_sender, address = rows[0]
    return Offer(id_, found, scope, header_from or envelope_sender, address)
