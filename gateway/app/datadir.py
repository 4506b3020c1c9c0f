"""A data directory opened by one process: lock, store, keys, domains, intake and the actions on them.

Guarantees: one process at a time; what was opened is closed again, also where a part of it fails to open, and whatever
another part fails with at its end. It sends nothing and listens nowhere (daemon.py does).
"""

import asyncio
import contextlib
import fcntl
import functools
import logging
import os
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

from gateway import observe
from gateway.api import message as api_message
from gateway.api.figures import Figures
from gateway.app.webhooks import WebhookParts
from gateway.config import Config
from gateway.control import LOCK_NAME
from gateway.delivery import explain
from gateway.errors import StoreError
from gateway.intake import Intake, Room
from gateway.manage import Action, Manager
from gateway.manage.backup import BackupActions
from gateway.manage.erasure import ErasureActions
from gateway.manage.export import ExportActions
from gateway.manage.instance import load_tokens
from gateway.manage.suppressionlist import SuppressionList
from gateway.manage.suppressions import SuppressionActions
from gateway.observe import MailLog, Mask
from gateway.policy.auth import KeyRing
from gateway.policy.brakes import Braking
from gateway.policy.domains import Domains
from gateway.policy.limits import Limiter
from gateway.policy.suppression import Suppressions
from gateway.policy.templates import Templates
from gateway.resolver import Resolver
from gateway.runtime import Clock, IdSource, show_id
from gateway.store.backup import Snapshots
from gateway.store.ballast import Ballast
from gateway.store.space import Space
from gateway.store.sqlite import SqliteStore
from gateway.store.vault import Vault, load_master_key
from gateway.templates import TemplateManager
from gateway.tokens import Tokens

LOG_FLUSH_S = 0.1

log = logging.getLogger("gateway")


class DataDirLocked(StoreError):
    """Another process serves this data directory."""


