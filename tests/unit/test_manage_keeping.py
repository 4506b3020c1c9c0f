"""Keys that change at the same time: what is known of them in the end is what stands in the store."""

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from gateway.config import Config
from gateway.errors import Refused
from gateway.keyterms import KeyRetention
from gateway.manage.keeping import KeyTerms
from gateway.manage.keys import KeyActions
from gateway.policy.auth import KeyRing
from gateway.runtime import Clock
from gateway.store.records import KeyRecord, Records

WEEK = KeyRetention(messages_s=7 * 86_400)


class SlowFirst:
    """Records of which the first reading is answered last."""

    def __init__(self) -> None:
        self.stored: list[KeyRecord] = []
        self.overtaken = asyncio.Event()
        self._first = True

    async def keys(self) -> Sequence[KeyRecord]:
        found, first = list(self.stored), self._first
        self._first = False
        if first:
            with contextlib.suppress(TimeoutError):  # nobody may overtake it
                await asyncio.wait_for(self.overtaken.wait(), 0.05)
        else:
            self.overtaken.set()
        return found


async def test_what_was_read_first_is_not_put_in_place_last(tmp_path: Path) -> None:
    records = SlowFirst()
    told: list[dict[str, KeyRetention]] = []
    terms = KeyTerms(Config(data_dir=tmp_path), cast("Records", records), lambda by_key: told.append(dict(by_key)))

    async def add(args: dict[str, str]) -> None:
        records.stored.append(_record(args["name"]))

    create = terms.after(add)
    await asyncio.gather(create({"name": "news"}), create({"name": "shop"}))
    assert told[-1] == {"news": WEEK, "shop": WEEK}


async def test_a_key_that_is_revoked_while_others_are_read_is_revoked(tmp_path: Path) -> None:
    records, ring = SlowFirst(), KeyRing()
    records.stored.append(_record("news"))
    keys = KeyActions(Config(data_dir=tmp_path), cast("Records", records), ring, Clock())

    async def revoke() -> None:
        await asyncio.sleep(0)  # the first reading has begun
        records.stored[0] = replace(records.stored[0], revoked_at=1)
        await keys.load()

    await asyncio.gather(keys.load(), revoke())
    with pytest.raises(Refused):
        ring.named("news", 2)


def _record(name: str) -> KeyRecord:
    return KeyRecord(name, name.encode(), name, name, None, (), ("send",), None, 0, retention=WEEK)
