"""`mail-gateway queue`: what waits, why, and when next."""

import argparse
from typing import Any, Final

from gateway.cli import arguments as values
from gateway.cli import connect, output
from gateway.events import State

_LISTED: Final = 100
_AT_ONCE: Final = 10_000  # recipients that one request may move
_SHOWN: Final = (
    "id",
    "key",
    "account",
    "door",
    "envelope_sender",
    "from",
    "subject",
    "message_id",
    "size",
    "created_at",
    "expires_at",
)
_REPLY_CHARACTERS: Final = 100  # of a remote reply in a table


def register(verbs: Any, common: argparse.ArgumentParser) -> None:
    parser = verbs.add_parser("queue", parents=[common], help="summary, list, show, retry")
    nouns = parser.add_subparsers(metavar="summary|list|show|retry", required=True)

    summary = nouns.add_parser("summary", parents=[common], help="how many wait, by destination")
    output.add_json(summary)
    summary.set_defaults(run=_summary)

    listing = nouns.add_parser("list", parents=[common], help="queued recipients, oldest first")
    _add_filter(listing)
    _add_limit(listing, _LISTED, str(_LISTED))
    output.add_json(listing)
    listing.set_defaults(run=_list)

    show = nouns.add_parser("show", parents=[common], help="one message: its recipients and what happened to it")
    show.add_argument("id")
    output.add_json(show)
    show.set_defaults(run=_show)

    retry = nouns.add_parser("retry", parents=[common], help="try waiting recipients now")
    _add_filter(retry)
    _add_limit(retry, None, "all that match")
    retry.add_argument("--all", action="store_true", help="everything that waits, where no filter is given")
    retry.add_argument("--dry-run", action="store_true", help="count them and list the first 25")
    output.add_json(retry)
    retry.set_defaults(run=_retry)


def _add_filter(parser: argparse.ArgumentParser) -> None:
    for name, text in (
        ("id", "a message"),
        ("key", "mail of this key"),
        ("account", "mail of this account"),
        ("route", "on this route"),
        ("domain", "to this domain"),
    ):
        parser.add_argument(f"--{name}", metavar=name.upper(), help=text)
    parser.add_argument("--state", choices=[state.value for state in State if not state.final], help="in this state")
    parser.add_argument("--older", type=values.duration, metavar="1h", help="accepted longer ago than this")


def _add_limit(parser: argparse.ArgumentParser, default: int | None, words: str) -> None:
    parser.add_argument(
        "--limit", type=values.at_least_one, default=default, metavar="N", help=f"at most so many (default: {words})"
    )


def _filter(arguments: argparse.Namespace) -> dict[str, Any]:
    wanted = {name: getattr(arguments, name) for name in ("id", "key", "account", "route", "domain", "state", "limit")}
    return wanted | {"older_s": arguments.older}


def _summary(arguments: argparse.Namespace) -> int:
    def people(summary: Any) -> None:
        total = summary["total"]
        if not any(total.values()):
            print("The queue is empty.")
            return
        print(f"{total['ready']} ready, {total['waiting']} waiting, {total['in_hand']} in hand, {total['held']} held")
        if summary["destinations"]:
            print()
            output.table(
                ["ROUTE", "DOMAIN", "READY", "WAITING", "IN HAND", "HELD", "NEXT ATTEMPT", "OLDEST"],
                [
                    [
                        row["route"],
                        row["domain"] or "(all)",
                        row["ready"],
                        row["waiting"],
                        row["in_hand"],
                        row["held"],
                        row["next_attempt_at"],
                        row["oldest_at"],
                    ]
                    for row in summary["destinations"]
                ],
                empty="",
            )

    return output.emit(arguments, connect.Desk(arguments).act("queue.summary", {}), people)


def _list(arguments: argparse.Namespace) -> int:
    rows = connect.Desk(arguments).act("queue.list", _filter(arguments))

    def people(rows: Any) -> None:
        _print_rows(rows)
        if len(rows) == arguments.limit:
            print(f"\nThere may be more; --limit shows more than {arguments.limit}.")

    return output.emit(arguments, rows, people)


def _print_rows(rows: Any) -> None:
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
                row["blocked_by"],
                row["last_reply"][:_REPLY_CHARACTERS],
            ]
            for row in rows
        ],
        empty="Nothing queued matches.",
    )


def _show(arguments: argparse.Namespace) -> int:
    def people(message: Any) -> None:
        output.fields([*((name.replace("_", " "), message[name]) for name in _SHOWN), *_labels(message)])
        print()
        output.table(
            ["TO", "STATE", "ATTEMPTS", "NEXT ATTEMPT", "BLOCKED BY", "HOST", "LAST REPLY"],
            [
                [
                    r["to"],
                    r["state"],
                    r["attempts"],
                    r["next_attempt_at"],
                    r["blocked_by"],
                    r["host"],
                    r["last_reply"],
                ]
                for r in message["recipients"]
            ],
            empty="no recipient",
        )
        print()
        output.table(
            ["AT", "EVENT", "TO", "DETAIL"],
            [
                [e["at"], e["type"], e["to"], e.get("reply") or e.get("note") or e.get("notice") or e.get("client")]
                for e in message["events"]
            ],
            empty="no event",
        )

    return output.emit(arguments, connect.Desk(arguments).act("queue.show", {"id": arguments.id}), people)


def _labels(message: Any) -> list[tuple[str, Any]]:
    """Tags and metadata, where there are any."""
    pairs = [f"{name}={value}" for name, value in message["metadata"].items()]
    return [(name, values) for name, values in (("tags", message["tags"]), ("metadata", pairs)) if values]


def _retry(arguments: argparse.Namespace) -> int:
    desk = connect.Desk(arguments)
    args = _filter(arguments) | {"all": arguments.all, "limit": arguments.limit or _AT_ONCE}
    if arguments.dry_run:
        result = desk.act("queue.retry", args | {"dry_run": True})
        return output.emit(arguments, result, _print_dry_run)
    result = desk.act("queue.retry", args)
    moved = result["retried"]
    while arguments.limit is None and moved == _AT_ONCE:
        moved = desk.act("queue.retry", args)["retried"]
        result["retried"] += moved
    return output.emit(arguments, result, lambda r: print(f"{output.count(r['retried'], 'recipient')} due now."))


def _print_dry_run(result: Any) -> None:
    number = result["would_retry"]
    print(f"{'at least ' if number == _AT_ONCE else ''}{output.count(number, 'waiting recipient')} would be tried now.")
    if result["first"]:
        print()
        _print_rows(result["first"])
