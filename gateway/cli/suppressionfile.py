"""`mail-gateway suppression import` and `export`: the list as a CSV file.

Guarantees: what export writes, import reads to the same list; a line that is wrong is named by its number and keeps no
other out; memory is bounded, whatever the file. A record is one line: no text of the list has a line break. What was
imported before an interruption stays, and importing it again changes nothing.
"""

import argparse
import asyncio
import contextlib
import csv
import io
import re
import sys
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final

from gateway import configfile
from gateway.cli import connect, datadir, draft, output
from gateway.cli.suppression import entries
from gateway.errors import GatewayError, StoreError

COLUMNS: Final = ("address", "reason", "created_at", "expires_at", "tag", "note")
EXIT_INCOMPLETE: Final = 1
PART_LINES: Final = 250  # handed over at a time
LINE_BYTES: Final = 8192
MOST_PROBLEMS: Final = 1000  # that are kept to be told
SHOWN_PROBLEMS: Final = 20  # to people
_STANDARD: Final = Path("-")
_NOT_UTF_8: Final = re.compile("[\udc80-\udcff]")  # bytes that are none, as they are decoded
# What other systems call the column with the addresses.
_ADDRESS: Final = {"address", "email", "e-mail", "email address", "email_address", "emailaddress", "recipient"}

Act = Callable[[str, dict[str, Any]], Any]


class FileError(GatewayError):
    """It cannot be read."""


@dataclass(slots=True)
class _Outcome:
    """What came of an import."""

    added: int = 0
    refused: int = 0
    problems: list[dict[str, Any]] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)

    def refuse(self, line: int, text: str) -> None:
        self.refused += 1
        if len(self.problems) < MOST_PROBLEMS:
            self.problems.append({"line": line, "text": text})


def import_(arguments: argparse.Namespace) -> int:
    """The command; returns its exit code."""
    outcome = _Outcome()
    common = {"account": arguments.account, "reason": arguments.reason}
    with _source(arguments.file) as stream, _desk(arguments) as act:
        rows: list[dict[str, Any]] = []
        for row in _rows(stream, outcome):
            rows.append(row)
            if len(rows) == PART_LINES:
                _hand_over(act, common, rows, outcome)
                rows = []
        if rows:
            _hand_over(act, common, rows, outcome)
    outcome.problems.sort(key=lambda one: one["line"])
    result = {
        "added": outcome.added,
        "refused": outcome.refused,
        "problems": outcome.problems,
        "ignored_columns": outcome.ignored,
    }
    output.emit(arguments, result, lambda _: _print_outcome(arguments.file, outcome))
    return EXIT_INCOMPLETE if outcome.refused else 0


def export(arguments: argparse.Namespace) -> int:
    """The command; returns its exit code."""
    count = 0
    with _target(arguments.file) as stream, _desk(arguments) as act:
        stream.write(_encoded([COLUMNS]))
        for rows in _parts(act, arguments.account):
            stream.write(_encoded(rows))
            count += len(rows)
    if arguments.file == _STANDARD:
        return 0
    return output.emit(arguments, {"entries": count}, lambda _: print(f"{arguments.file}: {entries(count)}."))


def _parts(act: Act, account: str | None) -> Iterator[list[list[str]]]:
    after: int | None = 0
    while after is not None:
        part = act("suppression.export", {"account": account, "after": after})
        after = part["after"]
        yield part["rows"]


