"""What the verbs of `queue` share: the filter, and the tables of recipients and suspensions."""

import argparse
from typing import Any, Final

from gateway.cli import arguments as values
from gateway.cli import output
from gateway.events import State

_REPLY_CHARACTERS: Final = 100  # of a remote reply in a table
_FILTER: Final = ("id", "key", "account", "route", "domain", "to", "state", "limit")
_BLOCKED: Final = {
    "backoff": "pause after a try",
    "dns": "pause after a failed DNS lookup",
    "schedule": "its send time",
    "held": "held by an operator",
    "suspended": "suspended by an operator",
    "lease": "being tried",
    "connections": "its turn",
}


def add_filter(parser: argparse.ArgumentParser) -> None:
    for name, text in (
        ("id", "a message"),
        ("key", "mail of this key"),
        ("account", "mail of this account"),
        ("route", "on this route"),
        ("domain", "to this domain"),
        ("to", "to this address"),
    ):
        metavar = "ADDRESS" if name == "to" else name.upper()
        parser.add_argument(f"--{name}", metavar=metavar, help=text)
    parser.add_argument("--state", choices=[state.value for state in State if not state.final], help="in this state")
    parser.add_argument("--older", type=values.duration, metavar="1h", help="accepted longer ago than this")


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
