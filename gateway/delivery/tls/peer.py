"""The certificates that a host has shown in its handshake, as they came: nothing about them is verified."""

import _ssl
import ssl
from collections.abc import Callable
from typing import Any, cast


def chain(encryption: ssl.SSLObject) -> list[bytes]:
    """In DER, the host's own first."""
    public: Callable[[], list[bytes]] | None = getattr(encryption, "get_unverified_chain", None)  # from Python 3.13
    if public is not None:
        return list(public() or ())
    shown = cast(Any, encryption)._sslobj.get_unverified_chain()  # noqa: SLF001 - all that 3.11 and 3.12 have
    return [certificate.public_bytes(_ssl.ENCODING_DER) for certificate in shown or ()]
