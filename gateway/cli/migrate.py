"""`mail-gateway migrate`: the database brought to the schema of this version, by hand rather than by the next start.

Guarantees: each step is one transaction, so a step that is cut off has never happened; with --check nothing is written.
It makes no copy before: a transaction needs none, and a large queue has no room for one (`mail-gateway backup` does,
and takes an old schema as it is).
"""

import argparse
from typing import Any, Final

from gateway.cli import datadir, output
from gateway.config import Config
from gateway.store import backup as database_copy
from gateway.store import connection, db

EXIT_TO_DO: Final = 1


def run(arguments: argparse.Namespace) -> int:
    """The command; returns its exit code."""
    settings = datadir.read_settings(arguments)
    datadir.become_owner(settings.data_dir)
    datadir.require(settings.database_path)
    before = database_copy.schema(settings.database_path)
    steps = db.migrations()
    db.check_known(before, steps)
    to_do = steps[before:]
    if to_do and not arguments.check:
        _apply(settings)
    result = {
        "schema": before if arguments.check else len(steps),
        "known": len(steps),
        "steps": [step.name for step in to_do],
        "applied": bool(to_do) and not arguments.check,
    }
    output.emit(arguments, result, lambda shown: _print(settings, shown))
    return EXIT_TO_DO if to_do and arguments.check else 0


def _apply(settings: Config) -> None:
    with datadir.held(settings, datadir.STOP_IT):
        opened = connection.open_writer(settings.database_path)
        try:
            db.migrate(opened.cursor(), db.migrations())
        except Exception as error:  # noqa: BLE001 - raised again, as ours
            translated = connection.translate(error)
            raise translated from (None if translated is error else error)
        finally:
            opened.close()


def _print(settings: Config, result: Any) -> None:
    if not result["steps"]:
        print(f"{settings.database_path} has schema {result['schema']}, that of this version.")
        return
    said = "was brought up" if result["applied"] else "would be brought up"
    print(f"{settings.database_path} {said} to schema {result['known']} by {', '.join(result['steps'])}.")
