"""Reading single values of a request: a reader takes a decoded JSON value and gives what it means, or None.

Guarantees: what is wrong is added to `Problems` with the path of the value, so that a client learns
everything at once (only a string that is not JSON at all raises); no control character passes where a
header or a command will be made of a string (RFC 5322, 2.2; U+0085, U+2028 and U+2029 are line ends to some
readers). It does not know which fields there are.
"""

import math
import re
from typing import Any, Final

import msgspec

from gateway.api.document import LongString
from gateway.errors import Problem, Reason, Refused
from gateway.message import address, header
from gateway.message.address import AddressError
from gateway.message.header import HeaderError
from gateway.message.labels import MAX_METADATA_BYTES, MAX_TAG_CHARACTERS, MAX_TAGS, SAFE_INTEGER
from gateway.message.model import Mailbox

MAX_PROBLEMS: Final = 100  # told at once; finding the nearest names of more would hold the loop
MAX_LINE_CHARACTERS: Final = 8000  # subject or header value: the header stays well under 100 KB with its neighbours
MAX_HEADERS: Final = 100
MAX_REFERENCE_CHARACTERS: Final = 64  # id or alias of a template
_MAX_METADATA_NAMES: Final = 1000
_SHOWN_CHARACTERS: Final = 64
_CONTROL: Final = re.compile("[\x00-\x1f\x7f\x85\u2028\u2029]")
_REQUEST_KEY: Final = re.compile(r"[A-Za-z0-9_-]{1,255}")

_REASONS: Final = {
    "missing_parameter": Reason.MISSING_PARAMETER,
    "validation_error": Reason.VALIDATION_ERROR,
    "not_supported": Reason.NOT_SUPPORTED,
}


class Problems:
    """Everything found wrong in one request."""

    __slots__ = ("found",)

    def __init__(self) -> None:
        self.found: list[Problem] = []

    def add(self, path: str, message: str, code: str = "invalid_parameter") -> None:
        if len(self.found) < MAX_PROBLEMS:
            self.found.append(Problem(path, message, code))

    @property
    def full(self) -> bool:
        return len(self.found) >= MAX_PROBLEMS

    def refuse(self) -> None:
        """Raise Refused with all of them, those of form (400) before those of content (422)."""
        if not self.found:
            return
        ordered = sorted(self.found, key=lambda problem: _reason(problem).answer.http)
        first = ordered[0]
        more = f" ({len(ordered) - 1} more in errors)" if len(ordered) > 1 else ""
        raise Refused(_reason(first), f"{first}{more}", param=first.path, problems=ordered)


def kind(value: Any) -> str:
    """A JSON value's type, for people."""
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str() | LongString():
            return "a string"
        case list():
            return "a list"
        case _:
            return "an object"


def absent(value: Any) -> bool:
    """null, "" and [] stand for a field that was not given."""
    return value is None or value in ("", [])


def shown(name: str) -> str:
    """A foreign name as part of a path: short and printable."""
    printable = name if name.isprintable() else name.encode("unicode_escape").decode("ascii")
    return printable if len(printable) <= _SHOWN_CHARACTERS else printable[: _SHOWN_CHARACTERS - 1] + "…"


def line(value: Any, path: str, problems: Problems, *, limit: int = MAX_LINE_CHARACTERS) -> str | None:
    """A string for one line of a header."""
    if isinstance(value, LongString) or (isinstance(value, str) and len(value) > limit):
        problems.add(path, f"must be at most {limit} characters", "validation_error")
    elif not isinstance(value, str):
        problems.add(path, f"must be a string, got {kind(value)}")
    elif _CONTROL.search(value):
        problems.add(path, "must not hold line breaks or other control characters", "validation_error")
    else:
        return value
    return None


def body(value: Any, path: str, problems: Problems) -> str | None:
    """A text of many lines."""
    if isinstance(value, LongString):
        value = value.text()
    if not isinstance(value, str):
        problems.add(path, f"must be a string, got {kind(value)}")
    elif "\x00" in value:
        problems.add(path, "must not hold the NUL character", "validation_error")
    else:
        return value
    return None


def mailbox(value: Any, path: str, problems: Problems) -> Mailbox | None:
    """`a@b`, `Name <a@b>` or `{"email": "a@b", "name": "Name"}`."""
    if isinstance(value, dict):
        return _mailbox_of(value, path, problems)
    if not isinstance(value, (str, LongString)):
        problems.add(path, f"must be a string or an object with email, got {kind(value)}")
        return None
    text = line(value, path, problems)
    if text is None:
        return None
    try:
        return address.parse_mailbox(text)
    except AddressError as error:
        hint = "; several addresses go in a list" if "," in text else ""
        problems.add(path, f"{error}{hint}", "validation_error")
        return None


def mailboxes(value: Any, path: str, problems: Problems, *, limit: int) -> tuple[Mailbox, ...]:
    """One mailbox or a list of them."""
    if not isinstance(value, list):
        if not isinstance(value, (str, dict, LongString)):
            problems.add(path, f"must be a string, an object with email or a list, got {kind(value)}")
            return ()
        one = mailbox(value, path, problems)
        return (one,) if one else ()
    if len(value) > limit:
        problems.add(path, f"has {len(value)} entries; at most {limit} are taken", "validation_error")
        return ()
    found = []
    for index, item in enumerate(value):
        one = mailbox(item, f"{path}[{index}]", problems)
        if one is not None:
            found.append(one)
    return tuple(found)


