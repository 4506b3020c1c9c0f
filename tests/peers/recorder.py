"""A TCP proxy on loopback that keeps what passes, both ways, in the order of passing.

It stands between a client and the gateway, so that a test knows which bytes the client really sent. It changes nothing
and understands of SMTP only where a content begins and ends. Behind TLS it sees nothing of use.
"""

import socket
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, Self

_CHUNK_BYTES: Final = 256 * 1024
_TIMEOUT_S: Final = 120
_END: Final = b"\r\n.\r\n"


@dataclass(slots=True, eq=False)
class Conversation:
    """One connection: `chunks` are (from the client?, bytes)."""

    chunks: list[tuple[bool, bytes]] = field(default_factory=list)

    @property
    def commands(self) -> list[str]:
        """The client's lines outside of contents; responses to AUTH are among them."""
        return self._parted()[0].decode("utf-8", "replace").splitlines()

    @property
    def replies(self) -> list[str]:
        """The gateway's lines."""
        return b"".join(data for ours, data in self.chunks if not ours).decode().splitlines()

    @property
    def contents(self) -> list[bytes]:
        """What the client sent after each 354, without dot-stuffing and the final dot."""
        return [_unstuffed(content) for content in self._parted()[1]]

    @property
    def dialogue(self) -> str:
        """For people: who said what, contents left out."""
        return "\n".join(
            f"{'C' if from_client else 'S'}: {line}"
            for from_client, data in self.chunks
            for line in data[:2000].decode("utf-8", "replace").splitlines()
        )

    def _parted(self) -> tuple[bytes, list[bytes]]:
        """(commands, contents as sent). A content may begin only once its 354 has passed."""
        commands, contents, open_content = bytearray(), [], None
        for from_client, data in list(self.chunks):
            if not from_client:
                if open_content is None and any(line.startswith(b"354") for line in data.split(b"\r\n")):
                    open_content = bytearray(b"\r\n")  # that of the DATA command: the content may be empty
                continue
            rest = data
            if open_content is not None:
                begin = max(0, len(open_content) - len(_END))
                open_content += data
                end = open_content.find(_END, begin)
                if end < 0:
                    continue
                contents.append(bytes(open_content[2 : end + 2]))
                rest = bytes(open_content[end + len(_END) :])
                open_content = None
            commands += rest
        return bytes(commands), contents


class Recorder:
    """`with Recorder(port) as recorder`: a client of `recorder.port` speaks with the one who listens on `port`.

    `source` is the loopback address that the connections come from there.
    """

    def __init__(self, upstream: int, *, source: str = "127.0.0.1") -> None:
        self.conversations: list[Conversation] = []
        self._upstream = upstream
        self._source = source
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept, name="recorder", daemon=True)]
        self._sockets: list[socket.socket] = []

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        for sock in (self._listener, *self._sockets):
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        self._threads[0].join(10)
        for thread in self._threads[1:]:
            thread.join(10)
        for sock in (self._listener, *self._sockets):
            sock.close()

    @property
    def contents(self) -> list[bytes]:
        """Of all connections."""
        return [content for conversation in list(self.conversations) for content in conversation.contents]

    @property
    def dialogue(self) -> str:
        return "\n--\n".join(conversation.dialogue for conversation in list(self.conversations))

    def _accept(self) -> None:
        with suppress(OSError):  # the listener was shut down
            while True:
                client = self._listener.accept()[0]
                client.settimeout(_TIMEOUT_S)
                self._sockets.append(client)
                server = socket.create_connection(
                    ("127.0.0.1", self._upstream), _TIMEOUT_S, source_address=(self._source, 0)
                )
                self._sockets.append(server)
                conversation = Conversation()
                self.conversations.append(conversation)
                for ends in ((client, server, True), (server, client, False)):
                    thread = threading.Thread(target=_pass_on, args=(*ends, conversation), daemon=True)
                    self._threads.append(thread)
                    thread.start()


def _pass_on(source: socket.socket, target: socket.socket, from_client: bool, conversation: Conversation) -> None:
    with suppress(OSError):  # one of them went away: the other is told below
        while data := source.recv(_CHUNK_BYTES):
            conversation.chunks.append((from_client, data))
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def _unstuffed(content: bytes) -> bytes:
    """RFC 5321, 4.5.2."""
    if content.startswith(b"."):
        content = content[1:]
    return content.replace(b"\r\n.", b"\r\n")
