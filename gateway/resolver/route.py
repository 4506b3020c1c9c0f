"""What the kernel's routing table says. Nothing is sent."""

import socket
from typing import Final

_PROBES: Final = {socket.AF_INET: "192.0.2.1", socket.AF_INET6: "2001:db8::1"}  # RFC 5737, 3849: documentation
_DISCARD: Final = 9  # the port; UDP connects without a packet


def source_address(family: socket.AddressFamily) -> str | None:
    """The address that connections to the internet by that family (AF_INET, AF_INET6) come from; None: it cannot be
    reached so."""
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((_PROBES[family], _DISCARD))
            return str(probe.getsockname()[0])
    except OSError:
        return None


def has_route(family: socket.AddressFamily) -> bool:
    """Whether this machine can reach the internet by that family."""
    return source_address(family) is not None


def has_ipv6_route() -> bool:
    """Whether this machine can reach the IPv6 internet at all."""
    return has_route(socket.AF_INET6)
