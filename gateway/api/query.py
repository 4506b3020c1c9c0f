"""The parameters of a query: read one by one, every fault told at once.

Guarantees: an unknown name, one that stands twice, and a value that means nothing are errors that name it. An empty
value is an absent one.
"""

import difflib
from collections.abc import Callable, Sequence
from typing import Final, TypeVar
from urllib.parse import parse_qsl

from gateway.api import fields
from gateway.api.fields import Problems
from gateway.message import address, schedule
from gateway.message.address import AddressError
from gateway.tokens import Tokens

_MAX_FIELDS: Final = 50
_MAX_CHARACTERS: Final = 1000
_ABOUT_MAIL: Final = 1 << 63  # set in the cursors of messages: no place of the event log is that high

Value = TypeVar("Value")


class Query:
    """Of one request; `end` raises what was found wrong. `known` are the names that are taken."""

    def __init__(self, text: str, known: Sequence[str]) -> None:
        self.problems = Problems()
        self._given: dict[str, str] = {}
        for name, value in self._pairs(text):
            if name not in known:
                near = difflib.get_close_matches(name[:40], known, n=1)
                hint = f"; did you mean {near[0]}?" if near else f"; there are {', '.join(known) or 'none'}"
                self.problems.add(fields.shown(name), f"is not a parameter of this operation{hint}")
            elif name in self._given:
                self.problems.add(name, "is given twice")
            else:
                self._given[name] = value

    def end(self) -> None:
        """Raises Refused."""
        self.problems.refuse()

    def text(self, name: str) -> str | None:
        value = self._given.get(name) or None
        if value is None or (len(value) <= _MAX_CHARACTERS and value.isprintable()):
            return value
        long = len(value) > _MAX_CHARACTERS
        text = f"must be at most {_MAX_CHARACTERS} characters" if long else "must not hold a control character"
        self.problems.add(name, text)
        del self._given[name]  # told once, however often it is asked for
        return None

    def number(self, name: str, *, default: int, most: int) -> int:
        """A whole number, 1 to `most`."""
        value = self.text(name)
        if value is None:
            return default
        if not (value.isascii() and value.isdigit() and len(value) < 10 and 1 <= int(value) <= most):
            self.problems.add(name, f"must be a whole number from 1 to {most}")
            return default
        return int(value)

    def seconds(self, name: str, *, most: float) -> float:
        """`30s`, or a number of seconds, 0 to `most`."""

        def read(text: str) -> float:
            seconds = float(text) if text.isascii() and text.isdigit() else schedule.duration(text)
            if seconds > most:
                raise ValueError(f"must be at most {most:g}s")
            return seconds

        return self._read(name, read) or 0.0

    def time(self, name: str) -> int | None:
        """An RFC 3339 time as Unix ms."""

        def read(text: str) -> int:
            # In a query a plus that was not escaped is a space.
            given = text.replace(" ", "+") if text.count(" ") == 1 and "T" in text else text
            try:
                at = schedule.start(given).at
            except ValueError as error:
                raise ValueError(str(error).removesuffix(", or in 10m")) from None
            if at is None:
                raise ValueError("must be an RFC 3339 time with its offset (2026-11-21T08:30:00Z)")
            return at

        return self._read(name, read)

    def address(self, name: str) -> str | None:
        """In normal form."""

        def read(text: str) -> str:
            try:
                return address.parse_path(text)
            except AddressError as error:
                raise ValueError(str(error)) from None

        return self._read(name, read)

    def choice(self, name: str, read: Callable[[str], Value | None], known: Sequence[str]) -> Value | None:
        """One of a closed set."""
        value = self.text(name)
        found = read(value) if value is not None else None
        if value is not None and found is None:
            self.problems.add(name, f"{fields.shown(value)} is none of {', '.join(known)}")
        return found

    def choices(self, name: str, read: Callable[[str], Value | None], known: Sequence[str]) -> tuple[Value, ...]:
        """Several of a closed set, with commas between."""
        found: list[Value] = []
        for part in (self.text(name) or "").split(","):
            if not part.strip():
                continue
            one = read(part.strip())
            if one is None:
                self.problems.add(name, f"{fields.shown(part.strip())} is none of {', '.join(known)}")
                return ()
            found.append(one)
        return tuple(found)

    def event_cursor(self, name: str, tokens: Tokens) -> int | None:
        """A place in the event log."""
        return self._read(name, lambda text: read_event_cursor(text, tokens))

    def mail_cursor(self, name: str, tokens: Tokens) -> int | None:
        """The id of the last message of a page."""

        def read(text: str) -> int:
            place = tokens.read_cursor(text)
            if place is None or not place & _ABOUT_MAIL:
                raise ValueError("must be the next_cursor of an answer; for times there are since and before")
            return place ^ _ABOUT_MAIL

        return self._read(name, read)

    def _read(self, name: str, read: Callable[[str], Value]) -> Value | None:
        value = self.text(name)
        try:
            return read(value) if value is not None else None
        except ValueError as error:
            self.problems.add(name, str(error))
            return None

    def _pairs(self, text: str) -> list[tuple[str, str]]:
        try:
            return parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=_MAX_FIELDS)
        except ValueError:
            self.problems.add("query", f"must be UTF-8 with at most {_MAX_FIELDS} parameters")
            return []


def read_event_cursor(text: str, tokens: Tokens) -> int:
    """Raises ValueError, its text for people."""
    place = tokens.read_cursor(text)
    if place is None or place & _ABOUT_MAIL:
        raise ValueError("must be a cursor that this gateway gave out")
    return place


def mail_cursor(id_: int, tokens: Tokens) -> str:
    """What clients hold of a page of messages."""
    return tokens.cursor(id_ | _ABOUT_MAIL)
