"""`mail-gateway check` and `mail-gateway config show`: what the configuration says, and every fault in it."""

import argparse
import sys
from typing import Any

from gateway import config, configfile, effective
from gateway.cli import output

EXIT_CONFIG = 78


def register(verbs: Any, common: argparse.ArgumentParser) -> None:
    check = verbs.add_parser("check", parents=[common], help="every problem of the configuration, with its line")
    output.add_json(check)
    check.set_defaults(run=_check)

    nouns = verbs.add_parser("config", help="show").add_subparsers(metavar="show", required=True)
    show = nouns.add_parser("show", parents=[common], help="the configuration with every value, secrets masked")
    show.add_argument("--effective", action="store_true", required=True, help="defaults too")
    show.set_defaults(run=_show)


def _check(arguments: argparse.Namespace) -> int:
    path = arguments.config or config.default_path()
    _, problems, warnings = configfile.read_config(path)
    result = {
        "file": str(path),
        "problems": [{"path": p.path, "line": p.line, "message": p.message} for p in problems],
        "warnings": [{"path": w.path, "line": w.line, "message": w.message} for w in warnings],
    }

    def people(_: Any) -> None:
        for warning in warnings:
            print(f"{path}: warning: {warning}")
        for problem in problems:
            print(f"{path}: {problem}", file=sys.stderr)
        if not problems:
            print(f"{path}: no problem found")

    output.emit(arguments, result, people)
    return EXIT_CONFIG if problems else 0


def _show(arguments: argparse.Namespace) -> int:
    print(effective.show(configfile.load(arguments.config)), end="")
    return 0
