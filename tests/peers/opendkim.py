"""Second opinions on a DKIM signature: dkimpy and OpenDKIM, fed with the public key instead of DNS."""

import subprocess
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import dkim

from tests.peers.process import require

Verify = Callable[[bytes, Mapping[str, str]], bool]


def verify_dkimpy(message: bytes, txt: Mapping[str, str]) -> bool:
    """Whether dkimpy verifies the (first) signature. `txt` maps record names, without a final dot, to
    values."""

    def lookup(name: bytes, timeout: int = 5) -> bytes | None:
        value = txt.get(name.decode().rstrip("."))
        return value.encode() if value is not None else None

    return bool(dkim.verify(message, dnsfunc=lookup))


def verify_opendkim(message: bytes, txt: Mapping[str, str]) -> bool:
    """Whether OpenDKIM verifies the signature; its words are in the AssertionError where it does not run
    at all."""
    with tempfile.TemporaryDirectory(prefix="od") as name:
        directory = Path(name)
        # OpenDKIM in test mode takes a message as a mail filter would see it: lines ended by LF or CRLF.
        (directory / "message").write_bytes(message)
        (directory / "keys").write_text("".join(f"{record} {value}\n" for record, value in txt.items()))
        config = directory / "opendkim.conf"
        config.write_text(f"TestPublicKeys {directory / 'keys'}\nMode v\nSyslog no\n")
        done = subprocess.run(
            [require("opendkim"), "-x", str(config), "-t", str(directory / "message"), "-v"],
            capture_output=True,
            text=True,
            check=False,
        )
    assert "verification (" in done.stdout or "not signed" in done.stdout, f"OpenDKIM fails: {done}"
    return done.returncode == 0 and done.stdout.strip().endswith(") succeeded")


def verify(message: bytes, txt: Mapping[str, str]) -> bool:
    """Whether both say yes."""
    return verify_dkimpy(message, txt) and verify_opendkim(message, txt)
