"""What Go's standard library reads in a composed message: a reader that shares no code with any other one here.

`tests/fuzz/reader.go` is built once and asked through pipes. It knows no domain literals: of a field that has one it
says nothing.
"""

import base64
import json
import re
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final, Self

from tests.fuzz import readers
from tests.fuzz.readers import ADDRESS_FIELDS, File, Read, squeezed, tidy
from tests.peers import packages

_SOURCE: Final = Path(__file__).with_name("reader.go")


class GoReader:
    """`with GoReader() as reader`: then it is called as the readers of `readers` are. Skips where there is no Go."""

    def __enter__(self) -> Self:
        program = packages.go(_SOURCE)
        self._process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def __call__(self, wire: bytes, extra: frozenset[str]) -> Read:
        found = self._ask(wire)
        assert not found["Error"], found["Error"]
        names = {name.title(): name for name in extra}
        fields = [
            (names[name], squeezed(value))
            for name, values in found["Header"].items()
            for value in values
            if name in names
        ]
        parts = found["Parts"] or []
        shown = [one for one in parts if not one["Disposition"]]
        assert all(one["Charset"] == "utf-8" for one in shown)
        bodies = [(one["Type"].removeprefix("text/"), base64.b64decode(one["Content"] or "").decode()) for one in shown]
        return Read(
            {
                name: [(tidy(box[0]), box[1]) for box in found["Boxes"][name]]
                for name in ADDRESS_FIELDS
                if name in found["Boxes"] and not _literal(found["Boxes"][name])
            },
            tidy(found["Subject"]),
            sorted(fields),
            *readers.bodies_of(bodies),
            [_file(one) for one in parts if one["Disposition"]],
        )

    def _ask(self, wire: bytes) -> Any:
        into, out = self._process.stdin, self._process.stdout
        assert into is not None
        assert out is not None
        into.write(b"%d\n%b" % (len(wire), wire))
        into.flush()
        return json.loads(out.readline())


def as_read(read: Read) -> Read:
    """What is wanted of this reader: no field with a domain literal, addresses unquoted, fields in order of names."""
    boxes = {
        name: [(shown, _unquoted(address)) for shown, address in found]
        for name, found in read.mailboxes.items()
        if not _literal(found)
    }
    return Read(boxes, read.subject, sorted(read.extra), read.plain, read.html, read.files)


def _literal(boxes: Iterable[Sequence[str]]) -> bool:
    return any("@[" in text for box in boxes for text in box)


def _unquoted(address: str) -> str:
    local, _, domain = address.rpartition("@")
    return re.sub(r"\\(.)", r"\1", local[1:-1]) + "@" + domain if local.startswith('"') else address


def _file(part: Any) -> File:
    content = base64.b64decode(part["Content"] or "")
    return File(part["Filename"].strip(), part["Type"], part["Disposition"], part["ID"], content)
