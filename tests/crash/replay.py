"""What a disk would hold after a power cut, rebuilt from a system-call trace.

Guarantees: nothing is counted as durable before the fsync that covers it had returned; an acknowledgement
counts from the moment its write to the socket began. Names of files are durable with their first fsync
(as ext4 has it), or, where `strict` is asked for, only with an fsync of their directory. Removing and
renaming take effect at once: the model does not bring back what was deleted. Memory maps are not seen;
SQLite's shared memory is no part of the durable state.
"""

import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

_CALLS = (
    "openat,open,creat,write,pwrite64,writev,pwritev,fsync,fdatasync,ftruncate,"
    "link,linkat,rename,renameat,renameat2,unlink,unlinkat,sendto,sendmsg"
)
_LINE = re.compile(r"^(?P<pid>\d+)\s+(?:(?P<call>\w+)\((?P<args>.*)|<\.\.\. (?P<resumed>\w+) resumed>(?P<rest>.*))$")
_RESULT = re.compile(r"^(?P<args>.*)\)\s+= (?P<value>-?\d+)(?P<path><[^>]*>)?")
_DESCRIPTOR = re.compile(r"^\d+<([^>]*)>")
_STRING = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
_WRITES = {"write", "writev", "pwrite64", "pwritev"}
_SENDS = {"write", "writev", "sendto", "sendmsg"}
_UNFINISHED = " <unfinished ...>"


def strace(trace: Path) -> list[str]:
    """The words to put before a command so that its trace can be replayed."""
    return ["strace", "-f", "-y", "-xx", "-qq", "-s", "4000000", "-e", f"trace={_CALLS}", "-o", str(trace)]


@dataclass(frozen=True, slots=True)
class Write:
    """Bytes at an offset; None cuts or stretches the file to that size."""

    offset: int
    data: bytes | None


@dataclass(slots=True)
class File:
    """A file as the disk has it, and what was written since and may be lost, in order."""

    durable: bytearray = field(default_factory=bytearray)
    pending: list[Write] = field(default_factory=list)
    end: int = 0  # where the next plain write goes
    synced: bool = False  # exists on the disk
    named: bool = False  # its directory was synced since it was made


class Disk:
    """The files below one directory."""

    def __init__(self, directory: Path) -> None:
        self._root = str(directory.resolve())
        self._files: dict[str, File] = {}

    def holds(self, path: str) -> bool:
        return path.startswith(self._root + "/")

    def opened(self, path: str, *, truncate: bool) -> None:
        file = self._files.setdefault(path, File())
        file.end = 0
        if truncate:
            file.pending.append(Write(0, None))

    def write(self, path: str, data: bytes, offset: int | None) -> None:
        file = self._files.setdefault(path, File())
        at = file.end if offset is None else offset
        file.pending.append(Write(at, data))
        if offset is None:
            file.end = at + len(data)

    def cut(self, path: str, size: int) -> None:
        self._files.setdefault(path, File()).pending.append(Write(size, None))

    def unsynced(self, path: str) -> int:
        """How many writes an fsync that begins now covers."""
        file = self._files.get(path)
        return len(file.pending) if file else 0

    def sync(self, path: str, covered: int) -> None:
        if path == self._root or path not in self._files:
            for name, file in self._files.items():
                file.named |= name.rpartition("/")[0] == path
            return
        file = self._files[path]
        for write in file.pending[:covered]:
            _apply(file.durable, write)
        del file.pending[:covered]
        file.synced = True

    def removed(self, path: str) -> None:
        self._files.pop(path, None)

    def renamed(self, old: str, new: str) -> None:
        if (file := self._files.pop(old, None)) is not None:
            self._files[new] = file

    def linked(self, old: str, new: str) -> None:
        """The same file under another name, which is not durable before its directory is."""
        if (file := self._files.get(old)) is not None:
            self._files[new] = file
            file.named = False

    def image(self, target: Path, *, rng: random.Random | None = None, strict: bool = False) -> None:
        """Write what survives to `target`: nothing unsynced, or with `rng` a random part of it."""
        for path, file in self._files.items():
            if not file.synced or (strict and not file.named):
                continue
            content = bytearray(file.durable)
            for write in file.pending:
                if rng is not None and rng.random() < 0.5:
                    _apply(content, write)
            copy = target / path[len(self._root) + 1 :]
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(content)
            copy.chmod(0o600)


