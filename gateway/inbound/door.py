"""The door of the return path: who may be written to there, and what comes of it (smtp/door.py, Door).

Guarantees: an address is judged by its own text, before anything is asked of the store; none but those of Inbound is
taken. A message is answered for when what follows from it is written. At most MAX_BYTES of one are kept.
"""

from typing import Any, Final, NoReturn

from gateway.errors import Reason, Refused
from gateway.inbound.take import Inbound
from gateway.message import reports
from gateway.message.model import SmtpEnvelope

NO_AUTH: Final = "There is nothing to log in to."


class ReturnPathDoor:
    """The listener calls no other methods where it takes mail from anybody."""

    def __init__(self, inbound: Inbound) -> None:
        self._inbound = inbound

    def authenticate(self, login: str, password: str, peer: str) -> NoReturn:
        del login, password, peer
        raise Refused(Reason.AUTHENTICATION_REQUIRED, NO_AUTH)

    def network_principal(self, key_name: str) -> NoReturn:
        del key_name
        raise Refused(Reason.AUTHENTICATION_REQUIRED, NO_AUTH)

    def check_sender(self, principal: Any, address: str, peer: str) -> str:
        """Anybody, and the null sender."""
        del principal, peer
        return address

    def check_recipient(self, principal: Any, address: str, peer: str) -> str:
        del principal
        self._inbound.check(address, peer)
        return address

    def is_suspect(self, principal: Any, address: str) -> bool:
        """Never: the address is one of ours."""
        del principal, address
        return False

    async def judge_recipient(self, principal: Any, address: str, peer: str) -> None:
        del principal, address, peer

    def begin(self, principal: Any, envelope: SmtpEnvelope) -> "Taking":
        del principal
        return Taking(self._inbound, envelope)


class Taking:
    """A message on its way in: the beginning is kept, the rest was counted by the listener."""

    def __init__(self, inbound: Inbound, envelope: SmtpEnvelope) -> None:
        self._inbound = inbound
        self._envelope = envelope
        self._kept = bytearray()

    async def add(self, data: bytes) -> None:
        self._kept += data[: reports.MAX_BYTES - len(self._kept)]

    async def finish(self, last: bytes) -> str:
        await self.add(last)
        envelope = self._envelope
        await self._inbound.take(envelope.recipients[0], envelope.sender, bytes(self._kept), peer=envelope.peer)
        return ""
