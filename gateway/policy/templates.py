"""Finding a template: the account's own in the store, then those of the directory, which every account may use.

Guarantees: an account never sees another one's; what is found was read without a fault; a file is served as it is now,
a stored template as it was last written. A broken directory entry is named in the log and not served.

The directory has one directory for each alias, with `subject.txt`, `body.html`, `body.txt`: all of them optional, but
one body. Files are looked at outside the loop, and read again only when they have changed.
"""

import asyncio
import logging
import os
import re
import stat
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

from gateway.errors import Problem
from gateway.message import template
from gateway.message.template import StoredTemplate, TemplateError
from gateway.runtime import read_id, show_id
from gateway.store.records import Records, TemplateRecord

PREFIX: Final = "tpl_"
MAX_PART_BYTES: Final = 512_000
MAX_TEMPLATES: Final = 1000  # of an account, and of the directory
ALIAS_FORM: Final = "1 to 64 of a-z, 0-9, _ and -, a letter or digit first"
_ALIAS: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_CACHE_CHARACTERS: Final = 32_000_000
_TAG_CHARACTERS: Final = 200  # what a read tag weighs
_FILES: Final = ("subject.txt", "body.html", "body.txt")

log = logging.getLogger("gateway.templates")

_Stamp = tuple[tuple[int, int, int] | None, ...]  # of each file: mtime_ns, size, inode


def is_alias(text: str) -> bool:
    """A name that no id has."""
    return _ALIAS.fullmatch(text) is not None and read_id(PREFIX, text) is None


def check(subject: str, html: str | None, text: str | None) -> list[Problem]:
    """Everything that is wrong with the parts of a template."""
    problems = []
    if not html and not text:
        problems.append(Problem("html_body", "is required, or text_body", "missing_parameter"))
    if len(subject) > template.MAX_SUBJECT_CHARACTERS:
        words = f"must be at most {template.MAX_SUBJECT_CHARACTERS} characters"
        problems.append(Problem("subject", words, "validation_error"))
    if template.CONTROL.search(subject):
        problems.append(Problem("subject", "must not hold line breaks or other control characters", "validation_error"))
    for path, part in (("html_body", html or ""), ("text_body", text or "")):
        if len(part) > MAX_PART_BYTES or len(part.encode("utf-8", "replace")) > MAX_PART_BYTES:
            problems.append(Problem(path, f"must be at most {MAX_PART_BYTES} bytes", "validation_error"))
        if template.UNSENDABLE.search(part):
            problems.append(Problem(path, "must not hold the NUL character", "validation_error"))
    try:
        StoredTemplate.read(subject, html, text)
    except TemplateError as error:
        problems += error.problems
    return problems


def in_directory(record: TemplateRecord) -> bool:
    """Is this one of the directory? Those have no id and no account."""
    return not record.uuid


class Templates:
    """`directory` None: there is none."""

    def __init__(self, records: Records, directory: Path | None) -> None:
        self._records = records
        self._directory = directory
        self._seen: dict[str, _Seen] = {}
        self._read: OrderedDict[tuple[str, bytes, str], tuple[TemplateRecord, StoredTemplate, int]] = OrderedDict()
        self._held = 0  # characters in `_read`

    def reconfigure(self, directory: Path | None) -> None:
        """Another directory from now on."""
        if directory != self._directory:
            self._directory = directory
            self._seen.clear()

    async def find(self, account: str, reference: str) -> StoredTemplate | None:
        """The template with this id or alias, ready to be filled in. Raises StoreError."""
        record = await self.record(account, reference)
        return await self._ready(record) if record is not None else None

    async def record(self, account: str, reference: str) -> TemplateRecord | None:
        """The same, as it was written. Raises StoreError."""
        uuid = read_id(PREFIX, reference)
        if uuid is not None:
            return await self._records.template(account, uuid, "")
        if not is_alias(reference):
            return None
        stored = await self._records.template(account, None, reference)
        return stored or await self._file(reference)

    async def files(self) -> Sequence[TemplateRecord]:
        """Those of the directory that can be used, by alias."""
        if self._directory is None:
            return ()
        found = [await self._file(alias) for alias in await asyncio.to_thread(_aliases, self._directory)]
        return [record for record in found if record is not None]

    async def _file(self, alias: str) -> TemplateRecord | None:
        if self._directory is None:
            return None
        seen = await asyncio.to_thread(_look, self._directory / alias, alias, self._seen.get(alias))
        if seen is None:
            self._seen.pop(alias, None)
            return None
        self._seen[alias] = seen
        return seen.record

    async def _ready(self, record: TemplateRecord) -> StoredTemplate | None:
        key = (record.account, record.uuid, record.alias if in_directory(record) else "")
        held = self._read.get(key)
        if held is not None and held[0] == record:
            self._read.move_to_end(key)
            return held[1]
        try:
            ready = await asyncio.to_thread(StoredTemplate.read, record.subject, record.html, record.text)
        except TemplateError as error:
            log.warning("the template %s cannot be used: %s", show_id(PREFIX, record.uuid), _words(error))
            return None
        self._keep(key, record, ready)
        return ready

    def _keep(self, key: tuple[str, bytes, str], record: TemplateRecord, ready: StoredTemplate) -> None:
        self._forget(key)
        self._read[key] = (record, ready, weight := _weight(record, ready))
        self._held += weight
        while self._held > _CACHE_CHARACTERS:
            self._forget(next(iter(self._read)))

    def _forget(self, key: tuple[str, bytes, str]) -> None:
        held = self._read.pop(key, None)
        if held is not None:
            self._held -= held[2]