def _encoded(rows: Sequence[Sequence[str]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


def _hand_over(act: Act, common: dict[str, Any], rows: list[dict[str, Any]], outcome: _Outcome) -> None:
    done = act("suppression.import", {**common, "rows": rows})
    outcome.added += done["added"]
    for problem in done["problems"]:
        outcome.refuse(problem["line"], problem["text"])


def _print_outcome(file: Path, outcome: _Outcome) -> None:
    if outcome.ignored:
        print(output.clean(f"not read: the columns {', '.join(outcome.ignored)}"))
    for problem in outcome.problems[:SHOWN_PROBLEMS]:
        output.complain(f"{file}: line {problem['line']}: {problem['text']}")
    if outcome.refused > SHOWN_PROBLEMS:
        output.complain(f"{file}: {outcome.refused - SHOWN_PROBLEMS} further lines; --json has more of them")
    refused = f", {outcome.refused} refused" if outcome.refused else ""
    print(f"{file}: {entries(outcome.added)} taken{refused}.")


def _rows(stream: IO[bytes], outcome: _Outcome) -> Iterator[dict[str, Any]]:
    """The lines with something in them, as columns by name, with the number of each."""
    names: list[str] | None = None
    mark = ","
    for number, line in enumerate(_lines(stream), 1):
        if line is None:
            outcome.refuse(number, f"has more than {LINE_BYTES} bytes")
            continue
        if names is None and "," not in line and ";" in line:
            mark = ";"  # as spreadsheets write it where the comma is the decimal point
        cells = _cells(line, mark)
        if cells is None:
            outcome.refuse(number, "is no line of a CSV file: a quote is not closed, or in the wrong place")
        elif not any(cells) or (names is None and (names := _heading(cells, outcome)) is not None):
            continue
        elif _NOT_UTF_8.search(line):
            outcome.refuse(number, "is not UTF-8 text")
        else:
            names = names or ["address"]
            if len(cells) > len(names):
                outcome.refuse(number, f"has {len(cells)} columns; {len(names)} are known")
                continue
            yield {"line": number, **{name: cell for name, cell in zip(names, cells, strict=False) if name}}


def _heading(cells: list[str], outcome: _Outcome) -> list[str] | None:
    """The names of the columns, "" of those that are not read; None where this is no heading."""
    given = [cell.lower() for cell in cells]
    if not _ADDRESS.intersection(given):
        return None
    names: list[str] = []
    for one in given:
        name = "address" if one in _ADDRESS else one
        names.append(name if name in COLUMNS and name not in names else "")
    ignored = [cell for cell, name in zip(cells, names, strict=True) if not name and cell]
    outcome.ignored = [_NOT_UTF_8.sub("\ufffd", cell) for cell in ignored]
    return names


def _cells(line: str, mark: str) -> list[str] | None:
    try:
        return [
            cell.strip() for cell in next(csv.reader([line], delimiter=mark, strict=True, skipinitialspace=True), [])
        ]
    except csv.Error:
        return None


def _lines(stream: IO[bytes]) -> Iterator[str | None]:
    """Each without its end; None for one that is too long. A byte order mark, which some editors leave, is no text."""
    mark = "\ufeff"
    while line := stream.readline(LINE_BYTES):
        if len(line) == LINE_BYTES and not line.endswith(b"\n"):
            while line and not line.endswith(b"\n"):
                line = stream.readline(LINE_BYTES)
            yield None
        else:
            yield line.decode(errors="surrogateescape").rstrip("\r\n").removeprefix(mark)
        mark = ""


@contextlib.contextmanager
def _source(file: Path) -> Iterator[IO[bytes]]:
    try:
        if file == _STANDARD:
            yield sys.stdin.buffer
        else:
            with file.open("rb") as stream:
                yield stream
    except OSError as error:
        if error.filename is None:
            raise
        raise FileError(f"{file} cannot be read: {error.strerror}") from error


@contextlib.contextmanager
def _target(file: Path) -> Iterator[IO[bytes]]:
    if file == _STANDARD:
        yield sys.stdout.buffer
    else:
        with draft.of(file) as stream:
            yield stream


@contextlib.contextmanager
def _desk(arguments: argparse.Namespace) -> Iterator[Act]:
    """The daemon, or the store, opened by us for the whole of it."""
    desk = connect.Desk(arguments)
    asked = False
    alone: Act | None = None
    with contextlib.ExitStack() as stack:

        def act(action: str, args: dict[str, Any]) -> Any:
            nonlocal asked, alone
            if alone is None:
                answer = desk.ask_daemon(action, args)
                if answer is not None:
                    asked = True
                    return answer
                if asked:
                    raise StoreError("the daemon ended meanwhile: begin anew")
                alone = stack.enter_context(_alone(arguments))
            return alone(action, args)

        yield act


@contextlib.contextmanager
def _alone(arguments: argparse.Namespace) -> Iterator[Act]:
    from gateway.app import Core, DataDirLocked  # half a second, which who asks a running daemon does not pay

    settings = configfile.load_outside(arguments.config)
    core = Core(settings)
    with asyncio.Runner() as runner:

        def run(work: Callable[..., Coroutine[Any, Any, Any]], *arguments: Any) -> Any:
            with datadir.as_owner(settings.data_dir) if settings.data_dir.exists() else contextlib.nullcontext():
                return runner.run(work(*arguments))

        async def act(action: str, args: dict[str, Any]) -> Any:
            return await core.actions()[action](args)

        try:
            run(core.open)
        except DataDirLocked as error:
            raise StoreError(f"{error}{datadir.DOES_NOT_ANSWER}") from error
        try:
            yield lambda action, args: run(act, action, args)
        finally:
            run(core.close)
