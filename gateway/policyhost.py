"""The policy hosts of MTA-STS (RFC 8461, 3.3): one HTTPS request to a name that a stranger chose.

Guarantees: connects only to addresses that are of the internet, as netguard.py judges them; the certificate is verified
for the name; no redirect is followed, no proxy asked, no cookie kept, nothing unpacked; at most 64 KB in at most 60
seconds. What goes wrong is a value. It does not read the policy (delivery/tls/mtasts.py).
"""

import asyncio
import ipaddress
import re
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiohttp

from gateway import netguard
from gateway.netguard import Guard, GuardedResolver
from gateway.resolver import Resolver

MAX_BYTES: Final = netguard.MAX_BYTES  # the same: RFC 8461, 3.3
WITHIN_S: Final = 60.0  # the same
_PORT: Final = 443
_PATH: Final = "/.well-known/mta-sts.txt"
_NAME: Final = re.compile(r"[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*", re.IGNORECASE)
_HEADERS: Final = {"Accept": "text/plain", "Accept-Encoding": "identity", "User-Agent": "mail-gateway"}
_ANYWHERE: Final = (ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0"))


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
        self._guard = Guard(networks=_ANYWHERE if anywhere else ())
        self._lookup = GuardedResolver(resolver, self._guard, ipv6=ipv6)
        self._ca = ca
        self._port = port
        self._within_s = within_s
        self._context: ssl.SSLContext | None = None

    async def fetch(self, domain: str) -> str | FetchFailed:
        """The text of the domain's policy; `domain` as A-labels."""
        if not _NAME.fullmatch(domain):  # it becomes a part of a URL
            return FetchFailed("no host name")
        if self._context is None:
            self._context = await asyncio.to_thread(netguard.trusting, self._ca)
        try:
            async with netguard.session(self._lookup, self._guard, self._context, timeout_s=self._within_s) as session:
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
