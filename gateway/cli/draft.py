"""A file that a command makes: it has its name once it is whole.

Guarantees: readable by its owner only; what had the name keeps it where anything fails; a device, a pipe and a
directory are never replaced. A link is followed and stays one, but not one of somebody else's: where others may write,
it could lead anywhere.
"""

import contextlib
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from gateway.errors import GatewayError
from gateway.store import connection


class NotWritten(GatewayError):
    """There is nothing to be written there, or it cannot be."""


@contextlib.contextmanager
def of(file: Path, *, synced: bool = False, hint: str = "") -> Iterator[IO[bytes]]:
    """What is written becomes `file` in the end; with `synced` it is on disk then. Raises NotWritten."""
    try:
        target = _target(file, hint)
        draft = target.with_name(f".{target.name}.{secrets.token_hex(8)}")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as stream:
                yield stream
                stream.flush()
                if synced:
                    os.fsync(descriptor)
            draft.replace(target)
            if synced:
                connection.sync_directory(target.parent)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        raise NotWritten(f"{file} cannot be written: {error.strerror or error}") from error


def _target(file: Path, hint: str) -> Path:
    """Where its links lead. Raises NotWritten, OSError."""
    if file.is_symlink() and file.lstat().st_uid not in {0, os.geteuid()}:
        raise NotWritten(f"{file} is a link of somebody else's: name another file")
    with contextlib.suppress(FileNotFoundError):
        mode = file.stat().st_mode
        if stat.S_ISDIR(mode):
            raise NotWritten(f"{file} is a directory: name a file")
        if not stat.S_ISREG(mode):
            raise NotWritten(f"{file} is no plain file, and is not replaced: name another one{hint}")
    return file.resolve()
