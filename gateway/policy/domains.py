"""The sending domains: which keys sign for a From domain, where unsigned mail is refused, where bounces go."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from gateway.config import Signing
from gateway.errors import Reason, Refused
from gateway.message.dkim import PrivateKey

_NONE: Final = Signing.NONE  # looked up once: a member of an enumeration costs a tenth of a microsecond
_BOTH: Final = Signing.RSA_AND_ED25519


@dataclass(frozen=True, slots=True)
class SigningKey:
    """Signs as `d=domain; s=selector`."""

    domain: str
    selector: str
    private: PrivateKey


@dataclass(frozen=True, slots=True)
class SendingDomain:
    """A domain as configured or stored, with the keys that sign now.

    `key` is RSA, None where there is none yet; `ed25519` stands beside it and never alone.
    """

    name: str
    require_dkim: bool
    key: SigningKey | None
    ed25519: SigningKey | None = None
    return_path: str | None = None  # the domain of the envelope senders of its mail; None: they stay


class Domains:
    """All sending domains in memory; a subdomain is served by the nearest parent that is configured."""

    def __init__(self) -> None:
        self._domains: dict[str, SendingDomain] = {}
        self._has_return_paths = False
        self.return_paths: frozenset[str] = frozenset()  # the domains that mail comes back to

    def load(self, domains: Iterable[SendingDomain]) -> None:
        self._domains = {domain.name: domain for domain in domains}
        self.return_paths = frozenset(one.return_path for one in self._domains.values() if one.return_path)
        self._has_return_paths = bool(self.return_paths)

    def nearest(self, name: str) -> SendingDomain | None:
        """The domain itself, or the nearest of its parents."""
        while name:
            if (found := self._domains.get(name)) is not None:
                return found
            name = name.partition(".")[2]
        return None

    def signing_keys(self, name: str, signing: Signing) -> tuple[SigningKey, ...]:
        """The keys that sign for a From domain on a route that signs so: RSA first, none where mail goes unsigned."""
        found = self._signer(name)
        if found is None or found.key is None or signing is _NONE:
            return ()
        if found.ed25519 is not None and signing is _BOTH:
            return (found.key, found.ed25519)
        return (found.key,)

    def return_path(self, name: str) -> str | None:
        """The domain of envelope senders for a From domain: that of the nearest domain that has one, None without."""
        found = self.nearest(name) if self._has_return_paths else None
        while found is not None and found.return_path is None:
            found = self.nearest(found.name.partition(".")[2])
        return found.return_path if found is not None else None

    def require(self, name: str) -> None:
        """Refused with SENDER_NOT_ALLOWED where the domain demands a signature and nothing signs for it."""
        found = self.nearest(name)
        if found is not None and found.require_dkim and self._signer(name) is None:
            raise Refused(
                Reason.SENDER_NOT_ALLOWED,
                f"The domain {found.name} requires a DKIM signature and has no signing key.",
                param="from",
            )

    def _signer(self, name: str) -> SendingDomain | None:
        """The nearest domain with a key: its signature is aligned with the From domain (RFC 7489, 3.1.1, relaxed)."""
        found = self.nearest(name)
        while found is not None and found.key is None:
            found = self.nearest(found.name.partition(".")[2])
        return found
