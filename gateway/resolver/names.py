"""Host names as DNS has them."""

import ipaddress
import re
from functools import lru_cache
from typing import Final

import dns.name
import idna

# Letters, digits, hyphens inside (RFC 5321, 4.1.2), and underscores, which some hosts and all services have.
_LABEL: Final = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?", re.IGNORECASE)
_LONGEST: Final = 253  # as text, without the last dot (RFC 1035, 2.3.4)


@lru_cache(maxsize=4096)
def normal(name: str) -> str | None:
    """A host name in lower case, U-labels as A-labels, without its last dot; None for what cannot be one."""
    text = name.removesuffix(".")
    if not text.isascii():
        try:
            text = idna.encode(text, uts46=True).decode()
        except idna.IDNAError:
            return None
    labels = text.split(".")
    if len(text) > _LONGEST or labels[-1].isdigit() or not all(map(_LABEL.fullmatch, labels)):
        return None
    return text.lower()


def absolute(normal_name: str) -> dns.name.Name:
    """The name as it is asked: no search list is tried."""
    return dns.name.Name([label.encode() for label in normal_name.split(".")] + [b""])


def reverse(address: str) -> str | None:
    """The name of an IP address in in-addr.arpa or ip6.arpa; None for what is no address. A zone (`%eth0`) counts
    for nothing."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return None
    return ip.reverse_pointer


def text(name: dns.name.Name) -> str:
    """Lower case, without the last dot; the root is "". Odd characters come escaped, and are no host name then."""
    return name.to_text(omit_final_dot=True).lower().removesuffix(".")
