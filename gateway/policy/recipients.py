"""Addresses as legacy programs write them: `root`, a scanner's own name, no domain.

Guarantees: pure; an address with a domain is left alone; what no key can complete is refused with the remedy. Whether
the address may be used is asked elsewhere.
"""

from gateway.errors import Reason, Refused
from gateway.message.address import AddressError, parse_path
from gateway.policy.auth import Principal


def qualify(principal: Principal, address: str) -> str:
    """`address` as it is; a local part alone as the alias the key has for it, else in the key's default domain.

    Letters of ASCII in a local part are compared without case. "" (the null sender) stays. Refused with UNQUALIFIED
    where the key says nothing, with VALIDATION_ERROR where the whole is no address.
    """
    if not address or ("@" in address and not address.endswith('"')):  # `"a@b"` is a quoted local part
        return address
    local = address.lower() if address.isascii() else address
    for name, target in principal.aliases:
        if name == local:
            return target
    if principal.default_domain is None:
        text = f"The address has no domain: write name@domain (or give the key {principal.name} a default_domain)"
        raise Refused(Reason.UNQUALIFIED, text)
    try:
        return parse_path(f"{address}@{principal.default_domain}")
    except AddressError as error:
        raise Refused(Reason.VALIDATION_ERROR, f"Bad address: {error}") from error
