"""Programs of this machine hand their mail to `sendmail`, as they would to any, and it arrives; or they are told."""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import parseaddr
from pathlib import Path
from typing import Any, Final

import pytest

from tests.peers.daemon import ROOT, Daemon, relay_to
from tests.peers.mailers import Desk, Outcome
from tests.peers.process import missing, require, wait_until
from tests.peers.sink import Sink, Transaction

NOBODY: Final = 65534
CRON: Final = b"""\
From: root (Cron Daemon)
To: root
Subject: Cron <root@host> /usr/local/bin/backup
MIME-Version: 1.0
Content-Type: text/plain; charset=UTF-8
Content-Transfer-Encoding: 8bit
X-Cron-Env: <SHELL=/bin/sh>

f\xc3\xbcnf Dateien
.
.. and more
"""
PATCH: Final = b"""\
From 0123456789abcdef0123456789abcdef01234567 Mon Sep 17 00:00:00 2001
From: Shop <shop@example.com>
Date: Sat, 21 Nov 2026 10:00:00 +0000
Subject: [PATCH] shop: Count the boxes

.one line that begins with a dot
---
 boxes | 1 +
"""
# As a user that has no right but to connect; the interpreter itself may be out of its reach, so it is loaded before.
AS_NOBODY: Final = (
    "import os, sys; from gateway.cli import sendmail; import encodings.idna;"
    f"os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY});"
    "sys.exit(sendmail.main(['sendmail', *sys.argv[1:]]))"
)


@dataclass(slots=True)
class Machine:
    """A daemon that takes local mail, its next hop, and the programs `sendmail`, `mailq`, `newaliases`."""

    directory: Path
    daemon: Daemon
    sink: Sink

    @property
    def sendmail(self) -> Path:
        return self.directory / "bin" / "sendmail"

    @property
    def environment(self) -> dict[str, str]:
        return {"MAIL_GATEWAY_CONFIG": str(self.daemon.config), "PYTHONPATH": str(ROOT)}

    def run(self, *command: str | Path, stdin: bytes = b"", environment: dict[str, str] | None = None) -> Outcome:
        """Run a program in a home of its own."""
        with tempfile.TemporaryDirectory(dir=self.directory) as home:
            return Desk(Path(home)).run(*command, stdin=stdin, environment=self.environment | (environment or {}))

    def hand_in(self, *arguments: str, stdin: bytes) -> Outcome:
        return self.run(self.sendmail, *arguments, stdin=stdin)

    def arrived(self, recipient: str) -> Transaction:
        """What came for somebody, once it has."""
        self.sink.wait_for_recipients({recipient})
        (transaction,) = self.sink.by_recipient()[recipient]
        return transaction


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    with _machine() as running:
        yield running


@contextmanager
def _machine() -> Iterator[Machine]:
    # Not below pytest's own directory, which is closed to other users.
    with tempfile.TemporaryDirectory(prefix="mail-gateway-test-") as name, Sink() as sink:
        directory = Path(name)
        directory.chmod(0o755)
        for part in ("bin", "run"):
            (directory / part).mkdir(mode=0o755)
        _install(directory / "bin")
        with Daemon(directory / "gw", settings(directory, sink)) as daemon:
            yield Machine(directory, daemon, sink)


def settings(directory: Path, sink: Sink) -> dict[str, Any]:
    system = {
        "secret": {"file": str(directory / "gw" / "shop.secret")},
        "from": ["*@example.com"],
        "default_domain": "example.com",
        "aliases": {"root": "ops@example.com"},
    }
    local = {"key": "system", "socket": str(directory / "run" / "submit.sock")}
    return relay_to(sink.port) | {"keys": {"system": system}, "local": local}


def _install(directory: Path) -> None:
    """The command, and links to it by the names that other programs call."""
    command = directory / "mail-gateway"
    command.write_text(f"#!{sys.executable}\nfrom gateway.__main__ import main\nmain()\n")
    command.chmod(0o755)
    for name in ("sendmail", "mailq", "newaliases"):
        (directory / name).symlink_to(command)


def body(transaction: Transaction) -> bytes:
    return transaction.content.partition(b"\r\n\r\n")[2]


def field(transaction: Transaction, name: str) -> str:
    """The only field of this name, on one line."""
    head = transaction.content.partition(b"\r\n\r\n")[0].decode()
    (value,) = re.findall(rf"^{name}: (.*(?:\r\n[ \t].*)*)", head, re.MULTILINE)
    return " ".join(str(value).split())


