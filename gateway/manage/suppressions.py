"""The list of who is not sent to as operators ask for it: of any account, or for everybody.

Guarantees: an answer has a bounded size, whatever the list has; rows of a file are taken or refused one by one, each by
its line.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from gateway.manage import refusals
from gateway.manage.suppressionlist import STEP_ENTRIES, Given, SuppressionList, parse_reason
from gateway.runtime import Clock, rfc3339
from gateway.store.db import NEVER
from gateway.store.suppression import EVERYBODY, Reason

PART_ENTRIES: Final = 500  # of one answer
MOST_LISTED: Final = 1000
_LONGEST_S: Final = 100 * 365 * 86_400
_COLUMNS: Final = ("address", "reason", "created_at", "expires_at", "tag", "note")

Args = dict[str, Any]


class SuppressionActions:
    """Actions over one list. `account` of the arguments: "" for everybody's entries."""

    def __init__(self, entries: SuppressionList, clock: Clock) -> None:
        self._list = entries
        self._clock = clock

    def actions(self) -> Mapping[str, Callable[[Args], Awaitable[Any]]]:
        return {
            "suppression.list": self.list_,
            "suppression.add": self.add,
            "suppression.remove": self.remove,
            "suppression.import": self.import_,
            "suppression.export": self.export,
        }

    async def list_(self, args: Args) -> Any:
        """Args: account (None: any), address, reason, tag, limit. Newest first."""
        limit = args.get("limit") or 100
        if limit > MOST_LISTED:
            raise refusals.invalid("limit", f"at most {MOST_LISTED}; export has them all")
        found = await self._list.page(
            args.get("account"),
            address=args.get("address") or "",
            reason=args.get("reason") or "",
            tag=args.get("tag") or "",
            before=NEVER,
            limit=limit + 1,
        )
        shown = [{"account": one.account or None, **self._list.view(one)} for one in found[:limit]]
        return {"suppressions": shown, "more": len(found) > limit}

    async def add(self, args: Args) -> Any:
        """Args: account, address (or a domain), reason, tag, note, expires_s."""
        expires_s = args.get("expires_s")
        if expires_s is not None and not 0 < expires_s <= _LONGEST_S:
            raise refusals.invalid("expires", "a time to come, within 100 years")
        expires_at = rfc3339(self._clock.now_ms() + int(expires_s * 1000)) if expires_s else ""
        account = args.get("account") or EVERYBODY
        entry = self._list.read(_given({**args, "expires_at": expires_at, "created_at": ""}), account)
        added = await self._list.add(entry)
        return {"account": account or None, **self._list.view(added)}

    async def remove(self, args: Args) -> Any:
        """Args: account, address (or a domain), tag (None: whatever its tag)."""
        account, value = args.get("account") or EVERYBODY, str(args["address"])
        (count,) = await self._list.remove(account, (value,), args.get("tag"))
        if not count:
            whose = "everybody" if account == EVERYBODY else account
            raise refusals.unknown(f"suppression for {whose} of", value)
        return {"account": account or None, "address": value, "removed": count}

    async def import_(self, args: Args) -> Any:
        """Args: account; reason, where a row has none; rows: objects of `line` and the columns of a file, texts."""
        rows = args["rows"]
        if len(rows) > STEP_ENTRIES:
            raise refusals.invalid("rows", f"at most {STEP_ENTRIES} at a time")
        usual = parse_reason(args["reason"]) if args.get("reason") else Reason.OPERATOR
        given = [_given(row) for row in rows]
        added, faults = await self._list.add_all(given, args.get("account") or EVERYBODY, usual)
        problems = [{"line": rows[fault.place]["line"], "text": fault.error.text} for fault in faults]
        return {"added": added, "problems": problems}

    async def export(self, args: Args) -> Any:
        """Args: account, after (of the part before). Gives rows of a file, oldest first; `after` None: that was all."""
        now = self._clock.now_ms()
        found = await self._list.after(args.get("account") or EVERYBODY, args.get("after") or 0, PART_ENTRIES)
        views = [self._list.view(one) for one in found if one.expires_at is None or one.expires_at > now]
        rows = [[view[name] or "" for name in _COLUMNS] for view in views]
        return {"rows": rows, "after": found[-1].id if len(found) == PART_ENTRIES else None}


def _given(args: Args) -> Given:
    texts = {name: str(args.get(name) or "") for name in _COLUMNS}
    texts["value"] = texts.pop("address")
    return Given(**texts)
