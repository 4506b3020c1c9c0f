"""The daemon over an open data directory: listeners, delivery, control socket, and what looks after them.

Guarantees: it is open when every listener accepts, and nothing of it is open where it cannot be; a stop ends within its
deadline, whatever a part fails with then, and whatever was acknowledged is in the store; a part that breaks down,
without which there is no daemon, sets `fatal`.
"""

import asyncio
import functools
import logging
import os
import time
from collections.abc import Callable, Mapping
from typing import Any, TextIO

import gateway
from gateway import observe
from gateway.activation import Handed
from gateway.api.admin import AdminServer, Pages
from gateway.api.envelope import SHUTTING_DOWN
from gateway.api.server import HttpServer
from gateway.app.datadir import Core, ended, log_terms
from gateway.app.returning import Returning
from gateway.app.sending import Sending
from gateway.budget import Budget
from gateway.config import Config
from gateway.control import ControlServer
from gateway.doors import HttpDoor, SmtpDoor
from gateway.local import LocalServer, socket_path
from gateway.manage import Action
from gateway.manage.log import LogActions
from gateway.manage.mail import AccountMail
from gateway.policy import tracking
from gateway.policy.guard import Guard
from gateway.reload import Outcome, Reloader
from gateway.runtime import Clock, Supervisor, notify_systemd, rfc3339
from gateway.smtp.listener import SmtpServer
from gateway.store.depth import Depth
from gateway.watchdog import Watchdog
from gateway.webhooks.dispatcher import Dispatcher

CERTIFICATE_LOOK_S = 60.0
STOP_FAILED_S = 6.0
WEBHOOKS_STOP_S = 5.0  # an endpoint that has not answered by then is told again
STATUS_S = 30.0  # how often the service manager is told what there is to do

log = logging.getLogger("gateway")


