"""What the verbs of `queue` share: the filter, and the tables of recipients and suspensions."""

import argparse
from collections.abc import Collection
from typing import Any, Final

from gateway.cli import arguments as values
from gateway.cli import output
from gateway.events import State

_REPLY_CHARACTERS: Final = 100  # of a remote reply in a table
CONDITIONS: Final = ("id", "key", "account", "route", "domain", "to", "state", "older")
_FILTER: Final = ("id", "key", "account", "route", "domain", "to", "state", "limit")
_BLOCKED: Final = {
    "backoff": "pause before a try",
    "dns": "pause after a failed DNS lookup",
    "schedule": "its send time",
    "held": "held until released",
    "suspended": "suspended by an operator",
    "lease": "being tried",
    "connections": "its turn",
}


def add_filter(parser: argparse.ArgumentParser, *, shown: Collection[str] = CONDITIONS) -> None:
    """The filter. What is not shown is taken too: the action says why it cannot be, and which verb can."""

    def add(name: str, text: str, **more: Any) -> None:
        parser.add_argument(f"--{name}", help=text if name in shown else argparse.SUPPRESS, **more)

    add("id", "a message", metavar="ID")
    add("key", "mail of this key", metavar="KEY")
    add("account", "mail of this account", metavar="ACCOUNT")
    add("route", "on this route", metavar="ROUTE")
    add("domain", "to this domain", metavar="DOMAIN")
    add("to", "to this address", metavar="ADDRESS")
    add("state", "in this state", choices=[state.value for state in State if not state.final])
    add("older", "accepted longer ago than this", type=values.duration, metavar="1h")


def add_limit(parser: argparse.ArgumentParser, default: int | None, words: str) -> None:
    parser.add_argument(
        "--limit", type=values.at_least_one, default=default, metavar="N", help=f"at most so many (default: {words})"
    )


def filter_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """The arguments of the filter as actions take them."""
    return {name: getattr(arguments, name) for name in _FILTER} | {"older_s": arguments.older}


def blocked(recipient: Any) -> str:
    """Why it is not tried now, in words; "" of a final one."""
    return _BLOCKED.get(recipient["blocked_by"] or "", recipient["blocked_by"] or "")


def print_rows(rows: Any) -> None:
    output.table(
        ["ID", "KEY", "TO", "STATE", "ATTEMPTS", "NEXT ATTEMPT", "BLOCKED BY", "LAST REPLY"],
        [
            [
                row["id"],
                row["key"],
                row["to"],
                row["state"],
                row["attempts"],
                row["next_attempt_at"],
                blocked(row),
                row["last_reply"][:_REPLY_CHARACTERS],
            ]
            for row in rows
        ],
        empty="Nothing queued matches.",
    )


def print_suspensions(suspensions: Any) -> None:
    output.table(
        ["NUMBER", "ROUTE", "DOMAIN", "KEY", "SINCE", "UNTIL", "REASON"],
        [
            [
                one["number"],
                one["route"] or "(all)",
                one["domain"] or "(all)",
                one["key"] or "(all)",
                one["since"],
                one["until"] or "resumed",
                one["reason"],
            ]
            for one in suspensions
        ],
        empty="Nothing is suspended.",
    )