@dataclass(frozen=True, slots=True)
class _Seen:
    """A directory entry as it was looked at last; `record` None where it is broken."""

    stamp: _Stamp
    record: TemplateRecord | None


def _weight(record: TemplateRecord, ready: StoredTemplate) -> int:
    """In characters, text and read text together."""
    text = len(record.subject) + len(record.html or "") + len(record.text or "")
    tags = sum(len(part.ops) for part in (ready.subject, ready.html, ready.text) if part is not None)
    return 2 * text + _TAG_CHARACTERS * tags


def _aliases(directory: Path) -> list[str]:
    try:
        with os.scandir(directory) as entries:
            names = sorted(islice((e.name for e in entries if is_alias(e.name)), MAX_TEMPLATES + 1))
    except OSError as error:
        log.warning("the directory of templates cannot be read: %s", error)
        return []
    if len(names) > MAX_TEMPLATES:
        log.warning("the directory of templates has more than %d entries; not all of them are listed", MAX_TEMPLATES)
    return names[:MAX_TEMPLATES]


def _look(place: Path, alias: str, seen: _Seen | None) -> _Seen | None:
    """The entry as it is now; None where there is none. Called in a thread."""
    try:
        stamp = tuple(_stamp(place / name) for name in _FILES)
    except OSError as error:
        return _broken(alias, (), str(error.strerror), seen)
    if not any(stamp):
        return None
    if seen is not None and seen.stamp == stamp:
        return seen
    try:
        parts = [_text(place / name) if at is not None else None for name, at in zip(_FILES, stamp, strict=True)]
        return _Seen(stamp, _record(alias, parts, stamp))
    except TemplateError as error:
        return _broken(alias, stamp, _words(error), seen)
    except OSError as error:
        return _broken(alias, stamp, str(error.strerror), seen)


def _broken(alias: str, stamp: _Stamp, words: str, seen: _Seen | None) -> _Seen:
    if seen is None or seen.stamp != stamp:
        log.warning("the template %s of the directory cannot be used: %s", alias, words)
    return _Seen(stamp, None)


def _stamp(file: Path) -> tuple[int, int, int] | None:
    try:
        found = file.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    if not stat.S_ISREG(found.st_mode):
        raise OSError(0, f"{file.name} is not a file")
    return found.st_mtime_ns, found.st_size, found.st_ino


def _text(file: Path) -> str:
    with file.open("rb") as opened:
        content = opened.read(MAX_PART_BYTES + 1)
    if len(content) > MAX_PART_BYTES:
        raise OSError(0, f"{file.name} has more than {MAX_PART_BYTES} bytes")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise OSError(0, f"{file.name} is not UTF-8 text (byte {error.start})") from error


def _record(alias: str, parts: Sequence[str | None], stamp: _Stamp) -> TemplateRecord:
    """Raises TemplateError."""
    subject, html, text = parts
    problems = check(subject := (subject or "").rstrip("\r\n"), html, text)
    if problems:
        raise TemplateError(problems)
    at = max(mtime for mtime, _, _ in filter(None, stamp)) // 1_000_000
    return TemplateRecord(b"", "", alias, subject, html, text, created_at=at, updated_at=at)


def _words(error: TemplateError) -> str:
    return "; ".join(map(str, error.problems))
