"""How long mail of each key is kept: told to the store whenever keys change, or the configuration does."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from gateway.config import Config
from gateway.keyterms import KeyRetention
from gateway.store.records import Records

Args = dict[str, Any]
Keep = Callable[[Mapping[str, KeyRetention]], None]


class KeyTerms:
    """`keep` is told the terms of all keys that have any of their own, revoked ones too: their mail is still there. A
    key of the configuration wins over a stored namesake."""

    def __init__(self, config: Config, records: Records, keep: Keep) -> None:
        self._config = config
        self._records = records
        self._keep = keep
        self._stored: dict[str, KeyRetention] = {}
        self._loading = asyncio.Lock()

    async def load(self) -> None:
        """Read the keys of the store. Raises StoreError."""
        async with self._loading:  # what was read first must not be put in place last
            self._stored = {record.name: record.retention for record in await self._records.keys()}
            self._tell()

    def reconfigure(self, config: Config) -> None:
        self._config = config
        self._tell()

    def after(self, action: Callable[[Args], Awaitable[Any]]) -> Callable[[Args], Awaitable[Any]]:
        """An action that may change keys, and that the store is told of what it did."""

        async def told(args: Args) -> Any:
            result = await action(args)
            await self.load()
            return result

        return told

    def _tell(self) -> None:
        declared = {name: key.retention for name, key in self._config.keys.items()}
        terms = {**self._stored, **declared}
        self._keep({name: kept for name, kept in terms.items() if kept != KeyRetention()})
