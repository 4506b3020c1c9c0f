"""The sending domains declared in the file, with their DKIM keys."""

from enum import Enum
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ed25519

from gateway import privatekey
from gateway.config import DkimKey, Domain
from gateway.configfile import grammar
from gateway.configfile.sources import Sources
from gateway.yamltree import Value


class _Kind(Enum):
    RSA = "an RSA key"
    ED25519 = "an Ed25519 key"


def read_domains(value: Value, sources: Sources) -> dict[str, Domain]:
    """Domains by name."""
    domains = {}
    for name, child in value.section().rest():
        try:
            grammar.domain(name)
        except ValueError as error:
            child.problem(str(error))
        domains[name] = _domain(name, child, sources)
    return domains


def _domain(name: str, value: Value, sources: Sources) -> Domain:
    section = value.section()
    dkim = section.get("dkim")
    keys = _dkim_keys(dkim, sources) if dkim is not None else ()
    domain = Domain(
        name,
        dkim=keys,
        require_dkim=section.take("require_dkim", Value.boolean, False),
        return_path=section.parsed("return_path", grammar.domain, None),
    )
    section.close()
    return domain


def _dkim_keys(value: Value, sources: Sources) -> tuple[DkimKey, ...]:
    """At most one of a kind, and no Ed25519 key alone."""
    keys: dict[_Kind, DkimKey] = {}
    usable = True
    for item in value.items():
        found = _dkim_key(item, sources)
        if found is None:
            usable = False
            continue
        kind, key = found
        if kind in keys:
            item.problem(f"the domain has {kind.value} already: one of each kind signs")
        elif any(key.selector.lower() == other.selector.lower() for other in keys.values()):
            item.problem(f"the selector {key.selector} is in use: each key has its own record")  # RFC 8463, 6
        else:
            keys[kind] = key
    if usable and _Kind.ED25519 in keys and _Kind.RSA not in keys:
        value.problem("an Ed25519 key signs beside an RSA key only: too few verify it")
    return tuple(keys.values())


def _dkim_key(value: Value, sources: Sources) -> tuple[_Kind, DkimKey] | None:
    section = value.section()
    file = section.require("key")
    section.require("selector")
    selector = section.parsed("selector", grammar.selector, None)
    section.close()
    path = sources.private_file(file) if file is not None else None
    if file is None or path is None or selector is None:
        return None
    kind = _kind(file, path)
    return (kind, DkimKey(selector, path)) if kind is not None else None


def _kind(value: Value, path: Path) -> _Kind | None:
    """None, and a problem, where it cannot sign."""
    try:
        key = privatekey.load(path.read_bytes())
    except OSError as error:
        value.problem(f"{path} cannot be read: {error.strerror}")
        return None
    except ValueError as error:
        value.problem(f"{path}: {error}")
        return None
    return _Kind.ED25519 if isinstance(key, ed25519.Ed25519PrivateKey) else _Kind.RSA
