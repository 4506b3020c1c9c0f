"""`mail-gateway webhook`: programs that are told of events."""

import argparse
import sys
from typing import Any

from gateway.cli import arguments as values
from gateway.cli import connect, output

FORMATS = ("native", "cloudmails", "cloudmails-nested", "sendmux")
_VERBS = "add|list|show|test|pause|resume|replay|rotate|remove"


def register(verbs: Any, common: argparse.ArgumentParser) -> None:
    parser = verbs.add_parser("webhook", parents=[common], help="add, list, test, pause, replay, remove webhooks")
    nouns = parser.add_subparsers(metavar=_VERBS, required=True)
    _register_add(nouns, common)

    listing = nouns.add_parser("list", parents=[common], help="all webhooks, by age")
    listing.add_argument("--account", metavar="A", help="of this account (default: of all)")
    output.add_json(listing)
    listing.set_defaults(run=_list)

    _one(nouns, common, "show", "a webhook, its last requests and what was given up", _show)
    _one(nouns, common, "test", "ping it; one that is pending is active once it answers", _test)
    _one(nouns, common, "pause", "tell it nothing until it is resumed; what happens meanwhile waits", _pause)
    _one(nouns, common, "resume", "go on where it stopped, paused or disabled", _resume)

    replay = _one(nouns, common, "replay", "tell it again: from a place or a time on, or what was given up", _replay)
    start = replay.add_mutually_exclusive_group(required=True)
    start.add_argument("--cursor", metavar="C", help="everything behind this place of the event log")
    start.add_argument("--since", metavar="2h", type=values.duration, help="everything of the last time")
    start.add_argument("--dead", action="store_true", help="what was given up after the last retry")

    rotate = _one(nouns, common, "rotate", "give it another secret and print it", _rotate)
    rotate.add_argument(
        "--overlap", metavar="24h", type=values.delay, help="sign with the old one too, so long (default: 24h)"
    )
    _add_secret(rotate)

    _one(nouns, common, "remove", "forget it, and what waits for it", _remove)


def _register_add(nouns: Any, common: argparse.ArgumentParser) -> None:
    add = nouns.add_parser("add", parents=[common], help="make a webhook, ping it and print its secret")
    add.add_argument("url", metavar="URL")
    add.add_argument("--account", metavar="A", help="of this account's mail (default: of everybody's)")
    add.add_argument("--format", choices=FORMATS, metavar="F", help=f"one of {', '.join(FORMATS)} (default: native)")
    add.add_argument("--type", action="append", metavar="T", help="only events of this type: email.delivered, …")
    add.add_argument("--key", action="append", metavar="K", help="only of mail that this key handed in")
    add.add_argument("--tag", action="append", metavar="T", help="only of mail with this tag")
    add.add_argument(
        "--final-only", action="store_true", help="only the final word on each recipient, and what follows"
    )
    _add_secret(add)
    output.add_json(add)
    add.set_defaults(run=_add)


def _add_secret(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--secret-stdin", action="store_true", help="take the secret from standard input (default: a new one)"
    )


