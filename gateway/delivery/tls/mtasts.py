"""MTA-STS (RFC 8461): the record that announces a policy, the policy, and which hosts it means. Pure.

Guarantees: what is not well-formed is no policy; hosts are compared as A-labels without regard to case, and a wildcard
stands for one label. Whether a policy is enforced is its mode, which others act on (tls_policy.py).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from gateway.message import address

MAX_AGE_S: Final = 31_557_600  # RFC 8461, 3.2: a year
_VERSION: Final = "STSv1"
_LONGEST: Final = 253  # a host name
_MOST: Final = 200  # hosts and patterns; who has more is not after mail
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,31}")
_RECORD: Final = re.compile(r"v=STSv1[ \t]*;")
_FIELD: Final = re.compile(r"[ \t]*([A-Za-z0-9][A-Za-z0-9_.-]{0,31})=([!-:<>-~]+)[ \t]*")
_ID: Final = re.compile(r"[A-Za-z0-9]{1,32}")
_AGE: Final = re.compile(r"[0-9]{1,10}")
_LABEL: Final = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")


class Mode(StrEnum):
    ENFORCE = "enforce"
    TESTING = "testing"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Policy:
    """What a domain asks of those who send to it. `mx` are hosts and patterns, as A-labels in lower case."""

    mode: Mode
    mx: tuple[str, ...]
    max_age_s: int


def record_id(records: Sequence[str]) -> str | None:
    """The id of the policy that the TXT records of _mta-sts announce; None: there is no policy (RFC 8461, 3.1)."""
    ours = [record for record in records if _RECORD.match(record)]
    if len(ours) != 1:
        return None
    fields = ours[0].split(";")[1:]
    if not fields[-1].strip(" \t"):
        fields.pop()
    parsed = [_FIELD.fullmatch(field) for field in fields]
    if not all(parsed):
        return None
    given = [field[2] for field in parsed if field and field[1] == "id"]
    return given[0] if given and _ID.fullmatch(given[0]) else None


def parse_policy(text: str) -> Policy | None:
    """The policy that a policy host has given; None where it is not well-formed (RFC 8461, 3.2)."""
    fields: dict[str, str] = {}
    hosts: list[str] = []
    for line in text.removesuffix("\n").split("\n"):
        name, colon, value = line.removesuffix("\r").partition(":")
        value = value.strip(" \t")
        if not colon or not _NAME.fullmatch(name):
            return None
        if name == "mx":
            if len(hosts) == _MOST:
                return None
            hosts.append(_pattern(value))
        else:
            fields.setdefault(name, value)  # the first counts
    mode, age = fields.get("mode", ""), fields.get("max_age", "")
    if fields.get("version") != _VERSION or mode not in set(Mode) or not _AGE.fullmatch(age):
        return None
    if not all(hosts) or not (hosts or mode == Mode.NONE):
        return None
    return Policy(Mode(mode), tuple(hosts), min(int(age), MAX_AGE_S))


def names(policy: Policy, host: str) -> bool:
    """Whether the policy names this MX host (RFC 8461, 4.1)."""
    name = _a_labels(host.removesuffix("."))
    rest = name.partition(".")[2]
    return bool(name) and any(name == one or (one.startswith("*.") and rest == one[2:]) for one in policy.mx)


def _pattern(text: str) -> str:
    """A host or `*.` and a host in normal form; "" for anything else."""
    if not text.startswith("*."):
        return _a_labels(text)
    host = _a_labels(text[2:])
    return f"*.{host}" if host else ""


def _a_labels(host: str) -> str:
    """In lower case; "" for what is no host name."""
    if not host.isascii():
        try:
            host = address.parse_domain(host)
        except address.AddressError:
            return ""
    host = host.lower()
    return host if len(host) <= _LONGEST and all(map(_LABEL.fullmatch, host.split("."))) else ""
