"""Removing a person from all that is stored, because the person asked for it.

Guarantees: that it was done, and how much it was, is in the log, the address only as a code (that of `log.addresses:
hashed`). Suppressions stay, under a hash: who unsubscribed is not written to again.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from typing import Any, Final

from gateway.manage import refusals
from gateway.message import address
from gateway.observe import Mask
from gateway.policy import brakes
from gateway.runtime import Clock
from gateway.store.erasing import Erased, Erasing
from gateway.store.erasure import Trace
from gateway.store.person import Person
from gateway.tokens import Tokens

PATIENCE_S: Final = 30.0  # for what is in hand
_LONGEST_S: Final = 3600.0

log = logging.getLogger("gateway.manage")

Args = dict[str, Any]


class ErasureActions:
    """Actions over one store."""

    def __init__(self, erasing: Erasing, tokens: Tokens, clock: Clock) -> None:
        self._erasing = erasing
        self._tokens = tokens
        self._clock = clock

    def actions(self) -> Mapping[str, Callable[[Args], Awaitable[Any]]]:
        return {"erase": self.erase}

    async def erase(self, args: Args) -> Any:
        """Args: address, account (None: all, and what is of none), dry_run, wait_s (how long what is in hand is waited
        for). The answer counts what was removed, or would be."""
        whom = _address(args["address"])
        account, wait_s = args.get("account"), args.get("wait_s")
        patience_s = PATIENCE_S if wait_s is None else float(wait_s)
        if not 0 <= patience_s <= _LONGEST_S:
            raise refusals.invalid("wait", "from 0s to 1h")
        person, hashed = Person(whom), self._tokens.hashed(whom)
        code = Mask(self._tokens.hashed).address(whom)
        if args.get("dry_run"):
            return _view(await self._erasing.count(person, account), code, dry_run=True)
        trace = Trace(person, hashed, brakes.number_of(hashed))
        erased = await self._erasing.erase(trace, account, now=self._clock.now_ms, patience_s=patience_s)
        done = " ".join(f"{name}={count}" for name, count in asdict(erased.removed).items() if count) or "nothing"
        log.info("%s was erased%s: %s", code, f" from account {account}" if account else "", done)
        if erased.in_hand:
            log.warning("%s is not erased from %d messages that an attempt has in hand", code, erased.in_hand)
        return _view(erased, code, dry_run=False)


def _address(text: str) -> str:
    try:
        return address.parse_path(text.strip())
    except address.AddressError as error:
        raise refusals.invalid("address", str(error)) from error


def _view(erased: Erased, code: str, *, dry_run: bool) -> dict[str, Any]:
    return {
        "code": code,
        "dry_run": dry_run,
        "removed": asdict(erased.removed),
        "in_hand": erased.in_hand,
        "rewritten": erased.rewritten,
    }
