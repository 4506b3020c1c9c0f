"""From sendmail(8) to the daemon: one message over the unix socket that takes mail of local programs.

Guarantees: all recipients are taken or none; `accept` returns only after the daemon has the message for good. What the
daemon or the socket says otherwise is a `Rejected` with the exit code that callers of a sendmail act on.
"""

import os
import re
import select
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple, NoReturn, Self

from gateway.errors import GatewayError
from gateway.message import xtext

EX_OK: Final = 0  # sysexits.h
EX_USAGE: Final = 64
EX_DATAERR: Final = 65
EX_NOUSER: Final = 67
EX_TEMPFAIL: Final = 75
EX_NOPERM: Final = 77
EX_CONFIG: Final = 78
_TIMEOUT_S: Final = 300.0  # for a reply, RFC 5321 4.5.3.2
_BLOCK: Final = 65_536
_MAX_REPLY: Final = 64 * 1024  # octets of a reply of all its lines
_LINE_END: Final = re.compile(rb"\r\n?|\n")
_PERMISSION: Final = re.compile(r"53[0458] |5\d\d 5\.7\.")
_UNKNOWN: Final = "553 5.1.3"  # a name without a domain that no alias and no default_domain helps
_AWAY: Final = "the mail gateway does not take mail now: try again later"


class Rejected(GatewayError):
    """The message was not taken; `code` is the exit code (sysexits.h)."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class Wishes(NamedTuple):
    """What is to be told of a message (RFC 3461); "" leaves it to the key. `envid` is plain text."""

    notify: str = ""
    ret: str = ""
    envid: str = ""

    @property
    def of_message(self) -> str:
        return f" RET={self.ret}" * bool(self.ret) + f" ENVID={xtext.encode(self.envid)}" * bool(self.envid)

    @property
    def of_recipient(self) -> str:
        return f" NOTIFY={self.notify}" * bool(self.notify)


NO_WISHES: Final = Wishes()


class Handover:
    """A connection to the daemon; a context manager."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._replies: BinaryIO = sock.makefile("rb")

    @classmethod
    def open(cls, paths: Sequence[Path], *, configured: bool) -> Self:
        """Connected to the first of these sockets that somebody listens on. Raises Rejected.

        `configured`: the socket was named, so that a missing permission is no sign of a daemon that is away.
        """
        for path in paths:
            try:
                return cls(connect(path))
            except PermissionError as error:
                if configured:
                    raise Rejected(EX_NOPERM, f"{path}: {error.strerror}") from error
            except OSError:
                continue  # absent, left by a daemon that is gone, or overloaded: all of them may pass
        places = " or ".join(map(str, paths))
        raise Rejected(EX_TEMPFAIL, f"{_AWAY} (nobody listens on {places}: the daemon is away, or has no local.key)")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._replies.close()
        self._sock.close()

    def send(self, sender: str, recipients: Sequence[str], content: bytes, wishes: Wishes = NO_WISHES) -> str:
        """Hand a message over; what the daemon said of it. `content` may have any line ends. Raises Rejected."""
        data = stuffed(content)
        self._expect("greeting", None)
        self._expect("EHLO localhost", "EHLO localhost")
        utf8 = "" if all(map(str.isascii, (sender, *recipients))) else " SMTPUTF8"
        eight_bit = "" if data.isascii() else " BODY=8BITMIME"
        self._expect(sender or "<>", f"MAIL FROM:<{sender}> SIZE={len(data)}{eight_bit}{utf8}{wishes.of_message}")
        for recipient in recipients:
            self._expect(recipient, f"RCPT TO:<{recipient}>{wishes.of_recipient}")
        self._expect("DATA", "DATA", wanted="3")
        self._write(data)
        said = self._expect("the message", None)
        self._write(b"QUIT\r\n", last=True)
        return said

    def relay(self, source: int, sink: int) -> None:
        """Let two descriptors speak SMTP with the daemon until it ends the connection. Raises Rejected."""
        sock, ends = self._sock, [self._sock.fileno(), source]
        try:
            while ready := select.select(ends, [], [], _TIMEOUT_S)[0]:
                if source in ready:
                    block = os.read(source, _BLOCK)
                    if block:
                        sock.sendall(block)
                    else:
                        ends.remove(source)
                        sock.shutdown(socket.SHUT_WR)
                if sock.fileno() in ready:
                    block = sock.recv(_BLOCK)
                    if not block:
                        return
                    while block:
                        block = block[os.write(sink, block) :]
        except OSError as error:
            raise Rejected(EX_TEMPFAIL, f"{_AWAY}: {error.strerror}") from error

    def _expect(self, what: str, command: str | None, *, wanted: str = "2") -> str:
        if command is not None:
            self._write(command.encode("utf-8") + b"\r\n")
        reply = self._reply()
        if not reply.startswith(wanted):
            _refuse(what, reply)
        return reply

    def _reply(self) -> str:
        """The last line of a reply."""
        size = 0
        while True:
            try:
                line = self._replies.readline(_MAX_REPLY)
            except OSError as error:
                raise Rejected(EX_TEMPFAIL, _AWAY) from error
            size += len(line)
            if not line.endswith(b"\n") or size > _MAX_REPLY:
                raise Rejected(EX_TEMPFAIL, _AWAY)
            if line[3:4] != b"-":
                return line.decode("utf-8", "replace").rstrip()

    def _write(self, data: bytes, *, last: bool = False) -> None:
        try:
            self._sock.sendall(data)
        except OSError as error:
            if not last:
                # It may have said why before it closed.
                said = self._reply()
                _refuse("the message", said if said[:1] in {"4", "5"} else f"451 {error.strerror}")


def connect(path: Path) -> socket.socket:
    """A connection to a unix socket, whatever the length of its path. Raises OSError."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        sock.settimeout(_TIMEOUT_S)
        # By way of a directory descriptor: a unix socket's path may have 107 bytes only.
        descriptor = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            sock.connect(f"/proc/self/fd/{descriptor}/{path.name}")
        finally:
            os.close(descriptor)
    except BaseException:
        sock.close()
        raise
    return sock


def stuffed(content: bytes) -> bytes:
    """The content as DATA takes it (RFC 5321, 4.5.2): CR LF, dots doubled, the end. A bare CR is a line end too."""
    lines = _LINE_END.sub(b"\r\n", content)
    if lines and not lines.endswith(b"\r\n"):
        lines += b"\r\n"
    if lines.startswith(b"."):
        lines = b"." + lines
    return lines.replace(b"\r\n.", b"\r\n..") + b".\r\n"


def _refuse(what: str, reply: str) -> NoReturn:
    if reply.startswith("452 4.5.3"):
        raise Rejected(EX_DATAERR, f"{reply} (send to fewer at a time)")  # it would never pass
    if not reply.startswith("5"):
        raise Rejected(EX_TEMPFAIL, f"{what}: {reply}")
    if reply.startswith(_UNKNOWN):
        raise Rejected(EX_NOUSER, f"{what}: {reply}")
    raise Rejected(EX_NOPERM if _PERMISSION.match(reply) else EX_DATAERR, f"{what}: {reply}")
