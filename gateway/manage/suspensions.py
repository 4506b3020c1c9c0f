"""Suspending and resuming: what is not tried until an operator says so.

Guarantees: a condition that a suspension cannot serve is refused, with the verb that can; each change is logged.
"""

import logging
from typing import Any, Final

from gateway import views
from gateway.config import Config, RelayRoute
from gateway.errors import Refused
from gateway.manage import refusals
from gateway.manage.queue import dry_run, reason_of
from gateway.manage.selection import LISTED_AT_MOST
from gateway.message import address
from gateway.policy.auth import KeyRing
from gateway.runtime import Clock, rfc3339
from gateway.store.queue import Queue
from gateway.store.shown import Filter, Standing, Suspension

_CANNOT: Final = {"id": "--id", "account": "--account", "state": "--state", "older_s": "--older", "to": "--to"}
_LONGEST_S: Final = 366 * 86_400
MOST: Final = 1000  # suspensions: each is looked at for every claim

log = logging.getLogger("gateway.manage")

Args = dict[str, Any]
_Conditions = tuple[str | None, str | None, str | None]  # route, domain, key


class SuspensionActions:
    """Actions over the suspensions of one queue."""

    def __init__(self, config: Config, queue: Queue, keys: KeyRing, clock: Clock) -> None:
        self._config = config
        self._queue = queue
        self._keys = keys
        self._clock = clock

    def reconfigure(self, config: Config) -> None:
        """Routes may be others from now on."""
        self._config = config

    async def suspend(self, args: Args) -> Any:
        """Args: route, domain, key, or all: true; reason; for_s (without: until it is resumed); dry_run."""
        conditions = _conditions(args, "--route, --domain, --key, or --all")
        self._check(*conditions)
        notes = self._notes(*conditions)
        now, for_s = self._clock.now_ms(), args.get("for_s")
        if for_s and for_s > _LONGEST_S:
            raise refusals.invalid("for", "at most a year")
        if args.get("dry_run"):
            route, domain, key = conditions
            which = Filter(route=route, domain=domain, key=key, standing=Standing.FREE, limit=LISTED_AT_MOST)
            rows = [row for row in await self._queue.find(which) if domain in {None, row.recipient.domain}]
            return dry_run("suspend", rows) | {"notes": notes}
        in_force = await self._queue.suspensions()
        if len(in_force) >= MOST:
            raise refusals.invalid("", f"there are {MOST} suspensions already: resume some first")
        until = now + int(for_s * 1000) if for_s else None
        made = await self._queue.suspend(Suspension(0, *conditions, reason_of(args), now, until))
        end = f" until {rfc3339(until)}" if until else ""
        log.warning("queue suspend: number %d, %s%s: %s", made.id, words(made), end, made.reason or "no reason given")
        # One for the same mail takes the place of the other: resumed, that mail goes on.
        if replaced := [one.id for one in in_force if (one.route, one.domain, one.key) == conditions]:
            await self._queue.resume(replaced)
            notes.append(f"It takes the place of number {', '.join(map(str, replaced))}.")
        return {"suspended": views.suspension_view(made), "notes": notes}

    async def resume(self, args: Args) -> Any:
        """Args: numbers; or route, domain, key: those that were suspended by just these; or all: true; dry_run."""
        conditions = _conditions(args, "a number of queue summary, --route, --domain, --key, or --all")
        in_force = await self._queue.suspensions()
        numbers = set(args.get("numbers") or [])
        if unknown := sorted(numbers - {one.id for one in in_force}):
            raise refusals.unknown("suspension", unknown[0])
        if numbers:
            found = [one for one in in_force if one.id in numbers]
        else:
            found = [one for one in in_force if args.get("all") or (one.route, one.domain, one.key) == conditions]
        shown = [views.suspension_view(one) for one in found]
        if args.get("dry_run"):
            return {"would_resume": len(found), "suspensions": shown}
        count = await self._queue.resume([one.id for one in found]) if found else 0
        for one in found:
            log.warning("queue resume: number %d, %s", one.id, words(one))
        return {"resumed": count, "suspensions": shown}

    def _check(self, route: str | None, domain: str | None, _key: str | None) -> None:
        """A mistake in a name must not look like a suspension. Raises Refused."""
        routes = self._config.routes
        if route is not None and route not in routes:
            raise refusals.invalid("route", f"there is no route {route}; the routes are: {', '.join(routes)}")
        if domain is not None and isinstance(routes.get(route or ""), RelayRoute):
            text = f"the mail of the relay {route} is not kept apart by domain; use queue hold --domain {domain}"
            raise refusals.invalid("domain", text)

    def _notes(self, route: str | None, domain: str | None, key: str | None) -> list[str]:
        """What is not wrong, and may not be what was meant."""
        notes = []
        if key is not None and not self._is_known(key):
            notes.append(f"There is no key {key} (now): only mail that it handed in before is kept back.")
        relays = [one.name for one in self._config.routes.values() if isinstance(one, RelayRoute)]
        if domain is not None and route is None and relays:
            notes.append(
                f"Mail to {domain} by a relay ({', '.join(relays)}) goes on: hold it with queue hold --domain."
            )
        return notes

    def _is_known(self, key: str) -> bool:
        try:
            self._keys.named(key, self._clock.now_ms())
        except Refused:
            return False
        return True


def _conditions(args: Args, named: str) -> _Conditions:
    """Route, domain and key; none of them where numbers or `all` say which. Raises Refused."""
    for name, option in _CANNOT.items():
        if args.get(name):
            raise refusals.invalid("", f"{option} cannot be suspended, only a route, a domain, a key: use queue hold")
    route, domain, key = args.get("route") or None, args.get("domain") or None, args.get("key") or None
    if domain is not None:
        try:
            domain = address.parse_domain(domain)
        except address.AddressError as error:
            raise refusals.invalid("domain", str(error)) from error
    said = sum((bool(route or domain or key), bool(args.get("numbers")), bool(args.get("all"))))
    if not said:
        raise refusals.invalid("", f"say which: {named}")
    if said > 1:
        raise refusals.invalid("", "numbers, a filter and --all exclude one another: give one of them")
    return route, domain, key


def words(one: Suspension) -> str:
    """What it keeps back."""
    said = [
        f"{name} {value}" for name, value in (("route", one.route), ("domain", one.domain), ("key", one.key)) if value
    ]
    return ", ".join(said) or "everything"