def path_address(value: Any, path: str, problems: Problems) -> str | None:
    """A bare address `a@b`, as in MAIL FROM."""
    text = line(value, path, problems)
    if text is None:
        return None
    try:
        return address.parse_path(text)
    except AddressError as error:
        problems.add(path, str(error), "validation_error")
        return None


def tags(value: Any, path: str, problems: Problems) -> tuple[str, ...]:
    """A list of short strings; one that stands twice is one."""
    if not isinstance(value, list):
        problems.add(path, f"must be a list of strings, got {kind(value)}")
        return ()
    if len(value) > MAX_TAGS:
        problems.add(path, f"has {len(value)} entries; at most {MAX_TAGS} are taken", "validation_error")
        return ()
    found: dict[str, None] = {}
    for index, item in enumerate(value):
        tag = line(item, f"{path}[{index}]", problems, limit=MAX_TAG_CHARACTERS)
        if tag == "":
            problems.add(f"{path}[{index}]", "must not be empty", "validation_error")
        elif tag is not None:
            found[tag] = None
    return tuple(found)


def metadata(value: Any, path: str, problems: Problems) -> str:
    """An object of plain values as canonical JSON text: names sorted, no space."""
    if not isinstance(value, dict):
        problems.add(path, f"must be an object, got {kind(value)}")
        return "{}"
    if len(value) > _MAX_METADATA_NAMES or _weight(value) > MAX_METADATA_BYTES:
        problems.add(path, f"must be at most {MAX_METADATA_BYTES} bytes of JSON", "validation_error")
        return "{}"
    for name, item in value.items():
        _metadata_value(name, item, f"{path}.{shown(name)}", problems)
    if problems.found:
        return "{}"
    encoded = msgspec.json.encode(value, order="sorted")
    if len(encoded) > MAX_METADATA_BYTES:
        problems.add(path, f"must be at most {MAX_METADATA_BYTES} bytes of JSON", "validation_error")
    return encoded.decode()


def _metadata_value(name: str, item: Any, path: str, problems: Problems) -> None:
    if "\x00" in name or (isinstance(item, str) and "\x00" in item):  # no SQL text can hold it
        problems.add(path, "must not hold the NUL character", "validation_error")
    elif isinstance(item, (list, dict)):
        problems.add(path, f"must be a string, a number, a boolean or null, got {kind(item)}")
    elif isinstance(item, float) and not math.isfinite(item):
        problems.add(path, "is a number out of range")
    elif isinstance(item, int) and not -SAFE_INTEGER <= item < SAFE_INTEGER:
        problems.add(path, "is a number out of range; send it as a string")


def header_fields(value: Any, path: str, problems: Problems) -> tuple[tuple[str, str], ...]:
    """An object of header fields and their values, none of them one that the gateway writes."""
    if not isinstance(value, dict):
        problems.add(path, f"must be an object of names and strings, got {kind(value)}")
        return ()
    if len(value) > MAX_HEADERS:
        problems.add(path, f"has {len(value)} entries; at most {MAX_HEADERS} are taken", "validation_error")
        return ()
    found: dict[str, tuple[str, str]] = {}
    for name, item in value.items():
        where = f"{path}.{shown(name)}"
        text = line(item, where, problems)
        if text is None:
            continue
        if name.lower() in found:
            problems.add(where, "is given twice", "validation_error")
            continue
        try:
            # The composer's own rules, asked now so that all problems come at once.
            header.client_fields(((name, text),))
        except HeaderError as error:
            problems.add(where, error.text, "validation_error")
        found[name.lower()] = (name, text)
    return tuple(found.values())


def reference(value: Any, path: str, problems: Problems) -> str | None:
    """The id or alias of a template; whether there is one is not asked here."""
    return line(value, path, problems, limit=MAX_REFERENCE_CHARACTERS)


def request_key(value: Any, path: str, problems: Problems) -> str | None:
    """The client's own name for a request."""
    if not isinstance(value, (str, LongString)):
        problems.add(path, f"must be a string, got {kind(value)}")
    elif isinstance(value, LongString) or _REQUEST_KEY.fullmatch(value) is None:
        problems.add(path, "must be 1 to 255 of A-Z, a-z, 0-9, _ and -", "validation_error")
    else:
        return value
    return None


def _weight(value: dict[str, Any]) -> int:
    """At least this many bytes as JSON: asked before anything is encoded."""
    weight = 0
    for name, item in value.items():
        weight += len(name) + 4
        if isinstance(item, str):
            weight += len(item)
        elif isinstance(item, LongString):
            weight += len(item.raw)
    return weight


def _mailbox_of(value: dict[str, Any], path: str, problems: Problems) -> Mailbox | None:
    for name in value:
        if name not in {"email", "name"}:
            problems.add(f"{path}.{shown(name)}", "is not known here; an address has email and name")
    email = value.get("email")
    if email is None or email == "":
        problems.add(f"{path}.email", "is required", "missing_parameter")
        return None
    parsed = path_address(email, f"{path}.email", problems)
    given = value.get("name")
    display = line(given, f"{path}.name", problems) if given is not None else ""
    return Mailbox(display, parsed) if parsed is not None and display is not None else None


def _reason(problem: Problem) -> Reason:
    return _REASONS.get(problem.code, Reason.INVALID_PARAMETER)
