"""AUTH (RFC 4954) with PLAIN (RFC 4616) and LOGIN, without I/O: responses in, replies out, then a principal.

Guarantees: a failed or broken exchange leaves nothing behind but its count. Whether credentials are good is
asked of the callable it is given; when AUTH may be said at all is the engine's to know.
"""

import base64
import binascii
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from gateway.errors import GatewayError, Reason, Refused
from gateway.smtp import replies
from gateway.smtp.grammar import BadCommand

MAX_FAILURES: Final = 3  # on one connection
_EMPTY_CHALLENGE: Final = b"334 \r\n"
_ASK_NAME: Final = b"334 VXNlcm5hbWU6\r\n"  # "Username:"
_ASK_PASSWORD: Final = b"334 UGFzc3dvcmQ6\r\n"  # "Password:"


class Credentials(NamedTuple):
    """What a client said it is. The repr shows nothing of it."""

    login: bytes
    password: bytes

    def __repr__(self) -> str:
        return "Credentials(***)"


class Authentication:
    """The AUTH of one connection. `principal` is None until it succeeded."""

    __slots__ = ("_authenticate", "_exchange", "_failures", "principal")

    def __init__(self, authenticate: Callable[[bytes, bytes], Any]) -> None:
        self.principal: Any = None
        self._authenticate = authenticate
        self._exchange: _Plain | _Login | None = None
        self._failures = 0

    @property
    def running(self) -> bool:
        """The next line is a response, no command."""
        return self._exchange is not None

    @property
    def locked(self) -> bool:
        """There were too many failures: the connection is to be closed."""
        return self._failures >= MAX_FAILURES

    def forget(self) -> None:
        """Before TLS is not after TLS (RFC 3207, 4.2); failures still count."""
        self.principal = self._exchange = None

    def cancel(self) -> None:
        self._exchange = None

    def start(self, argument: str) -> bytes:
        """The reply to `AUTH argument`. Raises BadCommand."""
        mechanism, _, initial = argument.partition(" ")
        self._exchange = _exchange(mechanism)
        if not initial:
            return self._exchange.challenge
        # RFC 4954, 4: `=` is an empty initial response.
        return self._answer(self._exchange, b"" if initial == "=" else initial.strip(" ").encode())

    def respond(self, line: bytes) -> bytes:
        """The reply to a response. Raises BadCommand."""
        assert self._exchange is not None
        if line == b"*":
            self._exchange = None
            raise BadCommand(replies.AUTH_CANCELLED)
        return self._answer(self._exchange, line)

    def _answer(self, exchange: "_Plain | _Login", response: bytes) -> bytes:
        self._exchange = None
        credentials = exchange.answer(response)
        if credentials is None:
            self._exchange = exchange
            return exchange.challenge
        try:
            self.principal = self._authenticate(credentials.login, credentials.password)
        except Refused as refused:
            if refused.reason is not Reason.AUTHENTICATION_REQUIRED:
                raise
            self._failures += 1
            return replies.TOO_MANY_FAILURES if self.locked else replies.AUTH_FAILED
        except GatewayError:
            return replies.AUTH_AWAY  # RFC 4954, 6
        return replies.AUTHENTICATED


class _Plain:
    """One response: authorization identity NUL name NUL password."""

    challenge = _EMPTY_CHALLENGE

    def answer(self, response: bytes) -> Credentials:
        parts = _decoded(response).split(b"\0")
        if len(parts) != 3:
            raise BadCommand(replies.AUTH_MALFORMED)
        identity, login, password = parts
        if identity not in {b"", login}:
            # RFC 4616, 2: nobody here may act for another.
            raise BadCommand(replies.AUTH_FAILED)
        return Credentials(login, password)


class _Login:
    """Two responses: the name, then the password. None asks for the next one."""

    challenge = _ASK_NAME

    def __init__(self) -> None:
        self._login: bytes | None = None

    def answer(self, response: bytes) -> Credentials | None:
        text = _decoded(response)
        if self._login is not None:
            return Credentials(self._login, text)
        self._login = text
        self.challenge = _ASK_PASSWORD
        return None


def _exchange(mechanism: str) -> _Plain | _Login:
    match mechanism.upper():
        case "PLAIN":
            return _Plain()
        case "LOGIN":
            return _Login()
        case "":
            raise BadCommand(replies.BAD_ARGUMENT)
        case _:
            raise BadCommand(replies.AUTH_UNKNOWN)


def _decoded(response: bytes) -> bytes:
    try:
        return base64.b64decode(response, validate=True)
    except binascii.Error:
        raise BadCommand(replies.AUTH_MALFORMED) from None
