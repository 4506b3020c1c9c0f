"""D13: a host whose TLS failed gets one new connection in clear, and from then on that one at once."""

from pathlib import Path

import trustme

from gateway.config import MxRoute
from gateway.events import State
from gateway.message.model import TLS_REQUIRED
from tests.fakes.carrying import desk
from tests.fakes.mx import FakeMx
from tests.peers.tlshosts import show

WHY = "454 4.7.0 no TLS today"


async def test_where_tls_failed_the_next_message_goes_in_clear_at_once(tmp_path: Path) -> None:
    server = show(tmp_path, trustme.CA(), "one.test").server
    async with (
        FakeMx({"STARTTLS": WHY}, tls=server) as host,
        # A connection for each message.
        desk([MxRoute("direct", port=host.port)], messages_per_connection=1) as made,
    ):
        first = await made.one("bare.test")
        assert (first.state, first.note) == (State.DELIVERED, f"TLS failed, sent in clear: {WHY}")
        assert (len(host.conversations), host.commands.count("STARTTLS")) == (2, 1)
        second = await made.one("bare.test")
        assert (second.state, second.note) == (State.DELIVERED, f"TLS failed before, sent in clear: {WHY}")
        assert (len(host.conversations), host.commands.count("STARTTLS")) == (3, 1)
        # Who demands TLS is not told to do without.
        third = await made.one("bare.test", tls_wish=TLS_REQUIRED)
        assert (third.state, third.stage) == (State.DEFERRED, "starttls")
        assert (len(host.conversations), host.commands.count("STARTTLS")) == (4, 2)
        assert len(host.transactions) == 2
