"""`mail-gateway template`: texts with `{{names}}` in them, kept for those who send."""

import argparse
import sys
from pathlib import Path
from typing import Any, Final

from gateway.cli import connect, output
from gateway.errors import GatewayError
from gateway.policy.templates import MAX_PART_BYTES

_STANDARD_INPUT: Final = "-"


class PartError(GatewayError):
    """A file that was named cannot be a part of a template."""


def register(verbs: Any, common: argparse.ArgumentParser) -> None:
    parser = verbs.add_parser("template", parents=[common], help="add, list, show, remove templates")
    nouns = parser.add_subparsers(metavar="add|list|show|remove", required=True)

    add = nouns.add_parser("add", parents=[common], help="store a template, once all of it can be read")
    add.add_argument("alias", help="the name to send by: a-z, 0-9, _ and -")
    _add_account(add)
    add.add_argument("--subject", default="", metavar="S")
    add.add_argument("--html", metavar="F", help="file with the html part, - for standard input")
    add.add_argument("--text", metavar="F", help="file with the text part, - for standard input")
    output.add_json(add)
    add.set_defaults(run=_add)

    listing = nouns.add_parser("list", parents=[common], help="an account's templates and those of the directory")
    _add_account(listing)
    output.add_json(listing)
    listing.set_defaults(run=_list)

    for verb, run, text in (
        ("show", _show, "one template with its text"),
        ("remove", _remove, "remove a template for good"),
    ):
        one = nouns.add_parser(verb, parents=[common], help=text)
        one.add_argument("reference", metavar="alias|id")
        _add_account(one)
        output.add_json(one)
        one.set_defaults(run=run)


def _add_account(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--account", required=True, metavar="A", help="whose template it is")


def _add(arguments: argparse.Namespace) -> int:
    if arguments.html == arguments.text == _STANDARD_INPUT:
        raise PartError("standard input can be one of the parts, not both")
    args = {
        "account": arguments.account,
        "alias": arguments.alias,
        "subject": arguments.subject,
        "html": _read(arguments.html),
        "text": _read(arguments.text),
    }
    result = connect.Desk(arguments).act("template.add", args)
    return output.emit(arguments, result, lambda made: print(f"The template {made['alias']} is {made['id']}."))


def _list(arguments: argparse.Namespace) -> int:
    def people(templates: Any) -> None:
        output.table(
            ["ALIAS", "ID", "SUBJECT", "SOURCE", "UPDATED"],
            [[one["alias"], one["id"], one["subject"], one["source"], one["updated_at"]] for one in templates],
            empty=f"{arguments.account} has no template yet: mail-gateway template add",
        )

    result = connect.Desk(arguments).act("template.list", {"account": arguments.account})
    return output.emit(arguments, result, people)


def _show(arguments: argparse.Namespace) -> int:
    result = connect.Desk(arguments).act("template.show", _reference(arguments))
    return output.emit(arguments, result, _print_template)


def _remove(arguments: argparse.Namespace) -> int:
    result = connect.Desk(arguments).act("template.remove", _reference(arguments))
    return output.emit(arguments, result, lambda gone: print(f"The template {gone['alias'] or gone['id']} is removed."))


def _reference(arguments: argparse.Namespace) -> dict[str, str]:
    return {"account": arguments.account, "reference": arguments.reference}


def _print_template(template: Any) -> None:
    shown = ("alias", "id", "subject", "source", "created_at", "updated_at")
    output.fields([(name.removesuffix("_at"), template[name]) for name in shown])
    for name in ("html_body", "text_body"):
        if template[name] is not None:
            print(f"\n{name}:")
            for line in template[name].splitlines():
                print(output.clean(line))


def _read(name: str | None) -> str | None:
    """A part's text; without a byte order mark, which some editors leave."""
    if name is None:
        return None
    try:
        content = sys.stdin.buffer.read(MAX_PART_BYTES + 1) if name == _STANDARD_INPUT else _head(Path(name))
        if len(content) > MAX_PART_BYTES:
            raise PartError(f"{name} has more than {MAX_PART_BYTES} bytes")
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise PartError(f"{name} is not UTF-8 text (byte {error.start})") from error
    except OSError as error:
        raise PartError(f"{name} cannot be read: {error.strerror}") from error


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(MAX_PART_BYTES + 1)
