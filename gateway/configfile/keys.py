"""The keys declared in the file: secrets, routes, allowed senders and networks, scopes, limits, help for old ones, and
what becomes of their mail."""

from collections.abc import Callable
from collections.abc import Set as AbstractSet
from typing import TypeVar

from gateway.config import KeyConfig, Secret
from gateway.configfile import grammar, keymodes, limits, notifications
from gateway.configfile.sources import Sources
from gateway.keyterms import Brakes, Duplicates, KeyRetention, Mode
from gateway.yamltree import Section, Value

T = TypeVar("T")


def read_keys(value: Value, sources: Sources, routes: AbstractSet[str]) -> dict[str, KeyConfig]:
    """Keys by name; `routes` are the names that a key may refer to."""
    keys: dict[str, KeyConfig] = {}
    owners: dict[str, str] = {}
    for name, child in value.section().rest():
        try:
            grammar.name(name)
        except ValueError as error:
            child.problem(str(error))
        key = _key(name, child, sources, routes)
        if key is None:
            continue
        owner = owners.setdefault(key.secret.value, name)
        if owner != name:
            child.problem(f"has the same secret as {owner}")
        keys[name] = key
    return keys


def _key(name: str, value: Value, sources: Sources, routes: AbstractSet[str]) -> KeyConfig | None:
    section = value.section()
    section.require("secret")
    secret = section.take("secret", lambda given: _secret(given, sources), None)
    account = section.parsed("account", grammar.name, name)
    default_from = section.parsed("default_from", grammar.mailbox, None)
    senders = tuple(_each(section, "from", grammar.sender_pattern))
    scopes = tuple(_each(section, "scopes", grammar.scope)) or ("send", "read")
    networks = tuple(_each(section, "ip", grammar.network))
    default_domain = section.parsed("default_domain", grammar.domain, None)
    aliases = section.take("aliases", _aliases, ())
    rewrite_from = section.parsed("rewrite_from", grammar.address, None)
    limited = section.take("limits", limits.read_limits, ())
    duplicates = section.one_of("duplicates", Duplicates.AT_LEAST_ONCE)
    dsn = section.take("dsn", _dsn, None)
    mode = section.parsed("mode", keymodes.mode, Mode())
    track = section.take("track", keymodes.read_track, 0)
    brakes = section.take("brakes", keymodes.read_brakes, Brakes())
    retention = section.take("retention", keymodes.read_retention, KeyRetention())
    route = section.take("route", Value.text, None)
    named = section.get("route")
    if named is not None and route is not None and route not in routes:
        named.problem(f"there is no route {route}")
    section.close()
    if secret is None:
        return None
    return KeyConfig(
        name,
        secret=secret,
        account=account,
        route=route,
        senders=senders,
        scopes=scopes,
        default_from=default_from,
        limits=limited,
        networks=networks,
        default_domain=default_domain,
        aliases=aliases,
        rewrite_from=rewrite_from,
        duplicates=duplicates,
        dsn=dsn,
        mode=mode,
        track=track,
        brakes=brakes,
        retention=retention,
    )


def _secret(value: Value, sources: Sources) -> Secret | None:
    secret = sources.secret(value)
    if secret is None:
        return None
    try:
        grammar.key_text(secret.value)
    except ValueError as error:
        value.problem(str(error))
        return None
    return secret


def _aliases(value: Value) -> tuple[tuple[str, str], ...]:
    """`{root: ops@example.com}`: local names in lower case, and where their mail goes."""
    found: dict[str, str] = {}
    for written, child in value.section().rest():
        target = child.parsed(grammar.address)
        try:
            name = grammar.local_name(written)
        except ValueError as error:
            child.problem(str(error))
            continue
        if name in found:
            child.problem(f"is given twice: {name} is the same name")
        elif target is not None:
            found[name] = target
    return tuple(found.items())


def _dsn(value: Value) -> int | None:
    """`never`, a word, or a list of words."""
    items = list(value.items()) if value.is_list else [value]
    if not items:
        value.problem(f"needs at least one; {notifications.NEVER} for none")
    words = [word for item in items if (word := item.parsed(notifications.word)) is not None]
    if not words or len(words) < len(items):
        return None
    try:
        return notifications.total(words)
    except ValueError as error:
        value.problem(str(error))
        return None


def _each(section: Section, name: str, parse: Callable[[str], T]) -> list[T]:
    """The items of a list. An empty one is a problem: it would mean the same as none, and look like nobody."""
    value = section.get(name)
    if value is None:
        return []
    items = list(value.items())
    if not items and value.is_list:
        value.problem("needs at least one; leave it out for the default")
    return [result for item in items if (result := item.parsed(parse)) is not None]
