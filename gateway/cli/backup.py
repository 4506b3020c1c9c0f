"""`mail-gateway backup`: everything that a restore needs, in one file, while mail goes on.

Guarantees: the file is whole and on disk before it has its name, readable by its owner only, and of one moment: what
was acknowledged before the command began is in it. A running daemon makes the copy of its database; where none runs,
the command does, and an older database stays as old as it is. Whoever calls it writes the file, with their own rights.
"""

import argparse
import asyncio
import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Final

from gateway.cli import connect, datadir, draft, output
from gateway.config import Config
from gateway.errors import GatewayError, StoreError
from gateway.manage.backup import COPY, BackupActions
from gateway.runtime import Clock
from gateway.store import backupfile, space
from gateway.store.backup import Snapshots
from gateway.store.backupfile import Manifest
from gateway.store.vault import KEY_FILE

_STANDARD_OUTPUT: Final = Path("-")
_KEY_BYTES_AT_MOST: Final = 4096
_MB: Final = 1_000_000
SECRETS: Final = (
    "It is not encrypted: it holds queued mail, and every secret that the gateway keeps. Store it as you would those."
)


class BackupError(GatewayError):
    """The backup cannot be written there."""


def run(arguments: argparse.Namespace) -> int:
    """The command; returns its exit code."""
    settings = datadir.read_settings(arguments)
    with _target(arguments.file) as stream:
        taken = connect.Desk(arguments).ask_daemon("backup.snapshot", {})
        live = taken is not None
        if taken is None:
            taken = _take(settings)
        manifest = _manifest(taken, live=live)
        with _snapshot(settings.data_dir, taken["file"]) as database:
            _check_room(arguments.file, stream, database, settings, wanted=manifest.database_bytes + taken["spare"])
            key = _master_key(settings.data_dir)
            try:
                backupfile.write(stream, manifest, database=database, master_key=key, made_at_s=taken["made_at_s"])
            except OSError as error:
                raise BackupError(f"{arguments.file} cannot be written: {error.strerror or error}") from error
    return _tell(arguments, manifest)


def _take(settings: Config) -> Any:
    """The daemon's action, without a daemon: no migration, no start."""
    datadir.require(settings.database_path)
    actions = BackupActions(lambda: settings, Snapshots(settings.database_path), Clock())
    with datadir.held(settings, datadir.DOES_NOT_ANSWER), datadir.as_owner(settings.data_dir):
        actions.clear()
        return asyncio.run(actions.snapshot({}))


def _manifest(taken: Any, *, live: bool) -> Manifest:
    return Manifest(
        format=backupfile.FORMAT,
        version=taken["version"],
        schema=taken["schema"],
        made_at=taken["made_at"],
        hostname=taken["hostname"],
        live=live,
        messages=taken["messages"],
        recipients=taken["recipients"],
        database_bytes=taken["database_bytes"],
    )


@contextlib.contextmanager
def _snapshot(data_dir: Path, name: Any) -> Iterator[IO[bytes]]:
    """The copy, open and without a name any more: it goes with us, however we end.

    Its name is the word of whoever has the control socket, and what lies there is the owner's of the data directory: no
    other file is opened, and with no rights but the owner's.
    """
    if COPY.fullmatch(str(name)) is None:
        raise BackupError(f"the daemon says that its copy is {name!r}, which no copy is called: nothing is made of it")
    path = data_dir / name
    with datadir.as_owner(data_dir):
        try:
            descriptor = _open(path)
            path.unlink()
        except OSError as error:
            raise StoreError(f"the copy {path} cannot be read: {error.strerror}") from error
    with os.fdopen(descriptor, "rb") as file:
        yield file


def _master_key(data_dir: Path) -> bytes:
    path = data_dir / KEY_FILE
    with datadir.as_owner(data_dir):
        try:
            descriptor = _open(path)
        except OSError as error:
            text = f"{path} cannot be read: {error.strerror}; without it the backup would be of no use"
            raise StoreError(text) from error
    with os.fdopen(descriptor, "rb") as file:
        return file.read(_KEY_BYTES_AT_MOST)


def _open(path: Path) -> int:
    return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)


@contextlib.contextmanager
def _target(file: Path) -> Iterator[IO[bytes]]:
    """Where the backup is written to; a file gets its name at the end, where all went well."""
    if file != _STANDARD_OUTPUT:
        with draft.of(file, synced=True, hint=f" ({_STANDARD_OUTPUT} is standard output)") as stream:
            yield stream
    elif sys.stdout.isatty():
        raise BackupError("a backup is not for a terminal: redirect it, or name a file")
    else:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()


def _check_room(file: Path, stream: IO[bytes], database: IO[bytes], settings: Config, *, wanted: int) -> None:
    """On the disk of the data, room must stay for mail."""
    if file == _STANDARD_OUTPUT or os.fstat(stream.fileno()).st_dev != os.fstat(database.fileno()).st_dev:
        return
    free = space.look(settings.data_dir).free_bytes
    if free < wanted:
        raise BackupError(
            f"{file} is on the disk of the data and would leave too little room for mail there: {free // _MB} MB are "
            f"free, {wanted // _MB} MB are needed (limits.free_disk among them)"
        )


def _tell(arguments: argparse.Namespace, manifest: Manifest) -> int:
    if arguments.file == _STANDARD_OUTPUT:
        print(_words(manifest), file=sys.stderr)
        return 0
    shown = {"file": str(arguments.file), **describe(manifest)}
    return output.emit(arguments, shown, lambda _: print(f"{arguments.file}: {_words(manifest)}\n{SECRETS}"))


def describe(manifest: Manifest) -> dict[str, Any]:
    """A manifest as JSON values."""
    return {name: getattr(manifest, name) for name in manifest.__struct_fields__}


def _words(manifest: Manifest) -> str:
    return (
        f"{output.count(manifest.messages, 'queued message')}, {output.count(manifest.recipients, 'recipient')}, "
        f"{manifest.database_bytes / _MB:.1f} MB; as of {manifest.made_at}, schema {manifest.schema}."
    )
