"""Delivery status notifications by the book (RFC 3464; RFC 6533 for addresses beyond ASCII).

Guarantees: never an exception; at most MAX_TOLD recipients. Dates are not read: no zone that a host makes up costs a
report, and when something was heard is known here. Blank lines that are missing, types that are missing, comments and
wrong words for an action are taken as they are meant.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from gateway.message.reports import fields
from gateway.message.reports.fields import Field, Fields
from gateway.message.reports.parts import Part

MAX_TOLD: Final = 1000
MAX_GROUPS: Final = 2 * MAX_TOLD
MAX_FIELDS: Final = 20 * MAX_TOLD  # of all groups
TYPES: Final = frozenset({"message/delivery-status", "message/global-delivery-status"})

_ENHANCED: Final = re.compile(r"(?<![\d.])([245]\.\d{1,3}\.\d{1,3})(?![\d.])", re.ASCII)
_CODE: Final = re.compile(r"(?<![\d.])([245]\d\d)(?=[ \-]|$)", re.ASCII)
_READ: Final = 300  # characters of a diagnostic in which a code is looked for
_ADDRESS_TYPE: Final = re.compile(r"\s*([A-Za-z0-9-]{1,40})\s*;\s*")
_COMMENT: Final = re.compile(r"\s*\([^()]{0,300}\)\s*$")
_HEX: Final = re.compile(r"\\x\{([0-9A-Fa-f]{2,6})\}")  # RFC 6533, 3
_BLANKS: Final = re.compile(rb"(?:\r\n|\n|\r(?!\n))[ \t]*(?:\r\n|\n|\r)")


class Action(StrEnum):
    """RFC 3464, 2.3.3."""

    FAILED = "failed"
    DELAYED = "delayed"
    DELIVERED = "delivered"
    RELAYED = "relayed"
    EXPANDED = "expanded"


# What a word for it begins with, beside the five themselves.
_WORDS: Final = {
    "fail": Action.FAILED,
    "undeliver": Action.FAILED,
    "expire": Action.FAILED,
    "reject": Action.FAILED,
    "delay": Action.DELAYED,
    "warn": Action.DELAYED,
    "deliver": Action.DELIVERED,
    "relay": Action.RELAYED,
    "expan": Action.EXPANDED,
}
_BY_CLASS: Final = {"5": Action.FAILED, "4": Action.DELAYED, "2": Action.DELIVERED}


@dataclass(frozen=True, slots=True)
class Told:
    """What is said of one recipient. `addresses`: whom the author wrote to, then where it was to go; `enhanced` is the
    RFC 3463 code of the host that said no, else `status`; `code` its reply code, 0 without one; `text` its words."""

    action: Action
    addresses: tuple[str, ...]
    status: str = ""
    code: int = 0
    enhanced: str = ""
    text: str = ""
    host: str = ""


def read(part: Part) -> list[Told]:
    """What a part of one of TYPES says, recipient by recipient."""
    groups = _groups(part.data)
    host = next((name(value) for group in groups for value in fields.every(group, "reporting-mta")), "")
    found: list[Told] = []
    for group in groups:
        for recipient in _recipients(group):
            told = _told(recipient, host)
            if told is not None:
                found.append(told)
            if len(found) >= MAX_TOLD:
                return found
    return found


def _groups(data: bytes) -> list[Fields]:
    groups: list[Fields] = []
    left = MAX_FIELDS
    for block in _BLANKS.split(data, MAX_GROUPS)[:MAX_GROUPS]:
        if left > 0 and block.strip():
            groups.append(fields.read(block))
            left -= len(groups[-1])
    return groups


def codes(text: str) -> tuple[int, str]:
    """The reply code and the enhanced code in a host's words; 0 and "" without."""
    start = text[:_READ]
    code, enhanced = _CODE.search(start), _ENHANCED.search(start)
    return int(code[1]) if code is not None else 0, enhanced[1] if enhanced is not None else ""


def address(value: str) -> str:
    """`rfc822; <ann@example.com> (unknown user)` without what is round the address."""
    match = _ADDRESS_TYPE.match(value)
    type_, rest = (match[1].lower(), value[match.end() :]) if match is not None else ("", value)
    rest = _COMMENT.sub("", rest).strip()
    if rest.endswith(">") and "<" in rest:
        rest = rest[rest.rfind("<") + 1 : -1].strip()
    if type_.startswith("utf-8"):
        rest = _HEX.sub(_character, rest)
    return rest.strip("\"' ")


def _character(match: re.Match[str]) -> str:
    number = int(match[1], 16)
    return chr(number) if number < 0x110000 and not 0xD800 <= number < 0xE000 else "\N{REPLACEMENT CHARACTER}"


def _recipients(group: Fields) -> Iterable[Fields]:
    """The recipients of a group: one, but where blank lines between them are missing."""
    current: list[Field] = []
    seen: set[str] = set()
    for field in group:
        if field.name in {"final-recipient", "original-recipient"}:
            if field.name in seen:
                yield tuple(current)
                current, seen = [], set()
            seen.add(field.name)
        current.append(field)
    yield tuple(current)


def _told(group: Fields, host: str) -> Told | None:
    named = [address(fields.first(group, name)) for name in ("original-recipient", "final-recipient")]
    addresses = tuple(dict.fromkeys(one for one in named if one))
    status = _ENHANCED.search(fields.first(group, "status"))
    action = _action(fields.first(group, "action"), status[1] if status is not None else "")
    if action is None or not (addresses or fields.first(group, "final-recipient")):
        return None
    diagnostic = _untyped(fields.first(group, "diagnostic-code"))
    code, enhanced = codes(diagnostic)
    known = status[1] if status is not None else ""
    return Told(
        action=action,
        addresses=addresses,
        status=known,
        code=code,
        enhanced=known if not enhanced or (enhanced.endswith(".0.0") and known) else enhanced,
        text=diagnostic or fields.first(group, "status"),
        host=host or name(fields.first(group, "remote-mta")),
    )


def _action(value: str, status: str) -> Action | None:
    word = value.strip().lower()
    by_word = next((action for start, action in _WORDS.items() if word.startswith(start)), None)
    return by_word or _BY_CLASS.get(status[:1])


def _untyped(value: str) -> str:
    """`smtp; 550 5.1.1 no` without its type."""
    match = _ADDRESS_TYPE.match(value)
    return value[match.end() :] if match is not None else value


def name(value: str) -> str:
    """`dns; mx.example.com (192.0.2.1)`: the name."""
    return (_COMMENT.sub("", _untyped(value)).split() or [""])[0][:255]
