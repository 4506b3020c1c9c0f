"""Which queued recipients an operator means: arguments to a filter, and the filter back to words. Pure."""

from typing import Any, Final
from uuid import UUID

from gateway.events import State
from gateway.manage import refusals
from gateway.message import address
from gateway.runtime import read_id
from gateway.store.shown import Filter

LISTED_AT_MOST: Final = 10_000  # recipients in one answer
_EVERYTHING: Final = 1 << 62
_WORDS: Final = ("id", "key", "account", "route", "domain", "to", "state")
_NAMED: Final = "--id, --key, --account, --route, --domain, --to, --state, --older, or --all"

Args = dict[str, Any]


def read(args: Args, now_ms: int, *, most: int = LISTED_AT_MOST, usual: int = 100) -> Filter:
    """The filter of `id, key, account, route, domain, to, state, older_s, limit`. Raises Refused."""
    state = args.get("state")
    if state and state not in {one.value for one in State if not one.final}:
        raise refusals.invalid("state", f"one of {', '.join(one.value for one in State if not one.final)}")
    older_s = args.get("older_s")
    return Filter(
        uuid=_uuid(args),
        account=args.get("account") or None,
        key=args.get("key") or None,
        route=args.get("route") or None,
        domain=_read(args, "domain", address.parse_domain),
        address=_read(args, "to", address.parse_path),
        state=State(state) if state else None,
        older_than=now_ms - int(older_s * 1000) if older_s else None,
        limit=min(int(args.get("limit") or usual), most),
    )


def read_change(args: Args, now_ms: int) -> Filter:
    """The filter of what is to be changed: all that matches, and never everything by mistake. Raises Refused."""
    which = read(args, now_ms, most=_EVERYTHING, usual=_EVERYTHING)
    if not args.get("all") and which == Filter(limit=which.limit):
        raise refusals.invalid("", f"say which: {_NAMED}")
    return which


def words(args: Args) -> str:
    """`route=direct, older than 3600 s, at most 5`; `all` without a filter."""
    said = [f"{name}={args[name]}" for name in _WORDS if args.get(name)]
    if args.get("older_s"):
        said.append(f"older than {args['older_s']:g} s")
    if args.get("limit"):
        said.append(f"at most {args['limit']}")
    return ", ".join(said) or "all"


def message_uuid(text: str) -> bytes | None:
    """A message's id in any of its forms (`eml_…`, the UUID), or None."""
    if (uuid := read_id("eml_", text)) is not None:
        return uuid
    try:
        return UUID(text).bytes
    except ValueError:
        return None


def _uuid(args: Args) -> bytes | None:
    if not args.get("id"):
        return None
    uuid = message_uuid(args["id"])
    if uuid is None:
        raise refusals.unknown("message", args["id"])
    return uuid


def _read(args: Args, name: str, parse: Any) -> str | None:
    if not args.get(name):
        return None
    try:
        return str(parse(args[name]))
    except address.AddressError as error:
        raise refusals.invalid(name, str(error)) from error
