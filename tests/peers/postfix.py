"""Postfix as a real peer: a private instance with its own configuration, queue, log and mailboxes.

Root is needed: Postfix drops to its own user. Nothing of the machine's own Postfix is read or changed.
"""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import trustme

from tests.peers import process
from tests.peers.process import free_port, listens, require, wait_until

USER, PASSWORD = "relay-user", "relay-password"
_REALM = "postfix.test"
_DAEMONS = ("/usr/lib/postfix/sbin", "/usr/libexec/postfix", "/usr/lib/postfix")

_MASTER = """\
127.0.0.1:{port} inet n - n - - smtpd
127.0.0.1:{tls_port} inet n - n - - smtpd -o smtpd_tls_wrappermode=yes
pickup    unix  n - n 60 1 pickup
cleanup   unix  n - n - 0 cleanup
qmgr      unix  n - n 300 1 qmgr
tlsmgr    unix  - - n 1000? 1 tlsmgr
rewrite   unix  - - n - - trivial-rewrite
bounce    unix  - - n - 0 bounce
defer     unix  - - n - 0 bounce
trace     unix  - - n - 0 bounce
flush     unix  n - n 1000? 0 flush
proxymap  unix  - - n - - proxymap
smtp      unix  - - n - - smtp
relay     unix  - - n - - smtp
error     unix  - - n - - error
retry     unix  - - n - - error
virtual   unix  - n n - - virtual
anvil     unix  - - n - 1 anvil
scache    unix  - - n - 1 scache
postlog   unix-dgram n - n - 1 postlogd
"""


class Postfix:
    """`with Postfix() as postfix`: an instance that takes mail on `port` for every domain of `domains`, and on
    `tls_port` with TLS from the first byte.

    Mail arrives in one Maildir; `messages()` reads it back. `settings` are further lines of main.cf. With
    `submission` the port asks for STARTTLS and AUTH (USER, PASSWORD), with a certificate of `ca` for
    127.0.0.1.
    """

    def __init__(
        self,
        *,
        domains: tuple[str, ...] = ("example.net",),
        submission: bool = False,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.port, self.tls_port = free_port(), free_port()
        self.domains = domains
        self.submission = submission
        self.settings = dict(settings or {})
        self.ca = trustme.CA()
        self._postfix = require("postfix")
        if os.geteuid() != 0:
            process.missing("a private Postfix needs root")
        # Not under pytest's own directory: that is closed to all but its owner, and Postfix changes its user.
        self.directory = Path(tempfile.mkdtemp(prefix="pf"))

    def __enter__(self) -> Self:
        try:
            self._write()
            self._command("start")
            wait_until(lambda: listens(self.port), f"Postfix listens: {self.log()[-2000:]}")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if (self.directory / "queue/pid/master.pid").exists():
            subprocess.run([self._postfix, "-c", str(self.directory), "stop"], capture_output=True, check=False)
        shutil.rmtree(self.directory, ignore_errors=True)

    @property
    def ca_file(self) -> Path:
        """The certificate a client has to trust."""
        return self.directory / "ca.pem"

    @property
    def pids(self) -> list[int]:
        """All of its processes."""
        return process.descendants(int((self.directory / "queue/pid/master.pid").read_text()))

    def log(self) -> str:
        path = self.directory / "maillog"
        return path.read_text(errors="replace") if path.exists() else ""

    def messages(self) -> list[bytes]:
        """What arrived, oldest first, lines ended by LF as Postfix stores them."""
        files = (self.directory / "mail/new").glob("*")
        return [path.read_bytes() for path in sorted(files, key=lambda path: path.stat().st_mtime_ns)]

    def wait_for(self, count: int, timeout_s: float = 60.0) -> list[bytes]:
        """Wait for so many messages in the mailbox."""
        wait_until(lambda: len(self.messages()) >= count, f"{count} messages\n{self.log()[-3000:]}", timeout_s)
        return self.messages()

    def _command(self, verb: str) -> None:
        done = subprocess.run(
            [self._postfix, "-c", str(self.directory), verb], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"postfix {verb}: {done.stderr}{self.log()}"

    def _write(self) -> None:
        owner = pwd.getpwnam("postfix")
        self.directory.chmod(0o755)
        for name in ("queue", "data", "mail"):
            (self.directory / name).mkdir()
        for name in ("data", "mail"):
            os.chown(self.directory / name, owner.pw_uid, owner.pw_gid)
        self._write_certificate()
        if self.submission:
            self._write_sasl(owner.pw_uid)
        (self.directory / "main.cf").write_text("".join(f"{k} = {v}\n" for k, v in self._main(owner).items()))
        (self.directory / "master.cf").write_text(_MASTER.format(port=self.port, tls_port=self.tls_port))

    def _main(self, owner: pwd.struct_passwd) -> dict[str, str]:
        here = self.directory
        main = {
            "compatibility_level": "3.6",
            "queue_directory": str(here / "queue"),
            "data_directory": str(here / "data"),
            "daemon_directory": next(path for path in _DAEMONS if Path(path, "master").exists()),
            "maillog_file": str(here / "maillog"),
            "maillog_file_prefixes": str(here),
            "myhostname": _REALM,
            "mydestination": "",
            "inet_interfaces": "127.0.0.1",
            "inet_protocols": "ipv4",
            "mynetworks": "127.0.0.0/8",
            "smtpd_peername_lookup": "no",
            "smtpd_relay_restrictions": "permit_sasl_authenticated, reject_unauth_destination",
            "virtual_mailbox_domains": ", ".join(self.domains),
            "virtual_mailbox_maps": "static:./",
            "virtual_mailbox_base": str(here / "mail"),
            "virtual_uid_maps": f"static:{owner.pw_uid}",
            "virtual_gid_maps": f"static:{owner.pw_gid}",
            "virtual_mailbox_limit": "0",
            "message_size_limit": "50000000",
            "smtpd_tls_security_level": "encrypt" if self.submission else "may",
            "smtpd_tls_chain_files": str(here / "chain.pem"),
            "smtpd_tls_auth_only": "yes",
            "smtpd_tls_received_header": "yes",
        }
        if self.submission:
            main |= {
                "smtpd_sasl_auth_enable": "yes",
                "smtpd_sasl_type": "cyrus",
                "smtpd_sasl_path": "smtpd",
                "smtpd_sasl_local_domain": _REALM,
                "smtpd_sasl_authenticated_header": "yes",
                "cyrus_sasl_config_path": str(here / "sasl"),
                "smtpd_client_restrictions": "permit_sasl_authenticated, reject",
            }
        return main | self.settings

    def _write_certificate(self) -> None:
        self.ca.cert_pem.write_to_path(str(self.ca_file))
        chain = self.directory / "chain.pem"
        issued = self.ca.issue_cert("127.0.0.1", "localhost", "mx.example.net")
        issued.private_key_and_cert_chain_pem.write_to_path(str(chain))
        chain.chmod(0o600)

    def _write_sasl(self, uid: int) -> None:
        sasl = self.directory / "sasl"
        sasl.mkdir()
        database = sasl / "sasldb2"
        (sasl / "smtpd.conf").write_text(
            f"pwcheck_method: auxprop\nauxprop_plugin: sasldb\nmech_list: PLAIN LOGIN\nsasldb_path: {database}\n"
        )
        subprocess.run(
            [require("saslpasswd2"), "-p", "-c", "-f", str(database), "-u", _REALM, USER],
            input=PASSWORD.encode(),
            check=True,
            capture_output=True,
        )
        os.chown(database, uid, -1)
