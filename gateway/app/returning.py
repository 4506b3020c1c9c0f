"""What is heard of mail after it left, put together: by SMTP what comes back, by HTTP what recipients do with it.

Guarantees: it holds the parts and starts none; the daemon says when they begin and end.
"""

from gateway.api.track import Visits
from gateway.api.trackwriter import TrackWriter
from gateway.app.datadir import Core
from gateway.config import Config
from gateway.delivery import reported
from gateway.inbound.door import ReturnPathDoor
from gateway.inbound.take import Inbound


class Returning:
    """`core` is open."""

    def __init__(self, core: Core) -> None:
        store = core.store
        self._inbound = Inbound(
            store,
            core.tokens,
            return_paths=lambda: core.domains.return_paths,
            feedback=core.config.smtp.feedback,
            judge=reported.judge,
            clock=core.clock,
            log=core.mail_log,
        )
        self.door = ReturnPathDoor(self._inbound)
        self.writer = TrackWriter(store.settle_late, core.clock, core.figures.track)
        self.visits = Visits(
            core.tokens, self.writer, find=store.offers.find, settle=self._inbound.settle_late, clock=core.clock
        )

    def reconfigure(self, config: Config) -> None:
        self._inbound.reconfigure(config.smtp.feedback)
