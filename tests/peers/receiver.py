"""What the mail servers of these tests have in common: a certificate, and a mailbox of files."""

from pathlib import Path
from typing import Protocol, Self

import trustme

from tests.peers.process import wait_until


class Receiver(Protocol):
    """A mail server that keeps what it takes. `port` speaks SMTP, and STARTTLS; `ca_file` is the certificate that a
    client has to trust for 127.0.0.1 and mx.example.net."""

    port: int

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    @property
    def ca_file(self) -> Path: ...

    def messages(self) -> list[bytes]:
        """What arrived, oldest first, lines ended by LF."""
        ...

    def log(self) -> str: ...


def write_certificate(directory: Path) -> None:
    """ca.pem, cert.pem (the whole chain) and key.pem."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(directory / "ca.pem"))
    issued = authority.issue_cert("127.0.0.1", "localhost", "mx.example.net")
    (directory / "cert.pem").write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
    issued.private_key_pem.write_to_path(str(directory / "key.pem"))


def read_maildir(directory: Path) -> list[bytes]:
    files = [(path.stat().st_mtime_ns, path) for path in (directory / "new").glob("*")]
    return [path.read_bytes() for _, path in sorted(files)]


def wait_for(receiver: Receiver, count: int, timeout_s: float = 60.0) -> list[bytes]:
    """Wait for so many messages in the mailbox."""
    wait_until(lambda: len(receiver.messages()) >= count, f"{count} messages\n{receiver.log()[-3000:]}", timeout_s)
    return receiver.messages()
