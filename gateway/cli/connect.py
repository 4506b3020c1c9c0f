"""How a command reaches the store: through the running daemon's control socket, or, where none runs, by itself.

The lock on the data directory decides: whoever holds it is the daemon. No network key is needed; the file system says
who may do this.
"""

import argparse
import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from gateway import config, configfile, control
from gateway.cli import datadir, output
from gateway.errors import GatewayError, Problem, Reason, Refused, StoreError

QUICK_S: Final = 10.0  # what a look at the daemon may take
SLOW_S: Final = 5.0  # whoever waits for longer is told
_QUICK: Final = frozenset({"status", "log.show", "log.level"})
_LONG: Final = frozenset({"backup.snapshot"})  # takes its time by nature, and cron(8) mails what is said


class ActionError(GatewayError):
    """The daemon refused: in words, with the reason's code and every problem where there are several."""

    def __init__(self, text: str, *, code: str, problems: Sequence[str]) -> None:
        super().__init__(text)
        self.code = code
        self.problems = problems


class Desk:
    """Where the actions of one command are done.

    The configuration is read whole only where no daemon answers: its secrets may be out of our reach (an environment
    variable or a credential of the unit's), and the daemon has them already.
    """

    def __init__(self, arguments: argparse.Namespace) -> None:
        """Raises ConfigError."""
        self._file: Path | None = arguments.config
        self._data_dir = configfile.read_data_dir(self._file)
        self._settings: config.Config | None = None

    def act(self, action: str, args: dict[str, Any]) -> Any:
        """Do one action of manage.py (or `send`), wherever the store is. Raises GatewayError."""
        result = self.ask_daemon(action, args)
        return result if result is not None else asyncio.run(_alone(self._own(), action, args))

    def ask_daemon(self, action: str, args: dict[str, Any]) -> Any:
        """As `act`, but None where no daemon runs."""
        return ask(self._data_dir, action, args)

    def _own(self) -> config.Config:
        # Read once: who owns the data directory may not be allowed to read it again.
        if self._settings is None:
            self._settings = configfile.load_outside(self._file)
            datadir.become_owner(self._settings.data_dir)
        return self._settings


def ask(data_dir: Path, action: str, args: dict[str, Any]) -> Any:
    """What the daemon of a data directory answers; None where none runs, or not yet. Raises GatewayError."""
    return asyncio.run(_ask(data_dir, action, args))


async def _alone(settings: config.Config, action: str, args: dict[str, Any]) -> Any:
    from gateway.app import Core, DataDirLocked  # half a second, which who asks a running daemon does not pay

    core = Core(settings)
    try:
        async with core:
            return await core.actions()[action](args)
    except DataDirLocked as error:
        raise StoreError(f"{error}, but does not answer yet (or no longer): try again in a moment") from error


async def _ask(data_dir: Path, action: str, args: dict[str, Any]) -> Any:
    waits = "the daemon has not answered yet: it is waited for"
    told = None if action in _LONG else asyncio.get_running_loop().call_later(SLOW_S, output.complain, waits)
    try:
        reply = await control.call(data_dir, action, args, timeout_s=QUICK_S if action in _QUICK else None)
    except (FileNotFoundError, ConnectionRefusedError):
        return None
    except TimeoutError as error:
        raise StoreError(f"the daemon of {data_dir} runs but does not answer") from error
    except NotADirectoryError as error:
        raise StoreError(f"the data directory {data_dir} is not a directory") from error
    except PermissionError as error:
        raise StoreError(f"{data_dir} is not ours to use: run this as its owner or as root") from error
    except (OSError, ValueError) as error:
        raise StoreError(f"the running daemon does not answer on its control socket: {error}") from error
    finally:
        if told is not None:
            told.cancel()
    if not reply["ok"]:
        said = reply["error"]
        if said.get("code") == control.STORE:
            raise StoreError(said["text"])
        raise ActionError(said["text"], code=said.get("code", ""), problems=said.get("problems", ()))
    return reply["result"]


def words(error: GatewayError) -> list[str]:
    """What is wrong, a line each, whether the daemon said it or we did."""
    problems: Sequence[Problem | str] = getattr(error, "problems", ())
    return [str(problem) for problem in problems] or [str(error)]


def is_for(error: GatewayError, reason: Reason) -> bool:
    """Whether an action was refused for that reason."""
    if isinstance(error, ActionError):
        return error.code == reason.code
    return isinstance(error, Refused) and error.reason is reason
