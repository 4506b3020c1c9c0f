"""Where a request of ours may go whose host somebody else chose: to the internet, and nowhere in our own networks.

Guarantees: an address is judged where the socket to it is made, so neither a second look-up nor an address in place of
a name leads past it, in whatever form it is written; no redirect is followed, no proxy of the environment asked, no
cookie kept, nothing unpacked; of a connection no more than MOST_READ bytes are read for a request, an answer's or none
(who asks bounds the body: MAX_BYTES). What the configuration allows is allowed besides: nothing turns the judging off.
It knows no policy and no webhook.

A port below 1024 is allowed where HTTP lives (443, and 80 for `http:`) and refused else: those are where other
protocols listen, which must not be spoken to in our name. From 1024 on anything may be an HTTP server.
"""

import errno
import functools
import ipaddress
import re
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.client_proto import ResponseHandler
from yarl import URL

from gateway.config import Network
from gateway.resolver import LookupFailed, Missing, Resolver

MAX_BYTES: Final = 64 * 1024  # of an answer's body
MOST_READ: Final = 2 * MAX_BYTES  # from one request to the next, whatever it is
HTTPS: Final = 443
HTTP: Final = 80
_KEPT_S: Final = 15.0
_FREE_PORTS: Final = 1024  # from here on no service of the system
_UNICAST: Final = ipaddress.IPv6Network("2000::/3")  # all of IPv6 that is of the internet
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052, 2.1: reaches what its last 32 bits say
# What the tables of some Pythons still call global: IETF protocols (RFC 6890; 192.0.0.192 tells the machines of a cloud
# their credentials), relays of 6to4 (RFC 7526), documentation (RFC 9637); and Azure's host of its machines.
_NOT_PUBLIC: Final = tuple(
    map(ipaddress.ip_network, ("192.0.0.0/24", "192.88.99.0/24", "3fff::/20", "168.63.129.16/32"))
)
_MAX_URL: Final = 2000
_URL: Final = re.compile(r"[!-~]+")
_NAME: Final = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)(?:\.(?!-)[a-z0-9_-]{1,63}(?<!-))*", re.ASCII)
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*", re.ASCII)  # as the last label: some take the host for an address
# RFC 6761 and RFC 6762: of this machine, of its link, or of nobody.
_OWN_NAMES: Final = frozenset({"localhost", "local", "localdomain", "internal", "home", "lan", "invalid", "onion"})

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Unwelcome(OSError):
    """An address that no request of ours goes to."""

    def __init__(self, why: str) -> None:
        super().__init__(errno.EHOSTUNREACH, why)  # aiohttp shows the text of those with a number


class UrlError(ValueError):
    """No URL for a request of ours; the text is public."""


@dataclass(frozen=True, slots=True)
class Guard:
    """What may be connected to. `networks`: private addresses that are allowed, too; `ports` None: any."""

    networks: tuple[Network, ...] = ()
    ports: frozenset[int] | None = None
    high_ports: bool = False  # those from 1024 on, beside `ports`

    def allows(self, address: str) -> bool:
        """`address` is a literal; what is none, or has a zone, is not allowed."""
        try:
            read = ipaddress.ip_address(address)
        except ValueError:
            return False
        if isinstance(read, ipaddress.IPv6Address) and read.scope_id is not None:
            return False
        if is_public(address):
            return True
        reached = _reached(read)
        return any(reached in network for network in self.networks if network.version == reached.version)

    def allows_port(self, port: int) -> bool:
        return self.ports is None or port in self.ports or (self.high_ports and _FREE_PORTS <= port <= 0xFFFF)

    def socket(self, address: Any) -> socket.socket:
        """A socket for an address as getaddrinfo(3) gives it. Raises Unwelcome."""
        family, kind, protocol, _, place = address
        if not self.allows(place[0]):
            raise Unwelcome("its address is not on the internet")
        if not self.allows_port(place[1]):
            raise Unwelcome(f"port {place[1]} is not one of HTTP")
        return socket.socket(family=family, type=kind, proto=protocol)


class GuardedResolver(AbstractResolver):
    """Our own resolver in aiohttp's place, without the addresses that the guard does not allow."""

    def __init__(self, resolver: Resolver, guard: Guard, *, ipv6: bool = True) -> None:
        self._resolver = resolver
        self._guard = guard
        self._ipv6 = ipv6

    async def resolve(
        self,
        host: str,
        port: int = 0,
        family: socket.AddressFamily = socket.AF_UNSPEC,  # noqa: ARG002 - aiohttp's; ours is in the constructor
    ) -> list[ResolveResult]:
        """Raises OSError."""
        found = await self._resolver.addresses(host, ipv4=True, ipv6=self._ipv6)
        if isinstance(found, (LookupFailed, Missing)):
            raise OSError(errno.EHOSTUNREACH, found.reason if isinstance(found, LookupFailed) else found.value)
        allowed = [address for address in found if self._guard.allows(address)]
        if not allowed:
            raise Unwelcome("none of its addresses is on the internet")
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST,
            )
            for address in allowed
        ]

    async def close(self) -> None:
        """There is nothing to close."""


