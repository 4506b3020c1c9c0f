"""The return path over a store in memory: what is heard can be looked at."""

import io
from collections.abc import Sequence
from dataclasses import dataclass, field

from gateway.delivery import reported
from gateway.inbound.facts import Judge
from gateway.inbound.take import Inbound
from gateway.observe import MailLog
from gateway.runtime import Clock
from gateway.store.late import Looked
from gateway.store.queue import Heard
from gateway.tokens import Purpose, Subject, Tokens

DOMAIN = "bounces.example.com"
FEEDBACK = "Complaints@example.com"
TOKENS = Tokens(bytes(32))
SUBJECT = Subject(5_000_000, 7_000_000)
BOUNCE = f"b+{TOKENS.local(Purpose.RETURN_PATH, SUBJECT)}@{DOMAIN}"
LEAVE = f"u+{TOKENS.local(Purpose.UNSUBSCRIBE, SUBJECT)}@{DOMAIN}"
NOW_MS = 1_800_000_000_000


@dataclass(slots=True)
class MemoryStore:
    """`early`: how often a recipient is in hand still; `failure` is raised instead of writing."""

    heard: list[Heard] = field(default_factory=list)
    looked: list[tuple[int, int]] = field(default_factory=list)
    unsubscribe: str = "*"
    early: int = 0
    known: bool = True
    address: str = "ann@example.net"
    failure: Exception | None = None

    async def settle_late(self, heard: Sequence[Heard]) -> Sequence[bool]:
        if self.failure is not None:
            raise self.failure
        if self.early:
            return [False] * len(heard)
        self.heard += heard
        return [True] * len(heard)

    async def look(self, message: int, recipient: int) -> Looked | None:
        self.looked.append((message, recipient))
        if not self.known:
            return None
        in_hand, self.early = self.early > 0, max(0, self.early - 1)
        return Looked(bytes(16), self.unsubscribe, self.address, in_hand)


def inbound(
    store: MemoryStore,
    log: io.StringIO | None = None,
    *,
    clock: Clock | None = None,
    judge: Judge = reported.judge,
) -> Inbound:
    return Inbound(
        store,
        TOKENS,
        return_paths=lambda: frozenset({DOMAIN}),
        feedback=[FEEDBACK],
        judge=judge,
        clock=clock or Clock(now_ms=lambda: NOW_MS),
        log=MailLog(log or io.StringIO(), enabled=log is not None),
    )
