"""Door 2: every operator action on keys, domains and the queue, whoever asks (CLI, control socket, later API and UI).

Guarantees: arguments are checked here, so every skin says the same; each change is in the log; a secret is shown once,
when it is made. Actions take and give JSON values.
"""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final
from uuid import UUID

from gateway import configfile, views
from gateway.config import Config, Limit
from gateway.errors import ConfigError, Problem, Reason, Refused
from gateway.events import State
from gateway.message import address, dkim
from gateway.policy import auth
from gateway.policy.domains import Domains, SendingDomain, SigningKey
from gateway.runtime import Clock, read_id, rfc3339
from gateway.store.queue import Filter, Queue
from gateway.store.records import DkimKeyRecord, DomainRecord, Duplicate, KeyRecord, Records
from gateway.store.vault import Vault

DEFAULT_SELECTOR: Final = "mgw1"
_LISTED_AT_MOST: Final = 10_000
_WAITING: Final = frozenset({"backoff", "schedule"})  # what a retry can move
_LONGEST_S: Final = 100 * 365 * 86_400

log = logging.getLogger("gateway.manage")

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
        keys: auth.KeyRing,
        domains: Domains,
        clock: Clock,
    ) -> None:
        self._config = config
        self._records = records
        self._vault = vault
        self._queue = queue
        self._keys = keys
        self._domains = domains
        self._clock = clock
        self._parsed: dict[bytes, dkim.PrivateKey] = {}  # by their wrapped form; one for each stored domain

    def actions(self) -> Mapping[str, Action]:
        """What can be asked for by name."""
        return {
            "key.create": self.key_create,
            "key.list": self.key_list,
            "key.show": self.key_show,
            "key.revoke": self.key_revoke,
            "domain.add": self.domain_add,
            "domain.list": self.domain_list,
            "domain.remove": self.domain_remove,
            "queue.summary": self.queue_summary,
            "queue.list": self.queue_list,
            "queue.show": self.queue_show,
            "queue.retry": self.queue_retry,
        }

    async def load(self) -> None:
        """Read keys and domains of the store and of the configuration. Raises StoreError, ConfigError."""
        await self._load_keys()
        await self._load_domains()

    async def _load_keys(self) -> None:
        declared = [
            (
                auth.Principal(
                    name=key.name,
                    account=key.account,
                    route=key.route,
                    senders=key.senders,
                    scopes=frozenset(key.scopes),
                    default_from=key.default_from,
                    expires_at=None,
                    source="config",
                    limits=key.limits,
                ),
                auth.digest(key.secret.value),
            )
            for key in self._config.keys.values()
        ]
        self._keys.load(await self._records.keys(), declared)

    async def _load_domains(self) -> None:
        records = await self._records.domains()
        # OpenSSL takes 40 ms to check a private key: never in the loop, and once for each.
        stored = await asyncio.to_thread(lambda: {record.name: self._sending_domain(record) for record in records})
        declared = await asyncio.to_thread(self._declared_domains)
        self._domains.load((stored | declared).values())

    # Keys

    async def key_create(self, args: Args) -> Any:
        """Args: name, account, route, senders, scopes, default_from, expires_s, limits (texts as
        `recipients=100/min,burst=200`), prefix, secret. The secret is in the answer, and nowhere else."""
        name = str(args["name"])
        if not name or not name.isprintable() or " " in name:
            raise _invalid("name", "a key's name has no spaces or control characters")
        if name in self._config.keys:
            raise Refused(Reason.CONFLICT, f"The key {name} is declared in the configuration.", param="name")
        secret = args.get("secret") or auth.make_key(args.get("prefix") or auth.DEFAULT_PREFIX)
        if len(secret) < auth.MIN_LENGTH or not secret.isprintable() or not secret.isascii() or " " in secret:
            raise _invalid("secret", f"a key is at least {auth.MIN_LENGTH} printable ASCII characters without spaces")
        now = self._clock.now_ms()
        expires_s = args.get("expires_s")
        if expires_s is not None and not 0 < expires_s <= _LONGEST_S:
            raise _invalid("expires", "a time to come, within 100 years")
        record = KeyRecord(
            name=name,
            digest=auth.digest(secret),
            hint=auth.hint(secret),
            account=args.get("account") or name,
            route=self._known_route(args.get("route")),
            senders=tuple(_sender_pattern(pattern) for pattern in args.get("senders") or ()),
            scopes=_scopes(args.get("scopes") or ("send", "read")),
            default_from=_default_from(args.get("default_from")),
            created_at=now,
            expires_at=now + int(expires_s * 1000) if expires_s else None,
            revoked_at=None,
            limits=_limits(args.get("limits") or ()),
        )
        try:
            await self._records.add_key(record)
        except Duplicate as error:
            raise Refused(
                Reason.CONFLICT, f"There is a key {name}, or one with this secret, already.", param="name"
            ) from error
        await self._load_keys()
        log.info("key %s created: account=%s route=%s", name, record.account, record.route)
        return {**views.key_view(record), "secret": secret}

    async def key_list(self, args: Args) -> Any:
        """Every key, revoked ones too, without secrets."""
        del args
        declared = [views.declared_key_view(key) for key in self._config.keys.values()]
        return [
            *declared,
            *(views.key_view(record, self._clock.now_ms()) for record in await self._records.keys()),
        ]

    async def key_show(self, args: Args) -> Any:
        """Args: name."""
        for view in await self.key_list({}):
            if view["name"] == args["name"]:
                return view
        raise _unknown("key", args["name"])

    async def key_revoke(self, args: Args) -> Any:
        """Args: name. At once, for good."""
        name = args["name"]
        if name in self._config.keys:
            raise Refused(
                Reason.CONFLICT,
                f"The key {name} is declared in the configuration; remove it there.",
                param="name",
            )
        if not await self._records.revoke_key(name, self._clock.now_ms()):
            raise _unknown("active key", name)
        await self._load_keys()
        log.info("key %s revoked", name)
        return {"name": name, "state": "revoked"}

    # Domains

    async def domain_add(self, args: Args) -> Any:
        """Args: name, selector, require_dkim. Makes an RSA-2048 key; the answer holds the DNS record to publish."""
        name = _domain_name(args["name"])
        selector = args.get("selector") or DEFAULT_SELECTOR
        if not selector.isascii() or not all(label.replace("-", "a").isalnum() for label in selector.split(".")):
            raise _invalid("selector", "a selector is made of letters, digits, hyphens and dots")
        if name in self._config.domains:
            raise Refused(Reason.CONFLICT, f"The domain {name} is declared in the configuration.", param="name")
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
        await self._load_domains()
        log.info("domain %s added: selector=%s", name, selector)
        return await self.domain_show({"name": name})

    async def domain_show(self, args: Args) -> Any:
        """Args: name."""
        for view in await self.domain_list({}):
            if view["name"] == args["name"]:
                return view
        raise _unknown("domain", args["name"])

    async def domain_list(self, args: Args) -> Any:
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

    async def domain_remove(self, args: Args) -> Any:
        """Args: name. Its mail goes unsigned from now on."""
        name = _domain_name(args["name"])
        if name in self._config.domains:
            raise Refused(
                Reason.CONFLICT,
                f"The domain {name} is declared in the configuration; remove it there.",
                param="name",
            )
        if not await self._records.remove_domain(name):
            raise _unknown("domain", name)
        await self._load_domains()
        log.info("domain %s removed", name)
        return {"name": name, "removed": True}

    # Queue

    async def queue_summary(self, args: Args) -> Any:
        """Recipients by destination and place, those with the most first."""
        del args
        rows = [
            {
                "route": count.route,
                "domain": count.domain,
                "ready": count.ready,
                "waiting": count.waiting,
                "in_hand": count.leased,
                "held": count.held,
                "next_attempt_at": views.time_view(count.next_at),
                "oldest_at": views.time_view(count.oldest_at),
            }
            for count in await self._queue.counts()
        ]
        places = ("ready", "waiting", "in_hand", "held")
        rows.sort(key=lambda row: -sum(int(row[place] or 0) for place in places))
        total = {place: sum(int(row[place] or 0) for row in rows) for place in places}
        return {"total": total, "destinations": rows}

    async def queue_list(self, args: Args) -> Any:
        """Args: the filter (id, key, account, route, domain, state, older_s, limit)."""
        return [views.row_view(row) for row in await self._queue.find(self._filter(args))]

    async def queue_show(self, args: Args) -> Any:
        """Args: id, account (None: any). A message, its recipients and its events."""
        uuid = message_uuid(str(args["id"]))
        view = await self._queue.message(uuid, args.get("account")) if uuid else None
        if view is None:
            raise _unknown("message", args["id"])
        events = await self._queue.events(view.uuid)
        return {
            **views.message_view(view),
            "events": [
                {"type": e.type.value, "to": e.recipient, "at": rfc3339(e.at), **json.loads(e.data or "{}")}
                for e in events
            ],
        }

    async def queue_retry(self, args: Args) -> Any:
        """Args: the filter, or all: true; dry_run counts and lists the first 25."""
        which = self._filter(args)
        if not args.get("all") and which == Filter(limit=which.limit):
            raise _invalid("", "say which: --id, --key, --account, --route, --domain, --older, or --all")
        if args.get("dry_run"):
            rows = [row for row in await self._queue.find(which) if row.recipient.blocked_by in _WAITING]
            return {"would_retry": len(rows), "first": [views.row_view(row) for row in rows[:25]]}
        count = await self._queue.retry(which, self._clock.now_ms())
        log.info("queue retry: %d recipients", count)
        return {"retried": count}

    def _filter(self, args: Args) -> Filter:
        uuid = None
        if args.get("id"):
            uuid = message_uuid(args["id"])
            if uuid is None:
                raise _unknown("message", args["id"])
        state = args.get("state")
        if state and state not in set(State):
            raise _invalid("state", f"one of {', '.join(State)}")
        older_s = args.get("older_s")
        return Filter(
            uuid=uuid,
            account=args.get("account"),
            key=args.get("key"),
            route=args.get("route"),
            domain=args.get("domain"),
            state=State(state) if state else None,
            older_than=self._clock.now_ms() - int(older_s * 1000) if older_s else None,
            limit=min(int(args.get("limit") or 100), _LISTED_AT_MOST),
        )

    def _known_route(self, name: str | None) -> str | None:
        if name is not None and name not in self._config.routes:
            raise _invalid("route", f"there is no route {name}; configured: {', '.join(sorted(self._config.routes))}")
        return name

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


