"""A service manager as the daemon sees systemd: opens sockets, hears what it says, ends it when no sign of life comes,
and starts it again when it failed.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Final, Self

from tests.peers.daemon import Daemon
from tests.peers.process import wait_until

# Puts the sockets where sd_listen_fds(3) has them, says for whom they are, and becomes the daemon.
_LAUNCH: Final = """
import fcntl, os, sys
fds = [int(fd) for fd in sys.argv[1].split(",") if fd]
kept = [fcntl.fcntl(fd, fcntl.F_DUPFD, 100) for fd in fds]
for place, fd in enumerate(kept, 3):
    os.dup2(fd, place)
    os.close(fd)
pid = str(os.getpid())
if fds:
    os.environ |= {"LISTEN_PID": pid, "LISTEN_FDS": str(len(fds)), "LISTEN_FDNAMES": ":".join(["mail"] * len(fds))}
if sys.argv[2]:
    os.environ |= {"WATCHDOG_USEC": sys.argv[2], "WATCHDOG_PID": pid}
os.execv(sys.argv[3], sys.argv[3:])
"""
# The daemon with a way to block its event loop: SIGUSR1 has it sleep in the loop's own thread.
_STUCK: Final = """
import signal, time
signal.signal(signal.SIGUSR1, lambda *_: time.sleep(40))
from gateway.__main__ import main
main()
"""


class Manager:
    """Runs `daemon` until the end of the `with` block. `messages` are what it said, in order; `aborted` counts how
    often it was ended for silence, `starts` how often it was started."""

    def __init__(
        self,
        daemon: Daemon,
        *,
        sockets: Sequence[socket.socket] = (),
        watchdog_s: float = 0,
        can_block: bool = False,
        starts: bool = True,
    ) -> None:
        """`can_block`: SIGUSR1 puts its event loop to sleep; `starts` False: it does not come up, see `try_start`."""
        self.daemon = daemon
        self.messages: list[str] = []
        self.aborted = 0
        self.starts = 0
        self._sockets = sockets
        self._watchdog_s = watchdog_s
        self._can_block = can_block
        self._starts_at_once = starts
        self._heard_at: float | None = None  # since it was ready
        self._wanted = False
        self._over = False
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notify.bind(f"\0mail-gateway-manager-{os.getpid()}-{daemon.smtp_port}")
        self._notify.settimeout(0.05)
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Self:
        self._thread.start()
        if self._starts_at_once:
            try:
                self.start()
            except BaseException:
                self._end()
                raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _end(self) -> None:
        self._wanted = False
        self._over = True
        self._thread.join()
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._notify.close()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Returns when it is ready."""
        heard = self.messages.count("READY=1")
        self._start()
        self._wanted = True
        self.wait_for_message("READY=1", heard + 1)

    def try_start(self) -> int:
        """For one that does not start; returns its exit code."""
        self._start()
        assert self._process is not None
        return self._process.wait(60)

    def stop(self) -> int:
        """Ask it to end; returns its exit code."""
        self._wanted = False
        assert self._process is not None
        self._process.terminate()
        return self._process.wait(60)

    def wait_for_message(self, message: str, count: int = 1) -> None:
        """Until it said that so often; with its log where it does not."""
        try:
            wait_until(lambda: self.messages.count(message) >= count, message, timeout_s=60)
        except TimeoutError as error:
            raise TimeoutError(f"{error}\n{self.daemon.tail()}") from error

    def _start(self) -> None:
        daemon = self.daemon
        self._heard_at = None
        self.starts += 1
        command = daemon._command("serve")
        if self._can_block:
            command[1:3] = ["-c", _STUCK]
        fds = [sock.fileno() for sock in self._sockets]
        usec = str(int(self._watchdog_s * 1_000_000)) if self._watchdog_s else ""
        name = "@" + self._notify.getsockname()[1:].decode()
        with daemon.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _LAUNCH, ",".join(map(str, fds)), usec, *command],
                env=daemon._environment | {"NOTIFY_SOCKET": name},
                cwd=daemon.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=fds,
            )

    def _watch(self) -> None:
        while not self._over:
            try:
                said = self._notify.recv(4096).decode()
            except TimeoutError:
                said = ""
            self.messages += said.splitlines()
            if "READY=1" in said or "WATCHDOG=1" in said:
                self._heard_at = time.monotonic()
            if self._wanted:
                self._see_to_it()

    def _see_to_it(self) -> None:
        assert self._process is not None
        if (code := self._process.poll()) is not None:
            if code != 0:  # Restart=on-failure
                self._start()
        elif self._watchdog_s and self._heard_at is not None and time.monotonic() - self._heard_at > self._watchdog_s:
            self.aborted += 1
            self._heard_at = None
            os.kill(self._process.pid, signal.SIGABRT)  # WatchdogSignal=
