"""Signing beside the daemon: the expensive step between `dkim.prepare` and `dkim.finish`, behind one seam.

Guarantees: neither the event loop nor a thread of this process computes a signature (two threads here cost a third of
the throughput: they and the loop wait for one interpreter lock); every job ends with its signature or an error, also
when the signing process dies: it is started again and asked again. It knows nothing of messages.
"""

import asyncio
import contextlib
import logging
import os
import socket
import subprocess
import sys
from collections import deque
from pathlib import Path
from time import monotonic
from typing import Final

from gateway.delivery.figures import OutgoingFigures
from gateway.delivery.signing import ANSWER, HEAD, NO_JOB, PACKET_BYTES
from gateway.errors import GatewayError
from gateway.message.dkim import PrivateKey
from gateway.metrics import Metrics

MAX_DEATHS: Final = 5  # of the signing process in a row, without a signature between: more is no accident
_ANSWERS_A_TURN: Final = 64  # taken in one turn of the loop at most
_END_S: Final = 5.0

log = logging.getLogger("gateway.delivery")


class SigningError(GatewayError):
    """A signature could not be made."""


class Signer:
    """Owns the signing process; constructed in the running loop. The process starts with the first job, or `start`."""

    def __init__(self, figures: OutgoingFigures | None = None) -> None:
        self._figures = figures or OutgoingFigures(Metrics())
        self._loop = asyncio.get_running_loop()
        self._process: subprocess.Popen[bytes] | None = None
        self._sock: socket.socket | None = None
        self._keys: dict[PrivateKey, tuple[int, bytes]] = {}  # number and PEM
        # Future, request and when it was asked, in order.
        self._jobs: dict[int, tuple[asyncio.Future[bytes], bytes, float]] = {}
        self._unsent: deque[bytes] = deque()
        self._last_job = NO_JOB
        self._deaths = 0
        self._closed = False

    def start(self) -> None:
        """Start the process, so that the first message does not wait for it (0.2 s)."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path)}
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 - our own module with our own interpreter
                [sys.executable, "-m", "gateway.delivery.signing", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for the daemon; its end is what ends this one
                env=environment,
            )
        ours.setblocking(False)
        self._sock = ours
        self._loop.add_reader(ours.fileno(), self._readable)
        for number, pem in self._keys.values():
            self._send(HEAD.pack(number, NO_JOB) + pem)
        for _, request, _ in self._jobs.values():
            self._send(request)

    def sign(self, key: PrivateKey, digest: bytes) -> asyncio.Future[bytes]:
        """Await the raw signature over a SHA-256 digest (32 octets). Raises SigningError."""
        if self._closed:
            raise RuntimeError("the signer is closed")
        if self._sock is None:
            self.start()
        known = self._keys.get(key)
        if known is None:
            known = self._keys[key] = (len(self._keys) + 1, key.pem())
            self._send(HEAD.pack(known[0], NO_JOB) + known[1])
        self._last_job = job = self._last_job + 1
        request = HEAD.pack(known[0], job) + digest
        future: asyncio.Future[bytes] = self._loop.create_future()
        self._jobs[job] = (future, request, monotonic())
        self._send(request)
        return future

    async def close(self) -> None:
        """End the process; jobs that are still open fail."""
        if self._closed:
            return
        self._closed = True
        self._hang_up()
        self._fail("the signer was closed")
        if self._process is not None:
            await asyncio.to_thread(self._reap, self._process)

    def _send(self, packet: bytes) -> None:
        assert self._sock is not None
        if self._unsent:
            self._unsent.append(packet)
            return
        try:
            self._sock.send(packet)
        except (BlockingIOError, InterruptedError):
            self._unsent.append(packet)
            self._loop.add_writer(self._sock.fileno(), self._writable)
        except OSError:
            pass  # it died; the reader sees the end and asks again

    def _writable(self) -> None:
        assert self._sock is not None
        try:
            while self._unsent:
                self._sock.send(self._unsent[0])
                self._unsent.popleft()
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self._unsent.clear()
        self._loop.remove_writer(self._sock.fileno())

    def _readable(self) -> None:
        assert self._sock is not None
        try:
            for _ in range(_ANSWERS_A_TURN):
                packet = self._sock.recv(PACKET_BYTES)
                if not packet:
                    break
                self._answered(packet)
            else:
                return
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            log.warning("the signing process cannot be read: %s", error)
        self._died()

    def _answered(self, packet: bytes) -> None:
        self._deaths = 0
        future, _, asked = self._jobs.pop(ANSWER.unpack_from(packet)[0])
        self._figures.signing.observe(monotonic() - asked)
        if future.done():
            return  # cancelled meanwhile
        signature = packet[ANSWER.size :]
        if signature:
            future.set_result(signature)
        else:
            future.set_exception(SigningError("the signature could not be made"))

    def _died(self) -> None:
        self._hang_up()
        self._deaths += 1
        self._figures.restarts.value += 1
        if self._process is not None:
            # It has ended, or it has closed its socket and will.
            self._process.kill()
            self._process.wait()
        log.error("the signing process ended (%s); it is started again", self._process and self._process.returncode)
        if self._deaths <= MAX_DEATHS:
            self.start()
        else:
            self._deaths = 0  # the next job tries again
            self._fail("the signing process keeps ending")

    def _hang_up(self) -> None:
        if self._sock is not None:
            self._loop.remove_reader(self._sock.fileno())
            self._loop.remove_writer(self._sock.fileno())
            self._sock.close()
            self._sock = None
        self._unsent.clear()

    def _fail(self, why: str) -> None:
        jobs, self._jobs = self._jobs, {}
        for future, _, _ in jobs.values():
            if not future.done():
                future.set_exception(SigningError(why))

    @staticmethod
    def _reap(process: subprocess.Popen[bytes]) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_END_S)
            return
        process.kill()
        process.wait()