def test_cron(machine: Machine) -> None:
    done = machine.hand_in("-FCronDaemon", "-i", "-B8BITMIME", "-oem", "root", stdin=CRON)
    assert done == Outcome(0, "")
    arrived = machine.arrived("ops@example.com")
    assert arrived.sender == ("ops@example.com" if os.getuid() == 0 else f"{_user()}@example.com")
    assert body(arrived) == "fünf Dateien\r\n.\r\n.. and more\r\n".encode()
    assert re.fullmatch("Cron Daemon <(root|ops)@example.com>", field(arrived, "From"))
    assert field(arrived, "To") == "root"
    assert field(arrived, "X-Cron-Env") == "<SHELL=/bin/sh>"
    assert field(arrived, "Message-ID")
    assert f"(uid-{os.getuid()})" in field(arrived, "Received")
    wait_until(lambda: f"client=uid-{os.getuid()}" in machine.daemon.tail(), "the user in the log")


@pytest.mark.slow
@pytest.mark.slow
def test_php(machine: Machine) -> None:
    code = (
        "exit(mail('php@example.net', 'Gr=C3=BC=C3=9Fe', \"one\\n.\\ntwo\\n\","
        " \"From: Shop <shop@example.com>\\r\\nBcc: hidden@example.net\", '-fbounces@example.com') ? 0 : 1);"
    )
    done = machine.run(require("php"), "-n", "-d", f"sendmail_path={machine.sendmail} -t -i", "-r", code)
    assert done.code == 0, done.text
    arrived = machine.arrived("php@example.net")
    assert (arrived.sender, arrived.recipients) == ("bounces@example.com", ["php@example.net", "hidden@example.net"])
    assert b"hidden" not in arrived.content
    assert body(arrived).startswith(b"one\r\n.\r\ntwo\r\n")
    assert field(arrived, "From") == "Shop <shop@example.com>"


@pytest.mark.slow
@pytest.mark.slow
def test_git_send_email(machine: Machine) -> None:
    patch = machine.directory / "0001.patch"
    patch.write_bytes(PATCH)
    git = (require("git"), "send-email", "--confirm=never", "--suppress-cc=all", "--no-validate", "--no-thread")
    if not (Path(machine.run(git[0], "--exec-path").text.strip()) / "git-send-email").exists():
        missing("git send-email is not installed")
    settings = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1", "EMAIL": "shop@example.com"}
    more = ("--from=Shop <shop@example.com>", "--to=git@example.net", "--cc=Second <git-cc@example.net>")
    for server in (f"--smtp-server={machine.sendmail}", f"--sendmail-cmd={machine.sendmail}"):
        before = len(machine.sink.accepted)
        done = machine.run(*git, server, *more, patch, environment=settings)
        assert done.code == 0, done.text
        arrived = machine.sink.wait_for(before + 1)[-1]
        assert arrived.recipients == ["git@example.net", "git-cc@example.net"]
        assert arrived.sender == ("ops@example.com" if os.getuid() == 0 else f"{_user()}@example.com")
        assert body(arrived).startswith(b".one line that begins with a dot\r\n---\r\n")


@pytest.mark.slow
@pytest.mark.slow
def test_mailx(machine: Machine) -> None:
    # Its own file of settings is left out; sendwait: it waits for the outcome, and tells it.
    options = ("-:/", "-S", f"mta={machine.sendmail}", "-S", "sendwait", "-S", "v15-compat=yes")
    who = ("-r", "shop@example.com", "-c", "mailx-cc@example.net", "-b", "mailx-bcc@example.net")
    done = machine.run(require("s-nail"), *options, *who, "-s", "Hi", "mailx@example.net", stdin=b"one\n.\ntwo\n")
    assert done.code == 0, done.text
    arrived = machine.arrived("mailx@example.net")
    assert arrived.sender == "shop@example.com"
    assert arrived.recipients == ["mailx@example.net", "mailx-cc@example.net", "mailx-bcc@example.net"]
    assert body(arrived) == b"one\r\n.\r\ntwo\r\n"
    assert b"mailx-bcc" not in arrived.content


