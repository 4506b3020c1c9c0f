"""The domains that bounces come back to: which one a sending domain may have, the DNS records it needs, and whether DNS
shows them."""

from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import Final

from gateway.config import Config, Role
from gateway.manage import refusals
from gateway.message import address
from gateway.resolver import LookupFailed, Missing

Txt = tuple[str, ...] | Missing | LookupFailed
Mx = tuple[tuple[int, str], ...] | Missing | LookupFailed
MxLookup = Callable[[str], Awaitable[Mx]]

NONE: Final = "none"  # takes it from a domain
_SPF: Final = "v=spf1"  # RFC 7208, 4.5
_ALLOWING: Final = frozenset({"a", "mx", "ip4", "ip6", "include", "exists", "ptr", "all"})  # RFC 7208, 5


@dataclass(frozen=True, slots=True)
class Asking:
    """How the resolver is asked."""

    mx: MxLookup
    txt: Callable[[str], Awaitable[Txt]]


async def nothing_asked(name: str) -> Mx:
    """Where there is no resolver."""
    return LookupFailed(f"{name} was not asked for")


def checked(text: str, config: Config, sending: Collection[str]) -> str:
    """In normal form; `sending` are all domains that mail is sent from. Refused."""
    try:
        domain = address.parse_domain(text.strip().rstrip("."))
    except address.AddressError as error:
        raise refusals.invalid("return_path", str(error)) from error
    if "." not in domain:
        raise refusals.invalid("return_path", f"{domain} is no full domain, like bounces.example.com")
    if domain in sending:
        text = f"mail is sent from {domain}: bounces need a domain of their own, like bounces.{domain}"
        raise refusals.invalid("return_path", text)
    if domain == config.simulator:
        raise refusals.invalid("return_path", f"{domain} is the simulator's domain: bounces need one of their own")
    return domain


def records(domain: str, hostname: str) -> list[dict[str, str]]:
    """What is to be published: bounces come to this host, and it may send for the domain (RFC 7208)."""
    spf = f"{_SPF} a:{hostname} -all"
    return [
        {"type": "MX", "name": domain, "value": f"10 {hostname}.", "zone": f"{domain}. IN MX 10 {hostname}."},
        {"type": "TXT", "name": domain, "value": spf, "zone": f'{domain}. IN TXT "{spf}"'},
    ]


def is_heard(config: Config) -> bool:
    """Whether a listener takes what comes back."""
    return any(listener.role is Role.RETURN_PATH for listener in config.smtp.listeners)


async def shown(domain: str, hostname: str, ask: Asking) -> list[dict[str, str]]:
    """The records, and of each whether DNS shows it: `yes`, `no`, or what is there in its place."""
    mx, spf = records(domain, hostname)
    return [
        {**mx, "published": _mx_word(await ask.mx(domain), hostname)},
        {**spf, "published": _spf_word(await ask.txt(domain))},
    ]


def _mx_word(found: Mx, hostname: str) -> str:
    match found:
        case LookupFailed(reason):
            return f"unknown: {reason}"
        case Missing():
            return "no"
    hosts = [host.rstrip(".").lower() for _, host in found]
    return "yes" if hostname.lower() in hosts else f"another host: {', '.join(hosts) or 'none'}"


def _spf_word(found: Txt) -> str:
    """Who sends by a relay has that relay's in it, so any one record that names some host is taken."""
    match found:
        case LookupFailed(reason):
            return f"unknown: {reason}"
        case Missing():
            return "no"
    policies = [text for text in found if text.lower().split(" ")[0] == _SPF]
    if len(policies) > 1:
        return "several records: none of them counts"  # RFC 7208, 4.5
    if not policies:
        return "no"
    terms = policies[0].lower().split()[1:]
    allows = any(term.lstrip("+").partition(":")[0].partition("/")[0] in _ALLOWING for term in terms)
    redirects = any(term.startswith("redirect=") for term in terms)
    return "yes" if allows or redirects else f"it allows nobody: {policies[0]}"