class Core:
    """A data directory opened by this process alone."""

    def __init__(self, config: Config, *, clock: Clock | None = None, log_stream: TextIO | None = None) -> None:
        self.config = config
        self.clock = clock or Clock()
        self.keys = KeyRing()
        self.domains = Domains()
        self.figures = Figures()
        self._stream = log_stream or sys.stderr
        self._closing = contextlib.AsyncExitStack()  # what was opened: how each part ends
        self.opening = False  # the store, which may take its time: a migration is one transaction
        self._ballast = Ballast(config.database_path.parent)
        self.store: SqliteStore
        self.space: Space
        self.ids: IdSource
        self.vault: Vault
        self.tokens: Tokens
        self.resolver: Resolver
        self.manager: Manager
        self.braking: Braking
        self.limiter: Limiter
        self.suppressions: Suppressions
        self.webhooks: WebhookParts
        self.suppression_list: SuppressionList
        self.templates: TemplateManager
        self.intake: Intake
        self.mail_log: MailLog
        self._exports: ExportActions
        self._snapshots = Snapshots(config.database_path)
        self._backups = BackupActions(lambda: self.config, self._snapshots, self.clock)
        self.fatal: asyncio.Future[str]

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def open(self) -> None:
        """Start everything. Raises GatewayError, OSError (a busy port); nothing is left open then."""
        try:
            await self._start()
        except BaseException:
            await self.close()
            raise

    async def _start(self) -> None:
        """What is opened says at once how it ends (`_ends_by`)."""
        config = self.config
        loop = asyncio.get_running_loop()
        self.fatal = loop.create_future()
        self._ends_by(os.close, _lock(config.data_dir))
        self.mail_log = MailLog(
            self._stream,
            **log_terms(config),
            defer=functools.partial(loop.call_later, LOG_FLUSH_S),
            monotonic=self.clock.monotonic,
        )
        self._ends_by(self.mail_log.flush)
        await self._open_store()
        self._ends_by(self.store.close)
        self._ends_by(self._snapshots.close)
        await self._furnish()

    async def _open_store(self) -> None:
        self.opening = True
        try:
            self.store = await SqliteStore.open(
                self.config.database_path,
                clock=self.clock,
                retention=self.config.retention,
                on_ready=self._on_ready,
                on_failed=self._on_failed,
                make_room=self._ballast.give_up,
                figures=self.figures.store,
            )
        except asyncio.CancelledError:
            # The thread that opens it cannot be stopped: the lock stays for as long as this process.
            self._closing.pop_all()
            raise
        finally:
            self.opening = False

    async def _furnish(self) -> None:
        """Everything over an open store."""
        config = self.config
        self.store.reconfigure(config.retention, config.suppression)
        place = config.database_path.parent
        self.space = Space(place, config.limits, self.store.backlog, self.store.uncopied_bytes, ballast=self._ballast)
        self.space.look()
        self.ids = IdSource(self.clock, last=self.store.last_id)
        self.resolver = Resolver(config.dns.nameservers, trust_ad=config.dns.trust_ad, figures=self.figures.resolver)
        self.vault = Vault(load_master_key(config.data_dir))
        self.tokens = await load_tokens(self.store.records, self.vault)
        self._mask_addresses(config)
        events = self.store.event_log
        self.braking = Braking(self.store.brakes, events, self.keys, hashed=self.tokens.hashed, clock=self.clock)
        await self.braking.load()
        self.manager = Manager(
            config,
            self.store.records,
            self.vault,
            self.store,
            keys=self.keys,
            domains=self.domains,
            clock=self.clock,
            lookup=self.resolver.txt,
            lookup_mx=self.resolver.mx,
            braking=self.braking,
            keep=self.store.keep,
        )
        await self.manager.load()
        self._backups.clear()
        self._exports = ExportActions(self.store, self.clock)
        self.limiter = Limiter(self.clock)
        self.suppressions = Suppressions(self.store.suppressed, self.tokens, self.clock)
        self.suppression_list = SuppressionList(self.store.suppressed, self.tokens, self.clock)
        self.webhooks = WebhookParts(
            config.webhooks, self.store, self.resolver, vault=self.vault, tokens=self.tokens, clock=self.clock
        )
        self._ends_by(self.webhooks.sender.close)
        self._found_templates = templates = Templates(self.store.records, config.templates)
        self.templates = TemplateManager(self.store.records, templates, clock=self.clock)
        self.intake = Intake(
            config,
            self.store,
            self.domains,
            limiter=self.limiter,
            templates=templates,
            clock=self.clock,
            ids=self.ids,
            log=self.mail_log,
            figures=self.figures.intake,
            room=Room(self.space.take, lambda: self.store.away),
            suppressions=self.suppressions,
            braking=self.braking,
            earlier=self.store.earlier,
        )

    def _mask_addresses(self, config: Config) -> None:
        """As log.addresses has it, in both logs."""
        mask = Mask(self.tokens.hashed) if config.log.addresses == "hashed" else None
        self.mail_log.mask = mask
        observe.set_mask(mask)

    async def close(self) -> None:
        """Close what was opened, last first. What a part fails with is logged and keeps no other open."""
        await self._closing.aclose()

    def _ends_by(self, end: Callable[..., Awaitable[None] | None], *args: object) -> None:
        self._closing.push_async_callback(ended, end, *args)

    def actions(self) -> Mapping[str, Action]:
        """What the CLI may ask for."""
        return {
            **self.manager.actions(),
            **self.templates.actions(),
            **self._backups.actions(),
            **self._exports.actions(),
            **self.webhooks.actions,
            **SuppressionActions(self.suppression_list, self.clock).actions(),
            **ErasureActions(self.store.erasing, self.tokens, self.clock).actions(),
            "queue.explain": self._explain,
            "send": self._send,
        }

    async def _explain(self, args: dict[str, Any]) -> Any:
        store = self.store
        return await explain.alone(self.config, store, store.records, self.resolver, self.domains).explain(args)

    async def _send(self, args: dict[str, Any]) -> Any:
        principal = self.keys.named(str(args["key"]), self.clock.now_ms())
        submission = api_message.parse(args["body"], self.config.limits)
        receipt = await self.intake.submit(principal, submission, idempotency=None, client="cli")
        return {"message_id": show_id("eml_", receipt.uuid), "status": receipt.status}

    def _on_ready(self) -> None:
        """Nothing delivers here; the daemon will."""

    def _on_failed(self, reason: str) -> None:
        if not self.fatal.done():
            self.fatal.set_result(reason)


def log_terms(config: Config) -> dict[str, bool]:
    """What the mail log is made with."""
    return {"as_json": config.log.format == "json", "enabled": observe.tells_mail(config.log.level)}


async def ended(end: Callable[..., Awaitable[None] | None], *args: object) -> None:
    """Returns when a part has ended; what it failed with is in the log."""
    try:
        if (ending := end(*args)) is not None:
            await ending
    except Exception:
        log.exception("not everything could be closed")


@contextlib.contextmanager
def locked(data_dir: Path) -> Iterator[None]:
    """A data directory that nobody serves meanwhile, made where there is none. Raises DataDirLocked, StoreError."""
    descriptor = _lock(data_dir)
    try:
        yield
    finally:
        os.close(descriptor)


def _lock(data_dir: Path) -> int:
    """Hold the data directory for this process; the lock goes with it, however it ends."""
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(data_dir / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreError(f"the data directory {data_dir} cannot be used: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise DataDirLocked(f"another mail-gateway serves {data_dir}") from error
    return descriptor
