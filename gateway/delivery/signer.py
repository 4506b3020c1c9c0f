"""Signing in threads: the expensive step between `dkim.prepare` and `dkim.finish`, behind one seam.

Guarantees: the event loop never computes a signature; what was handed over is signed or, where its caller
has gone, skipped; after `close` nothing is left running. It knows nothing of messages: digests go in,
signatures come out, so that a process of its own can take the threads' place.
"""

import asyncio
import threading
from collections import deque
from queue import Empty, SimpleQueue
from typing import Final

from gateway.message.dkim import PrivateKey

THREADS: Final = 2
WAKE_EVERY: Final = 4  # while more jobs wait: a wake-up costs 40 µs, four signatures take 3 ms

_Job = tuple["asyncio.Future[bytes]", PrivateKey, bytes]


class Signer:
    """A pool of signing threads for the running loop; constructed in that loop.

    One thread-safe queue in, one list out. A thread wakes the loop when no job is left for it or WAKE_EVERY of
    its results wait, and not if the loop was woken already: a lone signature comes back at once, many share a
    wake-up.
    """

    def __init__(self, *, threads: int = THREADS) -> None:
        self._loop = asyncio.get_running_loop()
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._ready: deque[tuple[asyncio.Future[bytes], bytes | Exception]] = deque()
        self._waking = False
        self._closed = False
        self._threads = [
            threading.Thread(target=self._work, name=f"signer-{number}", daemon=True) for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def sign(self, key: PrivateKey, digest: bytes) -> asyncio.Future[bytes]:
        """Await the raw signature over a SHA-256 digest (32 octets). Cancelling the wait skips the work."""
        if self._closed:
            raise RuntimeError("the signer is closed")
        future: asyncio.Future[bytes] = self._loop.create_future()
        self._jobs.put((future, key, digest))
        return future

    def close(self) -> None:
        """Sign what was handed over, then end the threads. Blocks so long: call it after deliveries."""
        if self._closed:
            return
        self._closed = True
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        unannounced = 0
        job = self._jobs.get()
        while job is not None:
            if self._finish(*job):
                unannounced += 1
            if unannounced >= WAKE_EVERY:
                unannounced = self._wake()
            try:
                job = self._jobs.get_nowait()
            except Empty:
                unannounced = self._wake()  # never wait on results that nobody was told of
                job = self._jobs.get()
        self._wake()

    def _finish(self, future: asyncio.Future[bytes], key: PrivateKey, digest: bytes) -> bool:
        if future.cancelled():
            return False
        try:
            self._ready.append((future, key.sign(digest)))
        except Exception as error:  # noqa: BLE001 a thread's root: the error is the caller's
            self._ready.append((future, error))
        return True

    def _wake(self) -> int:
        """Have the loop fetch what is ready; 0 results are unannounced then.

        Append, then look at `_waking`; `_resolve` clears it, then fetches: so no result stays without a wake-up.
        """
        if self._ready and not self._waking:
            self._waking = True
            try:
                self._loop.call_soon_threadsafe(self._resolve)
            except RuntimeError:
                self._ready.clear()  # the loop is closed: nobody waits any more
        return 0

    def _resolve(self) -> None:
        self._waking = False
        while self._ready:
            future, result = self._ready.popleft()
            if future.done():
                continue  # cancelled while it was being signed
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)
