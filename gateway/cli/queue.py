"""`mail-gateway queue`: what waits, why, and when next."""

import argparse
from typing import Any

from gateway import yamltree
from gateway.cli import connect, output
from gateway.events import State


def register(verbs: Any, common: argparse.ArgumentParser) -> None:
    parser = verbs.add_parser("queue", help="summary, list, show, retry")
    nouns = parser.add_subparsers(metavar="summary|list|show|retry", required=True)

    summary = nouns.add_parser("summary", parents=[common], help="how many wait, by destination")
    output.add_json(summary)
    summary.set_defaults(run=_summary)

    listing = nouns.add_parser("list", parents=[common], help="queued recipients, oldest first")
    _add_filter(listing)
    output.add_json(listing)
    listing.set_defaults(run=_list)

    show = nouns.add_parser("show", parents=[common], help="one message: its recipients and what happened to it")
    show.add_argument("id")
    output.add_json(show)
    show.set_defaults(run=_show)

    retry = nouns.add_parser("retry", parents=[common], help="try waiting recipients now")
    _add_filter(retry)
    retry.add_argument("--all", action="store_true", help="everything that waits")
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
    parser.add_argument("--older", metavar="1h", help="accepted longer ago than this")
    parser.add_argument("--limit", type=int, default=100, metavar="N", help="at most so many (default: 100)")


def _filter(arguments: argparse.Namespace) -> dict[str, Any]:
    wanted = {name: getattr(arguments, name) for name in ("id", "key", "account", "route", "domain", "state", "limit")}
    return wanted | {"older_s": yamltree.duration_s(arguments.older) if arguments.older else None}


def _summary(arguments: argparse.Namespace) -> int:
    def people(summary: Any) -> None:
        total = summary["total"]
        print(f"{total['ready']} ready, {total['waiting']} waiting, {total['in_hand']} in hand, {total['held']} held")
        if summary["destinations"]:
            print()
        if summary["destinations"]:
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

    return output.emit(arguments, connect.act(arguments, "queue.summary", {}), people)


def _list(arguments: argparse.Namespace) -> int:
    return output.emit(arguments, connect.act(arguments, "queue.list", _filter(arguments)), _print_rows)


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
                row["last_reply"][:100],
            ]
            for row in rows
        ],
        empty="Nothing queued matches.",
    )


def _show(arguments: argparse.Namespace) -> int:
    def people(message: Any) -> None:
        output.fields(
            [(name, message[name]) for name in ("id", "key", "account", "door", "envelope_sender", "from", "subject")]
        )
        output.fields([(name, message[name]) for name in ("message_id", "size", "created_at", "expires_at")])
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
                [e["at"], e["type"], e["to"], e.get("reply") or e.get("note") or e.get("client")]
                for e in message["events"]
            ],
            empty="no event",
        )

    return output.emit(arguments, connect.act(arguments, "queue.show", {"id": arguments.id}), people)


def _retry(arguments: argparse.Namespace) -> int:
    args = _filter(arguments) | {"all": arguments.all, "dry_run": arguments.dry_run}

    def people(result: Any) -> None:
        if arguments.dry_run:
            print(f"{result['would_retry']} recipients would be tried now.")
            if result["first"]:
                _print_rows(result["first"])
        else:
            print(f"{result['retried']} recipients are tried now.")

    return output.emit(arguments, connect.act(arguments, "queue.retry", args), people)
