"""The hosts of the five vendors, on this machine: a daemon with HTTPS on port 443 under their names, and what their
clients need to find and trust it.

Clients run in a mount namespace of their own whose /etc/hosts has the names; a runtime learns of the test's CA by its
own environment variable. Nothing of the machine changes. The daemon's next hop is the recording sink.
"""

import email
import email.message
import email.policy
import os
import random
import socket
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import trustme

from tests.peers.daemon import Daemon, relay_to
from tests.peers.process import missing, require
from tests.peers.sink import Sink, Transaction

HOSTNAME: Final = "mail.yourdomain.com"  # the daemon's own; the `server` of Overton's examples
GUIDE: Final = "api.yourdomain.com"  # the guide's example names no host
HOSTS: Final = ("smtpapi.mxroute.com", "api.cloudmails.eu", "smtp.sendmux.ai", "api.i-as.dev", GUIDE)
KEY: Final = "smx_mbx_key_for_all_examples_1"  # one key for every dialect; the prefix is what Sendmux's SDK asks for
PORT: Final = 443
_TIMEOUT_S: Final = 60


@dataclass(frozen=True, slots=True)
class Mail:
    """What arrived at the next hop."""

    sender: str
    recipients: list[str]
    message: email.message.EmailMessage

    @property
    def text(self) -> str | None:
        return self._body("plain")

    @property
    def html(self) -> str | None:
        return self._body("html")

    def header(self, name: str) -> str:
        """A header field as people read it; KeyError where it is missing."""
        return str(self.message[name]) if name in self.message else _no_field(name)

    def id(self, prefix: str) -> str:
        """The message's id as a dialect shows it, made from its Message-ID by nobody but this test."""
        number = int(self.header("Message-ID").strip("<>").partition("@")[0].replace("-", ""), 16)
        free = (number >> 80) << 74 | (number >> 64 & 0xFFF) << 62 | number & (1 << 62) - 1
        digits = ""
        for _ in range(24):
            free, digit = divmod(free, 36)
            digits = "0123456789abcdefghijklmnopqrstuvwxyz"[digit] + digits
        return prefix + digits

    def _body(self, kind: str) -> str | None:
        part = self.message.get_body((kind,))
        return str(part.get_content()).replace("\r\n", "\n").rstrip("\n") if part is not None else None


class Vendors:
    """`with Vendors(directory) as vendors`: a running daemon with the names of HOSTS.

    `settings` are put over what all examples need: one key, and a relay to `sink`. `certificate` is that of all
    names and of localhost, by the CA of `ca_file`. The end fails where mail arrived that no test asked for.
    """

    def __init__(self, directory: Path, settings: Mapping[str, Any] | None = None) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.address = _free_address()
        self.sink = Sink()
        self.ca_file = directory / "ca.pem"
        self.certificate = {name: directory / f"{name}.pem" for name in ("certificate", "key")}
        self._write_certificate()
        self._prefix = self._namespace()
        self._given = dict(settings or {})
        self._taken = 0

    def __enter__(self) -> Self:
        self.sink.__enter__()
        self.daemon = Daemon(
            self.directory / "gateway",
            self._settings() | self._given,
            environment={"SSL_CERT_FILE": str(self.ca_file)},
        )
        try:
            self.daemon.start()
        except BaseException:
            self.sink.__exit__()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                assert self.daemon.stop() == 0, self.daemon.tail()
                assert len(self.sink.transactions) == self._taken, self.sink.transactions[self._taken :]
        finally:
            self.daemon.__exit__()
            self.sink.__exit__()

    def run(self, *command: str, environment: Mapping[str, str] | None = None) -> "subprocess.CompletedProcess[str]":
        """Run a client where the vendors' names are ours; fails where the client does not end well."""
        done = subprocess.run(
            [*self._prefix, *command],
            cwd=self.directory,
            env=os.environ | self._trust() | dict(environment or {}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
        assert done.returncode == 0, f"exit code {done.returncode}: {done.stdout}{done.stderr}"
        return done

    def arrived(self, count: int = 1) -> list[Mail]:
        """Wait for the next so many messages at the next hop, in the order they came."""
        found = self.sink.wait_for(self._taken + count)[self._taken :]
        assert len(found) == count, found
        self._taken += count
        return [_read(transaction) for transaction in found]

    def _trust(self) -> dict[str, str]:
        """The test's CA, by the names that curl, requests, Node and Go know."""
        names = ("CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE")
        return dict.fromkeys(names, str(self.ca_file))

    def _settings(self) -> dict[str, Any]:
        secret = self.directory / "examples.key"
        secret.write_text(KEY)
        secret.chmod(0o600)
        key = {"secret": {"file": str(secret)}, "account": "app", "default_from": "sender@yourdomain.com"}
        return {
            "hostname": HOSTNAME,
            "tls": {name: str(path) for name, path in self.certificate.items()},
            "http": {"listeners": [{"listen": f"{self.address}:{PORT}", "tls": "implicit"}], "admin": "off"},
            "keys": {"app": key},
        } | relay_to(self.sink.port)

    def _write_certificate(self) -> None:
        ca = trustme.CA()
        issued = ca.issue_cert(*HOSTS, "localhost")
        ca.cert_pem.write_to_path(str(self.ca_file))
        issued.cert_chain_pems[0].write_to_path(str(self.certificate["certificate"]))
        issued.private_key_pem.write_to_path(str(self.certificate["key"]))
        self.certificate["key"].chmod(0o600)

    def _namespace(self) -> list[str]:
        """The command that runs another one with our /etc/hosts."""
        hosts = self.directory / "hosts"
        hosts.write_text(f"127.0.0.1 localhost\n{self.address} {' '.join(HOSTS)}\n")
        mapped = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
        mount = 'mount --bind "$0" /etc/hosts && exec "$@"'
        prefix = [require("unshare"), "--mount", *mapped, "sh", "-c", mount, str(hosts)]
        done = subprocess.run([*prefix, "true"], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            missing(f"no mount namespace can be made here: {done.stderr.strip()}")
        return prefix


def _free_address() -> str:
    """A loopback address whose port 443 is free."""
    address = f"127.{random.randrange(1, 255)}.{random.randrange(256)}.{random.randrange(1, 255)}"
    with socket.socket() as sock:
        try:
            sock.bind((address, PORT))
        except OSError as error:
            missing(f"port {PORT} of {address} cannot be had: {error.strerror}")
    return address


def _read(transaction: Transaction) -> Mail:
    message = email.message_from_bytes(transaction.content, policy=email.policy.default)
    assert isinstance(message, email.message.EmailMessage)
    return Mail(transaction.sender, sorted(transaction.recipients), message)


def _no_field(name: str) -> str:
    raise KeyError(name)
