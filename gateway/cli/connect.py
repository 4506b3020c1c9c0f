"""How a command reaches the store: through the running daemon's control socket, or, where none runs, by itself.

The lock on the data directory decides: whoever holds it is the daemon. No network key is needed; the file system says
who may do this.
"""

import argparse
import asyncio
import os
from pathlib import Path
from typing import Any

from gateway import config, configfile, control
from gateway.app import Core
from gateway.errors import GatewayError, StoreError


class ActionError(GatewayError):
    """The daemon refused."""


def load(arguments: argparse.Namespace) -> config.Config:
    """The configuration a command works with."""
    return configfile.load(arguments.config)


def act(arguments: argparse.Namespace, action: str, args: dict[str, Any]) -> Any:
    """Do one action of manage.py (or `send`), wherever the store is. Raises GatewayError."""
    settings = load(arguments)
    become_owner(settings.data_dir)
    return asyncio.run(_act(settings, action, args))


async def _act(settings: config.Config, action: str, args: dict[str, Any]) -> Any:
    try:
        reply = await control.call(settings.data_dir, action, args)
    except (FileNotFoundError, ConnectionRefusedError):
        async with Core(settings) as core:
            return await core.actions()[action](args)
    except PermissionError as error:
        raise StoreError(f"{settings.data_dir} is not ours to use: run this as its owner or as root") from error
    except OSError as error:
        raise StoreError(f"the running daemon does not answer on its control socket: {error}") from error
    if not reply["ok"]:
        problems = reply["error"].get("problems") or []
        raise ActionError("\n  ".join([reply["error"]["text"], *problems[1:]]))
    return reply["result"]


def become_owner(data_dir: Path) -> None:
    """As root, become the owner of the data directory, so that no file of root's is left in it."""
    if os.geteuid() != 0:
        return
    try:
        owner = data_dir.stat()
    except FileNotFoundError:
        return
    if owner.st_uid != 0:
        os.initgroups(_user_name(owner.st_uid), owner.st_gid)
        os.setgid(owner.st_gid)
        os.setuid(owner.st_uid)


def _user_name(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return "nobody"
