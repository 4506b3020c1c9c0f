"""Reading the configuration again: what changed, what of it can be applied, and applying that.

Guarantees: every value is either applied or named as one that needs a restart, by one table that knows them all;
everything that may fail is done before anything is changed, so a reload is whole or nothing; what needs a restart goes
on as it was, and is named at every reload until then. It knows no component: `app` says who is told.
"""

import asyncio
import dataclasses
import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Final

from gateway import config as tree
from gateway import configfile
from gateway.config import Config
from gateway.errors import ConfigError, GatewayError, Problem
from gateway.keyterms import Brakes, KeyRetention
from gateway.runtime import Clock, notify_systemd

_NAMED: Final = 50  # paths in a line of the log

log = logging.getLogger("gateway")


class NothingToRead(GatewayError):
    """The daemon runs without a configuration file."""


class How(Enum):
    """What becomes of a value that changed."""

    APPLIED = "applied"
    RESTART = "restart"
    INSIDE = "inside"  # of each of its fields, as the table says
    BY_NAME = "by name"  # of each entry of a mapping
    PLACES = "places"  # listeners: an address that comes or goes needs a restart, others are looked into
    WHILE_THERE = "while there"  # as INSIDE, or applied; that it comes or goes needs a restart


@dataclass(frozen=True, slots=True)
class Decision:
    """`path` is the key's in the file, below the one that it stands in."""

    path: str
    how: How


def _decide(how: How, *names: str, **renamed: str) -> dict[str, Decision]:
    """Fields that are decided alike: `names` are the file's words too, `renamed` has the file's word for others."""
    return {name: Decision(path, how) for name, path in ({name: name for name in names} | renamed).items()}


_ROUTE: Final = ("port", "tls", "ehlo", "source", "ip_family", "dkim", "min_tls", "certificate")

# Every class that the tree is made of, and every field of it; a test holds this against config.py.
DECISIONS: Final[Mapping[type, Mapping[str, Decision]]] = {
    Config: {
        **_decide(How.APPLIED, "hostname", "max_message", "default_route", "templates", "simulator"),
        **_decide(How.INSIDE, "http", "smtp", "limits", "dns", "delivery", "retention", "pass_through", "dialects"),
        **_decide(How.INSIDE, "suppression", "webhooks", "log"),
        **_decide(How.BY_NAME, "routes", "domains", "keys"),
        **_decide(How.WHILE_THERE, "tls", local_key="local.key"),
        **_decide(How.RESTART, "data_dir", "path", database="store.url", local_socket="local.socket"),
    },
    tree.Tls: _decide(How.APPLIED, "certificate", "key"),
    tree.Http: {
        **_decide(How.PLACES, "listeners"),
        **_decide(How.RESTART, "admin"),
        **_decide(How.APPLIED, "trusted_proxies", "public_url"),
    },
    tree.HttpListener: {**_decide(How.RESTART, "listen", "tls"), **_decide(How.APPLIED, "insecure")},
    tree.Smtp: {**_decide(How.PLACES, "listeners"), **_decide(How.APPLIED, "feedback")},
    tree.SmtpListener: {
        **_decide(How.RESTART, "listen", "tls", "role"),
        **_decide(How.APPLIED, "auth", "min_tls", "plaintext_auth", "bare_newlines", "networks"),
    },
    tree.Limits: {
        **_decide(How.APPLIED, "recipients_per_message", "batch", "attachments", "connections_per_ip", "connections"),
        **_decide(How.APPLIED, "auth_failures", "buffers", "free_disk"),
        **_decide(How.APPLIED, backlog_messages="backlog.messages", backlog_bytes="backlog.bytes"),
    },
    tree.Dns: _decide(How.APPLIED, "nameservers", "trust_ad"),
    tree.MxRoute: _decide(How.APPLIED, "name", *_ROUTE, "mta_sts", "dane"),
    tree.RelayRoute: _decide(How.APPLIED, "name", "host", *_ROUTE, "verify", "ca", "username", "password"),
    tree.CaptureRoute: _decide(How.APPLIED, "name"),
    tree.Domain: _decide(How.APPLIED, "name", "dkim", "require_dkim", "return_path"),
    tree.KeyConfig: {
        **_decide(How.APPLIED, "name", "secret", "account", "route", "scopes", "default_from", "limits"),
        **_decide(How.APPLIED, "default_domain", "aliases", "rewrite_from", "duplicates", "dsn"),
        **_decide(How.APPLIED, "mode", "track", senders="from", networks="ip"),
        **_decide(How.INSIDE, "brakes", "retention"),
    },
    Brakes: _decide(How.APPLIED, "volume", "bounces", "new_recipients"),
    KeyRetention: _decide(
        How.APPLIED,
        content_delivered_s="content.delivered",
        content_failed_s="content.failed",
        messages_s="messages",
        events_s="events",
    ),
    tree.Delivery: {
        **_decide(How.APPLIED, "messages_per_connection", "connections", "max_hops"),
        **_decide(How.APPLIED, retry_s="retry", expire_after_s="expire_after"),
        **_decide(How.APPLIED, concurrency_initial="concurrency.initial", concurrency="concurrency.maximum"),
        **_decide(How.INSIDE, "timeouts"),
    },
    tree.Timeouts: _decide(
        How.APPLIED,
        connect_s="connect",
        greeting_s="greeting",
        command_s="command",
        data_start_s="data_start",
        data_block_s="data_block",
        data_end_s="data_end",
    ),
    tree.Retention: _decide(
        How.APPLIED,
        content_delivered_s="content.delivered",
        content_failed_s="content.failed",
        messages_s="messages",
        events_s="events",
    ),
    tree.Suppression: _decide(How.APPLIED, bounce_s="bounce", complaint_s="complaint", unsubscribe_s="unsubscribe"),
    tree.Webhooks: {
        **_decide(How.APPLIED, "allow_http", "allow_networks"),
        **_decide(How.APPLIED, timeout_s="timeout", retry_s="retry", disable_after_s="disable_after"),
    },
    tree.PassThrough: _decide(How.APPLIED, "relays", "networks", "limit"),
    tree.Dialects: _decide(How.APPLIED, "disabled", sendmux_success_status="sendmux.success_status"),
    tree.Log: _decide(How.APPLIED, "level", "format", "addresses"),
}


