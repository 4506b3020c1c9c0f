"""How long what was sent is kept: as the configuration has it for all, and for the keys that have terms of their own.

Guarantees: where no key has any, nothing is asked of the database. Terms are replaced whole, from any thread.
"""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from gateway.config import Retention
from gateway.keyterms import KeyRetention
from gateway.store.db import Statements, Transaction

_MS: Final = 1000


class Terms(NamedTuple):
    """In milliseconds."""

    delivered: int  # content, after the last recipient was delivered to
    failed: int  # content, where one was not
    messages: int
    events: int


class _Known(NamedTuple):
    general: Terms
    own: Mapping[str, Terms]  # by the key's name


class Keeping:
    """`keep` says what keys have of their own; what a key leaves open is as it is for all."""

    def __init__(self, sql: Statements, retention: Retention) -> None:
        self._sql = sql
        self._retention = retention
        self._by_key: Mapping[str, KeyRetention] = {}
        self._known = _known(retention, {})
        self.version = 0  # rises with each change

    def reconfigure(self, retention: Retention) -> None:
        self._retention = retention
        self._replace()

    def keep(self, by_key: Mapping[str, KeyRetention]) -> None:
        """Of all keys that have something of their own, in place of those known until now."""
        self._by_key = by_key
        self._replace()

    @property
    def general(self) -> Terms:
        return self._known.general

    @property
    def has_own(self) -> bool:
        return bool(self._known.own)

    def of_key(self, name: str) -> Terms:
        known = self._known
        return known.own.get(name, known.general)

    def all(self) -> set[Terms]:
        known = self._known
        return {known.general, *known.own.values()}

    def of_messages(self, tx: Transaction, messages: Sequence[int]) -> dict[int, Terms]:
        """Terms of those messages whose key has its own."""
        own = self._known.own
        if not own:
            return {}
        rows = tx.cursor.executemany(self._sql["message_key"], [(message,) for message in messages]).fetchall()
        return {message: own[name] for message, name in rows if name in own}

    def _replace(self) -> None:
        self._known = _known(self._retention, self._by_key)
        self.version += 1


def _known(retention: Retention, by_key: Mapping[str, KeyRetention]) -> _Known:
    own = {name: _terms(retention, kept) for name, kept in by_key.items()}
    general = _terms(retention, KeyRetention())
    return _Known(general, {name: terms for name, terms in own.items() if terms != general})


def _terms(general: Retention, own: KeyRetention) -> Terms:
    return Terms(
        _first_ms(own.content_delivered_s, general.content_delivered_s),
        _first_ms(own.content_failed_s, general.content_failed_s),
        _first_ms(own.messages_s, general.messages_s),
        _first_ms(own.events_s, general.events_s),
    )


def _first_ms(own_s: float | None, general_s: float) -> int:
    return int((general_s if own_s is None else own_s) * _MS)
