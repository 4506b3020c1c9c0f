"""The certificate of a door's listeners: contexts for TLS from its two files, made anew when these change.

Guarantees: a certificate that cannot be used never replaces one that can; a context that was given out is not changed,
so sessions under way go on, and nothing of an old certificate is left in a new context; nobody is asked for a
passphrase. It does not ask who signed the certificate or when it ends.
"""

import logging
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from gateway.config import Tls
from gateway.errors import ConfigError, Problem

_Stamp = tuple[int, int, int] | None


class ServerCertificate:
    """The newest pair of files that can be used. `make` gives a context without a certificate, for the lowest
    version that it takes; `logger` is the name under which a change is told."""

    def __init__(self, tls: Tls, make: Callable[[ssl.TLSVersion], ssl.SSLContext], *, logger: str) -> None:
        self._tls = tls
        self._make = make
        self._log = logging.getLogger(logger)
        self._contexts: dict[ssl.TLSVersion, ssl.SSLContext] = {}
        self._used = self._seen = self._stamps()

    def context(self, lowest: ssl.TLSVersion) -> ssl.SSLContext:
        """The context for a lowest version, the same until `refresh` finds other files. Raises ConfigError."""
        context = self._contexts.get(lowest)
        if context is None:
            try:
                context = self._contexts[lowest] = self._loaded(lowest)
            except (OSError, ValueError) as error:
                text = f"{self._tls.certificate} with {self._tls.key} cannot be used: {_why(error)}"
                raise ConfigError([Problem("tls.certificate", text)]) from error
        return context

    def refresh(self) -> bool:
        """Read the files again if they changed; True if they did and `context` gives others from now on. What cannot be
        used yet (half of a renewal) is told once, and looked at again the next time."""
        before, self._seen = self._seen, self._stamps()
        if self._seen == self._used or not self._contexts:
            return False
        try:
            # New ones: a context has a place for each kind of key, and a certificate that is loaded fills its own only.
            self._contexts = {lowest: self._loaded(lowest) for lowest in self._contexts}
        except (OSError, ValueError) as error:
            if self._seen != before:
                text = "the changed certificate %s cannot be used yet: %s"
                self._log.warning(text, self._tls.certificate, _why(error))
            return False
        self._used = self._seen
        self._log.info("the changed certificate %s is used from now on", self._tls.certificate)
        return True

    def _loaded(self, lowest: ssl.TLSVersion) -> ssl.SSLContext:
        context = self._make(lowest)
        load(context, self._tls)
        return context

    def _stamps(self) -> tuple[_Stamp, _Stamp]:
        return _stamp(self._tls.certificate), _stamp(self._tls.key)


def load(context: ssl.SSLContext, tls: Tls) -> None:
    """Put a certificate and its key into a context. Raises OSError (ssl.SSLError is one), ValueError."""
    # Without the callable OpenSSL would ask on the terminal, and wait.
    context.load_cert_chain(tls.certificate, tls.key, password=_no_passphrase)


def _no_passphrase() -> NoReturn:
    raise ValueError("the key is encrypted; store it without a passphrase")


def _stamp(path: Path) -> _Stamp:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino, status.st_size


def _why(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
