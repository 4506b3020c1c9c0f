"""The daemon as its operator runs it: a process with a configuration file, watched from outside.

`Daemon` writes the configuration, starts `python -m gateway -c FILE serve`, waits for READY=1 as systemd
would, and stops, kills and restarts it on the same ports. It shares no code with the gateway.
"""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.peers.process import descendants, free_port

ROOT = Path(__file__).resolve().parents[2]
SECRET = "test-key-of-thirty-characters0"  # the text of the key `shop`
SELECTOR = "s1"
_READY_S = 60.0


class Daemon:
    """One daemon in `directory`: data in `data/`, configuration in `gateway.yaml`, log in `log`.

    `settings` is merged over defaults that suit tests: an HTTP listener (with metrics) and an SMTP listener on
    loopback, a key `shop`. `prefix` is put before the command (strace), `source` is a directory that holds another
    `gateway` package (a broken twin).
    """

    def __init__(
        self,
        directory: Path,
        settings: Mapping[str, Any],
        *,
        prefix: Sequence[str] = (),
        source: Path = ROOT,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.data = directory / "data"
        self.http_port, self.smtp_port = free_port(), free_port()
        self.config = directory / "gateway.yaml"
        self.log = directory / "log"
        self.prefix = list(prefix)
        self._environment = {**os.environ, "PYTHONPATH": str(source), **(environment or {})}
        self._source = source
        self._process: subprocess.Popen[bytes] | None = None
        self._notify: socket.socket | None = None
        self.write_config(settings)

    def write_config(self, settings: Mapping[str, Any]) -> None:
        """Write the configuration: what is given over what tests want by default."""
        secret = self.directory / "shop.secret"
        secret.write_text(SECRET)
        secret.chmod(0o600)
        defaults: dict[str, Any] = {
            "hostname": "gateway.test",
            "data_dir": str(self.data),
            "http": {
                "listeners": [{"listen": f"127.0.0.1:{self.http_port}", "tls": "none"}],
                "admin": f"127.0.0.1:{self.http_port}",
            },
            "smtp": {"listeners": [{"listen": f"127.0.0.1:{self.smtp_port}", "tls": "none", "auth": "required"}]},
            "keys": {"shop": {"secret": {"file": str(secret)}, "account": "shop"}},
        }
        self.config.write_text(yaml.safe_dump(defaults | dict(settings), sort_keys=False))
        self.config.chmod(0o600)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        if self._process is not None and self._process.poll() is None:
            self.kill()
        if self._notify is not None:
            self._notify.close()
            self._notify = None

    @property
    def pid(self) -> int:
        """Process id of the daemon itself, not of its prefix."""
        assert self._process is not None
        if not self.prefix:
            return self._process.pid
        wanted = "\0".join(self._command("serve")) + "\0"
        for pid in descendants(self._process.pid)[::-1]:
            with suppress(OSError):  # it has gone
                if Path(f"/proc/{pid}/cmdline").read_text() == wanted:
                    return pid
        return self._process.pid  # a prefix that became the daemon

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self, timeout_s: float = _READY_S) -> Self:
        """Start and wait until it says READY=1; RuntimeError with its log where it does not."""
        assert not self.running
        notify = self._listen_for_notice()
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self.prefix, *self._command("serve")],
                env=self._environment | {"NOTIFY_SOCKET": "@" + notify.getsockname()[1:].decode()},
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        for _ in range(int(timeout_s / 0.1)):
            try:
                if b"READY=1" in notify.recv(4096).split(b"\n"):
                    return self
            except TimeoutError:
                if self._process.poll() is not None:
                    break
        self.__exit__()
        raise RuntimeError(f"the daemon does not start (exit code {self._process.poll()}):\n{self.tail()}")

    def terminate(self) -> None:
        """Send SIGTERM and do not wait."""
        os.kill(self.pid, signal.SIGTERM)

    def wait(self, timeout_s: float = 40.0) -> int:
        """Wait for the end and return the exit code."""
        assert self._process is not None
        return self._process.wait(timeout_s)

    def stop(self, timeout_s: float = 40.0) -> int:
        """SIGTERM; returns the exit code."""
        self.terminate()
        return self.wait(timeout_s)

    def kill(self) -> None:
        """SIGKILL, as sudden as it gets."""
        assert self._process is not None
        for pid in reversed(descendants(self._process.pid)):
            with suppress(ProcessLookupError):  # it has gone, with who was before it
                os.kill(pid, signal.SIGKILL)
        self._process.wait()

    def restart(self) -> Self:
        """Start again after a stop or a kill: same ports, same data."""
        return self.start()

    def cli(self, *arguments: str, stdin: str = "") -> str:
        """Run another command with the same configuration and return what it prints; fails where it fails."""
        done = subprocess.run(
            self._command(*arguments),
            env=self._environment,
            cwd=self.directory,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, f"{arguments}: exit code {done.returncode}: {done.stderr}"
        return done.stdout

    def json(self, *arguments: str) -> Any:
        """A command's `--json` answer, decoded."""
        return json.loads(self.cli(*arguments, "--json"))

    def tail(self, lines: int = 40) -> str:
        """The end of the log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def _listen_for_notice(self) -> socket.socket:
        """The service manager's end of sd_notify(3), open as long as the daemon runs."""
        if self._notify is not None:
            self._notify.close()
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notify.bind(f"\0mail-gateway-test-{os.getpid()}-{self.smtp_port}")
        self._notify.settimeout(0.1)
        return self._notify

    def _command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "gateway", "-c", str(self.config), *arguments]


def broken_twin(directory: Path, file: str, old: str, new: str, *, more: str = "") -> Path:
    """A copy of the gateway with one fault, for `Daemon(source=...)`: shows that a test can fail.

    `file` is relative to the package, `more` is appended to it. AssertionError where `old` does not stand
    there exactly once.
    """
    shutil.copytree(ROOT / "gateway", directory / "gateway", ignore=shutil.ignore_patterns("__pycache__"))
    path = directory / "gateway" / file
    text = path.read_text()
    assert text.count(old) == 1, f"{file} holds {text.count(old)} times {old!r}: the twin needs another place to break"
    path.write_text(text.replace(old, new) + more)
    return directory


def relay_to(port: int, **more: Any) -> dict[str, Any]:
    """Settings of a daemon whose only route is a relay on loopback in clear."""
    return {
        "routes": {"relay": {"type": "relay", "host": "127.0.0.1", "port": port, "tls": "none"} | more},
        "default_route": "relay",
    }


def dkim_domain(directory: Path, domain: str = "example.com") -> tuple[dict[str, Any], dict[str, str]]:
    """A new RSA-2048 key for a domain: (the `domains` setting, the TXT records by name)."""
    directory.mkdir(parents=True, exist_ok=True)
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    path = directory / f"{domain}.pem"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    path.chmod(0o600)
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    record = "v=DKIM1; k=rsa; p=" + re.sub(r"-----[A-Z ]+-----|\s", "", public.decode())
    return (
        {"domains": {domain: {"dkim": [{"selector": SELECTOR, "key": str(path)}]}}},
        {f"{SELECTOR}._domainkey.{domain}": record},
    )
