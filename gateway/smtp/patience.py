"""How much of a client is borne on one connection: errors, commands without effect, refused addresses.

Guarantees: who only costs work is told 421 after a fixed number of replies; a message that is taken makes up for idle
commands and refusals, not for errors. Failed authentications are counted in auth.py, time and connections by the
listener.
"""

from typing import Final

from gateway.smtp import replies

MAX_ERRORS: Final = 20  # no command, or one that is not understood
MAX_IDLE_COMMANDS: Final = 100  # NOOP, RSET, EHLO, VRFY, HELP, since the last message
MAX_REFUSALS: Final = 10_000  # senders and recipients, since the last message: more than any list has bad ones


class Patience:
    """Each method gives the reply due: the one it is given, or the last word."""

    __slots__ = ("_commands", "_errors", "_refusals")

    def __init__(self) -> None:
        self._errors = self._commands = self._refusals = 0

    def error(self, reply: bytes) -> bytes:
        self._errors += 1
        return reply if self._errors < MAX_ERRORS else replies.TOO_MANY_ERRORS

    def idle(self, reply: bytes) -> bytes:
        self._commands += 1
        return reply if self._commands <= MAX_IDLE_COMMANDS else replies.TOO_MANY_COMMANDS

    def refusal(self, reply: bytes) -> bytes:
        self._refusals += 1
        return reply if self._refusals <= MAX_REFUSALS else replies.TOO_MANY_REFUSALS

    def restore(self) -> None:
        """A content was judged."""
        self._commands = self._refusals = 0
