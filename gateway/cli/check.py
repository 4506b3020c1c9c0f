"""`mail-gateway check` and `mail-gateway config show`: what the configuration says, and every fault in it."""

import argparse
import contextlib
import os
import sys
from pathlib import Path
from typing import Any, Final

from gateway import config, configfile, effective
from gateway.cli import datadir, output
from gateway.errors import GatewayError, Problem

EXIT_CONFIG: Final = 78
NO_FILE: Final = "Name another file with -c FILE or $MAIL_GATEWAY_CONFIG; `mail-gateway dev` needs none."


def register(verbs: Any, common: argparse.ArgumentParser) -> None:
    check = verbs.add_parser("check", parents=[common], help="every problem of the configuration, with its line")
    output.add_json(check)
    check.set_defaults(run=_check)

    parser = verbs.add_parser("config", parents=[common], help="show the configuration that is in force")
    nouns = parser.add_subparsers(metavar="show", required=True)
    show = nouns.add_parser("show", parents=[common], help="the configuration with every value, secrets masked")
    show.add_argument("--effective", action="store_true", required=True, help="defaults too")
    show.set_defaults(run=_show)


def _check(arguments: argparse.Namespace) -> int:
    """As root, by the eyes of who owns the data directory: root could read what the daemon cannot."""
    path = arguments.config or config.default_path()
    unowned = False
    with contextlib.suppress(GatewayError):  # read_config says what is wrong
        data_dir = configfile.read_data_dir(path)
        datadir.become_owner(data_dir)
        unowned = os.geteuid() == 0 and not data_dir.exists()
    _, problems, warnings = configfile.read_config(path)
    if unowned:
        text = "is not there yet, so this was judged as root; whether the daemon's own user can read all is not known"
        warnings = (*warnings, Problem("data_dir", text))
    result = {
        "file": str(path),
        "problems": [{"path": p.path, "line": p.line, "message": p.message} for p in problems],
        "warnings": [{"path": w.path, "line": w.line, "message": w.message} for w in warnings],
    }

    def people(_: Any) -> None:
        for warning in warnings:
            print(output.clean(f"{path}: warning: {warning}"), file=sys.stderr)
        for problem in problems:
            print(output.clean(f"{path}: {problem}"), file=sys.stderr)
        if problems:
            print(output.count(len(problems), "problem") if is_there(path) else NO_FILE, file=sys.stderr)
        else:
            print(output.clean(f"{path}: no problem found"))

    output.emit(arguments, result, people)
    return EXIT_CONFIG if problems else 0


def is_there(path: Path) -> bool:
    """Whether there is a file, also one whose directory is not ours to look into."""
    try:
        return path.is_file()
    except PermissionError:
        return True


def _show(arguments: argparse.Namespace) -> int:
    print(effective.show(configfile.load_outside(arguments.config)), end="")
    return 0
