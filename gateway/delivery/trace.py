"""The dialogue with next hops as the log tells it at debug, each line with the message it is about.

Guarantees: no content and no credentials are told: content is a number of octets, and of AUTH the mechanism and the
code of the answer stay. Above debug there is no trace, and asking for one is all it costs.
"""

import logging
from collections.abc import Sequence

from gateway.delivery.reply import Reply
from gateway.runtime import show_id

log = logging.getLogger("gateway.dialogue")


class Trace:
    """Of one message. `host` names who is spoken to."""

    __slots__ = ("_message", "host")

    def __init__(self, message: str) -> None:
        self._message = message
        self.host = ""

    def note(self, text: str) -> None:
        log.debug("%s", text, extra={"fields": {"id": self._message, "host": self.host}})

    def sent(self, lines: bytes) -> None:
        """Commands."""
        for line in lines.decode(errors="replace").splitlines():
            self.note(f"> {line}")

    def sent_secret(self, command: bytes) -> None:
        """A command of AUTH, or what answers a challenge."""
        verb, _, rest = command.decode(errors="replace").partition(" ")
        mechanism = rest.partition(" ")[0]
        self.note(f"> {verb} {mechanism} ***" if verb == "AUTH" else "> ***")

    def heard(self, replies: Sequence[Reply], gone: str) -> None:
        """Answers, and why there are no more."""
        for reply in replies:
            self.note(f"< {reply.text}")
        if gone:
            self.note(f"the connection is gone: {gone}")


def of(uuid: bytes) -> Trace | None:
    """A trace of that message, if anybody reads it."""
    return Trace(show_id("eml_", uuid)) if log.isEnabledFor(logging.DEBUG) else None
