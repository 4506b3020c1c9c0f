"""Libraries that are too old to serve with, because a known hole is open below a version.

pip holds the same floors (pyproject.toml) where it installs; a distribution's packages, a copied environment or a pin
elsewhere may not. It looks at what is installed, not at what should be, and only at what faces the network or the disk.
"""

import re
from collections.abc import Mapping
from importlib import metadata
from typing import Final

from gateway.errors import GatewayError

SQLITE: Final = "SQLite"
FLOORS: Final = {
    "aiohttp": "3.14.3",  # CVE-2026-69243, CVE-2026-69244
    "aiosmtpd": "1.4.6",  # CVE-2024-34083: commands of the clear part of a session counted after STARTTLS
    "aiosmtplib": "5.1.3",  # an idle connection could get out of step
    SQLITE: "3.51.3",  # a WAL could be corrupted by two processes
}


class Outdated(GatewayError):
    """A library is older than its floor."""


def require() -> None:
    """Raises Outdated."""
    if problems := faults(_installed()):
        raise Outdated("; ".join(problems))


def faults(installed: Mapping[str, str]) -> list[str]:
    """What is too old, in words; "" is the version of what is not there."""
    return [
        f"{name} {installed[name] or '(no version is known)'} is installed, and below {floor} a hole is open"
        for name, floor in FLOORS.items()
        if _number(installed[name]) < _number(floor)
    ]


def _installed() -> dict[str, str]:
    from gateway.store import library  # commands that serve nothing do without it

    return {name: library.version() if name == SQLITE else _version(name) for name in FLOORS}


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _number(version: str) -> tuple[int, ...]:
    """Its first numbers; a release candidate counts as its release."""
    found = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(map(int, found[0].split("."))) if found is not None else ()
