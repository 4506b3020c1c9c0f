"""The server that a request names together with credentials: this gateway, a relay to pass mail to, or refused.

Guarantees: what is said does not tell which relays are listed, nor why a relay did not take a message.
"""

import ipaddress
from collections.abc import Mapping
from typing import Final

from gateway.api.service import Service
from gateway.delivery.passthrough import Ending
from gateway.errors import Reason, Refused

_NOT_LISTED: Final = "Mail for the server named in the request is not taken here."
_NOT_TAKEN: Final = "The server named in the request did not take the message."
_UNCERTAIN: Final = "The server named in the request did not confirm the message: it may have been sent."

# Status and text of a message that was not passed on. A refusal and a port without an answer look alike: no scanning.
FAILURES: Final[Mapping[Ending, tuple[int, str]]] = {
    Ending.REFUSED: (502, _NOT_TAKEN),
    Ending.UNREACHABLE: (502, _NOT_TAKEN),
    Ending.UNCERTAIN: (504, _UNCERTAIN),
}


def is_ours(service: Service, host: str) -> bool:
    """Whether this gateway is meant: then the password is a key, and its route applies."""
    return host.removesuffix(".").lower() == service.config.hostname.lower()


def is_loopback(host: str) -> bool:
    """Whether a relay of this machine is meant: what is sent there is on no wire."""
    name = host.removesuffix(".").strip("[]").lower()
    try:
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def require_listed(service: Service, host: str, port: int | None, peer: str) -> None:
    """Refuse a relay that this client may not name. `port` None: any. Raises Refused."""
    if not service.door.passes_through(host, port, peer):
        raise Refused(Reason.INSUFFICIENT_PERMISSIONS, _NOT_LISTED)


def unauthenticated() -> Refused:
    """The relay did not take the credentials: the same to a client as an unknown key."""
    return Refused(Reason.AUTHENTICATION_REQUIRED, "The server named in the request refused the credentials.")
