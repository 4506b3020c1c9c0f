"""The server's side of TLS: what a handshake of a listener is made with, but for the certificate (certificates.py)."""

import ssl
import warnings
from typing import Final

VERSIONS: Final = {
    "1.0": ssl.TLSVersion.TLSv1,
    "1.1": ssl.TLSVersion.TLSv1_1,
    "1.2": ssl.TLSVersion.TLSv1_2,
    "1.3": ssl.TLSVersion.TLSv1_3,
}
_OLD: Final = frozenset({ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1})


def make_context(lowest: ssl.TLSVersion) -> ssl.SSLContext:
    """A context without a certificate, for a lowest version."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    # libESMTP waits for ever where tickets come before its EHLO.
    context.num_tickets = 0
    with warnings.catch_warnings():
        # The operator asked for an old version by name, for devices that know no other.
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = lowest
    if lowest in _OLD:
        # OpenSSL 3 allows SHA-1 signatures, which these versions need, at this level only.
        context.set_ciphers("DEFAULT:@SECLEVEL=0")
    return context
