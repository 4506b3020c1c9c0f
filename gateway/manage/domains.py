"""Sending domains: added, listed, shown and removed by operators; kept in memory as stored and declared."""

import asyncio
import logging
from typing import Any, Final

from gateway import views
from gateway.config import Config
from gateway.errors import ConfigError, Problem, Reason, Refused
from gateway.manage import refusals
from gateway.message import address, dkim
from gateway.policy.domains import Domains, SendingDomain, SigningKey
from gateway.runtime import Clock
from gateway.store.records import DkimKeyRecord, DomainRecord, Duplicate, Records
from gateway.store.vault import Vault

DEFAULT_SELECTOR: Final = "mgw1"

log = logging.getLogger("gateway.manage")

Args = dict[str, Any]


class DomainActions:
    """Actions over one store; keeps `domains` true to it. Private keys are stored wrapped."""

    def __init__(self, config: Config, records: Records, vault: Vault, domains: Domains, clock: Clock) -> None:
        self._config = config
        self._records = records
        self._vault = vault
        self._domains = domains
        self._clock = clock
        self._parsed: dict[bytes, dkim.PrivateKey] = {}  # by their wrapped form; one for each stored domain

    async def load(self) -> None:
        """Read the domains of the store and of the configuration. Raises StoreError, ConfigError."""
        records = await self._records.domains()
        # OpenSSL takes 40 ms to check a private key: never in the loop, and once for each.
        stored = await asyncio.to_thread(lambda: {record.name: self._sending_domain(record) for record in records})
        declared = await asyncio.to_thread(self._declared_domains)
        self._domains.load((stored | declared).values())

    async def add(self, args: Args) -> Any:
        """Args: name, selector, require_dkim. Makes an RSA-2048 key; the answer holds the DNS record to publish."""
        name = _domain_name(args["name"])
        selector = args.get("selector") or DEFAULT_SELECTOR
        if not selector.isascii() or not all(label.replace("-", "a").isalnum() for label in selector.split(".")):
            raise refusals.invalid("selector", "a selector is made of letters, digits, hyphens and dots")
        if name in self._config.domains:
            raise refusals.declared("domain", name)
        pem = await asyncio.to_thread(dkim.generate_rsa)
        now = self._clock.now_ms()
        wrapped = self._vault.wrap(f"dkim:{name}:{selector}", pem)
        try:
            await self._records.add_domain(
                DomainRecord(
                    name=name,
                    require_dkim=bool(args.get("require_dkim")),
                    created_at=now,
                    keys=(DkimKeyRecord(selector, "rsa", wrapped, created_at=now, active=True),),
                )
            )
        except Duplicate as error:
            raise Refused(Reason.CONFLICT, f"There is a domain {name} already.", param="name") from error
        await self.load()
        log.info("domain %s added: selector=%s", name, selector)
        return await self.show({"name": name})

    async def show(self, args: Args) -> Any:
        """Args: name."""
        for view in await self.list_({}):
            if view["name"] == args["name"]:
                return view
        raise refusals.unknown("domain", args["name"])

    async def list_(self, args: Args) -> Any:
        """Every sending domain with its selector and the DNS record that must be published."""
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
                    **views.record_view(known.key),
                }
            )
        return listed

    async def remove(self, args: Args) -> Any:
        """Args: name. Its mail goes unsigned from now on."""
        name = _domain_name(args["name"])
        if name in self._config.domains:
            raise refusals.declared("domain", name, remedy="; remove it there")
        if not await self._records.remove_domain(name):
            raise refusals.unknown("domain", name)
        await self.load()
        log.info("domain %s removed", name)
        return {"name": name, "removed": True}

    def _sending_domain(self, record: DomainRecord) -> SendingDomain:
        active = [key for key in record.keys if key.active]
        signing = None
        if active:
            newest = max(active, key=lambda key: key.created_at)
            private = self._parsed.get(newest.private_wrapped)
            if private is None:
                pem = self._vault.unwrap(f"dkim:{record.name}:{newest.selector}", newest.private_wrapped)
                private = self._parsed[newest.private_wrapped] = dkim.load_private_key(pem)
            signing = SigningKey(record.name, newest.selector, private)
        return SendingDomain(record.name, record.require_dkim, signing)

    def _declared_domains(self) -> dict[str, SendingDomain]:
        declared = {}
        for domain in self._config.domains.values():
            signing = None
            if domain.dkim:
                first = domain.dkim[0]
                try:
                    private = dkim.load_private_key(first.key.read_bytes())
                except (OSError, dkim.DkimKeyError) as error:
                    raise ConfigError([Problem(f"domains.{domain.name}.dkim[0].key", str(error))]) from error
                signing = SigningKey(domain.name, first.selector, private)
            declared[domain.name] = SendingDomain(domain.name, domain.require_dkim, signing)
        return declared


def _domain_name(text: str) -> str:
    try:
        return address.parse_domain(text.strip().rstrip("."))
    except address.AddressError as error:
        raise refusals.invalid("name", str(error)) from error
