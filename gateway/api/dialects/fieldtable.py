"""The fields of a request as a table: one literal per dialect, which its documentation is held against.

Guarantees: pure; every problem of a request is reported at once, each with its field; null, "" and [] are absent, so
a required field has a value. What a dialect knows and cannot honour is refused, never dropped.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from gateway.api import fields
from gateway.api.fields import Problems, kind
from gateway.config import Secret
from gateway.message.model import Mailbox

THREAD_BYTES: Final = 16 * 1024  # a larger request is read in a thread: addresses and tags take their time
MAX_CREDENTIAL_CHARACTERS: Final = 1000

Reader = Callable[[Any, str, Problems], Any]
Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Field:
    """A field by the client's name for it. `attribute` is its place in the request that is made of the table; "" where
    it has none (`unsupported`)."""

    name: str
    read: Reader
    attribute: str = ""
    required: bool = False


def decode(document: dict[str, Any], table: Sequence[Field], make: Callable[..., Value], *, closed: bool) -> Value:
    """`make` of the fields given, by attribute. `closed`: a field that is not in the table is a problem; else it is
    passed over. Raises Refused with every problem."""
    problems = Problems()
    values: dict[str, Any] = {}
    for field in table:
        value = document.get(field.name)
        if not fields.absent(value):
            read = field.read(value, field.name, problems)
            if field.attribute:
                values[field.attribute] = read
        elif field.required:
            problems.add(field.name, "is required", "missing_parameter")
    if closed:
        _refuse_others(document, {field.name for field in table}, problems)
    problems.refuse()
    return make(**values)


def unsupported(_value: Any, path: str, problems: Problems) -> None:
    """The reader of a field that this API does not have but that would change the mail."""
    problems.add(path, "is not supported by this API", "not_supported")


def one_mailbox(value: Any, path: str, problems: Problems) -> Mailbox | None:
    """`a@b` or `Name <a@b>`, one and in a string."""
    if isinstance(value, (list, dict)):
        problems.add(path, f"must be one address in a string, got {kind(value)}")
        return None
    text = fields.line(value, path, problems)
    return fields.mailbox(text, path, problems) if text is not None else None


def credential(value: Any, path: str, problems: Problems) -> str | None:
    """A host or user name: one line."""
    return fields.line(value, path, problems, limit=MAX_CREDENTIAL_CHARACTERS)


def secret(value: Any, path: str, problems: Problems) -> Secret | None:
    """A password: one line."""
    text = credential(value, path, problems)
    return Secret(text) if text is not None else None


def _refuse_others(document: dict[str, Any], known: set[str], problems: Problems) -> None:
    for name, value in document.items():
        if problems.full:
            break
        if name not in known and not fields.absent(value):
            problems.add(fields.shown(name), "is not a known field")