class _Bounded(ResponseHandler):
    """A connection that ends where more comes than an answer. aiohttp would read empty lines and interim answers (RFC
    9110, 15.2) for as long as they come, and keep what comes on an idle connection."""

    _left = MOST_READ

    def set_response_params(self, **params: Any) -> None:
        """At the beginning of each request."""
        self._left = MOST_READ
        super().set_response_params(**params)

    def data_received(self, data: bytes) -> None:
        if self._left <= 0:
            return
        part = data[: self._left]
        self._left -= len(data)
        super().data_received(part)  # an answer may be in it, and is one whatever comes behind it
        if self._left <= 0 and self.transport is not None:
            self.transport.abort()


class _Connector(aiohttp.TCPConnector):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._factory = functools.partial(_Bounded, loop=self._loop)  # type: ignore[assignment]  # of a subclass


def session(
    resolver: GuardedResolver,
    guard: Guard,
    context: ssl.SSLContext,
    *,
    timeout_s: float,
    connections: int = 1,
    kept_s: float = _KEPT_S,
) -> aiohttp.ClientSession:
    """For requests to hosts that others chose, none of which may follow a redirect. `kept_s`: how long an idle
    connection is kept."""
    connector = _Connector(
        resolver=resolver,
        use_dns_cache=False,  # the resolver has its own, which knows how long an answer is good
        ssl=context,
        limit=connections,
        socket_factory=guard.socket,
        keepalive_timeout=kept_s,
    )
    return aiohttp.ClientSession(
        connector=connector,
        timeout=aiohttp.ClientTimeout(total=timeout_s),
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
        auto_decompress=False,
    )


def trusting(ca: Path | None = None) -> ssl.SSLContext:
    """A context that verifies hosts by the system's authorities, or those of a file; reads files."""
    context = ssl.create_default_context(cafile=str(ca) if ca else None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.hostname_checks_common_name = False  # by subjectAltName alone (RFC 9525, 2; RFC 8461, 3.3)
    return context


def is_public(text: str) -> bool:
    """Whether an IP address is of the internet, and so is the IPv4 address that it may stand for."""
    address = _reached(ipaddress.ip_address(text))
    if any(address in network for network in _NOT_PUBLIC):
        return False
    if isinstance(address, ipaddress.IPv6Address):
        return address in _UNICAST and address.is_global
    return address.is_global and not address.is_multicast


def _reached(address: Address) -> Address:
    """The IPv4 address that an IPv6 address stands for, else the address itself."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else address)


def check_url(text: str, guard: Guard, *, schemes: Sequence[str] = ("https",)) -> str:
    """A URL as it will be asked for. Raises UrlError.

    A host is a name in ASCII, or an address in its one usual form: readers differ about every other way of writing one.
    """
    if len(text) > _MAX_URL:
        raise UrlError(f"must be at most {_MAX_URL} characters")
    if _URL.fullmatch(text) is None or "\\" in text:
        raise UrlError("must be ASCII without spaces; write other characters as %XX, and names in their xn-- form")
    scheme, colon, rest = text.partition("://")
    if not colon or scheme.lower() not in schemes:
        off = "" if "http" in schemes else " (webhooks.allow_http is off)"
        raise UrlError(f"must begin with {' or '.join(f'{one}://' for one in schemes)}{off}")
    authority = re.split("[/?#]", rest, maxsplit=1)[0]
    if "@" in authority:
        raise UrlError("must have no user name or password")
    if "#" in rest:
        raise UrlError("must have no fragment (#)")
    if "%" in authority:
        raise UrlError("its host must not be written with %")
    try:
        url = URL(text)
        host, port = url.raw_host or "", url.port
    except ValueError as error:
        raise UrlError("is no URL") from error
    _check_host(host, authority, guard)
    if port is None or not guard.allows_port(port):
        raise UrlError("its port must be 443, 80 for http, or 1024 and above")
    return str(url)


def _check_host(host: str, authority: str, guard: Guard) -> None:
    lower = host.lower()
    if ":" in lower or _NUMBER.fullmatch(lower.rstrip(".").rpartition(".")[2]):
        _check_literal(lower, authority, guard)
        return
    name = lower.removesuffix(".")
    if _NAME.fullmatch(name) is None:
        raise UrlError("its host is no name of a host")
    # Where private addresses are allowed, private names are, too; what they lead to is judged at the connection.
    if not guard.networks and ("." not in name or name.rpartition(".")[2] in _OWN_NAMES):
        raise UrlError("its host is not a name of the internet, such as hooks.example.com")


def _check_literal(host: str, authority: str, guard: Guard) -> None:
    try:
        address = ipaddress.ip_address(host)
    except ValueError as error:
        raise UrlError("its host is an address in an unusual form: write it as 192.0.2.1 or [2001:db8::1]") from error
    written = authority.lower().rpartition("]")[0] + "]" if ":" in host else authority.partition(":")[0]
    usual = f"[{address}]" if address.version == 6 else str(address)
    if written != usual and not (address.version == 6 and written.startswith("[") and "." not in written):
        raise UrlError("its host is an address in an unusual form: write it as 192.0.2.1 or [2001:db8::1]")
    if not guard.allows(host):
        raise UrlError("its host is an address that is not on the internet, nor one of webhooks.allow_networks")
