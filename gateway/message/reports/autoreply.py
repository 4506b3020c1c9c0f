"""Whether mail is an answer that a program gave, and no person (RFC 3834).

Guarantees: pure, and bounded by the header. A field that says so is believed; a subject only where it begins with words
that such programs begin it with.
"""

from typing import Final

from gateway.message.reports import fields
from gateway.message.reports.fields import Fields

# Fields that nothing but an automatic answer has; their values do not matter but for "no".
_MARKS: Final = frozenset(
    {
        "x-autoreply",
        "x-autorespond",
        "x-autoresponder",
        "x-auto-response",
        "x-ms-exchange-generated-message-source",
        "x-vacation",
        "x-mail-autoreply",
    }
)
_PRECEDENCES: Final = frozenset({"auto_reply", "auto-reply", "auto-replied", "bulk", "junk", "list"})
# What the subjects of the widespread ones begin with, in lower case.
_SUBJECTS: Final = (
    "auto:",
    "auto-reply",
    "auto reply",
    "autoreply",
    "automatic reply",
    "auto response",
    "automatische antwort",
    "abwesenheit",
    "out of office",
    "out of the office",
    "away from",
    "vacation",
    "on vacation",
    "réponse automatique",
    "absence du bureau",
    "respuesta automática",
    "fuera de la oficina",
    "risposta automatica",
    "fuori sede",
    "resposta automática",
    "automatisch antwoord",
    "afwezig",
    "automatiskt svar",
    "autosvar",
    "automaattinen vastaus",
    "automatická odpověď",
    "odpowiedź automatyczna",
    "автоответ",
    "自動回覆",
    "自动回复",
    "自動返信",
    "자동 회신",
)
_ASKED: Final = "unsubscribe"


def is_automatic(found: Fields) -> bool:
    """By the header of a message."""
    submitted = fields.first(found, "auto-submitted").partition(";")[0].strip().lower()
    if submitted not in {"", "no"}:
        return True
    return fields.first(found, "precedence").lower() in _PRECEDENCES or is_plain(found)


def is_plain(found: Fields) -> bool:
    """Whether it has what nothing but somebody's own answer has: neither bounces nor lists do."""
    if any(field.name in _MARKS and field.value.lower() != "no" for field in found):
        return True
    return subject(found).lower().startswith(_SUBJECTS)


def wishes_to_leave(found: Fields) -> bool:
    """Whether mail to an address for unsubscribing is the wish of a person: a mail program may send it for them and say
    so (auto-generated, or bulk), a vacation program answers (auto-replied; Exchange's says auto-generated, too)."""
    if not is_automatic(found):
        return True
    submitted = fields.first(found, "auto-submitted").partition(";")[0].strip().lower()
    return submitted in {"", "no", "auto-generated"} and subject(found).lower().startswith(_ASKED)


def subject(found: Fields) -> str:
    return fields.plain(fields.first(found, "subject")).strip()
