"""The policy hosts of MTA-STS (RFC 8461, 3.3): one HTTPS request to a name that a stranger chose.

Guarantees: connects only to addresses that were looked up and judged here, none of them private, on loopback,
link-local or otherwise not of the internet; the certificate is verified for the name; no redirect is followed, no proxy
asked, no cookie kept, nothing unpacked; at most 64 KB in at most 60 seconds. What goes wrong is a value. It does not
read the policy (delivery/tls/mtasts.py).
"""

import asyncio
import errno
import ipaddress
import re
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from gateway.resolver import LookupFailed, Missing, Resolver

MAX_BYTES: Final = 64 * 1024  # RFC 8461, 3.3
WITHIN_S: Final = 60.0  # the same
_PORT: Final = 443
_PATH: Final = "/.well-known/mta-sts.txt"
_NAME: Final = re.compile(r"[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*", re.IGNORECASE)
_HEADERS: Final = {"Accept": "text/plain", "Accept-Encoding": "identity", "User-Agent": "mail-gateway"}
_UNICAST: Final = ipaddress.IPv6Network("2000::/3")  # all of IPv6 that is of the internet
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052, 2.1: reaches what its last 32 bits say


@dataclass(frozen=True, slots=True)
class FetchFailed:
    """There is no policy to be had now."""

    reason: str


class PolicyHost:
    """Fetches policies. `ca`: the authorities in place of the system's; `anywhere`: private addresses, too."""

    def __init__(
        self,
        resolver: Resolver,
        *,
        ipv6: bool = True,
        ca: Path | None = None,
        port: int = _PORT,
        anywhere: bool = False,
        within_s: float = WITHIN_S,
    ) -> None:
        self._lookup = _Judged(resolver, ipv6=ipv6, anywhere=anywhere)
        self._ca = ca
        self._port = port
        self._within_s = within_s
        self._context: ssl.SSLContext | None = None

    async def fetch(self, domain: str) -> str | FetchFailed:
        """The text of the domain's policy; `domain` as A-labels."""
        if not _NAME.fullmatch(domain):  # it becomes a part of a URL
            return FetchFailed("no host name")
        if self._context is None:
            self._context = await asyncio.to_thread(_trusting, self._ca)
        connector = aiohttp.TCPConnector(resolver=self._lookup, use_dns_cache=False, ssl=self._context)
        timeout = aiohttp.ClientTimeout(total=self._within_s)
        try:
            async with aiohttp.ClientSession(
                connector=connector,
                timeout=timeout,
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
                auto_decompress=False,
            ) as session:
                return await self._get(session, f"https://mta-sts.{domain}:{self._port}{_PATH}")
        except TimeoutError:
            return FetchFailed(f"no answer within {self._within_s:g} s")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return FetchFailed(str(error) or type(error).__name__)

    async def _get(self, session: aiohttp.ClientSession, url: str) -> str | FetchFailed:
        async with session.get(url, headers=_HEADERS, allow_redirects=False) as response:
            if response.status != 200:  # RFC 8461, 3.3: redirects must not be followed
                return FetchFailed(f"the policy host answered {response.status}")
            if response.content_type != "text/plain":
                return FetchFailed(f"the policy is of type {response.content_type}")
            content = bytearray()
            async for piece in response.content.iter_any():
                content += piece
                if len(content) > MAX_BYTES:
                    return FetchFailed(f"the policy is larger than {MAX_BYTES} bytes")
        return content.decode()


class _Judged(AbstractResolver):
    """Our own resolver in aiohttp's place: what it connects to is what was judged."""

    def __init__(self, resolver: Resolver, *, ipv6: bool, anywhere: bool) -> None:
        self._resolver = resolver
        self._ipv6 = ipv6
        self._anywhere = anywhere

    async def resolve(
        self,
        host: str,
        port: int = 0,
        family: socket.AddressFamily = socket.AF_UNSPEC,  # noqa: ARG002 - aiohttp's; ours is in the constructor
    ) -> list[ResolveResult]:
        """Raises OSError."""
        found = await self._resolver.addresses(host, ipv4=True, ipv6=self._ipv6)
        if isinstance(found, (LookupFailed, Missing)):
            raise _unreachable(found.reason if isinstance(found, LookupFailed) else found.value)
        allowed = [address for address in found if self._anywhere or is_public(address)]
        if not allowed:
            raise _unreachable("none of its addresses is on the internet")
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


def _unreachable(why: str) -> OSError:
    return OSError(errno.EHOSTUNREACH, why)  # aiohttp shows the text of those with a number


def is_public(text: str) -> bool:
    """Whether an IP address is of the internet, and so is the IPv4 address that it may stand for."""
    address = ipaddress.ip_address(text)
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo and address.teredo[1])
        if address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
        if inner is not None:
            return is_public(str(inner))
        return address in _UNICAST and address.is_global
    return address.is_global and not address.is_multicast


def _trusting(ca: Path | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(ca) if ca else None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.hostname_checks_common_name = False  # RFC 8461, 3.3: by subjectAltName
    return context