def message_uuid(text: str) -> bytes | None:
    """A message's id in any of its forms (`eml_…`, the UUID), or None."""
    if (uuid := read_id("eml_", text)) is not None:
        return uuid
    try:
        return UUID(text).bytes
    except ValueError:
        return None


def _scopes(names: Any) -> tuple[str, ...]:
    unknown = [name for name in names if name not in auth.SCOPES]
    if unknown:
        raise _invalid("scope", f"unknown: {', '.join(unknown)}; there are {', '.join(auth.SCOPES)}")
    return tuple(dict.fromkeys(names))


def _limits(texts: Any) -> tuple[Limit, ...]:
    try:
        return configfile.parse_limits(texts)
    except ValueError as error:
        raise _invalid("limit", str(error)) from error


def _sender_pattern(pattern: str) -> str:
    text = pattern if "@" in pattern or pattern == "*" else f"*@{pattern}"
    try:
        return address.check_pattern(text)
    except address.AddressError as error:
        raise _invalid("from", str(error)) from error


def _default_from(text: str | None) -> str | None:
    if text is None:
        return None
    try:
        address.parse_mailbox(text)
    except address.AddressError as error:
        raise _invalid("default_from", str(error)) from error
    return text


def _domain_name(text: str) -> str:
    try:
        return address.parse_domain(text.strip().rstrip("."))
    except address.AddressError as error:
        raise _invalid("name", str(error)) from error


def _invalid(param: str, text: str) -> Refused:
    return Refused(Reason.INVALID_PARAMETER, f"{param}: {text}" if param else text, param=param or None)


def _unknown(what: str, name: Any) -> Refused:
    return Refused(Reason.NOT_FOUND, f"There is no {what} {name}.")
