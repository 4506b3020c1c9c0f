"""The composition root: the only module that knows every class.

`Core` is a data directory opened for one process: lock, store, keys, domains, intake, actions; it sends nothing.
`Gateway` is the daemon on top of it: listeners, delivery, control socket. Both are async context managers, so any
asyncio program can embed one:

    async with Gateway(config) as gateway:
        receipt = await gateway.intake.submit(principal, submission, idempotency=None, client="")
"""

import asyncio
import fcntl
import functools
import logging
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

from gateway.api import message as api_message
from gateway.api.server import HttpServer
from gateway.budget import Budget
from gateway.config import Config
from gateway.control import ControlServer
from gateway.delivery.attempt import Couriers
from gateway.delivery.family import FamilyChoice
from gateway.delivery.passthrough import PassThrough
from gateway.delivery.pool import Pool
from gateway.delivery.reporting import Reporter
from gateway.delivery.scheduler import Scheduler
from gateway.delivery.signer import Signer
from gateway.delivery.tls.mtasts_cache import StsPolicies
from gateway.delivery.tls.policy import TlsPolicies
from gateway.delivery.waits import Waits
from gateway.doors import HttpDoor, SmtpDoor
from gateway.errors import StoreError
from gateway.intake import Intake
from gateway.local import LocalServer, socket_path
from gateway.manage import Action, Manager
from gateway.observe import MailLog
from gateway.policy.auth import KeyRing
from gateway.policy.domains import Domains
from gateway.policy.guard import Guard
from gateway.policy.limits import Limiter
from gateway.policy.templates import Templates
from gateway.policyhost import PolicyHost
from gateway.resolver import Resolver
from gateway.runtime import Clock, IdSource, Supervisor, show_id
from gateway.smtp.listener import SmtpServer
from gateway.store.sqlite import SqliteStore
from gateway.store.vault import Vault, load_master_key
from gateway.templates import TemplateManager

LOCK_NAME = "lock"
LOG_FLUSH_S = 0.1
CERTIFICATE_LOOK_S = 60.0

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
        self._stream = log_stream or sys.stderr
        self._lock: int | None = None
        self.store: SqliteStore
        self.ids: IdSource
        self.resolver: Resolver
        self.manager: Manager
        self.limiter: Limiter
        self.templates: TemplateManager
        self.intake: Intake
        self.mail_log: MailLog
        self.fatal: asyncio.Future[str]

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def open(self) -> None:
        """Take the data directory. Raises StoreError."""
        config = self.config
        loop = asyncio.get_running_loop()
        self.fatal = loop.create_future()
        self._lock = _lock(config.data_dir)
        self.mail_log = MailLog(
            self._stream,
            as_json=config.log.format == "json",
            enabled=config.log.level not in {"warning", "error"},
            defer=functools.partial(loop.call_later, LOG_FLUSH_S),
        )
        self.store = await SqliteStore.open(
            config.database_path,
            clock=self.clock,
            retention=config.retention,
            on_ready=self._on_ready,
            on_failed=self._on_failed,
        )
        try:
            await self._furnish()
        except BaseException:
            await Core.close(self)
            raise

    async def _furnish(self) -> None:
        """Everything over an open store."""
        config = self.config
        self.ids = IdSource(self.clock, last=self.store.last_id)
        self.resolver = Resolver(config.dns.nameservers, trust_ad=config.dns.trust_ad)
        self.manager = Manager(
            config,
            self.store.records,
            Vault(load_master_key(config.data_dir)),
            self.store,
            keys=self.keys,
            domains=self.domains,
            clock=self.clock,
            lookup=self.resolver.txt,
        )
        await self.manager.load()
        self.limiter = Limiter(self.clock)
        templates = Templates(self.store.records, config.templates)
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
        )

    async def close(self) -> None:
        await self.store.close()
        self.mail_log.flush()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def actions(self) -> Mapping[str, Action]:
        """What the CLI may ask for."""
        return {**self.manager.actions(), **self.templates.actions(), "send": self._send}

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


