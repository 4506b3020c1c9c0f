"""What sends, put together over an open data directory.

Guarantees: it holds the parts and starts none but the signing process; the daemon says when they begin and end.
"""

from collections.abc import Callable, Mapping
from typing import Any

from gateway.app.datadir import Core
from gateway.config import CAPTURED, Config
from gateway.delivery.attempt import Couriers
from gateway.delivery.explain import Explainer, Live
from gateway.delivery.family import FamilyChoice
from gateway.delivery.lifetime import Lifetime
from gateway.delivery.passthrough import PassThrough
from gateway.delivery.personal import Personal
from gateway.delivery.pool import Pool
from gateway.delivery.reporting import Reporter
from gateway.delivery.scheduler import Scheduler
from gateway.delivery.signer import Signer
from gateway.delivery.simulator import Simulator
from gateway.delivery.tls.mtasts_cache import StsPolicies
from gateway.delivery.tls.policy import TlsPolicies
from gateway.delivery.waits import Waits
from gateway.errors import Refused
from gateway.keyterms import ModeKind
from gateway.manage import Action
from gateway.message import address
from gateway.policyhost import PolicyHost
from gateway.runtime import Supervisor


class Sending:
    """`core` is open; `config_of` gives the configuration in force."""

    def __init__(self, core: Core, supervisor: Supervisor, config_of: Callable[[], Config]) -> None:
        config, clock, figures = core.config, core.clock, core.figures
        self._core = core
        self._supervisor = supervisor
        self._config_of = config_of
        self.signer = Signer(figures.outgoing)
        self.pool = Pool(config.delivery, outgoing=figures.outgoing, connections=figures.connections)
        self.waits = Waits(core.store, clock)
        life = Lifetime(clock)
        simulator = Simulator(core.store, supervisor, clock)
        sts = StsPolicies(core.store.records, core.resolver, PolicyHost(core.resolver), clock)
        self.couriers = Couriers(
            config,
            core.store,
            core.resolver,
            self.pool,
            self.signer,
            core.domains,
            clock=clock,
            families=FamilyChoice(core.resolver),
            policies=TlsPolicies(core.resolver, sts),
            life=life,
            personal=Personal(core.tokens, public_url=config.http.public_url, return_path_of=core.domains.return_path),
            suppressions=core.suppressions,
            simulator=simulator,
        )
        figures.delivery.know(config.routes)
        self.scheduler = Scheduler(
            config.delivery,
            core.store,
            self.couriers,
            supervisor,
            clock=clock,
            log=core.mail_log,
            listeners=(self.waits.tell, simulator.told),
            figures=figures.delivery,
            life=life,
        )
        told: dict[str, Any] = {"clock": clock, "log": core.mail_log}
        self._reporter = Reporter(
            config, core.store, ids=core.ids, figures=figures.intake, route_of=self._route_of, **told
        )
        self.pass_through = PassThrough(
            config, core.store, core.resolver, figures=figures.delivery, intake=figures.intake, **told
        )

    async def start(self) -> None:
        await self.scheduler.start()
        self._reporter.start(self._supervisor)

    def reconfigure(self, config: Config) -> None:
        self.pool.reconfigure(config.delivery)
        self.couriers.reconfigure(config)
        self._core.figures.delivery.know(config.routes)
        self.scheduler.reconfigure(config.delivery)
        self._reporter.reconfigure(config)
        self.pass_through.reconfigure(config)

    def actions(self) -> Mapping[str, Action]:
        """What can be asked of a daemon that sends."""
        core, couriers = self._core, self.couriers
        live = Live(lambda: couriers.unreachable, lambda: self.pool.connections, self.scheduler.lanes)
        explainer = Explainer(self._config_of, core.store, couriers.ways, core.domains, live=live)
        return {"queue.explain": explainer.explain}

    def _route_of(self, key: str, to: str) -> str | None:
        try:
            principal = self._core.keys.named(key, self._core.clock.now_ms())
        except Refused:
            return None
        mode = principal.mode
        if mode.kind is ModeKind.CAPTURE or (mode.values and not any(address.matches(one, to) for one in mode.values)):
            return CAPTURED  # no mail of the key goes there: it is redirected, or not allowed
        return principal.route or self._config_of().default_route
