"""Next hops and mails for tests of what goes over a connection."""

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from gateway.config import HopTls, Secret, Timeouts
from gateway.delivery.session import Hop, Session, open_session
from gateway.delivery.wire import Mail
from tests.fakes.mx import FakeMx

QUICK = Timeouts(connect_s=9, greeting_s=1, command_s=1, data_start_s=1, data_block_s=1, data_end_s=1)
CONTENT = b"From: a@gw.test\r\nSubject: hello\r\n\r\nfirst\r\n.second\r\n"


def hop(
    host: FakeMx,
    *,
    tls: HopTls = HopTls.NONE,
    verify: bool = False,
    ca: Path | None = None,
    name: str = "mx.test",
    username: str | None = None,
    password: str | None = None,
    address: str | None = None,
) -> Hop:
    """How to reach a fake host."""
    return Hop(
        name=name,
        address=address or host.address,
        port=host.port,
        tls=tls,
        verify=verify,
        ca=ca,
        ehlo="gw.test",
        source=None,
        username=username,
        password=None if password is None else Secret(password),
    )


def mail(
    *recipients: str,
    sender: str = "a@gw.test",
    content: bytes | None = CONTENT,
    pieces: Sequence[bytes] = (),
    prefix: bytes = b"",
    size: int | None = None,
    eight_bit: bool = False,
    utf8: bool = False,
) -> Mail:
    """A mail to b@mx.test unless said otherwise; with `pieces` it is streamed."""

    async def stream() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    whole = b"".join(pieces) if pieces else content or b""
    return Mail(
        sender=sender,
        recipients=recipients or ("b@mx.test",),
        size=len(prefix + whole) if size is None else size,
        eight_bit=eight_bit,
        utf8=utf8,
        dot_lines=True,
        prefix=prefix,
        content=None if pieces else content,
        stream=stream,
    )


async def connected(host: FakeMx, timeouts: Timeouts = QUICK) -> Session:
    """A session in clear that is expected to open."""
    session = await open_session(hop(host), timeouts)
    assert isinstance(session, Session), session
    return session
