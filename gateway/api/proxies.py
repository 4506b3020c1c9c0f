"""Who a client is behind reverse proxies that the operator trusts (`http.trusted_proxies`).

Guarantees: X-Forwarded-For is read only where the connection comes from a trusted network, and from the right: each
proxy adds the address it was called from at the end, so the first one there that is not trusted is the client's, and
whatever stands before it is the client's own invention. Anything that is not an address makes the proxy the client.
`Forwarded` (RFC 7239) is not read: a proxy that sets one of the two passes the other on as the client wrote it.
"""

import functools
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

from aiohttp import web

from gateway.config import Network

_KNOWN: Final = 1024  # addresses whose answer is kept: there are few proxies


class TrustedProxies:
    """The trusted networks of a configuration."""

    def __init__(self, networks: Sequence[Network]) -> None:
        self._networks = tuple(networks)
        self._trusts = functools.lru_cache(maxsize=_KNOWN)(self._lies_within)

    def trusts(self, address: str) -> bool:
        """Does this address, as a socket names it, belong to a trusted proxy?"""
        return bool(self._networks) and self._trusts(address)

    def client(self, request: web.BaseRequest) -> str:
        """The address of the client, "" where the connection is gone already."""
        peer = request.remote or ""
        return self.behind(peer, request.headers.getall("X-Forwarded-For", ())) if self.trusts(peer) else peer

    def behind(self, peer: str, fields: Sequence[str]) -> str:
        """Who calls through the trusted `peer`; `fields` are its X-Forwarded-For fields in their order."""
        found = peer
        for entry in reversed(",".join(fields).split(",")):
            address = _address(entry)
            if address is None:
                return peer
            found = str(address)
            if not self._trusts(found):
                break
        return found

    def _lies_within(self, text: str) -> bool:
        address = _address(text)
        return address is not None and any(address in network for network in self._networks)


def _address(text: str) -> IPv4Address | IPv6Address | None:
    """An address as proxies write it: alone, with a port, in brackets; IPv4 where IPv6 carries it."""
    text = text.strip(" \t")
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address
