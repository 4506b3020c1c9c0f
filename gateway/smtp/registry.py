"""What connections ask of the listener that they belong to: whether there is room, for them and for their content."""

from typing import TYPE_CHECKING, Protocol

from gateway.budget import Budget

if TYPE_CHECKING:
    from gateway.smtp.connection import Connection


class Registry(Protocol):
    """Who keeps count of connections and of what they hold."""

    @property
    def room_wait_s(self) -> float: ...

    def admit(self, connection: "Connection") -> bytes | None:
        """None if there is room, else the reply to close with."""

    def budget_of(self, connection: "Connection") -> Budget:
        """Of which its content takes memory."""

    def leave(self, connection: "Connection") -> None: ...

    def secured(self, version: str) -> None:
        """A connection is encrypted, with that version of TLS."""

    def refused(self, peer: str, out: bytes) -> None:
        """A client hears replies among which there are 4xx or 5xx."""
