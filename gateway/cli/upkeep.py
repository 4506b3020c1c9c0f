"""The commands that keep the data: backup, restore, export, migrate. How they are called; what they do is imported only
where one is: the store and its libraries take a quarter of a second, which other commands do not pay."""

import argparse
from pathlib import Path
from typing import Any

from gateway.cli import output, queuetable


def register(verbs: Any, common: argparse.ArgumentParser) -> None:
    backup = verbs.add_parser(
        "backup", parents=[common], help="everything a restore needs, in one file, while mail flows"
    )
    backup.add_argument(
        "file", metavar="FILE", type=Path, help="replaced once the new one is whole; - is standard output"
    )
    output.add_json(backup)
    backup.set_defaults(run=_backup)

    restore = verbs.add_parser("restore", parents=[common], help="a data directory from a backup; nothing is sent yet")
    _add_restore(restore)
    restore.set_defaults(run=_restore)

    export = verbs.add_parser("export", parents=[common], help="what is queued as .eml files, or as an mbox")
    where = export.add_mutually_exclusive_group(required=True)
    where.add_argument("directory", metavar="DIR", type=Path, nargs="?", help="ID.eml and ID.json a message")
    where.add_argument("--mbox", metavar="FILE", type=Path, help="all in one file, which is replaced")
    queuetable.add_filter(export)
    queuetable.add_limit(export, None, "all that match")
    output.add_json(export)
    export.set_defaults(run=_export)

    migrate = verbs.add_parser("migrate", parents=[common], help="bring the database to the schema of this version")
    migrate.add_argument("--check", action="store_true", help="say what would be done; exit code 1: something would")
    output.add_json(migrate)
    migrate.set_defaults(run=_migrate)


def _add_restore(restore: argparse.ArgumentParser) -> None:
    restore.add_argument("file", metavar="FILE", type=Path, help="of mail-gateway backup; - is standard input")
    restore.add_argument("--force", action="store_true", help="where there is data already: move that aside")
    what = restore.add_mutually_exclusive_group()
    what.add_argument("--check", action="store_true", help="only read the backup to its end, and say what it is")
    what.add_argument(
        "--deliver", action="store_true", help="send what is queued; what was delivered after the backup is sent again"
    )
    what.add_argument("--moved", action="store_true", help="no gateway ran after the backup: go on as if it were here")
    output.add_json(restore)


def _backup(arguments: argparse.Namespace) -> int:
    from gateway.cli import backup

    return backup.run(arguments)


def _restore(arguments: argparse.Namespace) -> int:
    from gateway.cli import restore

    return restore.run(arguments)


def _export(arguments: argparse.Namespace) -> int:
    from gateway.cli import export

    return export.run(arguments)


def _migrate(arguments: argparse.Namespace) -> int:
    from gateway.cli import migrate

    return migrate.run(arguments)
