"""The near end of a delivery for tests: hops that lead to a `FakeMx`, mail to send, timeouts nobody waits for."""

import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any

from gateway.config import HopTls, Timeouts
from gateway.delivery.session import Hop, Session, open_session
from gateway.delivery.wire import Mail
from tests.fakes.mx import FakeMx

CONTENT = b"Subject: hello\r\n\r\nhow are you\r\n"
BRISK = Timeouts(connect_s=9, greeting_s=9, command_s=9, data_start_s=9, data_block_s=9, data_end_s=9)
# Waits for everything but the answer to the end of the content.
IMPATIENT = Timeouts(connect_s=9, greeting_s=9, command_s=9, data_start_s=9, data_block_s=9, data_end_s=0.05)
_HOP = Hop("localhost", "127.0.0.1", 25, HopTls.NONE, verify=False, ca=None, ehlo="gateway.test", source=None)


def hop(host: FakeMx, **changes: Any) -> Hop:
    at: dict[str, Any] = {"address": host.address, "port": host.port}
    return replace(_HOP, **at | changes)


@contextlib.asynccontextmanager
async def session(host: FakeMx, timeouts: Timeouts = BRISK, **changes: Any) -> AsyncIterator[Session]:
    """An open session with the host; closed at the end."""
    opened = await open_session(hop(host, **changes), timeouts)
    assert isinstance(opened, Session), opened
    try:
        yield opened
    finally:
        opened.wire.close()


def mail(
    *recipients: str,
    content: bytes = CONTENT,
    prefix: bytes = b"",
    pieces: Sequence[bytes] | None = None,
    **facts: Any,
) -> Mail:
    """Mail from a@sender.test; with `pieces` the content comes as a stream cut so."""
    if pieces is not None:
        content = b"".join(pieces)

    async def stream() -> AsyncIterator[bytes]:
        for piece in pieces or ():
            yield piece

    fields: dict[str, Any] = {
        "sender": "a@sender.test",
        "recipients": recipients or ("b@example.test",),
        "size": len(prefix) + len(content),
        "eight_bit": not content.isascii(),
        "utf8": False,
        "dot_lines": content.startswith(b".") or b"\n." in content,
        "prefix": prefix,
        "content": content if pieces is None else None,
        "stream": stream,
    }
    return Mail(**fields | facts)
