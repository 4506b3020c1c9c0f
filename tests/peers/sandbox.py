"""The sandbox of our systemd unit without systemd: `python -m tests.peers.sandbox UNIT WRITABLE COMMAND...`.

Takes from the unit, by the kernel's own means, what can break a Python program: capabilities, NoNewPrivileges,
MemoryDenyWriteExecute, SystemCallFilter, RestrictAddressFamilies and, where WRITABLE is not `-`, ProtectSystem=strict
with that one writable directory (in a mount namespace of its own: `unshare --mount`). Then becomes the command.
"""

import ctypes
import errno
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_PR_CAPBSET_DROP: Final = 24
_PR_SET_NO_NEW_PRIVS: Final = 38
_PR_SET_MDWE: Final = 65  # Linux 6.3; systemd uses it too where it is there
_MDWE_REFUSE_EXEC_GAIN: Final = 1
_CAP_NET_BIND_SERVICE: Final = 10
_CAP_LAST: Final = 40
_ALLOW: Final = 0x7FFF0000  # seccomp.h
_ERRNO: Final = 0x00050000
_EQUAL: Final = 4
_FAMILIES: Final = {"AF_UNIX": 1, "AF_INET": 2, "AF_INET6": 10, "AF_NETLINK": 16}

_libc = ctypes.CDLL(None, use_errno=True)


class _Compare(ctypes.Structure):
    _fields_ = (
        ("arg", ctypes.c_uint),
        ("op", ctypes.c_int),
        ("datum_a", ctypes.c_uint64),
        ("datum_b", ctypes.c_uint64),
    )


def settings(unit: Path, name: str) -> list[str]:
    """The values of a setting, in the order of the unit's lines."""
    return re.findall(rf"^{name}=(.*)$", unit.read_text(), flags=re.MULTILINE)


def allowed_calls(unit: Path) -> set[str]:
    """The system calls that the unit's filter leaves."""
    allowed: set[str] = set()
    for line in settings(unit, "SystemCallFilter"):
        if line.startswith("~"):
            allowed -= set(_expand(line[1:].split()))
        else:
            allowed |= set(_expand(line.split()))
    # systemd leaves these to every filter: without them nothing would start or end.
    return allowed | set(_expand(["@default"])) | {"execve"}


def _expand(names: list[str]) -> Iterator[str]:
    for name in names:
        if name.startswith("@"):
            done = subprocess.run(
                ["systemd-analyze", "syscall-filter", name], capture_output=True, text=True, check=True
            )
            yield from _expand(re.findall(r"^ {4}([@\w-]+)$", done.stdout, flags=re.MULTILINE))
        else:
            yield name


def _prctl(option: int, argument: int) -> None:
    if _libc.prctl(option, argument, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option}, {argument})")


def _filter_calls(allowed: set[str], families: list[str]) -> None:
    seccomp = ctypes.CDLL("libseccomp.so.2")
    seccomp.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(seccomp.seccomp_init(_ERRNO | errno.EPERM))
    for name in allowed - {"socket"}:
        number = seccomp.seccomp_syscall_resolve_name(name.encode())
        if number >= 0:  # else one of another architecture
            seccomp.seccomp_rule_add_array(context, _ALLOW, number, 0, None)
    number = seccomp.seccomp_syscall_resolve_name(b"socket")
    for family in families:
        compare = _Compare(0, _EQUAL, _FAMILIES[family], 0)
        seccomp.seccomp_rule_add_array(context, _ALLOW, number, 1, ctypes.byref(compare))
    if seccomp.seccomp_load(context) != 0:
        raise OSError("seccomp_load")


def _protect_system(writable: str) -> None:
    for command in (
        ["mount", "--bind", writable, writable],
        ["mount", "-o", "remount,bind,ro", "/"],
    ):
        subprocess.run(command, check=True)


def main() -> None:
    unit, writable, command = Path(sys.argv[1]), sys.argv[2], sys.argv[3:]
    allowed = allowed_calls(unit)
    if writable != "-":
        _protect_system(writable)
        os.chdir(writable)  # the directory from before lies under the mount
    if os.geteuid() == 0:
        for capability in range(_CAP_LAST + 1):
            if capability != _CAP_NET_BIND_SERVICE:
                _prctl(_PR_CAPBSET_DROP, capability)
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    if settings(unit, "MemoryDenyWriteExecute") == ["yes"]:
        _prctl(_PR_SET_MDWE, _MDWE_REFUSE_EXEC_GAIN)
    _filter_calls(allowed, settings(unit, "RestrictAddressFamilies")[0].split())
    os.execv(command[0], command)


if __name__ == "__main__":
    main()
