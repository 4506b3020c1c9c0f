"""May this key send as this address? The envelope sender, every From and every Sender address are asked about.

The null sender is always allowed: it is how a bounce is told from mail that could bounce.
"""

from collections.abc import Iterable

from gateway.errors import Reason, Refused
from gateway.message import address
from gateway.policy.auth import Principal


def check(principal: Principal, addresses: Iterable[str], *, param: str) -> None:
    """Refused with SENDER_NOT_ALLOWED for the first address that no pattern of the key matches."""
    if not principal.senders:
        return
    for sender in addresses:
        if sender and not any(address.matches(pattern, sender) for pattern in principal.senders):
            raise Refused(
                Reason.SENDER_NOT_ALLOWED,
                f"The key {principal.name} may not send as {sender}; allowed: {', '.join(principal.senders)}.",
                param=param,
            )