class Gateway(Core):
    """The daemon: start, wait for `fatal` or a signal, stop. `watchdog_s`: how often a service manager wants to hear
    from it; `handed`: sockets that listen already."""

    def __init__(
        self,
        config: Config,
        *,
        clock: Clock | None = None,
        log_stream: TextIO | None = None,
        handed: Handed | None = None,
        watchdog_s: float | None = None,
    ) -> None:
        super().__init__(config, clock=clock, log_stream=log_stream)
        self.supervisor = Supervisor(on_fatal=self._task_died, on_error=_task_failed)
        self.stop_timeout_s = 28.0  # promised: 30 s from SIGTERM to exit
        self.reload_asked = asyncio.Event()
        self.http: HttpServer
        self.smtp: SmtpServer
        self.admin: AdminServer
        self._stopping = False
        self._handed = Handed() if handed is None else handed
        self._watchdog_s = watchdog_s
        self._began = time.monotonic()
        self._sending: Sending
        self._kick: Callable[[], None] = lambda: None  # the scheduler's, once there is one
        self._returning: Returning
        self._dispatcher: Dispatcher
        self._guard: Guard
        self._budget: Budget
        self._control: ControlServer
        self._reloader: Reloader
        self._local: LocalServer | None = None
        self._log_actions: LogActions

    async def _start(self) -> None:
        """Returns when every listener accepts. Raises GatewayError, OSError (a busy port)."""
        await super()._start()
        self._make_parts()
        self._make_doors()
        self._plan_stop()
        await self._sending.start()
        await self._dispatcher.start()
        self._returning.writer.start(self.supervisor)
        await self.http.start()
        await self.smtp.start()
        if self._local is not None:
            await self._local.start()
        await self.admin.start()
        self._handed.close()
        await self._control.start()
        self._start_followers()
        tracking.warn(self.config.http.public_url, self.keys.tracked())

    def _make_parts(self) -> None:
        self._sending = sending = Sending(self, self.supervisor, lambda: self.config)
        self._ends_by(sending.signer.close)
        sending.signer.start()
        self._ends_by(sending.pool.close)
        self._kick = sending.scheduler.kick
        # An operator who says "now" means it: destinations that nobody answered for are tried again too.
        self.manager.on_go(sending.couriers.unreachable.clear)
        self._returning = Returning(self)
        self._dispatcher = self.webhooks.dispatcher(self.supervisor, self.figures.webhooks)

    def _make_doors(self) -> None:
        config, figures = self.config, self.figures
        self._log_actions = LogActions(self.mail_log, lambda: self.config.log)
        # One for both doors, each of them.
        self._guard = Guard(config.limits.auth_failures, self.clock)
        self._budget = Budget(config.limits.buffers)
        http_door = HttpDoor(
            self.keys,
            self.intake,
            self.store,
            limiter=self.limiter,
            waits=self._sending.waits,
            pass_through=self._sending.pass_through,
            templates=self.templates,
            mail=AccountMail(self.store, self.tokens, self.clock),
            suppressions=self.suppression_list,
            webhooks=self.webhooks.manager,
            clock=self.clock,
            log=self.mail_log,
            why_not_ready=self._why_not_ready,
            guard=self._guard,
            figures=figures.intake,
        )
        pages = self._pages()
        self.http = HttpServer(
            config,
            http_door,
            budget=self._budget,
            handed=self._handed,
            pages=pages,
            visits=self._returning.visits,
            figures=figures.http,
            connections=figures.connections,
        )
        self.admin = AdminServer(config, pages, handed=self._handed)
        smtp_door = SmtpDoor(
            self.keys,
            self.intake,
            self.clock,
            self.mail_log,
            suppressions=self.suppressions,
            guard=self._guard,
            figures=figures.intake,
        )
        shared: dict[str, Any] = {
            "supervisor": self.supervisor,
            "budget": self._budget,
            "handed": self._handed,
            "figures": figures.connections,
        }
        self.smtp = SmtpServer(config, smtp_door, returns=self._returning.door, **shared)
        if config.local_key is not None:
            self._local = LocalServer(config, config.local_key, socket_path(config), smtp_door, **shared)
        parts = [self.manager.prepare, self.http.prepare, self.smtp.prepare]
        self._reloader = Reloader(
            config,
            prepare=parts if self._local is None else [*parts, self._local.prepare],
            follow=[self._reconfigure],
            clock=self.clock,
            on_broken=self._on_failed,
        )
        self._control = ControlServer(config.data_dir, self.actions())

    def _plan_stop(self) -> None:
        """How the parts end, whether they have started or not; the last line is the first to be done."""
        self._ends_by(self.admin.stop)
        self._ends_by(functools.partial(self.supervisor.cancel_all, timeout_s=2))
        self._ends_by(self._returning.writer.stop)
        self._ends_by(self._drain)
        self._ends_by(self._sending.waits.close)
        self._ends_by(self._control.stop)

    def _pages(self) -> Pages:
        """What monitoring reads: figures that nobody counts are looked up for it."""
        figures = self.figures
        figures.connections.open.read = lambda: {
            ("http",): self.http.open_connections,
            ("smtp",): self.smtp.open_connections,
            **({("local",): self._local.open_connections} if self._local is not None else {}),
        }
        figures.ready.read = lambda: {(): 0 if self._readiness() else 1}
        depth = Depth(self.store, figures.depth, lambda: self.config, self.clock)
        return Pages(figures.metrics, refresh=depth.refresh, why_not_ready=self._readiness)

    def _readiness(self) -> str | None:
        """Why no mail is taken now, in public words."""
        return SHUTTING_DOWN if self._stopping else self._why_not_ready()

    def _start_followers(self) -> None:
        """What looks after things from time to time."""
        start = functools.partial(self.supervisor.start, critical=True)
        start(self.manager.rotation.follow(), name="key-rotation")
        start(self._reloader.on_signal(self.reload_asked), name="reload")
        start(self._follow_certificate(), name="certificate")
        start(self.space.follow(), name="space")
        start(self.braking.follow(), name="brakes")
        self.supervisor.start(self.store.suppressed.load(), name="suppressions")
        start(self.figures.loop.watch(), name="loop lag")
        if "NOTIFY_SOCKET" in os.environ:
            start(self._tell_status(), name="status")
        if self._watchdog_s is not None:
            vital = {"the store": self.store.answers, "the scheduler": self._sending.scheduler.progresses}
            start(Watchdog(self._watchdog_s, vital).run(), name="watchdog")

    async def _follow_certificate(self) -> None:
        """HTTP's certificate is read again when its files change (the SMTP listener sees to its own)."""
        while True:
            await asyncio.sleep(CERTIFICATE_LOOK_S)
            self.http.refresh_certificate()

    async def _tell_status(self) -> None:
        while True:
            notify_systemd(f"STATUS={self._in_a_line()}")
            await asyncio.sleep(STATUS_S)

    def _in_a_line(self) -> str:
        why_not = self._why_not_ready()
        queued = f"{self.store.backlog().messages} queued, {self._sending.scheduler.on_the_wire} on the wire"
        return queued + (f"; not ready: {why_not}" if why_not else "")

    def _reconfigure(self, config: Config) -> None:
        """Another configuration in place of the one in force, for all that cannot refuse it."""
        if config.log != self.config.log or self._log_actions.changed:
            self._log_actions.changed = False
            observe.setup_logging(config.log.level, as_json=config.log.format == "json", stream=self._stream)
            self.mail_log.reconfigure(**log_terms(config))
            self._mask_addresses(config)
        self.config = config
        self.store.reconfigure(config.retention, config.suppression)
        self.space.reconfigure(config.limits)
        self.resolver.reconfigure(config.dns.nameservers, trust_ad=config.dns.trust_ad)
        self.intake.reconfigure(config)
        self._found_templates.reconfigure(config.templates)
        self._budget.resize(config.limits.buffers)
        self._guard.reconfigure(config.limits.auth_failures)
        self._sending.reconfigure(config)
        self._dispatcher.reconfigure(config.webhooks)
        self._returning.reconfigure(config)
        tracking.warn(config.http.public_url, self.keys.tracked())

    async def close(self) -> None:
        """Stop: accept nothing new, finish what is on the wire, give back the rest, write everything."""
        self._stopping = True
        await super().close()

    async def _drain(self) -> None:
        """The doors take nothing new, and what is on the wire ends; a door that fails cuts no delivery."""
        if self.store.failed:
            self.stop_timeout_s = min(self.stop_timeout_s, STOP_FAILED_S)  # no result can be written any more
        doors = (self.http, self.smtp) if self._local is None else (self.http, self.smtp, self._local)
        await asyncio.gather(
            *(ended(door.stop, self.stop_timeout_s / 2) for door in doors),
            ended(self._sending.scheduler.stop, max(0.0, self.stop_timeout_s - 3)),
            ended(self._dispatcher.stop, min(WEBHOOKS_STOP_S, self.stop_timeout_s / 2)),
        )

    def actions(self) -> Mapping[str, Action]:
        mine: dict[str, Action] = {"reload": self._reload, "status": self._status}
        mine |= {"log.show": self._log_actions.show, "log.level": self._log_actions.level}
        return {**super().actions(), **mine, **self._sending.actions()}

    async def _reload(self, args: dict[str, Any]) -> Any:
        del args
        return _shown(await self._reloader.reload())

    async def _status(self, args: dict[str, Any]) -> Any:
        """What an operator wants to know first."""
        del args
        last = self._reloader.last
        return {
            "pid": os.getpid(),
            "version": gateway.__version__,
            "uptime_s": int(time.monotonic() - self._began),
            "config": str(self.config.path.absolute()) if self.config.path is not None else None,
            "listeners": [
                *({"door": "http", "listen": str(address)} for address in self.http.addresses),
                *({"door": "smtp", "listen": str(address)} for address in self.smtp.addresses),
                *([{"door": "local", "listen": str(self._local.path)}] if self._local is not None else []),
                *([{"door": "admin", "listen": str(self.admin.address)}] if self.admin.address is not None else []),
            ],
            "ready": self._why_not_ready() is None,
            "why_not_ready": self._why_not_ready(),
            "detail": self._trouble() or None,
            "queue": (await self.manager.actions()["queue.summary"]({"limit": 1}))["total"],
            "on_the_wire": self._sending.scheduler.on_the_wire,
            "last_reload": _shown(last) if last is not None else None,
        }

    def _why_not_ready(self) -> str | None:
        if self.fatal.done() or self.store.away:
            return "the queue cannot be written"
        return "there is no room for more mail" if self.space.shortage else None

    def _trouble(self) -> str:
        """The same, for who operates it."""
        return (self.fatal.result() if self.fatal.done() else "") or self.store.away or self.space.shortage

    def _on_ready(self) -> None:
        self._kick()

    def _task_died(self, name: str, error: BaseException) -> None:
        log.error("the task %s died", name, exc_info=error)
        self._on_failed(f"the task {name} died: {error!r}")


def _shown(outcome: Outcome) -> dict[str, Any]:
    return {
        "at": rfc3339(outcome.at),
        "ok": not outcome.problems,
        "applied": list(outcome.applied),
        "needs_restart": list(outcome.restart),
        "warnings": list(outcome.warnings),
        "problems": list(outcome.problems),
    }


def _task_failed(name: str, error: BaseException) -> None:
    log.error("the task %s failed", name, exc_info=error)
