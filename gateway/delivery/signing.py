"""The process that computes signatures: keys and digests in, signatures out.

Guarantees: it opens nothing, parses nothing of mail, and ends when its socket does, however the daemon ended.
`signer.Signer` starts it as `python -m gateway.delivery.signing FD`. Each request is one packet of a SOCK_SEQPACKET
socket, so that two threads read from it without a queue between them: the kernel hands each packet to one of them.

    KEY   number (4 octets), 0 (8), PEM         remember a key
    SIGN  number (4 octets), job (8), digest    answered by job (8), signature; or job alone where it cannot be made
"""

import contextlib
import signal
import socket
import struct
import sys
import threading
from typing import Final

from gateway.errors import GatewayError
from gateway.message import dkim
from gateway.message.dkim import PrivateKey

HEAD: Final = struct.Struct("!IQ")  # number of the key, job
ANSWER: Final = struct.Struct("!Q")  # job
NO_JOB: Final = 0  # marks a KEY
PACKET_BYTES: Final = 16 * 1024  # a PEM of RSA-4096 has 3.3 KB
THREADS: Final = 2
_KEY_WAIT_S: Final = 10.0  # a key that came before is still being read by the other thread


class Worker:
    """What the threads share: the socket and the keys."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._keys: dict[int, PrivateKey] = {}
        self._came = threading.Condition()

    def serve(self) -> None:
        """Until the socket ends."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the daemon went while it was answered
            while packet := self._sock.recv(PACKET_BYTES):
                number, job = HEAD.unpack_from(packet)
                rest = packet[HEAD.size :]
                if job == NO_JOB:
                    self._remember(number, rest)
                else:
                    self._sock.send(ANSWER.pack(job) + self._signature(number, rest))

    def _remember(self, number: int, pem: bytes) -> None:
        key = dkim.load_private_key(pem)
        with self._came:
            self._keys[number] = key
            self._came.notify_all()

    def _signature(self, number: int, digest: bytes) -> bytes:
        key = self._keys.get(number)
        if key is None:
            with self._came:
                self._came.wait_for(lambda: number in self._keys, _KEY_WAIT_S)
            key = self._keys.get(number)
        try:
            return key.sign(digest) if key is not None else b""
        except (ValueError, GatewayError):
            return b""


def main(descriptor: int) -> None:
    # The end of the socket is the only way out: a stop must first sign what deliveries on the wire still need, and
    # systemd and a terminal send their signals to every process of the daemon.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    with socket.socket(fileno=descriptor) as sock:
        worker = Worker(sock)
        threads = [threading.Thread(target=worker.serve, daemon=True) for _ in range(THREADS - 1)]
        for thread in threads:
            thread.start()
        worker.serve()


if __name__ == "__main__":
    main(int(sys.argv[1]))
