"""`mail-gateway backup`: everything that a restore needs, in one file, while mail goes on.

Guarantees: the file is whole and on disk before it has its name, readable by its owner only, and of one moment: what
was acknowledged before the command began is in it. A running daemon makes the copy of its database; where none runs,
the command does, and an older database stays as old as it is. Whoever calls it writes the file, with their own rights.
"""

import argparse
import asyncio
import contextlib
import os
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Final

from gateway.cli import connect, datadir, output
from gateway.config import Config
from gateway.errors import GatewayError, StoreError
from gateway.manage.backup import BackupActions
from gateway.runtime import Clock
from gateway.store import backupfile
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
        with _snapshot(settings.data_dir / taken["file"]) as database:
            if arguments.file != _STANDARD_OUTPUT:
                _check_room(arguments.file, database, manifest.database_bytes + taken["spare"])
            key = _master_key(settings.data_dir / KEY_FILE)
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
def _snapshot(path: Path) -> Iterator[IO[bytes]]:
    """The copy, open and without a name any more: it goes with us, however we end."""
    try:
        # Whoever owns the data directory could put a link there to what only root may read.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        path.unlink()
    except OSError as error:
        raise StoreError(f"the copy {path} cannot be read: {error.strerror}") from error
    with os.fdopen(descriptor, "rb") as file:
        yield file


def _master_key(path: Path) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise StoreError(
            f"{path} cannot be read: {error.strerror}; without it the backup would be of no use"
        ) from error
    with os.fdopen(descriptor, "rb") as file:
        return file.read(_KEY_BYTES_AT_MOST)


@contextlib.contextmanager
def _target(file: Path) -> Iterator[IO[bytes]]:
    """Where the backup is written to; it gets its name at the end, where all went well."""
    if file == _STANDARD_OUTPUT:
        if sys.stdout.isatty():
            raise BackupError("a backup is not for a terminal: redirect it, or name a file")
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    if file.is_dir():
        raise BackupError(f"{file} is a directory: name a file")
    draft = file.with_name(f".{file.name}.{secrets.token_hex(8)}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise BackupError(f"{file} cannot be made: {error.strerror}") from error
    try:
        with os.fdopen(descriptor, "wb", buffering=0) as stream:
            yield stream
            os.fsync(stream.fileno())
        draft.replace(file)
        _sync_directory(file.parent)
    except OSError as error:
        raise BackupError(f"{file} cannot be written: {error.strerror}") from error
    finally:
        draft.unlink(missing_ok=True)


def _check_room(file: Path, database: IO[bytes], wanted: int) -> None:
    """On the disk of the data, room must stay for mail."""
    disk = os.statvfs(file.parent)
    free = disk.f_bavail * disk.f_frsize
    if file.parent.stat().st_dev == os.fstat(database.fileno()).st_dev and free < wanted:
        raise BackupError(
            f"{file} is on the disk of the data and would leave too little room for mail there: {free // _MB} MB are "
            f"free, {wanted // _MB} MB are needed (limits.free_disk among them)"
        )


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
