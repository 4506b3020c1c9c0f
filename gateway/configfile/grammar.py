"""How single values are written: hosts, addresses, ports, networks, names, patterns. Pure.

Every function takes the text of one value and returns what it stands for; ValueError says what is wrong with it, in
words for the person who wrote it.
"""

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from gateway import yamltree
from gateway.config import Listen, Network

SCOPES: Final = ("send", "read", "manage", "admin")
DIALECTS: Final = ("overton", "cloudmails", "sendmux", "guide", "iassmtp")
RELAY_PORTS: Final = (25, 465, 587, 2525)  # no other: a relay that a request names must not reach anything else
MIN_SECRET: Final = 22  # characters: 128 bits in base 62
_MIN_MESSAGE: Final = 1_000
_MAX_MESSAGE: Final = 1_000_000_000
_MIN_BUFFERS: Final = 1_000_000
_MAX_BUFFERS: Final = 1_000_000_000_000
_MIN_BACKLOG: Final = 1_000_000
_MAX_DISK: Final = 1_000_000_000_000_000
_LABEL: Final = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_LABELS: Final = rf"{_LABEL}(?:\.{_LABEL})*"
# RFC 1123, 2.1: the last label of a name is not all digits, so that it is never taken for an address.
_HOST: Final = rf"(?=[^@]{{1,253}}\Z)(?!(?:[^@]*\.)?\d+\Z){_LABELS}"
_LOCAL: Final = r"(?!\.)(?![^@]*\.(?:\.|@))[A-Za-z0-9!#$%&'+/=?^_`{|}~.-]{1,64}"
_WORD: Final = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_RATE: Final = re.compile(r"(\d{1,10})/(s|sec|min|hour|h|day|d)", re.ASCII)
_PERIODS_S: Final = {"s": 1, "sec": 1, "min": 60, "hour": 3600, "h": 3600, "day": 86_400, "d": 86_400}
_MAX_COUNT: Final = 1_000_000_000
_OPEN_FROM_V4: Final = 16  # bits: a network of strangers that is wider is no network of anybody's
_OPEN_FROM_V6: Final = 32
_PRIVATE: Final = tuple(
    ipaddress.ip_network(network)
    for network in (
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "100.64.0.0/10",
        "::1/128",
        "fc00::/7",
        "fe80::/10",
    )
)


Check = Callable[[str], str]


def _checked(pattern: str, what: str) -> Check:
    compiled = re.compile(pattern, re.ASCII)

    def check(text: str) -> str:
        if not compiled.fullmatch(text):
            raise ValueError(f"{text!r} is not {what}")
        return text

    return check


