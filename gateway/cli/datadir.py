"""The data directory as commands use it that must not open it as the daemon does: which one, and as whom.

Guarantees: the configuration need not be whole, for a machine that is being mended may lack its secrets and its
certificate; what says where the data is must be right.
"""

import argparse
import contextlib
import os
import pwd
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from gateway import config, configfile
from gateway.errors import ConfigError, GatewayError, StoreError

DOES_NOT_ANSWER: Final = ", but does not answer yet (or no longer): try again in a moment"
STOP_IT: Final = ": stop it first"
_NEEDED: Final = ("data_dir", "store", "limits")


class NoDatabase(GatewayError):
    """There is nothing in the data directory."""


def read_settings(arguments: argparse.Namespace) -> config.Config:
    """The configuration, as far as it can be read. ConfigError where that is not enough to find the data."""
    found, problems, _ = configfile.read_config(arguments.config or config.default_path())
    if fatal := [one for one in problems if not one.path or one.path.partition(".")[0] in _NEEDED]:
        raise ConfigError(fatal)
    return found


def require(database: Path) -> None:
    """NoDatabase where there is none."""
    try:
        present = database.is_file()
    except OSError as error:
        raise StoreError(f"{database} cannot be looked at: {error.strerror}") from error
    if not present:
        raise NoDatabase(f"there is no database {database}")


def become_owner(data_dir: Path) -> None:
    """As root, become the owner of the data directory, so that no file of root's is left in it. Raises StoreError."""
    try:
        owner = data_dir.stat()
    except OSError:
        return  # it is made, or found to be unusable, by who opens it
    if os.geteuid() == 0 != owner.st_uid:
        _be(owner, data_dir, os.setgid, os.setuid)


@contextlib.contextmanager
def as_owner(data_dir: Path) -> Iterator[None]:
    """The same for a while."""
    try:
        owner = data_dir.stat()
    except OSError as error:
        raise StoreError(f"the data directory {data_dir} cannot be used: {error.strerror}") from error
    if os.geteuid() != 0 or owner.st_uid == 0:
        yield
        return
    groups, group = os.getgroups(), os.getegid()
    _be(owner, data_dir, os.setegid, os.seteuid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(group)
        os.setgroups(groups)


def _be(
    owner: os.stat_result, data_dir: Path, set_group: Callable[[int], None], set_user: Callable[[int], None]
) -> None:
    try:
        try:
            os.initgroups(pwd.getpwuid(owner.st_uid).pw_name, owner.st_gid)
        except KeyError:
            os.setgroups([owner.st_gid])  # a user without a name, as in a container
        set_group(owner.st_gid)
        set_user(owner.st_uid)
    except PermissionError as error:
        raise StoreError(
            f"root may not become the owner of {data_dir} here (uid {owner.st_uid}): run this as that user"
        ) from error


@contextlib.contextmanager
def held(settings: config.Config, hint: str) -> Iterator[None]:
    """The data directory for us alone; StoreError with the hint where a daemon has it."""
    from gateway.app import DataDirLocked, locked  # half a second, which who asks a running daemon does not pay

    with contextlib.ExitStack() as stack:
        try:
            with as_owner(settings.data_dir):
                stack.enter_context(locked(settings.data_dir))
        except DataDirLocked as error:
            raise StoreError(f"{error}{hint}") from error
        yield