@pytest.mark.slow
@pytest.mark.slow
def test_mutt(machine: Machine) -> None:
    settings = (f'set sendmail="{machine.sendmail} -oem -oi"', "set copy=no", "set use_envelope_from=yes")
    commands = [word for one in (*settings, 'set from="shop@example.com"') for word in ("-e", one)]
    mutt = (require("mutt"), "-n", "-F", "/dev/null", *commands, "-s", "Hi", "--", "mutt@example.net")
    done = machine.run(*mutt, stdin=b"one\n.\ntwo\n", environment={"TERM": "dumb"})
    assert done.code == 0, done.text
    arrived = machine.arrived("mutt@example.net")
    assert arrived.sender == "shop@example.com"
    assert body(arrived) == b"one\r\n.\r\ntwo\r\n"


@pytest.mark.slow
@pytest.mark.slow
def test_smtp_on_a_pipe(machine: Machine) -> None:
    swaks = (require("swaks"), "--pipe", f"{machine.sendmail} -bs", "--body", "one\n.\ntwo")
    done = machine.run(*swaks, "--from", "shop@example.com", "--to", "pipe@example.net")
    assert done.code == 0, done.text
    assert body(machine.arrived("pipe@example.net")).startswith(b"one\r\n.\r\ntwo\r\n")


@pytest.mark.slow
def test_a_name_of_this_machine_is_its_own(machine: Machine) -> None:
    """As a verb, from a user without options: the sender is the user, the domain the key's."""
    done = machine.run(machine.directory / "bin" / "mail-gateway", "sendmail", "-v", "printer", stdin=b"out of paper\n")
    assert done.code == 0, done.text
    assert done.text.startswith("250 2.0.0 queued as eml_")
    arrived = machine.arrived("printer@example.com")
    assert body(arrived) == b"out of paper\r\n"
    sender = "ops@example.com" if _user() == "root" else f"{_user()}@example.com"
    assert arrived.sender == parseaddr(field(arrived, "From"))[1] == sender


@pytest.mark.slow
def test_other_names(machine: Machine) -> None:
    assert machine.run(machine.directory / "bin" / "newaliases") == Outcome(0, "")
    hint = "mailq: the queue is shown by `mail-gateway queue list`\n"
    assert machine.run(machine.directory / "bin" / "mailq") == Outcome(64, hint)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("-f", "eve@example.org", "a@example.net"), 77, "may not send as eve@example.org"),
        (("-f", "shop@example.com", "not an address"), 65, "501 5.1.3"),
        (("-bp",), 64, "queue list"),
        (("-C", "/nonexistent/gateway.yaml", "a@example.net"), 78, "No such file"),
    ],
)
def test_what_is_refused(machine: Machine, arguments: Sequence[str], code: int, said: str) -> None:
    before = len(machine.sink.transactions)
    done = machine.hand_in(*arguments, stdin=b"Subject: x\n\nhi\n")
    assert (done.code, said in done.text, done.text.count("\n")) == (code, True, 1), done.text
    assert len(machine.sink.transactions) == before


@pytest.mark.slow
@pytest.mark.skipif(os.getuid() != 0, reason="needs root, to become another user")
def test_another_user(machine: Machine) -> None:
    """Who has no right to read the configuration, or the store, may send, and is recorded; `-C` names the socket."""
    where = machine.directory / "socket.yaml"
    where.write_text(f"local: {{socket: {machine.directory / 'run' / 'submit.sock'}}}\n")
    python = (sys.executable, "-c", AS_NOBODY, "-C", str(where))
    done = machine.run(*python, "-F", "Nobody At All", "nobody-sends@example.net", stdin=b"Subject: x\n\nhi\n")
    assert done == Outcome(0, "")
    arrived = machine.arrived("nobody-sends@example.net")
    assert arrived.sender == "nobody@example.com"
    assert field(arrived, "From") == "Nobody At All <nobody@example.com>"
    assert f"(uid-{NOBODY})" in field(arrived, "Received")
    assert not os.access(machine.daemon.data, os.R_OK) or machine.daemon.data.stat().st_mode & 0o077 == 0


@pytest.mark.slow
@pytest.mark.parametrize("end", ["kill", "stop"])
def test_a_daemon_that_is_away(end: str) -> None:
    """Its callers are told to come again, whether it left its socket or not; when it is back, they are served."""
    with _machine() as machine:
        getattr(machine.daemon, end)()
        done = machine.hand_in("-f", "shop@example.com", "a@example.net", stdin=b"hi\n")
        assert (done.code, "try again later" in done.text) == (75, True), done.text
        assert machine.run(machine.sendmail, "-bs").code == 75
        machine.daemon.restart()
        assert machine.hand_in("a@example.net", stdin=b"hi\n").code == 0
        machine.arrived("a@example.net")


def _user() -> str:
    return subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