@dataclass(frozen=True, slots=True)
class Change:
    """From one configuration to another: `config` is what can be in force now, the paths are the file's."""

    config: Config
    applied: tuple[str, ...]
    restart: tuple[str, ...]


def compare(old: Config, new: Config) -> Change:
    """What changed, and how far it can be applied."""
    found: list[tuple[str, bool]] = []
    merged = _merge(old, new, "", found)
    applied = tuple(path for path, now in found if now)
    return Change(merged, applied, tuple(path for path, now in found if not now))


def _merge(old: Any, new: Any, path: str, found: list[tuple[str, bool]]) -> Any:
    """The new value with what needs a restart as it was; `found` gets each path that changed, and whether it is
    applied."""
    decisions = DECISIONS[type(new)]
    values = {}
    for field in dataclasses.fields(new):
        before, after = getattr(old, field.name), getattr(new, field.name)
        decision = decisions[field.name]
        values[field.name] = before
        if before != after:
            place = f"{path}.{decision.path}" if path else decision.path
            values[field.name] = _resolve(before, after, decision.how, place, found)
    return type(new)(**values)


def _resolve(before: Any, after: Any, how: How, path: str, found: list[tuple[str, bool]]) -> Any:
    """What one field, which changed, is from now on."""
    match how:
        case How.INSIDE:
            return _merge(before, after, path, found)
        case How.BY_NAME:
            return dict(_entries(before, after, path, found))
        case How.PLACES:
            return tuple(_listeners(before, after, path, found))
        case How.WHILE_THERE if before is not None and after is not None:
            if type(after) in DECISIONS:
                return _merge(before, after, path, found)
            found.append((path, True))
            return after
        case How.APPLIED:
            found.append((path, True))
            return after
        case _:
            found.append((path, False))
            return before


def _entries(
    old: Mapping[str, Any], new: Mapping[str, Any], path: str, found: list[tuple[str, bool]]
) -> Iterator[tuple[str, Any]]:
    found += [(f"{path}.{name}", True) for name in old if name not in new]
    for name, after in new.items():
        before = old.get(name)
        if type(before) is type(after):
            yield name, _merge(before, after, f"{path}.{name}", found)
        else:  # it is new, or of another kind
            found.append((f"{path}.{name}", True))
            yield name, after


def _listeners(old: Sequence[Any], new: Sequence[Any], path: str, found: list[tuple[str, bool]]) -> Iterator[Any]:
    """Those that listen now, in their order."""
    left = list(enumerate(new))
    missing = False
    for before in old:
        match = next((one for one in left if one[1].listen == before.listen), None)
        if match is None:
            missing = True
            yield before
        else:
            left.remove(match)
            yield _listener(before, match[1], f"{path}[{match[0]}]", found)
    if missing or left:
        found.append((path, False))


