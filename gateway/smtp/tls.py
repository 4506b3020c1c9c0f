"""The server's side of TLS: contexts from the configured certificate, renewed when its files change.

Guarantees: a certificate that cannot be used never replaces one that can; sessions under way are not touched.
It does not ask who signed the certificate or when it ends.
"""

import logging
import ssl
import warnings
from pathlib import Path
from typing import Final

from gateway.config import Tls
from gateway.errors import ConfigError, Problem

_VERSIONS: Final = {
    "1.0": ssl.TLSVersion.TLSv1,
    "1.1": ssl.TLSVersion.TLSv1_1,
    "1.2": ssl.TLSVersion.TLSv1_2,
    "1.3": ssl.TLSVersion.TLSv1_3,
}
_OLD: Final = frozenset({"1.0", "1.1"})

log = logging.getLogger("gateway.smtp")


class ServerTls:
    """The certificate of the listeners, and one context for each minimum version asked for."""

    def __init__(self, tls: Tls, data_dir: Path) -> None:
        self._certificate = data_dir / tls.certificate
        self._key = data_dir / tls.key
        self._contexts: dict[str, ssl.SSLContext] = {}
        self._stamp = self._read_stamp()

    def context(self, min_tls: str) -> ssl.SSLContext:
        """The context for a minimum version ("1.0" to "1.3"). Raises ConfigError."""
        context = self._contexts.get(min_tls)
        if context is None:
            context = _context(min_tls)
            try:
                context.load_cert_chain(self._certificate, self._key)
            except (OSError, ValueError) as error:
                text = f"{self._certificate} with {self._key} cannot be used: {_why(error)}"
                raise ConfigError([Problem("tls.certificate", text)]) from error
            self._contexts[min_tls] = context
        return context

    def refresh(self) -> bool:
        """Load the certificate again if its files changed; True if it was. New handshakes use it."""
        stamp = self._read_stamp()
        if stamp == self._stamp:
            return False
        try:
            # A renewal replaces two files, one after the other: half of it must not get into a context in
            # use.
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(self._certificate, self._key)
            for context in self._contexts.values():
                context.load_cert_chain(self._certificate, self._key)
        except (OSError, ValueError) as error:
            log.warning("the changed certificate %s cannot be used yet: %s", self._certificate, _why(error))
            return False
        self._stamp = stamp
        return True

    def _read_stamp(self) -> tuple[tuple[int, int, int] | None, ...]:
        return tuple(_stamp(path) for path in (self._certificate, self._key))


def _context(min_tls: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    # libESMTP waits for ever where tickets come before its EHLO.
    context.num_tickets = 0
    with warnings.catch_warnings():
        # The operator asked for an old version by name, for devices that know no other.
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = _VERSIONS[min_tls]
    if min_tls in _OLD:
        # OpenSSL 3 allows SHA-1 signatures, which these versions need, at this level only.
        context.set_ciphers("DEFAULT:@SECLEVEL=0")
    return context


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino, status.st_size


def _why(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
