"""A machine on which the commands of a document run: a daemon, its directories, and mail that waits.

Documents name /etc/mail-gateway and /var/lib/mail-gateway, the default ports, `mgw_...` for a key, `NAME` for the name
of one and `ID` for a message: each stands for something of a directory of our own. Mail of every key is delivered to a
sink; that of `newsletter` waits for a relay that is away.
"""

import contextlib
import os
import re
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from tests.docs.blocks import Block
from tests.peers.client import http_send, message_json
from tests.peers.daemon import ROOT, SECRET, Daemon
from tests.peers.dns import PeerDns, aside
from tests.peers.process import free_port, wait_until
from tests.peers.sink import Sink
from tests.peers.status import status

_STUCK: Final = "another-key-of-thirty-characters"
_STEP_S: Final = 300


class World:
    """`with World(directory) as world: world.run(block)`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._sink = Sink()
        self._admin = free_port()
        self.daemon = Daemon(directory / "etc", {})
        self._away = free_port()
        self._stored = 0
        self._programs = directory / "bin"
        self._peers = contextlib.ExitStack()
        self._place()

    def _place(self) -> None:
        self._programs.mkdir()
        program = self._programs / "mail-gateway"
        program.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m gateway "$@"\n')
        program.chmod(0o755)
        restart = self._programs / "systemctl"
        restart.write_text('#!/bin/sh\ntest "$*" = "restart mail-gateway"  # there is no systemd here\n')
        restart.chmod(0o755)
        (self._directory / "body.txt").write_text("It works.\n")
        for name, text in (("crm", SECRET), ("newsletter", _STUCK)):
            secret = self._directory / f"{name}.key"
            secret.write_text(text)
            secret.chmod(0o600)

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._sink)
            nameserver = stack.enter_context(aside(PeerDns("")))  # nothing is published yet
            self.daemon.write_config(self._settings(str(nameserver.listen)))
            stack.enter_context(self.daemon)
            self._peers = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._peers.__exit__(kind, error, trace)

    def _settings(self, nameserver: str) -> dict[str, Any]:
        keys = {
            "crm": {"secret": {"file": str(self._directory / "crm.key")}, "scopes": ["send", "read", "admin"]},
            "newsletter": {"secret": {"file": str(self._directory / "newsletter.key")}, "route": "ses"},
        }
        sink = {"type": "relay", "host": "127.0.0.1", "port": self._sink.port, "tls": "none"}
        return {
            "hostname": "mail.example.com",
            "http": {
                "listeners": [{"listen": f"127.0.0.1:{self.daemon.http_port}"}],
                "admin": f"127.0.0.1:{self._admin}",
            },
            "dns": {"nameservers": [nameserver]},
            "routes": {
                "direct": sink,
                "relay": dict(sink),  # not the same object: YAML would make an alias of it
                "ses": {"type": "relay", "host": "127.0.0.1", "port": self._away, "tls": "none"},
            },
            "keys": keys,
            "delivery": {"retry": ["1h"]},  # what waits stands still
        }

    def run(self, block: Block) -> str:
        """A block's commands, as one script that ends where one fails; what they print."""
        script = self.translated(block.text)
        done = subprocess.run(
            ["bash", "-e", "-o", "pipefail", "-c", script],
            cwd=self._directory,
            env=self._environment(),
            capture_output=True,
            text=True,
            timeout=_STEP_S,
            check=False,
        )
        wanted = int(block.mark.rpartition(" ")[2]) if "exit" in block.mark else 0
        said = f"{block}\n{script}\nexit code {done.returncode}\n{done.stdout}{done.stderr}{self.daemon.tail(10)}"
        assert done.returncode == wanted, said
        assert "Traceback" not in done.stderr, said
        return done.stdout

    def has_domain(self, name: str, *, wanted: bool) -> None:
        """Make a sending domain, or forget it: a reader may have come from another document."""
        known = name in {domain["name"] for domain in self.daemon.json("domain", "list")}
        if known != wanted:
            self.daemon.cli("domain", "add" if wanted else "remove", name)

    def translated(self, text: str) -> str:
        """What the document says, of this machine."""
        text = re.sub(r"\bmgw_(?:\.\.\.|…)", SECRET, text)
        if re.search(r"(?<![\w-])ID\b|eml_…|eml_\.\.\.", text):
            text = re.sub(r"(?<![\w-])ID\b|eml_…|eml_\.\.\.", self.waiting_message(), text)
        if re.search(r"\bNAME\b", text):
            text = re.sub(r"\bNAME\b", self.stored_key(), text)
        for said, meant in (
            ("--wait 10s", "--wait 60s"),  # a busy machine
            ("timeout 10 ", "timeout 60 "),
            (" -g mail-gateway ", " "),  # the group of the machine that the document is about
            ("/etc/mail-gateway/gateway.yaml", str(self.daemon.config)),
            ("/etc/mail-gateway", str(self.daemon.directory)),
            ("/var/lib/mail-gateway", str(self.daemon.data)),
            ("/var/backups", str(self._directory)),
            ("/usr/local/bin/mail-gateway", str(self._programs / "mail-gateway")),
            ("https://mail.example.com", f"http://127.0.0.1:{self.daemon.http_port}"),
            ("127.0.0.1:8025", f"127.0.0.1:{self.daemon.http_port}"),
            ("127.0.0.1:2525", f"127.0.0.1:{self.daemon.smtp_port}"),
            ("127.0.0.1:8026", f"127.0.0.1:{self._admin}"),
            ("smtp.example.net:587", f"127.0.0.1:{self._sink.port}"),
        ):
            text = text.replace(said, meant)
        return text

    def stored_key(self) -> str:
        """The name of a key that was made by a command."""
        self._stored += 1
        name = f"stored{self._stored}"
        self.daemon.cli("key", "create", name)
        return name

    def waiting_message(self) -> str:
        """The id of a message that was tried and waits."""
        id_ = http_send(self.daemon.http_port, message_json("you@example.net"), secret=_STUCK).id

        def waits() -> bool:
            answer = status(self.daemon, id_, secret=_STUCK)
            return bool(answer.body["data"]["recipients"][0]["state"] == "deferred")

        wait_until(waits, f"{id_} waits: {self.daemon.tail(5)}", 60)
        return id_

    def _environment(self) -> dict[str, str]:
        return {
            "PATH": f"{self._programs}:{os.environ['PATH']}:/usr/sbin:/sbin",
            "HOME": str(self._directory),
            "MAIL_GATEWAY_CONFIG": str(self.daemon.config),
            "KEY": SECRET,
            "LC_ALL": "C.UTF-8",
        }