def replay(trace: Path, disk: Disk, acknowledgement: re.Pattern[bytes], on_ack: Callable[[str], None]) -> None:
    """Play a trace back onto `disk`; `on_ack` gets the pattern's group 1 of each acknowledgement as it
    leaves."""
    begun: dict[str, _Call] = {}
    for step in _steps(trace):
        if step.begins:
            if step.name in {"fsync", "fdatasync"}:
                step.covered = disk.unsynced(step.path)
            if step.name in _SENDS and "socket:" in step.path:
                for found in acknowledgement.finditer(step.data):
                    on_ack((found[1] or found[2]).decode())
            begun[step.pid] = step
        if step.value is not None:
            step.covered = begun.pop(step.pid).covered
            if step.value >= 0:
                _perform(disk, step)


@dataclass(slots=True)
class _Call:
    """A system call that begins here, ends here (`value` is its result), or both."""

    pid: str
    name: str
    args: str
    begins: bool
    value: int | None
    result_path: str = ""
    covered: int = 0

    @property
    def path(self) -> str:
        found = _DESCRIPTOR.match(self.args)
        return _text(found[1]) if found else ""

    @property
    def strings(self) -> list[bytes]:
        return [bytes.fromhex(found.replace("\\x", "")) for found in _STRING.findall(self.args)]

    @property
    def data(self) -> bytes:
        return b"".join(self.strings)


def _steps(trace: Path) -> Iterator[_Call]:
    """The calls of a trace; one that another thread's line cut in two comes twice, at its begin and its
    end."""
    halves: dict[str, _Call] = {}
    with trace.open(errors="replace") as lines:
        for line in lines:
            found = _LINE.match(line.rstrip("\n"))
            if found is None:
                continue
            pid = found["pid"]
            if found["call"] and found["args"].endswith(_UNFINISHED):
                call = _Call(pid, found["call"], found["args"].removesuffix(_UNFINISHED), True, None)
                halves[pid] = call
                yield call
                continue
            half = None if found["call"] else halves.pop(pid, None)
            if half is None and not found["call"]:
                continue
            text = found["args"] if half is None else half.args + found["rest"]
            result = _RESULT.match(text)
            if result is None:
                continue
            name = found["call"] if half is None else half.name
            path = _text((result["path"] or "")[1:-1])
            yield _Call(pid, name, result["args"], half is None, int(result["value"]), path)


def _perform(disk: Disk, call: _Call) -> None:
    assert call.value is not None
    if call.name in _WRITES and disk.holds(call.path):
        offset = int(call.args.rpartition(",")[2]) if call.name.startswith("p") else None
        disk.write(call.path, call.data[: call.value], offset)
    elif call.name in {"fsync", "fdatasync"}:
        disk.sync(call.path, call.covered)
    elif call.name == "ftruncate" and disk.holds(call.path):
        disk.cut(call.path, int(call.args.rpartition(",")[2]))
    elif call.name in {"openat", "open", "creat"} and disk.holds(call.result_path):
        if "O_DIRECTORY" not in call.args:
            disk.opened(call.result_path, truncate="O_TRUNC" in call.args or call.name == "creat")
    elif call.name.startswith("unlink"):
        disk.removed(_resolve(call.args, call.strings[0]))
    elif call.name.startswith("link"):
        old, new = call.strings[:2]
        disk.linked(_resolve(call.args, old), _resolve(call.args, new))
    elif call.name.startswith("rename"):
        old, new = call.strings[:2]
        disk.renamed(_resolve(call.args, old), _resolve(call.args, new))


def _resolve(args: str, name: bytes) -> str:
    """A name relative to the directory descriptor of the call."""
    text = name.decode()
    found = re.match(r"^(?:AT_FDCWD|\d+)<([^>]*)>", args)
    return text if text.startswith("/") or found is None else f"{_text(found[1])}/{text}"


def _text(path: str) -> str:
    """A path of the trace: printed as it is or, with -xx, byte by byte."""
    return bytes.fromhex(path.replace("\\x", "")).decode() if path.startswith("\\x") else path


def _apply(content: bytearray, write: Write) -> None:
    if len(content) < write.offset:
        content.extend(bytes(write.offset - len(content)))
    if write.data is None:
        del content[write.offset :]
    else:
        content[write.offset : write.offset + len(write.data)] = write.data
