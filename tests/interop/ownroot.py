"""A root of our own that stands for a container's: the machine's programs read-only, everything else new.

The interpreter of these tests goes by the name `python` in it. Processes in it have namespaces of their own, but for
the network. It needs root.
"""

import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.peers.process import require

_BASE: Final = Path(sys.base_prefix)  # the Python that stands for the image's
_INTERPRETER: Final = Path(sys.base_exec_prefix, "bin", f"python3.{sys.version_info.minor}")


def fresh(root: Path) -> Path:
    """A root with directories to mount on and a small /etc; what the base image would have."""
    for name in ("usr", "proc", "dev", "tmp", "run/secrets", "root", "opt", "var/lib", "wheels", "etc", "old"):
        (root / name).mkdir(parents=True)
    root.chmod(0o755)
    (root / "tmp").chmod(0o1777)
    for name in ("bin", "sbin", "lib", "lib64"):
        if Path("/", name).is_symlink():
            (root / name).symlink_to(f"usr/{name}")
    (root / str(_BASE).lstrip("/")).mkdir(parents=True, exist_ok=True)
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\n")
    (root / "etc/shadow").write_text("root:*:1::::::\n")
    (root / "etc/hosts").write_text("127.0.0.1 localhost\n")
    for name in ("ld.so.cache", "nsswitch.conf", "login.defs", "resolv.conf"):
        if Path("/etc", name).exists():
            shutil.copyfile(Path("/etc", name), root / "etc" / name)
    return root


def _mounts(root: Path) -> list[str]:
    """Commands that make the root complete: the machine's programs, read-only, and the interpreter as `python`."""
    local = root / "usr/local"
    commands = [
        f"mount --rbind /usr {root}/usr",
        f"mount -o remount,bind,ro {root}/usr",
        f"mount -t tmpfs tmpfs {local}",
        f"mkdir -p {local}/bin",
        # No link: the interpreter would look for its library beside it.
        f"printf '#!/bin/sh\\nexec {_INTERPRETER} \"$@\"\\n' >{local}/bin/python",
        f"chmod 755 {local}/bin/python",
        f"mount -t tmpfs tmpfs {root}/dev",
        *(
            f"touch {root}/dev/{name} && mount --bind /dev/{name} {root}/dev/{name}"
            for name in ("null", "zero", "random", "urandom")
        ),
    ]
    if not _BASE.is_relative_to("/usr"):
        commands.append(f"mount --bind {_BASE} {root}{_BASE} && mount -o remount,bind,ro {root}{_BASE}")
    return commands


def inside(
    root: Path,
    command: Sequence[str],
    *,
    user: str = "root",
    mounts: Sequence[str] = (),
    sealed: bool = False,
) -> list[str]:
    """A command line that runs `command` as PID 1 in the root; `sealed`: without capabilities or new privileges, on a
    root that cannot be written."""
    uid, gid = ids(root, user)
    script = [
        "set -e",
        f"mount --bind {root} {root}",
        f"cd {root}",
        *_mounts(root),
        *mounts,
        f"mount -t proc proc {root}/proc",
        *([f"mount -o remount,bind,ro {root}"] if sealed else []),
    ]
    drop = ["setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups"]
    if sealed:
        drop += ["--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"]
    script.append("exec " + shlex.join(["chroot", str(root), *drop, *command]))
    return [
        require("unshare"),
        "--mount",
        "--propagation=private",
        "--pid",
        "--fork",
        "--kill-child",
        "sh",
        "-c",
        "\n".join(script),
    ]


def ids(root: Path, user: str) -> tuple[int, int]:
    """uid and gid of a user of the image."""
    for line in (root / "etc/passwd").read_text().splitlines():
        name, _, uid, gid, *_ = line.split(":")
        if name == user:
            return int(uid), int(gid)
    raise AssertionError(f"the image has no user {user}")
