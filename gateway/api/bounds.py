"""Bounds narrower than ours: what a vendor's own paths refuse and the native ones take.

Guarantees: pure; every fault is added to `Problems`, under the name that the client used.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from gateway.api import fields
from gateway.api.fields import Problems
from gateway.api.table import Given
from gateway.message.model import Mailbox


@dataclass(frozen=True, slots=True)
class Bounds:
    """Names are canonical ones. What is empty or None is not bounded.

    `entries`: the most that a list holds, such as (("cc", 100),); a single value is a list of one.
    `header_prefix`: in lower case, such as "x-". `extensions`: of file names, in lower case and without the dot.
    """

    required: tuple[str, ...] = ()
    entries: tuple[tuple[str, int], ...] = ()
    name_characters: int | None = None
    subject_characters: int | None = None
    header_prefix: str = ""
    header_characters: int | None = None
    extensions: frozenset[str] = frozenset()

    def check(self, given: Mapping[str, Given], values: Mapping[str, Any], problems: Problems) -> None:
        """Add what is outside. `values` are those read, by their place in the submission."""
        for name in self.required:
            if name not in given:
                problems.add(name, "is required", "missing_parameter")
        for name, most in self.entries:
            if name in given and len(values[name]) > most:
                _add(problems, given[name].path, f"has {len(values[name])} entries; at most {most} are taken")
        subject, longest = values["subject"], self.subject_characters
        if longest is not None and subject is not None and len(subject) > longest:
            _add(problems, given["subject"].path, f"must be at most {longest} characters")
        self._check_names(given, values, problems)
        self._check_headers(given, values["headers"], problems)
        for index, attachment in enumerate(values["attachments"] if self.extensions else ()):
            if attachment.filename.lower().rpartition(".")[2] not in self.extensions:
                _add(problems, f"attachments[{index}].filename", "this type of file is not taken")

    def _check_names(self, given: Mapping[str, Given], values: Mapping[str, Any], problems: Problems) -> None:
        most = self.name_characters
        for path, box in _mailboxes(given, values):
            if most is not None and len(box.name) > most:
                _add(problems, path, f"a name must be at most {most} characters")

    def _check_headers(
        self, given: Mapping[str, Given], headers: tuple[tuple[str, str], ...], problems: Problems
    ) -> None:
        for name, value in headers:
            path = f"{given['headers'].path}.{fields.shown(name)}"
            if not name.lower().startswith(self.header_prefix):
                _add(problems, path, f"the name must begin with {self.header_prefix.upper()}")
            if self.header_characters is not None and len(value) > self.header_characters:
                _add(problems, path, f"must be at most {self.header_characters} characters")


def _mailboxes(given: Mapping[str, Given], values: Mapping[str, Any]) -> Iterator[tuple[str, Mailbox]]:
    """Every mailbox that was read, with its path."""
    if values["sender"] is not None:
        yield given["from"].path, values["sender"]
    for name in ("to", "cc", "bcc", "reply_to"):
        for index, box in enumerate(values[name]):
            yield f"{name}[{index}]" if isinstance(given[name].value, list) else name, box


def _add(problems: Problems, path: str, text: str) -> None:
    problems.add(path, text, "validation_error")
