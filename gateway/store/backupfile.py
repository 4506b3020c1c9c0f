"""A backup as a file: a tar of the database, the master key, and what says what they are.

Guarantees: what is read is what was written, by its SHA-256, or it is refused; no name of a member decides where a file
is made. The members, in this order: `manifest.json`; `gateway.db`; `master.key`; `SHA256SUMS` of the three, as
sha256sum(1) writes and checks it, so a file that was cut short is known by its absence. Nothing is encrypted: who has
the file has every secret of the instance.
"""

import hashlib
import io
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import IO, Any, Final, Protocol, cast

import msgspec

from gateway.errors import GatewayError

FORMAT: Final = 1
MANIFEST: Final = "manifest.json"
DATABASE: Final = "gateway.db"
MASTER_KEY: Final = "master.key"
SUMS: Final = "SHA256SUMS"
_SMALL_BYTES: Final = 64 * 1024  # of every member but the database
_BLOCK: Final = 256 * 1024


class BackupFileError(GatewayError):
    """This is no backup, or not a whole one."""


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a backup is; fields that it has besides are of no concern here."""

    format: int
    version: str  # of the program that made it
    schema: int
    made_at: str  # RFC 3339
    hostname: str
    live: bool  # of a running daemon, which went on after it
    messages: int  # with an open recipient
    recipients: int  # that are open
    database_bytes: int


class Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


Write = Callable[[bytes], object]


@dataclass(frozen=True, slots=True)
class Backup:
    """A backup that was read to its end, every sum right; its database went where the reader said."""

    manifest: Manifest
    master_key: bytes


@dataclass(slots=True)
class _Summed:
    """A stream whose bytes are summed up as they pass."""

    stream: Readable
    digest: Any = field(default_factory=hashlib.sha256)

    def read(self, size: int = -1) -> bytes:
        data = self.stream.read(size)
        self.digest.update(data)
        return data


def write(stream: IO[bytes], manifest: Manifest, *, database: IO[bytes], master_key: bytes, made_at_s: int) -> None:
    """Write a backup to a stream, which need not be able to seek. Raises OSError."""
    described = msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"
    sums: dict[str, str] = {}
    with tarfile.open(fileobj=stream, mode="w|", format=tarfile.PAX_FORMAT, bufsize=_BLOCK) as tar:

        def add(name: str, size: int, content: IO[bytes]) -> None:
            entry = tarfile.TarInfo(name)
            entry.size, entry.mtime, entry.mode = size, made_at_s, 0o600
            summed = _Summed(content)
            tar.addfile(entry, cast("IO[bytes]", summed))
            sums[name] = summed.digest.hexdigest()

        add(MANIFEST, len(described), io.BytesIO(described))
        add(DATABASE, manifest.database_bytes, database)
        add(MASTER_KEY, len(master_key), io.BytesIO(master_key))
        listed = "".join(f"{digest}  {name}\n" for name, digest in sums.items()).encode()
        add(SUMS, len(listed), io.BytesIO(listed))


def read(stream: IO[bytes], begin: Callable[[Manifest], Write]) -> Backup:
    """Read a backup to its end. `begin` is called with the manifest once that is known, to refuse it or to say where
    the database goes. Raises BackupFileError, OSError, and what `begin` and the function that it returned raise.
    """
    try:
        with tarfile.open(fileobj=stream, mode="r|", bufsize=_BLOCK) as tar:
            return _read(_Members(tar), begin)
    except tarfile.TarError as error:
        raise BackupFileError(f"This is no backup, or a part of one: {error}.") from error


def nowhere(_: Manifest) -> Write:
    """For `read`: the backup is only looked at."""
    return lambda _data: None


@dataclass(slots=True)
class _Members:
    """The members of an archive in the order in which they must come."""

    tar: tarfile.TarFile
    sums: dict[str, str] = field(default_factory=dict)

    def copy(self, name: str, write: Write, *, most: int) -> None:
        """The next member; anything but a plain file of that name is refused, and what is larger than `most`."""
        entry = self.tar.next()
        if entry is None:
            raise BackupFileError(f"The backup ends before its {name}: it was cut short.")
        if entry.name != name or not entry.isreg():
            raise BackupFileError(f"This is no backup: it has {entry.name!r} where {name} should be.")
        if entry.size > most:
            raise BackupFileError(f"This is no backup: its {name} has {entry.size} bytes.")
        content = self.tar.extractfile(entry)
        assert content is not None  # of a plain file
        summed = _Summed(content)
        while data := summed.read(_BLOCK):
            write(data)
        self.sums[name] = summed.digest.hexdigest()

    def small(self, name: str) -> bytes:
        data = bytearray()
        self.copy(name, data.extend, most=_SMALL_BYTES)
        return bytes(data)


def _read(members: _Members, begin: Callable[[Manifest], Write]) -> Backup:
    manifest = _manifest(members.small(MANIFEST))
    members.copy(DATABASE, begin(manifest), most=manifest.database_bytes)
    master_key = members.small(MASTER_KEY)
    found = "".join(f"{digest}  {name}\n" for name, digest in members.sums.items()).encode()
    if members.small(SUMS) != found:
        raise BackupFileError("The backup is damaged: what it holds has another SHA-256 than what was put into it.")
    return Backup(manifest, master_key)


def _manifest(text: bytes) -> Manifest:
    try:
        manifest = msgspec.json.decode(text, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BackupFileError(f"This is no backup: its {MANIFEST} cannot be read: {error}.") from error
    if manifest.format > FORMAT:
        raise BackupFileError(
            f"The backup was made by version {manifest.version} in a form that this version does not know."
        )
    return manifest