class Gateway(Core):
    """The daemon: start, wait for `fatal` or a signal, stop."""

    def __init__(self, config: Config, *, clock: Clock | None = None, log_stream: TextIO | None = None) -> None:
        super().__init__(config, clock=clock, log_stream=log_stream)
        self.supervisor = Supervisor(on_fatal=self._task_died, on_error=_task_failed)
        self.stop_timeout_s = 28.0  # promised: 30 s from SIGTERM to exit
        self.http: HttpServer
        self.smtp: SmtpServer
        self._scheduler: Scheduler | None = None
        self._signer: Signer
        self._pool: Pool
        self._waits: Waits
        self._couriers: Couriers
        self._control: ControlServer
        self._local: LocalServer | None = None

    async def open(self) -> None:
        """Start everything; returns when every listener accepts. Raises GatewayError, OSError (a busy port)."""
        await super().open()
        config = self.config
        try:
            self._signer = Signer()
            self._signer.start()
            self._pool = Pool(config.delivery)
            self._waits = Waits(self.store, self.clock)
            sts = StsPolicies(self.store.records, self.resolver, PolicyHost(self.resolver), self.clock)
            self._couriers = Couriers(
                config,
                self.store,
                self.resolver,
                self._pool,
                self._signer,
                self.domains,
                clock=self.clock,
                families=FamilyChoice(self.resolver),
                policies=TlsPolicies(self.resolver, sts),
            )
            self._scheduler = Scheduler(
                config.delivery,
                self.store,
                self._couriers,
                self.supervisor,
                clock=self.clock,
                log=self.mail_log,
                waits=self._waits,
            )
            await self._scheduler.start()
            reporter = Reporter(config, self.store, clock=self.clock, ids=self.ids, log=self.mail_log)
            reporter.start(self.supervisor)
            guard = Guard(config.limits.auth_failures, self.clock)  # one for both doors, as the budget is
            budget = Budget(config.limits.buffers)
            self.http = HttpServer(
                config,
                HttpDoor(
                    self.keys,
                    self.intake,
                    self.store,
                    limiter=self.limiter,
                    waits=self._waits,
                    pass_through=PassThrough(config, self.store, self.resolver, clock=self.clock, log=self.mail_log),
                    templates=self.templates,
                    clock=self.clock,
                    log=self.mail_log,
                    why_not_ready=self._why_not_ready,
                    guard=guard,
                ),
                budget=budget,
            )
            smtp_door = SmtpDoor(self.keys, self.intake, self.clock, self.mail_log, guard=guard)
            self.smtp = SmtpServer(config, smtp_door, supervisor=self.supervisor, budget=budget)
            if config.local_key is not None:
                path = socket_path(config)
                self._local = LocalServer(
                    config, config.local_key, path, smtp_door, supervisor=self.supervisor, budget=budget
                )
            self._control = ControlServer(config.data_dir, self.actions(), self.supervisor)
            await self.http.start()
            await self.smtp.start()
            if self._local is not None:
                await self._local.start()
            await self._control.start()
            self.supervisor.start(self.manager.rotation.follow(), name="key-rotation", critical=True)
            if config.tls is not None:
                self.supervisor.start(self._follow_certificate(), name="certificate", critical=True)
        except BaseException:
            await self.supervisor.cancel_all()
            await super().close()
            raise

    async def _follow_certificate(self) -> None:
        """HTTP's certificate is read again when its file changes (the SMTP listener sees to its own)."""
        tls = self.config.tls
        assert tls is not None
        seen = tls.certificate.stat().st_mtime_ns
        while True:
            await asyncio.sleep(CERTIFICATE_LOOK_S)
            try:
                now = tls.certificate.stat().st_mtime_ns
                if now != seen:
                    self.http.reload_tls()
                    seen = now
            except OSError as error:
                # Half replaced: the old one goes on until both files fit together.
                log.warning("the new certificate cannot be used yet: %s", error)

    async def close(self) -> None:
        """Stop: accept nothing new, finish what is on the wire, give back the rest, write everything."""
        assert self._scheduler is not None
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.stop_timeout_s
        await self._control.stop()
        self._waits.close()
        doors = (self.http, self.smtp) if self._local is None else (self.http, self.smtp, self._local)
        await asyncio.gather(
            *(door.stop(self.stop_timeout_s / 2) for door in doors),
            self._scheduler.stop(max(0.0, deadline - loop.time() - 3)),
        )
        await self.supervisor.cancel_all(timeout_s=2)
        await self._pool.close()
        await self._signer.close()
        await super().close()

    def actions(self) -> Mapping[str, Action]:
        return {**super().actions(), "queue.retry": self._retry}

    async def _retry(self, args: dict[str, Any]) -> Any:
        """An operator who says "now" means it: destinations that nobody answered for are tried again too."""
        self._couriers.unreachable.clear()
        return await self.manager.queue_retry(args)

    def _why_not_ready(self) -> str | None:
        return "the queue cannot be written" if self.fatal.done() else None

    def _on_ready(self) -> None:
        if self._scheduler is not None:
            self._scheduler.kick()

    def _task_died(self, name: str, error: BaseException) -> None:
        log.error("the task %s died", name, exc_info=error)
        self._on_failed(f"the task {name} died: {error!r}")


def _task_failed(name: str, error: BaseException) -> None:
    log.error("the task %s failed", name, exc_info=error)


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
