"""Become a command in a mount namespace of its own:
`python -m tests.peers.mounted LIBRARIES SOURCE TARGET... -- COMMAND...`.

Each source is mounted over its target, and shared libraries are looked for in LIBRARIES (directories, with colons)
first. No other program runs in between: the C library may be among them.
"""

import ctypes
import os
import sys
from typing import Final

_CLONE_NEWNS: Final = 0x20000
_MS_BIND, _MS_REC, _MS_PRIVATE = 0x1000, 0x4000, 0x40000

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)


def main(arguments: list[str]) -> None:
    end = arguments.index("--")
    libraries, mounts, command = arguments[0], arguments[1:end], arguments[end + 1 :]
    _check(_libc.unshare(_CLONE_NEWNS), "unshare")
    _check(_libc.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None), "/")
    for source, target in zip(mounts[::2], mounts[1::2], strict=True):
        _check(_libc.mount(source.encode(), target.encode(), None, _MS_BIND, None), target)
    os.execve(command[0], command, os.environ | {"LD_LIBRARY_PATH": libraries})


if __name__ == "__main__":
    main(sys.argv[1:])
