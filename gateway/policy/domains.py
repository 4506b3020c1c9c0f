"""The sending domains: which key signs for a From domain, and where unsigned mail is refused."""

from collections.abc import Iterable
from dataclasses import dataclass

from gateway.errors import Reason, Refused
from gateway.message.dkim import PrivateKey


@dataclass(frozen=True, slots=True)
class SigningKey:
    """Signs as `d=domain; s=selector`."""

    domain: str
    selector: str
    private: PrivateKey


@dataclass(frozen=True, slots=True)
class SendingDomain:
    """A domain as configured or stored; `key` is the one that signs now, None when it has none yet."""

    name: str
    require_dkim: bool
    key: SigningKey | None


class Domains:
    """All sending domains in memory; a subdomain is served by the nearest parent that is configured."""

    def __init__(self) -> None:
        self._domains: dict[str, SendingDomain] = {}

    def load(self, domains: Iterable[SendingDomain]) -> None:
        self._domains = {domain.name: domain for domain in domains}

    def nearest(self, name: str) -> SendingDomain | None:
        """The domain itself, or the nearest of its parents."""
        while name:
            if (found := self._domains.get(name)) is not None:
                return found
            name = name.partition(".")[2]
        return None

    def signing_key(self, name: str) -> SigningKey | None:
        """The key that signs for a From domain, None where mail goes unsigned."""
        found = self.nearest(name)
        return found.key if found else None

    def require(self, name: str) -> None:
        """Refused with SENDER_NOT_ALLOWED where the domain demands a signature and has no key."""
        found = self.nearest(name)
        if found is not None and found.require_dkim and found.key is None:
            raise Refused(
                Reason.SENDER_NOT_ALLOWED,
                f"The domain {found.name} requires a DKIM signature and has no signing key.",
                param="from",
            )
