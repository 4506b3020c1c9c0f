"""Sending domains: added, listed, shown, changed and removed by operators; kept in memory as stored and declared.

Guarantees: no domain that mail is sent from is one that bounces come back to.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Any

from gateway import views
from gateway.config import Config
from gateway.errors import ConfigError, Problem, Reason, Refused
from gateway.manage import dkimkeys, refusals, returnpaths
from gateway.manage.dkimkeys import DkimKeys
from gateway.message import address, dkim
from gateway.message.dkim import Algorithm
from gateway.policy.domains import Domains, SendingDomain, SigningKey
from gateway.runtime import Clock
from gateway.store.records import DomainRecord, Duplicate, Records

log = logging.getLogger("gateway.manage")

Args = dict[str, Any]


class DomainActions:
    """Actions over one store; keeps `domains` true to it. Private keys are stored wrapped."""

    def __init__(self, config: Config, records: Records, keys: DkimKeys, domains: Domains, clock: Clock) -> None:
        self._config = config
        self._records = records
        self._keys = keys
        self._domains = domains
        self._clock = clock
        self._stored: dict[str, SendingDomain] = {}
        self._declared: dict[str, SendingDomain] | None = None  # not read yet
        self._loading = asyncio.Lock()

    async def load(self) -> None:
        """Read the domains of the store and of the configuration. Raises StoreError, ConfigError."""
        async with self._loading:  # what was read first must not be put in place last: a removed key would sign
            records = await self._records.domains()
            # Some milliseconds for each key: not in the loop, and once.
            stored = await asyncio.to_thread(lambda: {record.name: self._stored_domain(record) for record in records})
            if self._declared is None:
                self._declared = await asyncio.to_thread(_declared_domains, self._config)
            self._stored = stored
            self._domains.load((stored | self._declared).values())

    async def prepare(self, config: Config) -> Callable[[], None]:
        """Read the keys that a configuration names; what is returned puts its domains in place of those of this one.
        Raises ConfigError."""
        declared = await asyncio.to_thread(_declared_domains, config)

        def commit() -> None:
            self._config = config
            self._declared = declared
            self._domains.load((self._stored | declared).values())

        return commit

    async def add(self, args: Args) -> Any:
        """Args: name, selector, require_dkim, ed25519, return_path. The answer holds the DNS records to publish.

        Makes an RSA-2048 key, and with `ed25519` a second one; a domain that has RSA alone gets its Ed25519 key so, and
        one that is known its return path (`none` takes it away).
        """
        name = domain_name(args["name"])
        if name in self._config.domains:
            raise refusals.declared("domain", name)
        records = {record.name: record for record in await self._records.domains()}
        return_path = self._return_path(name, args.get("return_path"), records)
        known = records.get(name)
        if known is None:
            await self._add_domain(name, return_path, args)
        elif not (args.get("ed25519") or args.get("return_path")) or args.get("selector") or args.get("require_dkim"):
            raise _known_already(name)
        else:
            if args.get("ed25519"):
                await self._add_ed25519(known)
            if args.get("return_path"):
                await self._set_return_path(name, return_path)
        await self.load()
        return await self.show({"name": name})

    def is_declared(self, name: str) -> bool:
        """Whether the configuration has it."""
        return name in self._config.domains

    async def show(self, args: Args) -> Any:
        """Args: name."""
        for view in await self.list_({}):
            if view["name"] == args["name"]:
                return view
        raise refusals.unknown("domain", args["name"])

    async def list_(self, args: Args) -> Any:
        """Every sending domain with the selectors and the DNS records that must be published.

        Those of the RSA key stand at the top; `ed25519` has the same of the second key, null where there is none.
        """
        del args
        stored = {record.name for record in await self._records.domains()}
        listed: list[dict[str, Any]] = []
        for name in sorted(stored | self._config.domains.keys()):
            known = self._domains.nearest(name)
            assert known is not None
            source = "config" if name in self._config.domains else "store"
            listed.append(
                {
                    "name": name,
                    "require_dkim": known.require_dkim,
                    "source": source,
                    "return_path": known.return_path,
                    **views.record_view(known.key),
                    "ed25519": views.record_view(known.ed25519) if known.ed25519 else None,
                }
            )
        return listed

    async def zone(self, args: Args) -> Any:
        """Args: name. All DNS records of a domain, each as a line (or some) of a zone file, and whether what comes back
        would be taken."""
        domain = await self.show({"name": domain_name(args["name"])})
        keys = [one for one in (domain, domain["ed25519"]) if one is not None and one["selector"] is not None]
        return_path = domain["return_path"]
        lines = [key["zone"] for key in keys]
        if return_path is not None:
            lines += [record["zone"] for record in returnpaths.records(return_path, self._config.hostname)]
        return {
            "name": domain["name"],
            "zone": lines,
            "return_path": return_path,
            "heard": return_path is None or returnpaths.is_heard(self._config),
        }

    async def return_path_records(self, name: str, ask: returnpaths.Asking) -> Any:
        """The records of its return path, and what DNS shows of them; None where it has none."""
        return_path = (await self.show({"name": domain_name(name)}))["return_path"]
        if return_path is None:
            return None
        hostname = self._config.hostname
        found = await returnpaths.shown(return_path, hostname, ask)
        return {"domain": return_path, "records": found, "heard": returnpaths.is_heard(self._config)}

    async def remove(self, args: Args) -> Any:
        """Args: name. Its mail goes unsigned from now on."""
        name = domain_name(args["name"])
        if name in self._config.domains:
            raise refusals.declared("domain", name, remedy="; remove it there")
        if not await self._records.remove_domain(name):
            raise refusals.unknown("domain", name)
        await self.load()
        log.info("domain %s removed", name)
        return {"name": name, "removed": True}

    def _return_path(self, name: str, given: Any, records: Iterable[str]) -> str | None:
        """What was given, checked; None for none."""
        taken = {*records, *self._config.domains, name}
        if name in self._domains.return_paths:
            raise refusals.invalid("name", f"bounces come back to {name}: no mail can be sent from it")
        if not given or given == returnpaths.NONE:
            return None
        return returnpaths.checked(str(given), self._config, taken)

    async def _set_return_path(self, name: str, return_path: str | None) -> None:
        if not await self._records.set_return_path(name, return_path):
            raise refusals.unknown("domain", name)  # removed meanwhile
        log.info("domain %s: bounces come back to %s", name, return_path or "the senders themselves")

    async def _add_domain(self, name: str, return_path: str | None, args: Args) -> None:
        selector = dkimkeys.checked_selector(args.get("selector") or dkimkeys.DEFAULT_SELECTOR)
        keys = [await self._keys.make(name, selector, Algorithm.RSA, active=True)]
        if args.get("ed25519"):
            second = dkimkeys.ed25519_selector(selector)
            keys.append(await self._keys.make(name, second, Algorithm.ED25519, active=True))
        now = self._clock.now_ms()
        try:
            record = DomainRecord(name, bool(args.get("require_dkim")), now, tuple(keys), return_path)
            await self._records.add_domain(record)
        except Duplicate as error:
            raise _known_already(name) from error
        log.info("domain %s added: selectors=%s", name, ",".join(key.selector for key in keys))

    async def _add_ed25519(self, domain: DomainRecord) -> None:
        """The second key of a domain that has one."""
        active = {key.algorithm: key.selector for key in domain.keys if key.active}
        if Algorithm.ED25519.key_type in active:
            raise Refused(Reason.CONFLICT, f"The domain {domain.name} has an Ed25519 key already.", param="name")
        selector = dkimkeys.ed25519_selector(active.get(Algorithm.RSA.key_type, dkimkeys.DEFAULT_SELECTOR))
        key = await self._keys.make(domain.name, selector, Algorithm.ED25519, active=True)
        try:
            added = await self._records.add_dkim_key(domain.name, key)
        except Duplicate as error:
            raise Refused(Reason.CONFLICT, str(error), param="name") from error
        if not added:
            raise refusals.unknown("domain", domain.name)  # removed meanwhile
        log.info("domain %s has a second key: selector=%s", domain.name, selector)

    def _stored_domain(self, record: DomainRecord) -> SendingDomain:
        keys = [self._keys.read(record.name, key) for key in record.keys if key.active]
        return _sending_domain(record.name, keys, require_dkim=record.require_dkim, return_path=record.return_path)


def _declared_domains(config: Config) -> dict[str, SendingDomain]:
    declared = {}
    for domain in config.domains.values():
        keys = []
        for index, key in enumerate(domain.dkim):
            try:
                private = dkim.load_private_key(key.key.read_bytes())
            except (OSError, dkim.DkimKeyError) as error:
                raise ConfigError([Problem(f"domains.{domain.name}.dkim[{index}].key", str(error))]) from error
            keys.append(SigningKey(domain.name, key.selector, private))
        declared[domain.name] = _sending_domain(
            domain.name, keys, require_dkim=domain.require_dkim, return_path=domain.return_path
        )
    return declared


def _sending_domain(
    name: str, keys: Iterable[SigningKey], *, require_dkim: bool, return_path: str | None
) -> SendingDomain:
    """`keys` has at most one of an algorithm: the store and the configuration see to it."""
    by_algorithm = {key.private.algorithm: key for key in keys}
    rsa, ed25519 = by_algorithm.get(Algorithm.RSA), by_algorithm.get(Algorithm.ED25519)
    return SendingDomain(name, require_dkim, rsa, ed25519, return_path)


def _known_already(name: str) -> Refused:
    text = f"There is a domain {name} already; ed25519 or return_path, without other arguments, adds it."
    return Refused(Reason.CONFLICT, text, param="name")


def domain_name(text: str) -> str:
    """As the store has it: lower case, A-labels. Refused."""
    try:
        return address.parse_domain(text.strip().rstrip("."))
    except address.AddressError as error:
        raise refusals.invalid("name", str(error)) from error