def _listener(before: Any, after: Any, path: str, found: list[tuple[str, bool]]) -> Any:
    """One with other TLS or another role stays as it was, all of it: half of a change could be a listener that nobody
    can use, or that is open to more than either whole."""
    changed: list[tuple[str, bool]] = []
    merged = _merge(before, after, path, changed)
    keeps = not all(now for _, now in changed)
    found += [(name, False) for name, _ in changed] if keeps else changed
    return before if keeps else merged


Commit = Callable[[], None]
Prepare = Callable[[Config], Awaitable[Commit]]  # raises ConfigError, and has changed nothing then
Follow = Callable[[Config], None]  # cannot fail


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a reload ended. `at` is Unix time in milliseconds; with problems, nothing was changed."""

    at: int
    applied: tuple[str, ...] = ()
    restart: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


class Reloader:
    """Reads the file of `config` again when asked. `config` is what is in force, `last` how the last reload ended."""

    def __init__(
        self,
        config: Config,
        *,
        prepare: Sequence[Prepare],
        follow: Sequence[Follow],
        clock: Clock,
        on_broken: Callable[[str], None],
    ) -> None:
        """`prepare` are asked first, all of them; then what they returned is called, and `follow`, without a pause
        between. `on_broken` is called where one of these failed all the same: half a configuration is none."""
        self.config = config
        self.last: Outcome | None = None
        self._prepare = prepare
        self._follow = follow
        self._clock = clock
        self._on_broken = on_broken
        self._one = asyncio.Lock()

    async def reload(self) -> Outcome:
        """Apply what the file says now. Raises ConfigError with every problem; then nothing was changed."""
        async with self._one:
            # systemd.service(5), Type=notify: who asked for the reload waits until we are ready again.
            notify_systemd(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
            try:
                return await self._reload()
            finally:
                notify_systemd("READY=1")

    async def on_signal(self, asked: asyncio.Event) -> None:
        """Reload whenever it is set; what went wrong is in the log."""
        while True:
            await asked.wait()
            asked.clear()
            try:
                await self.reload()
            except GatewayError:
                continue  # `reload` has told it

    async def _reload(self) -> Outcome:
        path = self.config.path
        if path is None:
            log.warning("a reload was asked for, but there is no configuration file")
            raise NothingToRead("This daemon runs without a configuration file: there is nothing to read again.")
        try:
            new, warnings = await asyncio.to_thread(_read, self.config)
            change = compare(self.config, new)
            commits = [await prepare(change.config) for prepare in self._prepare]
        except ConfigError as error:
            self._refuse(path, error)
            raise
        except Exception as error:
            log.exception("a reload broke down")
            text = f"the gateway failed over it ({type(error).__name__}); its log says where"
            broken = ConfigError([Problem("", text)])
            self._refuse(path, broken)
            raise broken from error
        self._apply(change.config, commits)
        self.last = Outcome(self._clock.now_ms(), change.applied, change.restart, warnings)
        self._tell(self.last)
        return self.last

    def _refuse(self, path: Path, error: ConfigError) -> None:
        problems = tuple(str(problem) for problem in error.problems)
        self.last = Outcome(self._clock.now_ms(), problems=problems)
        for problem in problems:
            log.error("%s: %s", path, problem)
        log.error("%s cannot be used; nothing was changed", path)

    def _apply(self, config: Config, commits: Sequence[Commit]) -> None:
        try:
            for commit in commits:
                commit()
            for follow in self._follow:
                follow(config)
        except Exception as error:
            self._on_broken(f"a changed configuration was applied in part only: {error!r}")
            raise
        self.config = config

    def _tell(self, outcome: Outcome) -> None:
        for warning in outcome.warnings:
            log.warning("%s: %s", self.config.path, warning)
        log.info("%s was read again; applied: %s", self.config.path, _named(outcome.applied))
        if outcome.restart:
            log.warning("needs a restart: %s", _named(outcome.restart))


def _read(running: Config) -> tuple[Config, tuple[str, ...]]:
    """The file as it is now, with its warnings. Where it gives no host name, the one in force stays: the machine's own
    would be asked for anew, and DNS may be away."""
    warnings: list[Problem] = []
    new = configfile.load(running.path, hostname=running.hostname, warn=warnings.append)
    return new, tuple(map(str, warnings))


def _named(paths: Sequence[str]) -> str:
    more = f" and {len(paths) - _NAMED} more" if len(paths) > _NAMED else ""
    return (", ".join(paths[:_NAMED]) or "nothing changed") + more
