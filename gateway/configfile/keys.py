"""The keys declared in the file: secrets, routes, allowed senders, scopes, limits."""

from collections.abc import Set as AbstractSet

from gateway.config import KeyConfig, Secret
from gateway.configfile import grammar, limits
from gateway.configfile.sources import Sources
from gateway.yamltree import Section, Value


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
    section.later("mode", "default_domain", "aliases", "rewrite_from", "track", "dsn", "duplicates")
    section.require("secret")
    secret = section.take("secret", lambda given: _secret(given, sources), None)
    account = section.parsed("account", grammar.name, name)
    default_from = section.parsed("default_from", grammar.mailbox, None)
    senders = tuple(_each(section, "from", grammar.sender_pattern))
    scopes = tuple(_each(section, "scopes", grammar.scope)) or ("send", "read")
    limited = section.take("limits", limits.read_limits, ())
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


def _each(section: Section, name: str, parse: grammar.Check) -> list[str]:
    """The items of a list. An empty one is a problem: it would mean the same as none, and look like nobody."""
    value = section.get(name)
    if value is None:
        return []
    items = list(value.items())
    if not items and value.is_list:
        value.problem("needs at least one; leave it out for the default")
    return [text for item in items if (text := item.parsed(parse)) is not None]
