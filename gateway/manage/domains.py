"""Sending domains: added, listed, shown and removed by operators; kept in memory as stored and declared."""

import asyncio
import logging
from collections.abc import Iterable
from typing import Any, Final

from gateway import views
from gateway.config import Config
from gateway.configfile import grammar
from gateway.errors import ConfigError, Problem, Reason, Refused
from gateway.manage import refusals
from gateway.message import address, dkim
from gateway.message.dkim import Algorithm
from gateway.policy.domains import Domains, SendingDomain, SigningKey
from gateway.runtime import Clock
from gateway.store.records import DkimKeyRecord, DomainRecord, Duplicate, Records
from gateway.store.vault import Vault

DEFAULT_SELECTOR: Final = "mgw1"
_GENERATORS: Final = {Algorithm.RSA: dkim.generate_rsa, Algorithm.ED25519: dkim.generate_ed25519}

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
        self._parsed: dict[bytes, dkim.PrivateKey] = {}  # by their wrapped form

    async def load(self) -> None:
        """Read the domains of the store and of the configuration. Raises StoreError, ConfigError."""
        records = await self._records.domains()
        # OpenSSL takes 40 ms to check a private key: never in the loop, and once for each.
        stored = await asyncio.to_thread(lambda: {record.name: self._stored_domain(record) for record in records})
        declared = await asyncio.to_thread(self._declared_domains)
        self._domains.load((stored | declared).values())

    async def add(self, args: Args) -> Any:
        """Args: name, selector, require_dkim, ed25519. The answer holds the DNS records to publish.

        Makes an RSA-2048 key, and with `ed25519` a second one; a domain that has RSA alone gets its Ed25519 key so.
        """
        name = _domain_name(args["name"])
        if name in self._config.domains:
            raise refusals.declared("domain", name)
        known = next((record for record in await self._records.domains() if record.name == name), None)
        if known is None:
            await self._add_domain(name, args)
        elif args.get("ed25519") and not args.get("selector") and not args.get("require_dkim"):
            await self._add_ed25519(known)
        else:
            raise _known_already(name)
        await self.load()
        return await self.show({"name": name})

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
                    **views.record_view(known.key),
                    "ed25519": views.record_view(known.ed25519) if known.ed25519 else None,
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

    async def _add_domain(self, name: str, args: Args) -> None:
        selector = _checked_selector(args.get("selector") or DEFAULT_SELECTOR)
        keys = [await self._new_key(name, selector, Algorithm.RSA)]
        if args.get("ed25519"):
            keys.append(await self._new_key(name, _ed25519_selector(selector), Algorithm.ED25519))
        now = self._clock.now_ms()
        try:
            await self._records.add_domain(DomainRecord(name, bool(args.get("require_dkim")), now, tuple(keys)))
        except Duplicate as error:
            raise _known_already(name) from error
        log.info("domain %s added: selectors=%s", name, ",".join(key.selector for key in keys))

    async def _add_ed25519(self, domain: DomainRecord) -> None:
        """The second key of a domain that has one."""
        active = {key.algorithm: key.selector for key in domain.keys if key.active}
        if Algorithm.ED25519.key_type in active:
            raise Refused(Reason.CONFLICT, f"The domain {domain.name} has an Ed25519 key already.", param="name")
        selector = _ed25519_selector(active.get(Algorithm.RSA.key_type, DEFAULT_SELECTOR))
        key = await self._new_key(domain.name, selector, Algorithm.ED25519)
        try:
            added = await self._records.add_dkim_key(domain.name, key)
        except Duplicate as error:
            raise Refused(Reason.CONFLICT, str(error), param="name") from error
        if not added:
            raise refusals.unknown("domain", domain.name)  # removed meanwhile
        log.info("domain %s has a second key: selector=%s", domain.name, selector)

    async def _new_key(self, domain: str, selector: str, algorithm: Algorithm) -> DkimKeyRecord:
        _checked_selector(selector)
        pem = await asyncio.to_thread(_GENERATORS[algorithm])
        wrapped = self._vault.wrap(_label(domain, selector), pem)
        return DkimKeyRecord(selector, algorithm.key_type, wrapped, created_at=self._clock.now_ms(), active=True)

    def _stored_domain(self, record: DomainRecord) -> SendingDomain:
        keys = [self._signing_key(record.name, key) for key in record.keys if key.active]
        return _sending_domain(record.name, keys, require_dkim=record.require_dkim)

    def _signing_key(self, domain: str, key: DkimKeyRecord) -> SigningKey:
        private = self._parsed.get(key.private_wrapped)
        if private is None:
            pem = self._vault.unwrap(_label(domain, key.selector), key.private_wrapped)
            private = self._parsed[key.private_wrapped] = dkim.load_private_key(pem)
        return SigningKey(domain, key.selector, private)

    def _declared_domains(self) -> dict[str, SendingDomain]:
        declared = {}
        for domain in self._config.domains.values():
            keys = []
            for index, key in enumerate(domain.dkim):
                try:
                    private = dkim.load_private_key(key.key.read_bytes())
                except (OSError, dkim.DkimKeyError) as error:
                    raise ConfigError([Problem(f"domains.{domain.name}.dkim[{index}].key", str(error))]) from error
                keys.append(SigningKey(domain.name, key.selector, private))
            declared[domain.name] = _sending_domain(domain.name, keys, require_dkim=domain.require_dkim)
        return declared


def _sending_domain(name: str, keys: Iterable[SigningKey], *, require_dkim: bool) -> SendingDomain:
    """`keys` has at most one of an algorithm: the store and the configuration see to it."""
    by_algorithm = {key.private.algorithm: key for key in keys}
    return SendingDomain(name, require_dkim, by_algorithm.get(Algorithm.RSA), by_algorithm.get(Algorithm.ED25519))


def _label(domain: str, selector: str) -> str:
    """What the vault binds a wrapped key to."""
    return f"dkim:{domain}:{selector}"


def _ed25519_selector(rsa_selector: str) -> str:
    """Each key needs its own (RFC 8463, 6: a record holds one key)."""
    return f"{rsa_selector}-ed25519"


def _checked_selector(text: str) -> str:
    try:
        return grammar.selector(text)
    except ValueError as error:
        raise refusals.invalid("selector", str(error)) from error


def _known_already(name: str) -> Refused:
    text = f"There is a domain {name} already; ed25519 alone, without other arguments, adds a second key to it."
    return Refused(Reason.CONFLICT, text, param="name")


def _domain_name(text: str) -> str:
    try:
        return address.parse_domain(text.strip().rstrip("."))
    except address.AddressError as error:
        raise refusals.invalid("name", str(error)) from error