host_name = _checked(_HOST, "a host name")
selector = _checked(_LABELS, "a DKIM selector")  # RFC 6376, 3.1
PASS_THROUGH: Final = "pass_through"  # noqa: S105 - in logs and metrics, and as an account that no key can read
_name = _checked(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", "a name of letters, digits, dots, hyphens and underscores")


def name(text: str) -> str:
    """Of a route, a key or an account."""
    if text == PASS_THROUGH:
        raise ValueError(
            f"{text} is what mail for relays that requests name has in logs and metrics: give another name"
        )
    return _name(text)


domain = _checked(
    rf"(?![^A-Z]*[A-Z]){_HOST}", "a domain in lower case, an international one written as its A-label (xn--...)"
)
sender_pattern = _checked(
    rf"\*|(?:\*@(?:\*\.)?|{_LOCAL}@){_HOST}",
    "an address or a pattern: shop@example.com, *@example.com, *@*.example.com or * (international domains as xn--...)",
)
mailbox = _checked(
    rf"{_LOCAL}@{_HOST}|[^\x00-\x1f\x7f<>\",;@]*<{_LOCAL}@{_HOST}>|\"[^\x00-\x1f\x7f\"\\]*\" *<{_LOCAL}@{_HOST}>",
    "an address like shop@example.com or Shop <shop@example.com>",
)
_address = _checked(rf"{_LOCAL}@{_HOST}", "an address like ops@example.com (an international domain as xn--...)")
scope = _checked("|".join(SCOPES), f"one of {', '.join(SCOPES)}")
dialect = _checked("|".join(DIALECTS), f"one of {', '.join(DIALECTS)}")
tls_version = _checked(r"1\.[0-3]", "1.0, 1.1, 1.2 or 1.3")
log_level = _checked("debug|info|warning|error", "debug, info, warning or error")
log_format = _checked("text|json", "text or json")
log_addresses = _checked("plain|hashed", "plain or hashed")


def parse_listen(text: str) -> Listen:
    """`host:port`, an IPv6 host in brackets; port 0 takes a free one."""
    host, colon, port_text = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    host = host[1:-1] if bracketed else host
    if not colon or not host or not re.fullmatch(r"\d{1,5}", port_text, re.ASCII) or int(port_text) > 65535:
        raise ValueError(f"{text!r} is not an address like 127.0.0.1:2525 or [::1]:2525")
    try:
        literal = ipaddress.ip_address(host)
    except ValueError:
        if bracketed or ":" in host:
            raise ValueError(f"{host!r} is not an IP address") from None
        return Listen(host_name(host), int(port_text))
    if literal.version == 6 and not bracketed:
        raise ValueError(f"write an IPv6 address in brackets: [{host}]:{port_text}")
    return Listen(str(literal), int(port_text))


@dataclass(frozen=True, slots=True)
class Admin:
    """Where metrics and health are served; None: nowhere."""

    listen: Listen | None


def admin(text: str) -> Admin:
    return Admin(None if text == "off" else parse_listen(text))


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach it."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def network(text: str) -> Network:
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        raise ValueError(f"not a network: {error}") from None


def is_open(network: Network) -> bool:
    """Whether it holds strangers: neither private, nor small enough to be somebody's own."""
    if any(network.version == known.version and network.subnet_of(known) for known in _PRIVATE):  # type: ignore[arg-type]  # one version, as just compared
        return False
    return network.prefixlen < (_OPEN_FROM_V4 if network.version == 4 else _OPEN_FROM_V6)


def host_or_ip(text: str) -> str:
    try:
        return ip(text)
    except ValueError:
        return host_name(text)


def ip(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise ValueError(f"{text!r} is not an IP address") from None


def nameserver(text: str) -> Listen:
    """An IP address, with a port or without."""
    try:
        return Listen(ip(text), 53)
    except ValueError:
        listen = parse_listen(text)
    return Listen(ip(listen.host), port(str(listen.port)))


def relay(text: str) -> Listen:
    """`host:port` of a relay that requests may name; the host in lower case."""
    if not re.search(r":\d{1,5}\Z", text, re.ASCII):
        raise ValueError(f"{text!r} is not a relay like smtp.example.com:587")
    listen = parse_listen(text)
    if listen.port not in RELAY_PORTS:
        raise ValueError(f"the port of {text!r} must be one of {', '.join(map(str, RELAY_PORTS))}")
    return Listen(listen.host.lower(), listen.port)


def rate(text: str) -> tuple[int, int]:
    """(count, seconds) of `10/s`, `100/min`, `1000/hour` (or /h), `10000/day` (or /d)."""
    match = _RATE.fullmatch(text)
    if match is None or not 1 <= int(match[1]) <= _MAX_COUNT:
        raise ValueError(f"{text!r} is not a rate like 10/s, 100/min, 1000/hour or 10000/day")
    return int(match[1]), _PERIODS_S[match[2]]


def address(text: str) -> str:
    """An address without a name; its domain in lower case."""
    local, _, domain = _address(text).rpartition("@")
    return f"{local}@{domain.lower()}"


def local_name(text: str) -> str:
    """A local part on its own (`root`), in lower case: old programs write it as they like."""
    if len(text) > 64 or not re.fullmatch(rf"{_WORD}(?:\.{_WORD})*", text, re.ASCII):
        raise ValueError(f"{text!r} is not a name without a domain, like root")
    return text.lower()


def port(text: str) -> int:
    if not re.fullmatch(r"\d{1,5}", text, re.ASCII) or not 0 < int(text) < 65536:
        raise ValueError(f"{text!r} is not a port")
    return int(text)


def success_status(text: str) -> int:
    if text not in {"200", "201"}:
        raise ValueError("must be 200 or 201")
    return int(text)


def message_size(text: str) -> int:
    size = yamltree.size_bytes(text)
    if not _MIN_MESSAGE <= size <= _MAX_MESSAGE:
        raise ValueError("must be from 1KB to 1GB")
    return size


def buffers_size(text: str) -> int:
    size = yamltree.size_bytes(text)
    if not _MIN_BUFFERS <= size <= _MAX_BUFFERS:
        raise ValueError("must be from 1MB to 1000GB")
    return size


def backlog_size(text: str) -> int:
    size = yamltree.size_bytes(text)
    if not _MIN_BACKLOG <= size <= _MAX_DISK:
        raise ValueError("must be from 1MB to 1000000GB")
    return size


def free_disk_size(text: str) -> int:
    size = yamltree.size_bytes(text)
    if not 0 <= size <= _MAX_DISK:
        raise ValueError("must be from 0 to 1000000GB")
    return size


def key_text(text: str) -> str:
    """The text of a key; the error never shows it."""
    # It travels in an HTTP header, so no other character would arrive.
    if len(text) < MIN_SECRET or not re.fullmatch(r"[!-~]+", text):
        raise ValueError(f"a key has at least {MIN_SECRET} characters, printable ASCII without spaces")
    return text
