"""Which relays a request may name, whose requests may, and how often.

Guarantees: only the spelling of the configuration names a relay; a relay that has a name is never looked for on this
machine or its link, wherever DNS says it is; attempts are counted by client and by user name, and those that the relay
did not authenticate count several times.
"""

import ipaddress
import math
from typing import Final

from gateway.config import Listen, PassThrough
from gateway.errors import Reason, Refused
from gateway.keyterms import Limit
from gateway.policy.limits import Buckets
from gateway.runtime import Clock

FAILURE_COST: Final = 5  # messages that an attempt without authentication counts for, in all
LOCALHOST: Final = "localhost"  # RFC 6761, 6.3: means this machine and nothing else


class RelayList:
    """`pass_through.relays` and `networks`."""

    def __init__(self, settings: PassThrough) -> None:
        self._networks = settings.networks
        self._relays: dict[str, list[Listen]] = {}
        for relay in settings.relays:
            self._relays.setdefault(relay.host.lower(), []).append(relay)

    def find(self, host: str, port: int | None, client: str) -> Listen | None:
        """The relay that a client means; None where it may not. `port` None: the first that is listed of that host."""
        if not self._serves(client):
            return None
        listed = self._relays.get(_name(host), ())
        return next((relay for relay in listed if port is None or relay.port == port), None)

    def _serves(self, client: str) -> bool:
        try:
            address = ipaddress.ip_address(client)
        except ValueError:
            return False
        # A listener for both families sees an IPv4 client as ::ffff:192.0.2.1 (RFC 4291, 2.5.5.2).
        mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
        return any((mapped or address) in network for network in self._networks)


class Throttle:
    """One limit for each client and for each user name. It lives in memory: a restart forgets."""

    def __init__(self, limit: Limit, clock: Clock) -> None:
        self._clients = Buckets(limit, clock)
        self._users = Buckets(limit, clock)

    def take(self, client: str, username: str) -> None:
        """Refused with RATE_LIMITED and the time to wait; then nothing is counted."""
        if wait_s := self._clients.take(client):
            raise too_many(wait_s)
        if wait_s := self._users.take(_user(username)):
            self._clients.give_back(client)
            raise too_many(wait_s)

    def punish(self, client: str, username: str) -> None:
        """The relay did not take the password of an attempt that was taken here."""
        for _ in range(FAILURE_COST - 1):  # one by one: as much as is left, where it is less
            self._clients.take(client)
            self._users.take(_user(username))


def too_many(wait_s: float) -> Refused:
    text = "There are too many messages for servers named in requests: try again later."
    return Refused(Reason.RATE_LIMITED, text, retry_after_s=max(1, math.ceil(wait_s)))


def may_be_at(host: str, address: str) -> bool:
    """Whether to connect to an address that a listed host has.

    Private networks may be: what is there has to prove by its certificate that it has the listed name.
    """
    if host == LOCALHOST or _is_address(host):
        return True  # so says the configuration, not DNS
    ip = ipaddress.ip_address(address)
    ip = (ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None) or ip
    return not (ip.is_loopback or ip.is_link_local or ip.is_multicast or ip.is_unspecified or ip.is_reserved)


def is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address).is_loopback


def _name(host: str) -> str:
    """A host as it is listed. What is not ASCII is nobody: some of it is ASCII in lower case."""
    name = host.removesuffix(".").lower() if host.isascii() else ""
    return name[1:-1] if name.startswith("[") and name.endswith("]") and ":" in name else name


def _user(username: str) -> str:
    return username.casefold()


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
