"""`mail-gateway restore`: a data directory from a backup.

Guarantees: nothing is in place before every sum, every page and the schema are right; what was there is moved aside
(aside.py), never deleted, wherever it is cut off; no daemon has the directory meanwhile. Nothing that is restored is
sent before somebody says so: by default everything is suspended, because a restore may be a trial, and because what was
queued at the backup may have been delivered after it. The configuration is no part of a backup.
"""

import argparse
import asyncio
import contextlib
import os
import secrets
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from gateway import views
from gateway.cli import aside, backup, datadir, output
from gateway.config import Config
from gateway.errors import GatewayError, StoreError, StoreFull
from gateway.manage import suspensions
from gateway.runtime import Clock, rfc3339
from gateway.store import backup as database_copy
from gateway.store import backupfile, connection, db, restored, space
from gateway.store.backupfile import Manifest, Write
from gateway.store.restored import Doubts
from gateway.store.shown import Suspension
from gateway.store.sqlite import SqliteStore
from gateway.store.vault import KEY_BYTES, KEY_FILE

_STANDARD_INPUT: Final = Path("-")
_STAGING: Final = "restore-"
_MB: Final = 1_000_000


class RestoreError(GatewayError):
    """The backup is not restored, and nothing was changed."""


@dataclass(frozen=True, slots=True)
class Restored:
    """What came of it; `aside` is where the old data went."""

    manifest: Manifest
    doubts: Doubts
    past: int  # recipients without time left
    suspension: int | None  # its number, where we suspended everything
    suspensions: Sequence[Suspension]  # all that are in force
    aside: Path | None
    made: bool  # the data directory, by us


def run(arguments: argparse.Namespace) -> int:
    """The command; returns its exit code."""
    with _source(arguments.file) as stream:
        if arguments.check:
            manifest = backupfile.read(stream, _known).manifest
            return output.emit(arguments, backup.describe(manifest), lambda _: _print_check(arguments.file, manifest))
        settings = datadir.read_settings(arguments)
        return _tell(arguments, settings, _into(settings, arguments, stream))


def _into(settings: Config, arguments: argparse.Namespace, stream: IO[bytes]) -> Restored:
    made = _make(settings.data_dir)
    datadir.become_owner(settings.data_dir)
    with datadir.held(settings, datadir.STOP_IT), _staging(settings.database_path.parent) as staging:
        database, key = settings.database_path, settings.data_dir / KEY_FILE
        old = aside.old(database, key)
        if old and not arguments.force:
            raise RestoreError(
                f"{old[0]} is there already: --force moves what is there aside, or choose another data_dir"
            )
        draft = staging / backupfile.DATABASE
        read = _unpack(stream, draft, moved=arguments.moved)
        now = Clock().now_ms()
        suspend = None if arguments.moved or arguments.deliver else read.manifest
        doubts = Doubts(0, 0) if arguments.moved else restored.mark(draft, now, quiet=suspend is not None)
        past = restored.past(draft, now)
        number, in_force = asyncio.run(_open_once(draft, suspend))
        kept = aside.keep(database, key, staging) if old else None
        aside.replace(database, key, new=draft, new_key=read.master_key)
    return Restored(read.manifest, doubts, past, number, in_force, kept, made)


def _make(data_dir: Path) -> bool:
    """Whether it was not there."""
    try:
        made = not data_dir.is_dir()
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"the data directory {data_dir} cannot be made: {error.strerror}") from error
    return made


def _unpack(stream: IO[bytes], draft: Path, *, moved: bool) -> backupfile.Backup:
    """The backup with its database in a file, every page looked at and of the current schema."""
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:

        def begin(manifest: Manifest) -> Write:
            _known(manifest)
            if moved and manifest.live:
                raise RestoreError("it is a backup of a running gateway, which went on after it: --moved is not for it")
            _check_room(draft.parent, manifest.database_bytes)
            return file.write

        read = backupfile.read(stream, begin)
        file.flush()
        os.fsync(file.fileno())
    if len(read.master_key) != KEY_BYTES:
        raise RestoreError(f"its {KEY_FILE} is not a master key of {KEY_BYTES} bytes")
    try:
        database_copy.examine(draft)
    except StoreError as error:
        raise RestoreError(f"it holds a database that cannot be used: {error}") from error
    opened = connection.open_writer(draft)
    try:
        db.migrate(opened.cursor(), db.migrations())
    finally:
        opened.close()
    return read


def _known(manifest: Manifest) -> Write:
    known = len(db.migrations())
    if manifest.schema > known:
        raise RestoreError(
            f"the backup was made by version {manifest.version} and has schema {manifest.schema}; this version knows "
            f"schemas up to {known}: restore it with that version, or a newer one"
        )
    return backupfile.nowhere(manifest)


