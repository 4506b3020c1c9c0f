"""`mail-gateway erase`: removes a person from all that is stored, but what keeps them from being written to again."""

import argparse
from typing import Any, Final

from gateway.cli import connect, output
from gateway.cli.arguments import delay

_TRY_LATER: Final = 75  # EX_TEMPFAIL: something is in hand
_WORDS: Final = (
    ("messages", "messages, with their contents and events"),
    ("recipients", "recipients of messages to others, too"),
    ("events", "events"),
    ("contents", "contents of messages to others, too"),
    ("later", "contents of messages that others still wait for, once they have them"),
    ("changed", "rows where a word stands in place of the address"),
    ("idempotency", "names of requests"),
    ("webhooks", "events that endpoints were still to be told of"),
    ("suppressions", "suppressions, which keep a hash"),
    ("acquaintances", "keys that knew the address"),
)


def register(verbs: Any, common: argparse.ArgumentParser) -> None:
    parser = verbs.add_parser(
        "erase", parents=[common], help="remove a person from all that is stored; suppressions keep a hash"
    )
    parser.add_argument("address", metavar="ADDRESS", help="of a recipient or a sender, in whatever case")
    parser.add_argument("--account", metavar="A", help="what is of this account (default: all)")
    parser.add_argument("--dry-run", action="store_true", help="only count")
    parser.add_argument(
        "--wait", type=delay, metavar="TIME", help="how long mail that is just being sent is waited for (default: 30s)"
    )
    output.add_json(parser)
    parser.set_defaults(run=_erase)


def _erase(arguments: argparse.Namespace) -> int:
    result = connect.Desk(arguments).act(
        "erase",
        {
            "address": arguments.address,
            "account": arguments.account,
            "dry_run": arguments.dry_run,
            "wait_s": arguments.wait,
        },
    )
    output.emit(arguments, result, _print)
    return _TRY_LATER if result["in_hand"] and not result["dry_run"] else 0


def _print(result: Any) -> None:
    counted = [(number, text) for name, text in _WORDS if (number := result["removed"][name])]
    print("Would be removed:" if result["dry_run"] else "Removed:")
    for number, text in counted:
        print(f"  {number:>8}  {text}")
    if not counted:
        print("  nothing")
    if result["in_hand"]:
        messages = output.count(result["in_hand"], "message")
        print(f"{messages} of it in hand: being sent just now. Ask again in a minute.")
    elif result["removed"]["later"] and not result["dry_run"]:
        print("Ask again when the others have theirs, so that no trace of these contents is left in the database.")
    if result["dry_run"]:
        print("Events and what is not of messages are not counted beforehand.")
    elif not result["rewritten"]:
        print("The database could not be written anew (it is too large, or the disk too full, or it was in use):")
        print("docs/howto/privacy.md says what traces may be left in it.")
    print(f"In a log with hashed addresses it is {result['code']}.")
