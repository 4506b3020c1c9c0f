"""`mail-gateway export`: what is queued as files, to be kept or to be sent by another system.

Guarantees: a message as it is stored, byte for byte, in ID.eml, and its envelope, recipients and state in ID.json; a
file has its name once it is whole. In an mbox (mbox.py) the line ends are LF. Nothing is changed in the queue: what is
exported is delivered too, unless it is held, suspended or cancelled. It is not synced to disk: it can be made again.
"""

import argparse
import asyncio
import base64
import contextlib
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, Final

from gateway.cli import connect, datadir, draft, mbox, output, queuetable
from gateway.errors import GatewayError, StoreError
from gateway.manage.export import ExportActions
from gateway.runtime import Clock, read_id
from gateway.store.sqlite import SqliteStore

EXIT_INCOMPLETE: Final = 1
_NOT_SHOWN: Final = frozenset({"content", "fault", "number"})

Act = Callable[[str, dict[str, Any]], Any]
Put = Callable[[Any, bytes], None]


class ExportError(GatewayError):
    """It cannot be written there, or what is to be written is no message."""


class _DamagedError(Exception):
    """A message that is not what was stored: the others are exported."""


def run(arguments: argparse.Namespace) -> int:
    """The command; returns its exit code."""
    which = queuetable.filter_of(arguments)
    desk = connect.Desk(arguments)
    try:
        session = desk.ask_daemon("export.begin", which)
        if session is not None:
            result = _export(_asking(desk), session, arguments)
        else:
            with _alone(arguments) as act:
                result = _export(act, act("export.begin", which), arguments)
    except OSError as error:
        raise ExportError(f"{_where(arguments)} cannot be written: {error.strerror}") from error
    for fault in result["damaged"]:
        output.complain(f"{fault['id']} is not exported: {fault['text']}")
    queued = f"{output.count(result['messages'], 'message')}, {output.count(result['recipients'], 'recipient')}"
    output.emit(arguments, result, lambda _: print(f"{_where(arguments)}: {queued}."))
    return EXIT_INCOMPLETE if result["damaged"] else 0


def _where(arguments: argparse.Namespace) -> Path:
    where: Path = arguments.mbox or arguments.directory
    return where


def _export(act: Act, session: Any, arguments: argparse.Namespace) -> Any:
    """All that matches, a part at a time: no more than one part and one message is held here."""
    messages = recipients = 0
    damaged: list[dict[str, str]] = []
    last = ""
    with _place(arguments) as put:
        for message in _messages(act, session):
            try:
                content = _content(act, message)
            except _DamagedError as error:
                damaged.append({"id": message["id"], "text": str(error)})
                continue
            if content is None:
                continue
            put({name: value for name, value in message.items() if name not in _NOT_SHOWN}, content)
            messages += message["id"] != last
            recipients += len(message["recipients"])
            last = message["id"]
    return {"messages": messages, "recipients": recipients, "damaged": damaged}


def _messages(act: Act, session: Any) -> Iterator[Any]:
    end = False
    while not end:
        part = act("export.next", session)
        end = part["end"]
        yield from part["messages"]


def _content(act: Act, message: Any) -> bytes | None:
    """Whole; None where it was delivered meanwhile. Raises _DamagedError; GatewayError is not about this message."""
    if message["fault"]:
        raise _DamagedError(message["fault"])
    if message["content"] is not None:
        return base64.b64decode(message["content"])
    pieces = bytearray()
    index = 0
    while len(pieces) < message["size"]:
        wanted = {"id": message["id"], "number": message["number"], "index": index}
        piece = act("export.piece", wanted)
        if piece["fault"]:
            raise _DamagedError(piece["fault"])
        if piece["content"] is None:
            return None
        pieces += base64.b64decode(piece["content"])
        index += 1
    return bytes(pieces)


def _asking(desk: connect.Desk) -> Act:
    """The daemon, which must be there to the end: it alone knows what it has handed out."""

    def act(action: str, args: dict[str, Any]) -> Any:
        answer = desk.ask_daemon(action, args)
        if answer is None:
            raise StoreError("the daemon ended, and the export with it: begin anew")
        return answer

    return act


@contextlib.contextmanager
def _alone(arguments: argparse.Namespace) -> Iterator[Act]:
    """The store, opened by us for the whole of the export."""
    settings = datadir.read_settings(arguments)
    datadir.require(settings.database_path)
    with datadir.held(settings, datadir.DOES_NOT_ANSWER), asyncio.Runner() as runner:
        with datadir.as_owner(settings.data_dir):
            store = runner.run(SqliteStore.open(settings.database_path))
        actions = ExportActions(store, Clock()).actions()

        async def act(action: str, args: dict[str, Any]) -> Any:
            return await actions[action](args)

        try:
            yield lambda action, args: runner.run(act(action, args))
        finally:
            with datadir.as_owner(settings.data_dir):
                runner.run(store.close())


@contextlib.contextmanager
def _place(arguments: argparse.Namespace) -> Iterator[Put]:
    """Where messages go: two files each in a directory that was empty, or one file for all."""
    if arguments.mbox is not None:
        with draft.of(arguments.mbox) as file:
            yield lambda message, content: _append(file, message, content)
        return
    directory: Path = arguments.directory
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if any(directory.iterdir()):
        raise ExportError(f"{directory} is not empty: name another directory")
    yield lambda message, content: _put(directory, message, content)


def _append(file: IO[bytes], message: Any, content: bytes) -> None:
    file.write(mbox.entry(message, content, time.time()))


def _put(directory: Path, message: Any, content: bytes) -> None:
    if read_id("eml_", str(message["id"])) is None:  # the word of whoever has the control socket names no file
        raise ExportError(f"the daemon says that a message is {message['id']!r}, which is no id: nothing is made of it")
    described = directory / f"{message['id']}.json"
    if described.exists():  # further recipients of the same message
        known = json.loads(described.read_text(encoding="utf-8"))
        message = known | {"recipients": known["recipients"] + message["recipients"]}
    else:
        with draft.of(directory / f"{message['id']}.eml") as file:
            file.write(content)
    with draft.of(described) as file:
        file.write((json.dumps(message, indent=2) + "\n").encode())
