"""Exim as a real peer: Debian's, unpacked, with a configuration, queue, log and mailbox of its own. It needs root."""

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Self

from tests.peers import receiver, unpacked
from tests.peers.postfix import PASSWORD, USER
from tests.peers.process import free_port, listens, wait_until

_PACKAGES: Final = (
    *("exim4-daemon-light", "libdb5.3", "libidn12", "libidn2-0", "libnsl2", "libtirpc3", "libgnutls30"),
    *("libgnutls-dane0", "libunbound8", "libevent-2.1-7", "libpcre2-8-0", "libgssapi-krb5-2", "libkrb5-3"),
    *("libk5crypto3", "libkrb5support0", "libcom-err2", "libkeyutils1"),
)
_USER: Final = "Debian-exim"  # compiled in

_ROUTER: Final = """\
to_{port}:
  driver = manualroute
  domains = {domain}
  route_list = * 127.0.0.1::{port}
  self = send
  transport = onward
"""
_CONFIGURATION: Final = """\
exim_path = {exim}
spool_directory = {here}/spool
log_file_path = {here}/exim-%s.log
log_selector = +smtp_protocol_error +smtp_syntax_error +incoming_port
primary_hostname = mx.example.net
never_users =
keep_environment =
add_environment = LD_LIBRARY_PATH={here}/lib
deliver_drop_privilege
local_interfaces = 127.0.0.1
daemon_smtp_ports = {port} : {tls_port}
tls_on_connect_ports = {tls_port}
tls_advertise_hosts = *
tls_certificate = {here}/cert.pem
tls_privatekey = {here}/key.pem
tls_require_ciphers = NORMAL
smtputf8_advertise_hosts = *
host_lookup =
rfc1413_hosts =
rfc1413_query_timeout = 0s
smtp_enforce_sync = true
smtp_accept_max = 100
smtp_accept_queue = 0
smtp_accept_queue_per_connection = 0
message_size_limit = 50M
delivery_date_remove = false
envelope_to_remove = false
return_path_remove = false
acl_smtp_rcpt = rcpt
acl_smtp_data = accept

begin acl
rcpt:
  accept {who}
  deny

begin routers
{routers}
all:
  driver = accept
  transport = mailbox

begin transports
onward:
  driver = smtp
  allow_localhost
  hosts_try_fastopen =
  tls_verify_certificates =

mailbox:
  driver = appendfile
  directory = {here}/mail
  maildir_format
  create_directory

begin retry
* * F,1h,1m

begin authenticators
PLAIN:
  driver = plaintext
  public_name = PLAIN
  server_prompts = :
  server_condition = ${{if and{{{{eq{{$auth2}}{{{user}}}}}{{eq{{$auth3}}{{{password}}}}}}}}}
  server_set_id = $auth2
  server_advertise_condition = ${{if def:tls_in_cipher}}
LOGIN:
  driver = plaintext
  public_name = LOGIN
  server_prompts = <| Username: | Password:
  server_condition = ${{if and{{{{eq{{$auth1}}{{{user}}}}}{{eq{{$auth2}}{{{password}}}}}}}}}
  server_set_id = $auth1
  server_advertise_condition = ${{if def:tls_in_cipher}}
"""


class Exim:
    """`with Exim() as exim`: takes all mail on `port` (STARTTLS offered) and `tls_port` (TLS from the first byte).

    With `submission` it takes it only from those who have logged in (USER, PASSWORD), and lets them only over TLS. Mail
    for a domain of `onward` goes on to that port.
    """

    def __init__(self, *, submission: bool = False, onward: Mapping[str, int] | None = None) -> None:
        self.onward = dict(onward or {})
        self.port, self.tls_port = free_port(), free_port()
        self.submission = submission
        self._root = unpacked.tree(*_PACKAGES)
        # Not under pytest's own directory: that is closed to all but its owner, and Exim changes its user.
        self.directory = Path(tempfile.mkdtemp(prefix="exim"))
        self._server = unpacked.Server(self._root, users=[_USER], log=self.directory / "out")

    def __enter__(self) -> Self:
        try:
            self._write()
            exim = str(self._root / "usr/sbin/exim4")
            self._server.start(self.directory, [exim, "-C", str(self.directory / "exim.conf"), "-bdf", "-q1h"], {})
            wait_until(lambda: listens(self.port) or not self._server.running, "Exim listens")
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
        paths = [self.directory / "out", *self.directory.glob("exim*.log")]
        return "\n".join(path.read_text(errors="replace") for path in paths if path.exists())

    def _write(self) -> None:
        uid = self._server.uids[_USER]
        self.directory.chmod(0o755)
        receiver.write_certificate(self.directory)
        configuration = self.directory / "exim.conf"
        exim = self._reachable() if self.onward else self._root / "usr/sbin/exim4"
        configuration.write_text(
            _CONFIGURATION.format(
                here=self.directory,
                exim=exim,
                port=self.port,
                tls_port=self.tls_port,
                who="authenticated = *" if self.submission else "",
                routers="".join(_ROUTER.format(domain=name, port=port) for name, port in self.onward.items()),
                user=USER,
                password=PASSWORD,
            )
        )
        for name in ("spool", "mail"):
            (self.directory / name).mkdir()
        for path in (self.directory, *self.directory.glob("*")):
            if path != configuration:
                os.chown(path, uid, uid)

    def _reachable(self) -> Path:
        """A copy of the program with its libraries: what it has to tell a sender it hands to itself, and its user may
        not look where it was unpacked."""
        libraries = self.directory / "lib"
        libraries.mkdir()
        for path in self._root.glob("**/*.so*"):
            if path.is_file():
                shutil.copy(path, libraries / path.name)
        return Path(shutil.copy(self._root / "usr/sbin/exim4", self.directory / "exim4"))
