"""What was said in one mail transaction, and what it means for each recipient. Pure.

Guarantees: a recipient is delivered only by a positive reply to the end of the content; what was not answered is
temporary; the loss of the connection after the end is `uncertain`.
"""

from collections.abc import Sequence
from typing import Final

from gateway.delivery.reply import Reply
from gateway.delivery.verdict import Word

_TOO_MANY: Final = 452  # RFC 5321, 4.5.3.1.10
_TOO_MANY_CODES: Final = frozenset({"", "4.5.3"})  # other enhanced codes mean this mailbox or a full disk


class Dialogue:
    """Replies of one transaction as they come: MAIL, each RCPT, DATA, the end."""

    __slots__ = ("_count", "final", "replies", "stage", "trouble")

    def __init__(self, recipients: int) -> None:
        self._count = recipients
        self.replies: list[Reply] = []
        self.final: Reply | None = None  # to the end of the content
        self.stage = ""  # "body", "dot": how far the content came
        self.trouble: Word | None = None  # why the content was not sent or not answered

    @property
    def sender_taken(self) -> bool:
        return bool(self.replies) and self.replies[0].positive

    @property
    def accepted(self) -> bool:
        """Whether any recipient was."""
        return self.sender_taken and any(reply.positive for reply in self.replies[1 : 1 + self._count])

    @property
    def taken(self) -> list[int]:
        """Which recipients were."""
        return [index for index, reply in enumerate(self.replies[1 : 1 + self._count]) if reply.positive]

    @property
    def complete(self) -> bool:
        """Whether every command was answered, DATA too."""
        return len(self.replies) == self._count + 2

    @property
    def go_ahead(self) -> bool:
        """Whether the peer waits for content."""
        return self.complete and self.replies[-1].code == 354

    def words(self, gone: str) -> list[Word]:
        """One word for each recipient; `gone` is why the connection ended, "" where it did not."""
        return [self._word(self.replies[1 + index : 2 + index], gone) for index in range(self._count)]

    def _word(self, reply: Sequence[Reply], gone: str) -> Word:
        replies = self.replies
        if not replies:
            return lost("mail", gone)
        if not replies[0].positive:
            return said("mail", replies[0])
        if not reply:
            return self._unanswered("rcpt", gone)
        if not reply[0].positive:
            return said("rcpt", reply[0])
        if not self.complete:
            return self._unanswered("data" if len(replies) > self._count else "rcpt", gone)
        if replies[-1].code != 354:
            return said("data", replies[-1]) if not replies[-1].positive else nonsense("data", replies[-1])
        if self.final is not None:
            return said("dot", self.final)
        return self.trouble or lost(self.stage or "data", gone)

    def _unanswered(self, stage: str, gone: str) -> Word:
        """A 421 in the middle speaks for all that was not answered."""
        last = self.replies[-1]
        return said(stage, last) if last.code == 421 else lost(stage, gone)


def said(stage: str, reply: Reply) -> Word:
    return Word(stage, reply.code, reply.enhanced, reply.text)


def lost(stage: str, why: str) -> Word:
    """No reply: temporary; after the end of the content nobody knows whether it was taken."""
    return Word(stage, 0, "4.4.2", why or "the connection was lost", uncertain=stage == "dot")


def nonsense(stage: str, reply: Reply) -> Word:
    """A positive reply where none belongs must not be taken for a delivery."""
    return Word(stage, 0, "4.5.0", f"the remote host answered out of order: {reply.text}")


def crowded(word: Word) -> bool:
    """Whether the recipient was not tried for want of room in the transaction (RFC 5321, 4.5.3.1.10)."""
    return word.stage == "rcpt" and word.code == _TOO_MANY and word.enhanced in _TOO_MANY_CODES
