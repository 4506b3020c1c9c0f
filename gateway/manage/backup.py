"""The daemon's part in a backup: a copy of its database, for the command to take away.

Guarantees: what was acknowledged before the action began is in the copy; mail goes on meanwhile; a copy that
nobody took away goes with the next one, or the next start. The copy lies in the data directory, for a daemon may write
nowhere else; the command makes the backup of it, with the rights of who called it.
"""

import contextlib
import logging
import re
import secrets
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final, Protocol

import gateway
from gateway.config import Config
from gateway.errors import StoreError
from gateway.runtime import Clock, rfc3339
from gateway.store import space
from gateway.store.backup import Contents

COPY: Final = re.compile(r"snapshot-[0-9a-f]{16}\.db")  # the whole name of a copy, and of no file of anybody else's
_JOURNAL: Final = "-journal"  # that SQLite has beside a copy while it makes it
ABANDONED_MS: Final = 600_000  # a command opens its copy as soon as it hears of it

log = logging.getLogger("gateway.manage")

Args = dict[str, Any]


class Copies(Protocol):
    """The part of the store's snapshots that is used."""

    async def take(self, target: Path, *, spare: int) -> Contents: ...


class BackupActions:
    """Actions over one data directory. `config` gives the configuration in force."""

    def __init__(self, config: Callable[[], Config], copies: Copies, clock: Clock) -> None:
        self._config = config
        self._copies = copies
        self._clock = clock

    def actions(self) -> Mapping[str, Callable[[Args], Awaitable[Any]]]:
        return {"backup.snapshot": self.snapshot}

    def clear(self, *, age_ms: int = 0) -> None:
        """Drop what commands that died did not take away, once it is that old."""
        before_s = (self._clock.now_ms() - age_ms) / 1000
        for path in self._config().data_dir.glob("snapshot-*"):
            if COPY.fullmatch(path.name.removesuffix(_JOURNAL)) is None:
                continue
            with contextlib.suppress(OSError):  # its command takes it away now, or it is no file
                if not age_ms or path.stat().st_mtime < before_s:
                    path.unlink()

    async def snapshot(self, args: Args) -> Any:
        """Args: none. Copies the database to `file` in the data directory, and says what is in it. The caller removes
        it. Raises StoreError."""
        del args
        config, began = self._config(), self._clock.now_ms()
        self.clear(age_ms=ABANDONED_MS)
        name = f"snapshot-{secrets.token_hex(8)}.db"
        spare = _spare(config)
        contents = await self._copies.take(config.data_dir / name, spare=spare)
        log.info("backup: copied %d messages that are queued, %d bytes in all", contents.messages, contents.size)
        return {
            "file": name,
            "version": gateway.__version__,
            "schema": contents.schema,
            "made_at": rfc3339(began),
            "made_at_s": began // 1000,
            "hostname": config.hostname,
            "messages": contents.messages,
            "recipients": contents.recipients,
            "database_bytes": contents.size,
            "spare": spare,
        }


def _spare(config: Config) -> int:
    """What must stay free, as for mail. Raises StoreError."""
    try:
        return space.bound(config.limits.free_disk, space.look(config.data_dir).bytes)
    except OSError as error:
        raise StoreError(f"the data directory {config.data_dir} cannot be looked at: {error.strerror}") from error
