"""An endpoint as it is in hand: its place in the log, its secrets, what is under way for it."""

import asyncio
import contextlib
from dataclasses import dataclass, field

from gateway.store import webhook as endpoints
from gateway.store.vault import Vault, VaultError
from gateway.store.webhook import WebhookRecord
from gateway.webhooks.backlog import Backlog


@dataclass(frozen=True, slots=True)
class Secrets:
    """The present one, and the one before it, which is good until `old_until` (Unix ms)."""

    present: str = field(repr=False)
    old: str | None = field(repr=False)
    old_until: int

    def good(self, now: int) -> list[str]:
        """What requests are signed with then, the newest first."""
        return [self.present, self.old] if self.old is not None and now < self.old_until else [self.present]


def unwrap(vault: Vault, record: WebhookRecord) -> Secrets:
    """Without an old one that is damaged: it may have been rotated for that. Raises VaultError."""
    label, old = endpoints.vault_label(record.uuid), None
    present = vault.unwrap(label, record.secret_wrapped).decode()
    if record.old_secret_wrapped is not None:
        with contextlib.suppress(VaultError):
            old = vault.unwrap(label, record.old_secret_wrapped).decode()
    return Secrets(present, old, record.old_until or 0)


@dataclass(slots=True, eq=False)
class Endpoint:
    """`stuck`: what came of requests cannot be written now, and no more are made; `timer`: when it is looked at."""

    backlog: Backlog
    secrets: Secrets
    saving: "asyncio.Task[None] | None" = None
    stuck: bool = False
    timer: int | None = None
    tasks: "set[asyncio.Task[None]]" = field(default_factory=set)

    @property
    def record(self) -> WebhookRecord:
        return self.backlog.record

    @property
    def name(self) -> str:
        return endpoints.show(self.record.uuid)
