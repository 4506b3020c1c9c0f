"""`mail-gateway log`: the level of the running daemon's log, shown and changed."""

import argparse
from typing import Any

from gateway import observe
from gateway.cli import connect, output
from gateway.errors import GatewayError


class NoDaemon(GatewayError):
    """There is no log without a daemon."""


def register(verbs: Any, common: argparse.ArgumentParser) -> None:
    parser = verbs.add_parser("log", parents=[common], help="the level of the daemon's log: show it, or set it")
    output.add_json(parser)
    parser.set_defaults(run=_show)
    nouns = parser.add_subparsers(metavar="level LEVEL")

    level = nouns.add_parser("level", parents=[common], help="set it until the next restart or reload")
    level.add_argument("level", choices=observe.LEVELS)
    output.add_json(level)
    level.set_defaults(run=_level)


def _show(arguments: argparse.Namespace) -> int:
    return output.emit(arguments, _ask(arguments, "log.show", {}), _print)


def _level(arguments: argparse.Namespace) -> int:
    return output.emit(arguments, _ask(arguments, "log.level", {"level": arguments.level}), _print)


def _ask(arguments: argparse.Namespace, action: str, args: dict[str, Any]) -> Any:
    result = connect.Desk(arguments).ask_daemon(action, args)
    if result is None:
        raise NoDaemon("no daemon runs here; log.level of the configuration is what it will start with")
    return result


def _print(result: Any) -> None:
    output.fields(
        [
            ("level", result["level"]),
            ("configured", result["configured"]),
            ("format", result["format"]),
            ("mail log", "written" if result["mail_log"] else "not written at this level"),
        ]
    )
