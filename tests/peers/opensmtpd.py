"""OpenSMTPD as a real peer: Debian's, unpacked, with a configuration, queue, log and mailbox of its own.

Its paths are compiled in: it runs where others lie there. It needs root.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Self

from tests.peers import receiver, unpacked
from tests.peers.postfix import PASSWORD, USER
from tests.peers.process import free_port, listens, require, wait_until

# Of Debian 13: the one of Debian 12 fails in every TLS handshake, since it knows nothing of OpenSSL 3.
_PACKAGES: Final = (
    *("opensmtpd", "libc6", "libssl3t64", "libevent-2.1-7t64", "libdb5.3t64", "libcrypt1", "libpam0g", "zlib1g"),
    *("libzstd1", "libaudit1", "libcap-ng0"),
)
_USERS: Final = ("opensmtpd", "opensmtpq", "vmail")  # the first two are compiled in

_CONFIGURATION: Final = """\
pki peer cert "{here}/cert.pem"
pki peer key "{here}/key.pem"
table users file:{here}/users
table everybody {{ "@" = "vmail" }}
smtp max-message-size 50M
listen on 127.0.0.1 port {port} {tls} pki peer hostname mx.example.net {auth}
listen on 127.0.0.1 port {tls_port} smtps pki peer hostname mx.example.net {auth}
action "keep" maildir "{here}/mail" virtual <everybody>
{onward}match {who} from any for any action "keep"
"""


_ONWARD: Final = """\
action "to {port}" relay host "smtp://127.0.0.1:{port}"
match from any for domain "{domain}" action "to {port}"
"""


class OpenSmtpd:
    """`with OpenSmtpd() as opensmtpd`: takes all mail on `port` (STARTTLS offered) and `tls_port` (TLS from the first
    byte).

    With `submission` it takes it only over TLS, from those who have logged in (USER, PASSWORD). Mail for a domain of
    `onward` goes on to that port.
    """

    def __init__(self, *, submission: bool = False, onward: Mapping[str, int] | None = None) -> None:
        self.onward = dict(onward or {})
        self.port, self.tls_port = free_port(), free_port()
        self.submission = submission
        self._root = unpacked.tree(*_PACKAGES, suite="trixie")
        # Not under pytest's own directory: that is closed to all but its owner, and OpenSMTPD changes its user.
        self.directory = Path(tempfile.mkdtemp(prefix="osmtpd"))
        self._log = self.directory / "log"
        self._server = unpacked.Server(self._root, users=_USERS, log=self._log)

    def __enter__(self) -> Self:
        try:
            self._write()
            command = [str(self._root / "usr/sbin/smtpd"), "-d", "-f", str(self.directory / "smtpd.conf")]
            binds = {
                self._root / "usr/libexec": "/usr/libexec",
                self.directory / "lib": "/var/lib",
                self.directory / "spool": "/var/spool",
                self.directory / "run": "/run",
            }
            self._server.start(self.directory, command, binds)
            wait_until(lambda: listens(self.port) or not self._server.running, "OpenSMTPD listens")
            assert self._server.running, self.log()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    @property
    def ca_file(self) -> Path:
        return self.directory / "ca.pem"

    def messages(self) -> list[bytes]:
        return receiver.read_maildir(self.directory / "mail")

    def log(self) -> str:
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def _write(self) -> None:
        here = self.directory
        here.chmod(0o755)
        receiver.write_certificate(here)
        (here / "key.pem").chmod(0o600)
        (here / "smtpd.conf").write_text(
            _CONFIGURATION.format(
                here=here,
                port=self.port,
                tls_port=self.tls_port,
                tls="tls-require" if self.submission else "tls",
                auth="auth <users>" if self.submission else "",
                onward="".join(_ONWARD.format(domain=name, port=port) for name, port in self.onward.items()),
                who="auth" if self.submission else "",
            )
        )
        (here / "users").write_text(f"{USER} {_crypted(PASSWORD)}\n")
        for name in ("lib/opensmtpd/empty", "spool/smtpd", "run", "mail"):
            (here / name).mkdir(parents=True)
        (here / "spool/smtpd").chmod(0o711)
        os.chown(here / "mail", self._server.uids["vmail"], self._server.uids["vmail"])


def _crypted(password: str) -> str:
    done = subprocess.run([require("openssl"), "passwd", "-6", password], capture_output=True, text=True, check=True)
    return done.stdout.strip()
