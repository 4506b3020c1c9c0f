"""What TLS to a next hop is made with: one context for each way of verifying, lowest version and client certificate.

Guarantees: no version below the one asked for; a context is made once, outside the loop, and again when the files of
its certificates have changed. It does not connect (session.py) and knows no policy (tls_policy.py).
"""

import asyncio
import ssl
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

from gateway.config import Tls

_VERSIONS: Final = {
    "1.0": ssl.TLSVersion.TLSv1,
    "1.1": ssl.TLSVersion.TLSv1_1,
    "1.2": ssl.TLSVersion.TLSv1_2,
    "1.3": ssl.TLSVersion.TLSv1_3,
}
_OLD: Final = frozenset({"1.0", "1.1"})

Stamp = tuple[tuple[int, int, int] | None, ...]


@dataclass(frozen=True, slots=True)
class Terms:
    """What a handshake needs. `ca` None: the system's authorities; `certificate`: ours, for a host that asks."""

    verify: bool
    ca: Path | None = None
    min_tls: str = "1.2"
    certificate: Tls | None = None


_KNOWN: Final[dict[Terms, tuple[ssl.SSLContext, Stamp]]] = {}  # a few for each route


async def context(terms: Terms) -> ssl.SSLContext:
    """The context for these terms. Raises OSError (ssl.SSLError is one) where a file cannot be used."""
    stamp = _stamp(terms)
    known = _KNOWN.get(terms)
    if known is not None and known[1] == stamp:
        return known[0]
    # Reading the system's certificates takes 20 ms: not in the loop.
    made = await asyncio.to_thread(_make, terms)
    _KNOWN[terms] = (made, stamp)
    return made


def _make(terms: Terms) -> ssl.SSLContext:
    if terms.verify:
        made = ssl.create_default_context(cafile=str(terms.ca) if terms.ca else None)
        made.hostname_checks_common_name = False  # RFC 8461, 4.1; RFC 9525, 2: names are in subjectAltName
    else:
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
        # Any certificate is better than none (RFC 7435, 3). Level 2 refuses keys below 2048 bits, and the mail would
        # go in clear.
        made.set_ciphers("DEFAULT:@SECLEVEL=1")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the operator asked for an old version by name
        made.minimum_version = _VERSIONS[terms.min_tls]
    if terms.min_tls in _OLD:
        made.set_ciphers("DEFAULT:@SECLEVEL=0")  # OpenSSL 3 allows the signatures of these versions at no other level
    if terms.certificate is not None:
        made.load_cert_chain(terms.certificate.certificate, terms.certificate.key, password=_no_passphrase)
    return made


def _no_passphrase() -> NoReturn:
    """OpenSSL would ask on the terminal."""
    raise OSError("the key is encrypted")


def _stamp(terms: Terms) -> Stamp:
    paths = [terms.ca] if terms.ca else []
    if terms.verify and not terms.ca and (bundle := ssl.get_default_verify_paths().cafile):
        paths.append(Path(bundle))  # the system's, or what SSL_CERT_FILE in the environment names
    if terms.certificate is not None:
        paths += [terms.certificate.certificate, terms.certificate.key]
    return tuple([_of_file(path) for path in paths])


def _of_file(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino, status.st_size