def _one(nouns: Any, common: argparse.ArgumentParser, verb: str, text: str, run: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = nouns.add_parser(verb, parents=[common], help=text)
    parser.add_argument("id", metavar="ID", help="as list shows it: whk_…")
    output.add_json(parser)
    parser.set_defaults(run=run)
    return parser


def _secret(arguments: argparse.Namespace) -> str | None:
    return sys.stdin.readline().strip() if arguments.secret_stdin else None


def _add(arguments: argparse.Namespace) -> int:
    wanted = {
        "url": arguments.url,
        "account": arguments.account,
        "format": arguments.format,
        "types": arguments.type,
        "keys": arguments.key,
        "tags": arguments.tag,
        "final_only": arguments.final_only,
        "secret": _secret(arguments),
    }
    return output.emit(arguments, connect.Desk(arguments).act("webhook.add", wanted), _print_added)


def _print_added(webhook: Any) -> None:
    print(f"{webhook['id']} is made. Its secret, which is shown this once:\n\n{webhook['secret']}\n")
    _print_tested(webhook)


def _list(arguments: argparse.Namespace) -> int:
    def people(webhooks: Any) -> None:
        output.table(
            ["ID", "ACCOUNT", "STATE", "FORMAT", "PARKED", "DEAD", "URL"],
            [
                [
                    one["id"],
                    one["account"] or "all",
                    one["state"],
                    one["format"],
                    one["parked"],
                    one["dead"],
                    one["url"],
                ]
                for one in webhooks
            ],
            empty="There is no webhook yet: mail-gateway webhook add https://hooks.example.com/mail",
        )

    return output.emit(arguments, connect.Desk(arguments).act("webhook.list", {"account": arguments.account}), people)


def _show(arguments: argparse.Namespace) -> int:
    return output.emit(arguments, _act(arguments, "show"), _print_shown)


def _print_shown(webhook: Any) -> None:
    _print_webhook(webhook)
    if webhook["attempts"]:
        print("\nThe last requests:\n")
        output.table(
            ["AT", "EVENT", "TYPE", "ATTEMPT", "STATUS", "MS", "ERROR"],
            [
                [one["at"], one["event_id"], one["type"], one["attempt"], one["status"], one["took_ms"], one["error"]]
                for one in webhook["attempts"][:20]
            ],
            empty="",
        )
    if webhook["given_up"]:
        print("\nWhat was given up:\n")
        output.table(
            ["AT", "EVENT", "TYPE", "ATTEMPTS", "REASON"],
            [
                [one["at"], one["event_id"], one["type"], one["attempts"], one["reason"]]
                for one in webhook["given_up"][:20]
            ],
            empty="",
        )


def _print_webhook(webhook: Any) -> None:
    output.fields(
        [
            ("id", webhook["id"]),
            ("account", webhook["account"] or "all"),
            ("url", webhook["url"]),
            ("format", webhook["format"]),
            ("types", webhook["types"] or "all"),
            ("keys", webhook["keys"] or "all"),
            ("tags", webhook["tags"] or "all"),
            ("final only", webhook["final_only"]),
            ("state", webhook["state"] + (f": {webhook['reason']}" if webhook["reason"] else "")),
            ("cursor", webhook["cursor"]),
            ("parked", webhook["parked"]),
            ("dead", webhook["dead"]),
            ("failing since", webhook["failing_since"]),
            ("old secret until", webhook["old_secret_until"]),
        ]
    )


def _test(arguments: argparse.Namespace) -> int:
    return output.emit(arguments, _act(arguments, "test"), _print_tested)


def _print_tested(webhook: Any) -> None:
    test = webhook["test"]
    if test["ok"]:
        print(f"It answered {test['status']} within {test['took_ms']} ms and is {webhook['state']}.")
    else:
        print(output.clean(f"It did not answer its test ({test['error']}) and is {webhook['state']}."))
        if webhook["state"] == "pending":
            print(f"It is told nothing until it does: mail-gateway webhook test {webhook['id']}")


def _pause(arguments: argparse.Namespace) -> int:
    return output.emit(arguments, _act(arguments, "pause"), _print_webhook)


def _resume(arguments: argparse.Namespace) -> int:
    return output.emit(arguments, _act(arguments, "resume"), _print_webhook)


def _replay(arguments: argparse.Namespace) -> int:
    wanted = {"cursor": arguments.cursor, "ago_s": arguments.since, "dead": arguments.dead}
    return output.emit(arguments, _act(arguments, "replay", **wanted), _print_webhook)


def _rotate(arguments: argparse.Namespace) -> int:
    result = _act(arguments, "rotate", overlap_s=arguments.overlap, secret=_secret(arguments))
    return output.emit(arguments, result, _print_rotated)


def _print_rotated(webhook: Any) -> None:
    until = webhook["old_secret_until"]
    print(f"The new secret of {webhook['id']}, which is shown this once:\n\n{webhook['secret']}\n")
    print(f"The old one is good until {until}." if until else "The old one is good no more.")


def _remove(arguments: argparse.Namespace) -> int:
    result = _act(arguments, "remove")
    return output.emit(arguments, result, lambda webhook: print(f"The webhook {webhook['id']} is removed."))


def _act(arguments: argparse.Namespace, verb: str, **more: Any) -> Any:
    return connect.Desk(arguments).act(f"webhook.{verb}", {"id": arguments.id, **more})
