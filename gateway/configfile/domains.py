"""The sending domains declared in the file, with their DKIM keys."""

from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from gateway.config import DkimKey, Domain
from gateway.configfile import grammar
from gateway.configfile.sources import Sources
from gateway.yamltree import Value

_MIN_RSA_BITS: Final = 2048  # RFC 8301, 3.2: signers should use at least that


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
    section.later("return_path")
    dkim = section.get("dkim")
    keys = [_dkim_key(item, sources) for item in dkim.items()] if dkim is not None else []
    if dkim is not None and len(keys) > 1:
        dkim.problem("several DKIM keys of a domain are not available in this version")
    domain = Domain(
        name,
        dkim=tuple(key for key in keys if key is not None),
        require_dkim=section.take("require_dkim", Value.boolean, False),
    )
    section.close()
    return domain


def _dkim_key(value: Value, sources: Sources) -> DkimKey | None:
    section = value.section()
    file = section.require("key")
    section.require("selector")
    selector = section.parsed("selector", grammar.selector, None)
    section.close()
    path = sources.private_file(file) if file is not None else None
    if file is None or path is None or selector is None:
        return None
    return DkimKey(selector, path) if _is_usable(file, path) else None


def _is_usable(value: Value, path: Path) -> bool:
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (ValueError, TypeError) as error:  # TypeError: it is encrypted
        reason = "it is encrypted" if isinstance(error, TypeError) else "not in PEM, or of no known kind"
        value.problem(f"{path} holds no usable private key: {reason}")
        return False
    if not isinstance(key, rsa.RSAPrivateKey) or key.key_size < _MIN_RSA_BITS:
        value.problem(f"a DKIM key is RSA of at least {_MIN_RSA_BITS} bits in this version")
        return False
    return True
