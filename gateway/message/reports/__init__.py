"""Mail that comes back, read: a bounce, a complaint, an automatic answer, or anything else.

Guarantees: pure; never an exception, whatever the bytes are; time linear in at most MAX_BYTES. The standards come first
(RFC 3464, RFC 5965), guesses only where nothing in the mail follows them. A report about a delay or a delivery is no
bounce. It does not know whose mail it was, but for tokens of our own in it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from gateway.message.reports import autoreply, feedback, fields, guessing, marks, parts, status
from gateway.message.reports.feedback import Complaint
from gateway.message.reports.fields import Fields
from gateway.message.reports.parts import Part
from gateway.message.reports.status import Action, Told
from gateway.tokens import Subject, Tokens

# Of a message, that are read: what a host says and the header of what it quotes come first. A hundred recipients, the
# most of a transaction, take 50 KB of it.
MAX_BYTES: Final = 256 * 1024

__all__ = ["MAX_BYTES", "Action", "Complaint", "Report", "Told", "read"]

_HEADERS: Final = frozenset({"text/rfc822-headers", "message/global-headers", "text/rfc822-header"})


@dataclass(frozen=True, slots=True)
class Report:
    """What a message says. `told` are recipients (none: no bounce), `complaint` None where it is none; `automatic`
    is an answer that a program gave; `wish`: mail of a person, to whom an address to unsubscribe is open. `quoted` is
    the recipient of ours in what it quotes."""

    told: tuple[Told, ...]
    complaint: Complaint | None
    automatic: bool
    wish: bool
    quoted: Subject | None
    subject: str

    @property
    def failed(self) -> tuple[Told, ...]:
        return tuple(one for one in self.told if one.action is Action.FAILED)


def read(content: bytes, tokens: Tokens) -> Report:
    """Read a message. What is beyond MAX_BYTES is not looked at."""
    content = content[:MAX_BYTES]
    found = list(parts.walk(content))
    header = found[0].fields
    automatic = autoreply.is_automatic(header)
    # An answer that a program gave may quote a report that somebody sent through us. A bounce is such an answer, too.
    speaking = [part for part in found if part.level == 0] if automatic else found
    quotes_report = not status.TYPES.isdisjoint(part.type for part in found[len(speaking) :])
    told = _told(speaking)
    complaint = _complaint(speaking, found, bounced=bool(told))
    # A bounce may say that a program wrote it (Exim's do); only what is plainly somebody's answer is not looked at.
    if not (told or complaint or quotes_report or autoreply.is_plain(header)):
        told = guessing.told(content, found)
    return Report(
        told=tuple(told),
        complaint=complaint,
        automatic=not told and complaint is None and automatic,
        wish=not told and not _is_report(found[0]) and autoreply.wishes_to_leave(header),
        quoted=marks.find(found, tokens),
        subject=autoreply.subject(header)[:200],
    )


def _told(found: list[Part]) -> list[Told]:
    """Of the outermost message that says anything: a bounce may quote mail that is one."""
    for part in found:
        if part.type in status.TYPES and (told := status.read(part)):
            # With a host's words out of the part for people, where the one for programs has none (OpenSMTPD's).
            wordless = any(_is_wordless(one) for one in told)
            said = guessing.words_by_address(found) if wordless else {}
            return [_with_words(one, said) if _is_wordless(one) else one for one in told]
    return []


def _is_wordless(told: Told) -> bool:
    return told.action is Action.FAILED and not told.code


def _with_words(told: Told, said: Mapping[str, str]) -> Told:
    text = next((said[one.lower()] for one in told.addresses if one.lower() in said), "")
    if not text:
        return told
    code, enhanced = status.codes(text)
    return replace(told, code=code, enhanced=enhanced or told.enhanced, text=text)


def _complaint(speaking: list[Part], found: list[Part], *, bounced: bool) -> Complaint | None:
    """Of the outermost message as well: what came back may be a complaint that somebody sent through us."""
    for part in speaking:
        if part.type == feedback.TYPE:
            return feedback.read(part, _copied(found))
        if bounced and part.type in status.TYPES:
            return None
    return None


def _copied(found: list[Part]) -> Fields:
    """The header of the message that a report quotes."""
    for part in found:
        if part.type in _HEADERS:
            return fields.read(part.data)
        if part.is_message:
            return fields.read(fields.split(part.data)[0])
    return ()


def _is_report(top: Part) -> bool:
    return top.type == "multipart/report"
