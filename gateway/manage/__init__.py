"""Door 2: every operator action on keys, domains and the queue, whoever asks (CLI, control socket, later API and UI).

Guarantees: arguments are checked here, so every skin says the same; each change that the daemon makes is in its log (a
command that makes one without it has none); a secret is shown once, when it is made. Actions take and give JSON values.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from gateway.config import Config
from gateway.manage.dkimkeys import DkimKeys
from gateway.manage.domains import DomainActions, domain_name
from gateway.manage.keeping import Keep, KeyTerms
from gateway.manage.keys import KeyActions
from gateway.manage.queue import QueueActions
from gateway.manage.returnpaths import Asking, MxLookup, nothing_asked
from gateway.manage.rotation import Lookup, Rotation
from gateway.manage.suspensions import SuspensionActions
from gateway.policy.auth import KeyRing
from gateway.policy.brakes import Braking
from gateway.policy.domains import Domains
from gateway.runtime import Clock
from gateway.store.queue import Queue
from gateway.store.records import Records
from gateway.store.vault import Vault

Args = dict[str, Any]
Action = Callable[[Args], Awaitable[Any]]


class Manager:
    """Operator actions over one store; keeps `keys` and `domains` in memory true to it."""

    def __init__(
        self,
        config: Config,
        records: Records,
        vault: Vault,
        queue: Queue,
        *,
        keys: KeyRing,
        domains: Domains,
        clock: Clock,
        lookup: Lookup,
        lookup_mx: MxLookup = nothing_asked,
        braking: Braking | None = None,
        keep: Keep = lambda _terms: None,
    ) -> None:
        """`lookup` asks the resolver for TXT records, `lookup_mx` for MX records; `braking` None: no key has brakes;
        `keep` is told how long mail of keys is kept."""
        self._keys = KeyActions(config, records, keys, clock, braking)
        dkim_keys = DkimKeys(vault, clock)
        self._domains = DomainActions(config, records, dkim_keys, domains, clock)
        self._terms = KeyTerms(config, records, keep)
        self._asking = Asking(lookup_mx, lookup)
        self.rotation = Rotation(records, dkim_keys, self._domains, lookup, clock)
        self._queue = QueueActions(config, queue, clock)
        self._suspensions = SuspensionActions(config, queue, keys, clock)

    def on_go(self, forget: Callable[[], None]) -> None:
        """`forget` is called before mail is let go because an operator says so (`queue retry`, `queue release`)."""
        self._queue.on_go = forget

    def actions(self) -> Mapping[str, Action]:
        """What can be asked for by name."""
        return {
            "key.create": self._terms.after(self._keys.create),
            "key.list": self._keys.list_,
            "key.show": self._keys.show,
            "key.rotate": self._keys.rotate,
            "key.mode": self._keys.mode,
            "key.release": self._keys.release,
            "key.revoke": self._keys.revoke,
            "domain.add": self._domains.add,
            "domain.list": self._domains.list_,
            "domain.check": self._check_domain,
            "domain.zone": self._domains.zone,
            "domain.rotate": self.rotation.rotate,
            "domain.remove": self._domains.remove,
            "queue.summary": self._queue.summary,
            "queue.list": self._queue.list_,
            "queue.show": self._queue.show,
            "queue.retry": self._queue.retry,
            "queue.hold": self._queue.hold,
            "queue.release": self._queue.release,
            "queue.cancel": self._queue.cancel,
            "queue.bounce": self._queue.bounce,
            "queue.redirect": self._queue.redirect,
            "queue.suspend": self._suspensions.suspend,
            "queue.resume": self._suspensions.resume,
        }

    async def _check_domain(self, args: Args) -> Any:
        """Args: name. What DNS shows of its keys and of its return path. Keys of a declared domain are looked after
        where they are declared."""
        return_path = await self._domains.return_path_records(args["name"], self._asking)
        declared = return_path is not None and self._domains.is_declared(domain_name(args["name"]))
        keys = {"name": domain_name(args["name"]), "keys": []} if declared else await self.rotation.check(args)
        return {**keys, "return_path": return_path}

    async def load(self) -> None:
        """Read keys and domains of the store and of the configuration. Raises StoreError, ConfigError."""
        await self._keys.load()
        await self._terms.load()
        await self._domains.load()

    async def prepare(self, config: Config) -> Callable[[], None]:
        """Read what a changed configuration needs; what is returned puts its keys and domains in place of those
        declared until then. Raises ConfigError."""
        commit_domains = await self._domains.prepare(config)

        def commit() -> None:
            commit_domains()
            self._keys.reconfigure(config)
            self._terms.reconfigure(config)
            self._queue.reconfigure(config)
            self._suspensions.reconfigure(config)

        return commit
