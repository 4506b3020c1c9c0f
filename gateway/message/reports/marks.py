"""Our own tokens in mail that comes back: which recipient of which message it quotes.

Guarantees: what was not made here is nobody (tokens.py); at most MAX_TRIED texts are tried, those first that name a
recipient best. Pure, given the tokens.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Final

from gateway.message.reports.parts import Part
from gateway.tokens import Purpose, Subject, Tokens

MAX_TRIED: Final = 60

# The field that every message has which leaves with something of ours; a link and an address to unsubscribe, which the
# rules for redacted complaints leave alone; the envelope sender.
_FIELD: Final = re.compile(r"^[> \t]*X-Gateway-Token:\s*([A-Za-z2-7]{53})\b", re.MULTILINE | re.IGNORECASE)
_LINK: Final = re.compile(r"/t/u/([A-Za-z0-9_-]{44})(?![A-Za-z0-9_-])")
_LEAVE: Final = re.compile(r"(?<![A-Za-z0-9])u\+([A-Za-z2-7]{53})@", re.IGNORECASE)
_BACK: Final = re.compile(r"(?<![A-Za-z0-9])b\+([A-Za-z2-7]{53})@", re.IGNORECASE)
_FOLD: Final = re.compile(r"\n[ \t]+")


def find(parts: Iterable[Part], tokens: Tokens) -> Subject | None:
    """The first that is one of ours; one that names a recipient rather than a message alone."""
    texts = [_FOLD.sub(" ", text) for part in parts for text in _texts(part)]
    best: Subject | None = None
    for number, subject in enumerate(_subjects(texts, tokens)):
        if subject is not None and (best is None or (subject.message == best.message and subject.recipient)):
            best = subject
        if number >= MAX_TRIED or (best is not None and best.recipient):
            break
    return best


def _subjects(texts: list[str], tokens: Tokens) -> Iterator[Subject | None]:
    for pattern, purpose in ((_FIELD, Purpose.RETURN_PATH), (_LEAVE, Purpose.UNSUBSCRIBE)):
        for match in _matches(pattern, texts):
            yield tokens.read_local(purpose, match)
    for match in _matches(_LINK, texts):
        yield tokens.read_link(Purpose.UNSUBSCRIBE, match)
    for match in _matches(_BACK, texts):
        yield tokens.read_local(Purpose.RETURN_PATH, match)


def _matches(pattern: re.Pattern[str], texts: list[str]) -> Iterator[str]:
    for text in texts:
        for match in pattern.finditer(text):
            yield match[1]


def _texts(part: Part) -> Iterator[str]:
    """Its header, as it would stand there, and its body."""
    yield "\n".join(f"{field.name}: {field.value}" for field in part.fields)
    if part.data and (part.type.startswith(("text/", "message/")) and not part.is_message):
        yield part.text()
