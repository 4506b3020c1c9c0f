"""Time that passes for the SMTP listener when a test says so: without sleeps, and a busy machine misses no deadline."""

import asyncio

from gateway.smtp.listener import SmtpServer
from tests.fakes.smtp_listener import Client


class Passing:
    """The clock by which a listener that is serving one connection closes it. From now on it stands but for `wait`."""

    def __init__(self, server: SmtpServer) -> None:
        assert server._timer is not None
        server._timer.cancel()
        self._timeout_s = server._timeout_s
        (self._connection,) = server._connections
        self._now = asyncio.get_running_loop().time()
        self.wait(0)

    def wait(self, seconds: float) -> None:
        """So long, and then the listener looks at its connection."""
        self._now += seconds
        self._connection.check(self._now, most_s=self._timeout_s)

    async def send(self, made: Client, data: bytes) -> None:
        """Returns once the listener has read it all."""
        wanted = self._connection._received + len(data)
        made.writer.write(data)
        while self._connection._received < wanted or self._connection._busy:
            assert self._connection._closing_at is None, "the listener closed it"
            await asyncio.sleep(0)
