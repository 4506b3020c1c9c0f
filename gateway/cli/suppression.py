"""`mail-gateway suppression`: who is not sent to."""

import argparse
from pathlib import Path
from typing import Any

from gateway.cli import arguments as values
from gateway.cli import connect, output
from gateway.errors import GatewayError, Reason

REASONS = ("operator", "complaint", "unsubscribe", "bounce")


class NotFoundError(GatewayError):
    """There is no such entry for everybody; there may be one for an account."""


def register(verbs: Any, common: argparse.ArgumentParser) -> None:
    parser = verbs.add_parser(
        "suppression", parents=[common], help="list, add, remove, import, export who is not sent to"
    )
    nouns = parser.add_subparsers(metavar="list|add|remove|import|export", required=True)

    listing = nouns.add_parser("list", parents=[common], help="newest first")
    listing.add_argument("--account", metavar="A", help="of this account (default: of all, and for everybody)")
    listing.add_argument("--address", metavar="ADDRESS", help="of this address or domain")
    listing.add_argument("--reason", choices=REASONS, metavar="R", help=f"one of {', '.join(REASONS)}")
    listing.add_argument("--tag", metavar="T", help="for mail with this tag")
    listing.add_argument(
        "--limit", type=values.at_least_one, default=100, metavar="N", help="at most so many (default: 100; most: 1000)"
    )
    output.add_json(listing)
    listing.set_defaults(run=_list)

    add = nouns.add_parser("add", parents=[common], help="send nothing to an address or a domain any more")
    _add_value(add)
    _add_account(add)
    add.add_argument("--tag", metavar="T", help="only mail with this tag (default: all)")
    add.add_argument("--reason", choices=REASONS, metavar="R", help=f"one of {', '.join(REASONS)} (default: operator)")
    add.add_argument("--expires", type=values.duration, metavar="90d", help="end it after this time (default: never)")
    add.add_argument("--note", metavar="TEXT", help="for whoever reads the list")
    output.add_json(add)
    add.set_defaults(run=_add)

    remove = nouns.add_parser("remove", parents=[common], help="send there again")
    _add_value(remove)
    _add_account(remove)
    remove.add_argument("--tag", metavar="T", help="only what is for this tag (default: whatever its tag)")
    output.add_json(remove)
    remove.set_defaults(run=_remove)

    _register_files(nouns, common)


def _register_files(nouns: Any, common: argparse.ArgumentParser) -> None:
    import_ = nouns.add_parser("import", parents=[common], help="add what a CSV file or a list of addresses has")
    import_.add_argument("file", metavar="FILE", type=Path, help="- is standard input")
    _add_account(import_)
    import_.add_argument("--reason", choices=REASONS, metavar="R", help="where a line has none (default: operator)")
    output.add_json(import_)
    import_.set_defaults(run=_import)

    export = nouns.add_parser("export", parents=[common], help="the list as a CSV file, for import")
    export.add_argument(
        "file", metavar="FILE", type=Path, help="replaced once the new one is whole; - is standard output"
    )
    _add_account(export)
    output.add_json(export)
    export.set_defaults(run=_export)


def _add_value(parser: argparse.ArgumentParser) -> None:
    value = parser.add_mutually_exclusive_group(required=True)
    value.add_argument("address", metavar="ADDRESS", nargs="?")
    value.add_argument("--domain", metavar="DOMAIN", help="all addresses of just this domain")


def _add_account(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--account", metavar="A", help="whose mail (default: everybody's)")


def _value(arguments: argparse.Namespace) -> str:
    return arguments.address if arguments.domain is None else f"@{arguments.domain.removeprefix('@')}"


def _list(arguments: argparse.Namespace) -> int:
    names = ("account", "address", "reason", "tag", "limit")
    result = connect.Desk(arguments).act("suppression.list", {name: getattr(arguments, name) for name in names})
    return output.emit(arguments, result, _print_list)


def _print_list(result: Any) -> None:
    output.table(
        ["ADDRESS", "REASON", "ACCOUNT", "TAG", "SINCE", "EXPIRES", "EVENT", "NOTE"],
        [
            [
                one["address"],
                one["reason"],
                one["account"] or "(everybody)",
                one["tag"],
                one["created_at"],
                one["expires_at"] or "never",
                one["event_id"],
                one["note"],
            ]
            for one in result["suppressions"]
        ],
        empty="Nobody is suppressed.",
    )
    if result["more"]:
        print("There are more: name an address or a reason, or use export.")


def _add(arguments: argparse.Namespace) -> int:
    args = {
        "account": arguments.account,
        "address": _value(arguments),
        "tag": arguments.tag,
        "reason": arguments.reason,
        "expires_s": arguments.expires,
        "note": arguments.note,
    }
    result = connect.Desk(arguments).act("suppression.add", args)

    def people(one: Any) -> None:
        until = f"until {one['expires_at']}" if one["expires_at"] else "until it is removed"
        whose = f"for {one['account']}" if one["account"] else "for everybody"
        print(output.clean(f"{one['address']} is suppressed {whose}, {until} ({one['reason']})."))

    return output.emit(arguments, result, people)


def _remove(arguments: argparse.Namespace) -> int:
    args = {"account": arguments.account, "address": _value(arguments), "tag": arguments.tag}
    try:
        result = connect.Desk(arguments).act("suppression.remove", args)
    except GatewayError as error:
        if arguments.account is None and connect.is_for(error, Reason.NOT_FOUND):
            (text,) = connect.words(error)
            # What bounces, complaints and unsubscriptions add is an account's.
            shown = f"mail-gateway suppression list --address {args['address']}"
            raise NotFoundError(f"{text} For an account (--account) there may be: {shown}") from error
        raise

    def people(gone: Any) -> None:
        print(
            output.clean(f"{gone['address'].removeprefix('@')} is sent to again: {entries(gone['removed'])} removed.")
        )

    return output.emit(arguments, result, people)


def entries(number: int) -> str:
    return "1 entry" if number == 1 else f"{number} entries"


def _import(arguments: argparse.Namespace) -> int:
    from gateway.cli import suppressionfile  # and with it the store, a quarter of a second

    return suppressionfile.import_(arguments)


def _export(arguments: argparse.Namespace) -> int:
    from gateway.cli import suppressionfile

    return suppressionfile.export(arguments)