async def _open_once(draft: Path, suspend: Manifest | None) -> tuple[int | None, Sequence[Suspension]]:
    """What a start would do; with a manifest nothing is claimed of it until somebody resumes the number returned. All
    suspensions that are in force are returned besides."""
    store = await SqliteStore.open(draft)
    number = None
    try:
        if suspend is not None:
            reason = f"restored from a backup of {suspend.made_at}"
            now = Clock().now_ms()
            new = Suspension(0, None, None, None, reason=reason, since=now, until=None)
            number = (await store.suspend(new)).id
        in_force = await store.suspensions()
    finally:
        await store.close()
    if draft.with_name(f"{draft.name}-wal").exists():
        raise StoreError("the restored database could not be closed")  # it is one file only once its log is empty
    return number, in_force


@contextlib.contextmanager
def _source(file: Path) -> Iterator[IO[bytes]]:
    """The backup, opened with the rights of who called us."""
    if file == _STANDARD_INPUT:
        yield sys.stdin.buffer
        return
    try:
        stream = file.open("rb")
    except OSError as error:
        raise RestoreError(f"{file} cannot be read: {error.strerror}") from error
    with stream:
        yield stream


@contextlib.contextmanager
def _staging(parent: Path) -> Iterator[Path]:
    """A directory to work in, on the disk where the database will be."""
    directory = parent / f"{_STAGING}{secrets.token_hex(8)}"
    for left in parent.glob(f"{_STAGING}{'[0-9a-f]' * 16}"):  # by a restore that was killed
        shutil.rmtree(left, ignore_errors=True)
    try:
        directory.mkdir(mode=0o700)
        yield directory
    except OSError as error:
        raise StoreError(f"{directory.parent} cannot be written to: {error.strerror}") from error
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _check_room(directory: Path, wanted: int) -> None:
    free = space.look(directory).free_bytes
    if free < wanted:
        raise StoreFull(
            f"The database needs {wanted // _MB} MB in {directory.parent}: there are {free // _MB} MB free."
        )


def _tell(arguments: argparse.Namespace, settings: Config, done: Restored) -> int:
    shown = {
        **backup.describe(done.manifest),
        "data_dir": str(settings.data_dir),
        "possible_duplicates": done.doubts.marked,
        "held_at_most_once": done.doubts.held,
        "webhooks_paused": done.doubts.paused,
        "past_their_time": done.past,
        "suspension": done.suspension,
        "suspensions": [views.suspension_view(one) for one in done.suspensions],
        "moved_aside": str(done.aside) if done.aside is not None else None,
    }

    def people(_: Any) -> None:
        print("\n".join(_words(settings, done)))

    return output.emit(arguments, shown, people)


def _words(settings: Config, done: Restored) -> list[str]:
    manifest, doubts = done.manifest, done.doubts
    queued = f"{output.count(manifest.messages, 'queued message')}, {output.count(manifest.recipients, 'recipient')}"
    lines = [f"{settings.data_dir} is as {manifest.hostname} was at {manifest.made_at}: {queued}."]
    if done.aside is not None:
        lines.append(f"What was there is in {done.aside}.")
    if doubts.marked:
        lines.append(
            f"{output.count(doubts.marked, 'recipient')} may have been delivered after the backup: possible_duplicate."
        )
    if doubts.held:
        lines.append(f"{doubts.held} of them are held, being for delivery at most once: mail-gateway queue release")
    if done.past:
        lines.append(f"Too old by now, and failed at the start: {output.count(done.past, 'recipient')}.")
    if done.suspension is not None:
        lines.append(f"Nothing is sent, new mail neither, until: mail-gateway queue resume {done.suspension}")
    if doubts.paused:
        lines.append(f"{output.count(doubts.paused, 'webhook')} paused, until: mail-gateway webhook resume ID")
    if kept_back := [one for one in done.suspensions if one.id != done.suspension]:
        lines.append("Suspended as it was at the backup:")
        lines += [f"  {_suspended(one)}: mail-gateway queue resume {one.id}" for one in kept_back]
    if done.made and os.geteuid() == 0:
        lines.append("It is root's. systemd gives it to the unit's user at a start; elsewhere: chown -R")
    return lines


def _suspended(one: Suspension) -> str:
    until = f" until {rfc3339(one.until)}" if one.until else ""
    reason = f" ({one.reason})" if one.reason else ""
    return output.clean(f"{suspensions.words(one)}{until}{reason}")


def _print_check(file: Path, manifest: Manifest) -> None:
    print(f"{file}: a whole backup.")
    output.fields([(name.replace("_", " "), value) for name, value in backup.describe(manifest).items()])
