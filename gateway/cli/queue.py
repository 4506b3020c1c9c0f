"""`mail-gateway queue`: what waits, why, and when next; its other verbs are in queuechange.py and queueexplain.py."""

import argparse
from typing import Any, Final

from gateway.cli import connect, output, queuechange, queueexplain, queuetable

_LISTED: Final = 100
_DESTINATIONS: Final = 25  # that the summary names
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


def register(verbs: Any, common: argparse.ArgumentParser) -> None:
    parser = verbs.add_parser("queue", parents=[common], help="what waits and why; try it now, hold it, cancel it, …")
    names = "summary|list|show|explain|retry|hold|release|cancel|bounce|redirect|suspend|resume"
    nouns = parser.add_subparsers(metavar=names, required=True)

    summary = nouns.add_parser("summary", parents=[common], help="how many wait, by destination; what is suspended")
    queuetable.add_limit(summary, None, f"{_DESTINATIONS} destinations; with --json all")
    output.add_json(summary)
    summary.set_defaults(run=_summary)

    listing = nouns.add_parser("list", parents=[common], help="queued recipients, oldest first")
    queuetable.add_filter(listing)
    queuetable.add_limit(listing, _LISTED, str(_LISTED))
    output.add_json(listing)
    listing.set_defaults(run=_list)

    show = nouns.add_parser("show", parents=[common], help="one message: its recipients and what happened to it")
    show.add_argument("id")
    output.add_json(show)
    show.set_defaults(run=_show)

    queueexplain.register(nouns, common)
    queuechange.register(nouns, common)


def _summary(arguments: argparse.Namespace) -> int:
    def people(summary: Any) -> None:
        total = summary["total"]
        if any(total.values()):
            print(
                f"{total['ready']} ready, {total['waiting']} waiting, {total['in_hand']} in hand, {total['held']} held"
            )
            print(f"The oldest came at {summary['oldest_at']}.")
        else:
            print("The queue is empty.")
        if summary["suspensions"]:
            print("\nSuspended:")
            queuetable.print_suspensions(summary["suspensions"])
        if summary["destinations"]:
            print()
            _print_destinations(summary["destinations"], summary["more"])

    limit = arguments.limit or (None if arguments.json else _DESTINATIONS)
    return output.emit(arguments, connect.Desk(arguments).act("queue.summary", {"limit": limit}), people)


def _print_destinations(destinations: Any, more: int) -> None:
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
            for row in destinations
        ],
        empty="",
    )
    if more:
        print(f"\nand {output.count(more, 'destination')} with less; --limit shows more.")


def _list(arguments: argparse.Namespace) -> int:
    rows = connect.Desk(arguments).act("queue.list", queuetable.filter_of(arguments))

    def people(rows: Any) -> None:
        queuetable.print_rows(rows)
        if len(rows) == arguments.limit:
            print(f"\nThere may be more; --limit shows more than {arguments.limit}.")

    return output.emit(arguments, rows, people)


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
                    queuetable.blocked(r),
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
        if any(r["blocked_by"] for r in message["recipients"]):
            print(f"\nWhy, and what would be tried: mail-gateway queue explain {message['id']}")

    return output.emit(arguments, connect.Desk(arguments).act("queue.show", {"id": arguments.id}), people)


def _labels(message: Any) -> list[tuple[str, Any]]:
    """Tags and metadata, where there are any."""
    pairs = [f"{name}={value}" for name, value in message["metadata"].items()]
    return [(name, values) for name, values in (("tags", message["tags"]), ("metadata", pairs)) if values]
