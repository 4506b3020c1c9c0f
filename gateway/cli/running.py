"""`mail-gateway reload` and `status`: the daemon that runs now."""

import argparse
from pathlib import Path
from typing import Any, Final

from gateway import configfile, control
from gateway.cli import connect, output
from gateway.errors import GatewayError, StoreError

EXIT_CONFIG: Final = 78  # EX_CONFIG, as a start has it
EXIT_NOT_RUNNING: Final = 3  # as systemctl(1) has it
_UNITS: Final = ((86_400, "d"), (3600, "h"), (60, "m"), (1, "s"))


class NotRunning(GatewayError):
    """There is nobody to ask."""


def register(verbs: Any, common: argparse.ArgumentParser) -> None:
    reload_ = verbs.add_parser("reload", parents=[common], help="have the daemon read its configuration again")
    _add_data_dir(reload_)
    output.add_json(reload_)
    reload_.set_defaults(run=_reload)

    status = verbs.add_parser("status", parents=[common], help="is it running, does it take mail, what is queued")
    _add_data_dir(status)
    output.add_json(status)
    status.set_defaults(run=_status)


def _add_data_dir(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data-dir",
        type=Path,
        metavar="DIR",
        help="ask the daemon of this directory, whatever the configuration says by now (default: its data_dir)",
    )


def _reload(arguments: argparse.Namespace) -> int:
    data_dir = _data_dir(arguments)
    try:
        outcome = _ask(data_dir, "reload")
    except connect.ActionError as error:
        if error.code != control.CONFIGURATION:
            raise
        status = _ask(data_dir, "status")
        where = f"{status['config']}: " if status is not None else ""  # the daemon's file, whatever ours is
        output.complain(f"{where}the configuration cannot be used; nothing was changed", *error.problems)
        return EXIT_CONFIG
    if outcome is None:
        hint = " (where data_dir was changed, name the old one: --data-dir)" if arguments.data_dir is None else ""
        raise NotRunning(f"no daemon serves {data_dir}: there is nothing to reload{hint}")
    return output.emit(arguments, outcome, _print_outcome)


def _data_dir(arguments: argparse.Namespace) -> Path:
    named: Path | None = arguments.data_dir
    return configfile.read_data_dir(arguments.config) if named is None else named


def _ask(data_dir: Path, action: str) -> Any:
    """What the daemon of a data directory says; None where none runs. Raises StoreError where one starts or stops."""
    answer = connect.ask(data_dir, action, {})
    try:
        taken = answer is None and control.is_taken(data_dir)
    except OSError as error:
        raise StoreError(f"whether a daemon runs cannot be seen: {error}") from error
    if taken:
        raise StoreError(
            f"the daemon of {data_dir} is starting or stopping, or a command works there: try again in a moment"
        )
    return answer


def _print_outcome(outcome: Any) -> None:
    for warning in outcome["warnings"]:
        print(output.clean(f"warning: {warning}"))
    for path in outcome["applied"]:
        print(output.clean(f"applied: {path}"))
    for path in outcome["needs_restart"]:
        print(output.clean(f"needs a restart: {path}"))
    if not outcome["applied"] and not outcome["needs_restart"]:
        print("Nothing changed.")


def _status(arguments: argparse.Namespace) -> int:
    status = _ask(_data_dir(arguments), "status")
    if status is None:
        output.emit(arguments, {"running": False}, lambda _: print("No daemon is running."))
        return EXIT_NOT_RUNNING
    return output.emit(arguments, {"running": True, **status}, _print_status)


def _print_status(status: Any) -> None:
    total = status["queue"]
    output.fields(
        [
            ("mail-gateway", f"{status['version']}, running for {_time(status['uptime_s'])}, pid {status['pid']}"),
            ("takes mail", "yes" if status["ready"] else f"no: {status['why_not_ready']} ({status['detail']})"),
            ("queue", ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in total.items())),
            ("on the wire", status["on_the_wire"]),
            *((f"listens ({one['door']})", one["listen"]) for one in status["listeners"]),
            ("configuration", status["config"] or "none"),
            ("last reload", _last(status["last_reload"])),
        ]
    )


def _last(reload_: Any) -> str:
    if reload_ is None:
        return "none since the start"
    if not reload_["ok"]:
        return f"{reload_['at']}, refused: {reload_['problems'][0]}"
    restart = f"; needs a restart: {', '.join(reload_['needs_restart'])}" if reload_["needs_restart"] else ""
    return f"{reload_['at']}, {len(reload_['applied'])} applied{restart}"


def _time(seconds: int) -> str:
    """The two largest units: `3d 4h`."""
    parts: list[str] = []
    for worth, unit in _UNITS:
        count, seconds = divmod(seconds, worth)
        if count or (parts and len(parts) < 2):
            parts.append(f"{count}{unit}")
    return " ".join(parts[:2]) or "0s"
