"""`mail-gateway reload` and `status`: the daemon that runs now."""

import argparse
from typing import Any, Final

from gateway import control
from gateway.cli import connect, output
from gateway.config import default_path
from gateway.errors import GatewayError

EXIT_CONFIG: Final = 78  # EX_CONFIG, as a start has it
EXIT_NOT_RUNNING: Final = 3  # as systemctl(1) has it
_UNITS: Final = ((86_400, "d"), (3600, "h"), (60, "m"), (1, "s"))


class NotRunning(GatewayError):
    """There is nobody to ask."""


def register(verbs: Any, common: argparse.ArgumentParser) -> None:
    reload_ = verbs.add_parser("reload", parents=[common], help="have the daemon read its configuration again")
    output.add_json(reload_)
    reload_.set_defaults(run=_reload)

    status = verbs.add_parser("status", parents=[common], help="is it running, does it take mail, what is queued")
    output.add_json(status)
    status.set_defaults(run=_status)


def _reload(arguments: argparse.Namespace) -> int:
    try:
        outcome = connect.Desk(arguments).ask_daemon("reload", {})
    except connect.ActionError as error:
        if error.code != control.CONFIGURATION:
            raise
        path = arguments.config or default_path()
        output.complain(f"{path}: the configuration cannot be used; nothing was changed", *error.problems)
        return EXIT_CONFIG
    if outcome is None:
        raise NotRunning("no daemon serves the data directory that the configuration names: there is nothing to reload")
    return output.emit(arguments, outcome, _print_outcome)


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
    status = connect.Desk(arguments).ask_daemon("status", {})
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
