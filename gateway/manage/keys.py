"""Keys: made, listed, shown, rotated, changed, let go and revoked by operators; kept in memory as stored and declared.

Guarantees: the text of a key is in the answer that made it, once, and nowhere else.
"""

import asyncio
import logging
from collections.abc import Sequence
from typing import Any, Final

from gateway import views
from gateway.config import Config, KeyConfig, Network
from gateway.configfile import grammar
from gateway.errors import Reason, Refused
from gateway.manage import keyargs, refusals
from gateway.manage.queue import reason_of
from gateway.policy import auth
from gateway.policy.brakes import Braking
from gateway.runtime import Clock, rfc3339
from gateway.store.brakes import Trip
from gateway.store.records import Duplicate, KeyRecord, Records

DEFAULT_OVERLAP_S: Final = 86_400.0
_LONGEST_S: Final = 100 * 365 * 86_400

log = logging.getLogger("gateway.manage")

Args = dict[str, Any]


class KeyActions:
    """Actions over one store; keeps `keys` true to it."""

    def __init__(
        self, config: Config, records: Records, keys: auth.KeyRing, clock: Clock, braking: Braking | None = None
    ) -> None:
        """`braking` None: no key is braked."""
        self._config = config
        self._records = records
        self._keys = keys
        self._clock = clock
        self._braking = braking
        self._loading = asyncio.Lock()

    async def load(self) -> None:
        """Read the keys of the store and of the configuration. Raises StoreError."""
        async with self._loading:  # what was read first must not be put in place last: a revoked key would be good
            stored = await self._records.keys()
            self._keys.load(stored, _all_declared(self._config))

    def reconfigure(self, config: Config) -> None:
        """The keys of another configuration in place of those of this one."""
        self._config = config
        self._keys.declare(_all_declared(config))

    async def create(self, args: Args) -> Any:
        """Args: name, account, route, senders, scopes, default_from, expires_s, limits (texts as
        `recipients=100/min,burst=200`), networks, duplicates, dsn (words of configfile/notifications.py), mode, track,
        brakes, retention (texts as configfile/keymodes.py reads them), and of its text: prefix, secret or short. The
        text is in the answer, and nowhere else."""
        name = str(args["name"])
        if not name or not name.isprintable() or " " in name:
            raise refusals.invalid("name", "a key's name has no spaces or control characters")
        if grammar.PASS_THROUGH in {name, args.get("account")}:
            raise refusals.invalid("name", f"{grammar.PASS_THROUGH} is a name of the gateway's own: give another")
        if name in self._config.keys:
            raise refusals.declared("key", name)
        networks = tuple(keyargs.network(text) for text in args.get("networks") or ())
        secret = self._text(name, args, networks)
        now = self._clock.now_ms()
        expires_s = args.get("expires_s")
        if expires_s is not None and not 0 < expires_s <= _LONGEST_S:
            raise refusals.invalid("expires", "a time to come, within 100 years")
        record = KeyRecord(
            name=name,
            digest=auth.digest(secret),
            hint=auth.hint(secret),
            account=args.get("account") or name,
            route=self._known_route(args.get("route")),
            senders=tuple(keyargs.sender_pattern(pattern) for pattern in args.get("senders") or ()),
            scopes=keyargs.scopes(args.get("scopes") or ("send", "read")),
            default_from=keyargs.default_from(args.get("default_from")),
            created_at=now,
            expires_at=now + int(expires_s * 1000) if expires_s else None,
            revoked_at=None,
            limits=keyargs.limits(args.get("limits") or ()),
            networks=networks,
            duplicates=keyargs.duplicates(args.get("duplicates")),
            dsn=keyargs.dsn(args.get("dsn")),
            mode=keyargs.mode(args.get("mode")),
            track=keyargs.track(args.get("track") or (), self._config.http.public_url),
            brakes=keyargs.brakes(args.get("brakes") or ()),
            retention=keyargs.retention(args.get("retention") or ()),
        )
        try:
            await self._records.add_key(record)
        except Duplicate as error:
            raise _taken(name) from error
        await self.load()
        log.info("key %s created: account=%s route=%s", name, record.account, record.route)
        return {**views.key_view(record, now), "secret": secret}

    async def rotate(self, args: Args) -> Any:
        """Args: name, overlap_s (how long the old text stays good), and of the new text: prefix, secret or short. The
        new text is in the answer, and nowhere else; a text from before the old one ends now."""
        name, now = str(args["name"]), self._clock.now_ms()
        if name in self._config.keys:
            raise refusals.declared("key", name, remedy="; change its secret there")
        record = next((record for record in await self._records.keys() if record.name == name), None)
        if record is None or views.key_state(record, now) != "active":
            raise refusals.unknown("active key", name)
        given = args.get("overlap_s")
        overlap_s = DEFAULT_OVERLAP_S if given is None else given
        if not 0 <= overlap_s <= _LONGEST_S:
            raise refusals.invalid("overlap", "a time from now, within 100 years")
        secret = self._text(name, args, record.networks)
        until = now + int(overlap_s * 1000)
        try:
            known = await self._records.rotate_key(name, auth.digest(secret), auth.hint(secret), old_until=until)
        except Duplicate as error:
            raise _taken(name) from error
        if not known:
            raise refusals.unknown("active key", name)
        await self.load()
        log.info("key %s rotated: the old text is good until %s", name, rfc3339(until))
        return {**await self.show({"name": name}), "secret": secret}

    async def list_(self, args: Args) -> Any:
        """Every key, revoked ones too, without secrets."""
        del args
        declared = [views.declared_key_view(key) for key in self._config.keys.values()]
        stored = [views.key_view(record, self._clock.now_ms()) for record in await self._records.keys()]
        return [{**view, "braked": self._trip_view(view["name"])} for view in (*declared, *stored)]

    async def show(self, args: Args) -> Any:
        """Args: name."""
        for view in await self.list_({}):
            if view["name"] == args["name"]:
                return view
        raise refusals.unknown("key", args["name"])

    async def mode(self, args: Args) -> Any:
        """Args: name, mode. For mail to come; what is held or captured already stays so."""
        name = str(args["name"])
        mode = keyargs.mode(str(args["mode"]))
        if name in self._config.keys:
            raise refusals.declared("key", name, remedy="; change its mode there")
        if not await self._records.set_key_mode(name, mode):
            raise refusals.unknown("active key", name)
        await self.load()
        log.info("key %s has the mode %s now", name, mode)
        return await self.show({"name": name})

    async def release(self, args: Args) -> Any:
        """Args: name, reason. Its new mail goes again; what is held stays so until `queue.release`."""
        name = str(args["name"])
        trip = None if self._braking is None else await self._braking.release(name, reason_of(args))
        if trip is None:
            raise refusals.unknown("braked key", name)
        return {"name": name, "released": True, "was": _trip_view(trip)}

    async def revoke(self, args: Args) -> Any:
        """Args: name. At once, for good."""
        name = args["name"]
        if name in self._config.keys:
            raise refusals.declared("key", name, remedy="; remove it there")
        if not await self._records.revoke_key(name, self._clock.now_ms()):
            raise refusals.unknown("active key", name)
        await self.load()
        log.info("key %s revoked", name)
        return {"name": name, "state": "revoked"}

    def _trip_view(self, name: str) -> dict[str, Any] | None:
        """Why a key is braked."""
        trip = self._braking.trip_of(name) if self._braking is not None else None
        return None if trip is None else _trip_view(trip)

    def _known_route(self, name: str | None) -> str | None:
        if name is not None and name not in self._config.routes:
            raise refusals.invalid(
                "route", f"there is no route {name}; configured: {', '.join(sorted(self._config.routes))}"
            )
        return name

    def _text(self, name: str, args: Args, networks: Sequence[Network]) -> str:
        """A text for a key: the one that is given, or a new one."""
        if args.get("short"):
            if not networks or any(grammar.is_open(network) for network in networks):
                raise refusals.invalid("short", "a short key is for devices, in networks of your own: say which (ip)")
            return auth.make_short_key()
        secret = str(args.get("secret") or auth.make_key(args.get("prefix") or auth.DEFAULT_PREFIX))
        try:
            grammar.key_text(secret)
        except ValueError as error:
            raise refusals.invalid("secret", str(error)) from error
        if any(secret == key.secret.value for key in self._config.keys.values()):
            raise _taken(name)
        return secret


def _all_declared(config: Config) -> list[tuple[auth.Principal, bytes]]:
    return [(_declared(key), auth.digest(key.secret.value)) for key in config.keys.values()]


def _declared(key: KeyConfig) -> auth.Principal:
    return auth.Principal(
        name=key.name,
        account=key.account,
        route=key.route,
        senders=key.senders,
        scopes=frozenset(key.scopes),
        default_from=key.default_from,
        expires_at=None,
        source="config",
        limits=key.limits,
        networks=key.networks,
        default_domain=key.default_domain,
        aliases=key.aliases,
        rewrite_from=key.rewrite_from,
        duplicates=key.duplicates,
        dsn=key.dsn,
        mode=key.mode,
        track=key.track,
        brakes=key.brakes or None,
    )


def _trip_view(trip: Trip) -> dict[str, Any]:
    return {"reason": trip.reason, "detail": trip.detail, "since": rfc3339(trip.since)}


def _taken(name: str) -> Refused:
    return Refused(Reason.CONFLICT, f"There is a key {name}, or one with this secret, already.", param="name")
