"""From a draft to what is stored: composed content, its facts and its pieces. Pure; the caller chooses the thread."""

from datetime import datetime
from typing import Final

from gateway.message import fixup, mime
from gateway.message.canonical import BodyHasher
from gateway.message.model import PIECE_BYTES, Content, Draft, Facts, Submission

_HTML_WEIGHT: Final = 32  # making plain text of HTML costs so many times what encoding it does
_FIELD_WEIGHT: Final = 32  # and so does a header field: made of encoded-words, character by character


class BodySeen:
    """What streamed by: the hash, the scan and the size of a body, without its bytes."""

    __slots__ = ("body_size", "hasher", "pieces", "scan")

    def __init__(self) -> None:
        self.hasher = BodyHasher()
        self.scan = fixup.BodyScan()
        self.body_size = 0
        self.pieces = 1  # the first one, which begins with the header

    def update(self, body: bytes) -> None:
        self.hasher.update(body)
        self.scan.update(body)
        self.body_size += len(body)

    def next_piece(self) -> int:
        """The index of one more piece."""
        self.pieces += 1
        return self.pieces - 1


def compose(draft: Draft, *, message_id: str, date: datetime, seed: bytes) -> tuple[Content, Facts]:
    """The message of a draft, and what is known of it. Raises HeaderError; `seed` is that of `mime.compose`."""
    content = mime.compose(draft, message_id=message_id, date=date, seed=seed)
    seen = BodySeen()
    for piece in content.body:
        seen.update(piece)
    facts = Facts(
        size=len(content.header) + seen.body_size,
        header_size=len(content.header),
        body_hash=seen.hasher.digest(),
        eight_bit=seen.scan.eight_bit,
        utf8_header=not content.header.isascii(),
        dot_lines=seen.scan.dot_lines,
    )
    return content, facts


def weight(submission: Submission) -> int:
    """How much work composing is, in bytes that are encoded."""
    html, text = submission.html, submission.text
    weight = len(text or "")
    if html is not None:
        weight += len(html) if text is not None else len(html) * _HTML_WEIGHT
    fields = len(submission.subject) + sum([len(value) for _, value in submission.headers])
    for boxes in (submission.to, submission.cc, submission.reply_to):
        for box in boxes:
            fields += len(box.name) + len(box.address)
    weight += fields * _FIELD_WEIGHT
    return weight + sum([len(attachment.content) for attachment in submission.attachments])


def pieces(content: Content) -> list[bytes]:
    """Header and body as stored: the first piece takes the beginning of the body where there is room."""
    if not content.body:
        return [content.header]
    if len(content.header) + len(content.body[0]) <= PIECE_BYTES:
        return [content.header + content.body[0], *content.body[1:]]
    return [content.header, *content.body]
