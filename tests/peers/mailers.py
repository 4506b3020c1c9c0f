"""What every mail client is told and tells: the mail, the server, and how it ended."""

import base64
import json
import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from email.header import Header
from pathlib import Path
from typing import Final

_TIMEOUT_S: Final = 60
_BOUNDARY: Final = "=_part"


@dataclass(frozen=True, slots=True)
class Mail:
    """What a person writes. `text` has lines that end in LF; `bcc` get it and are told to nobody."""

    to: tuple[str, ...]
    bcc: tuple[str, ...]
    subject: str
    text: str
    attachment: Path | None = None
    sender: str = "shop@example.com"

    @property
    def recipients(self) -> tuple[str, ...]:
        return self.to + self.bcc

    def as_bytes(self, newline: bytes = b"\r\n") -> bytes:
        """The message of a plain program: 8-bit text, no Date, no Message-ID, and Bcc left in."""
        text = f"Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n{self.text}"
        if self.attachment is not None:
            data = base64.encodebytes(self.attachment.read_bytes()).decode()
            disposition = f'Content-Disposition: attachment; filename="{self.attachment.name}"\n'
            text = (
                f'Content-Type: multipart/mixed; boundary="{_BOUNDARY}"\n\n--{_BOUNDARY}\n{text}\n--{_BOUNDARY}\n'
                f"Content-Type: application/octet-stream\n{disposition}Content-Transfer-Encoding: base64\n\n"
                f"{data}--{_BOUNDARY}--\n"
            )
        bcc = f"Bcc: {', '.join(self.bcc)}\n" if self.bcc else ""
        head = (
            f"From: Shop <{self.sender}>\nTo: {', '.join(self.to)}\n{bcc}"
            f"Subject: {Header(self.subject, 'utf-8').encode()}\nMIME-Version: 1.0\n"
        )
        return (head + text).encode().replace(b"\n", newline)


@dataclass(frozen=True, slots=True)
class Server:
    """Where to, and who one is. `tls` is "" (in clear), "starttls" or "implicit"; `auth` is PLAIN, LOGIN or "" (no
    user name, no password; then it is an old client, which says HELO where it can)."""

    port: int
    user: str
    secret: str
    ca: Path
    tls: str = ""
    auth: str = "PLAIN"
    host: str = "localhost"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The exit code, and what the client's user reads: standard output, error output and its own log."""

    code: int
    text: str

    @property
    def flat(self) -> str:
        """The text on one line: clients wrap it and colour it."""
        return " ".join(re.sub(r"\x1b\[[0-9;]*m", "", self.text).split())


@dataclass(frozen=True, slots=True)
class Desk:
    """Where a client works: an empty home of its own, in which it may leave files."""

    home: Path

    def write(self, name: str, content: str | bytes) -> Path:
        """A file of its user, private."""
        path = self.home / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        path.chmod(0o600)
        return path

    def run(
        self, *command: str | Path, stdin: bytes = b"", environment: Mapping[str, str] | None = None, log: str = ""
    ) -> Outcome:
        """Run a client to its end; `log` is a file of its home that its user would read."""
        wanted = {"HOME": str(self.home), "LC_ALL": "C.UTF-8", "TZ": "UTC", "PATH": os.environ["PATH"]}
        done = subprocess.run(
            [str(word) for word in command],
            input=stdin,
            capture_output=True,
            cwd=self.home,
            env=wanted | dict(environment or {}),
            timeout=_TIMEOUT_S,
            check=False,
        )
        text = done.stdout + done.stderr
        if log and (self.home / log).exists():
            text += (self.home / log).read_bytes()
        return Outcome(done.returncode, text.decode("utf-8", "replace"))

    def job(self, mail: Mail, server: Server) -> Path:
        """Mail and server as a file, for the programs of tests/interop/clients."""
        raw = self.write("message.eml", mail.as_bytes())
        attachment = str(mail.attachment) if mail.attachment else ""
        fields = asdict(mail) | asdict(server) | {"recipients": mail.recipients, "raw": str(raw)}
        fields |= {"ca": str(server.ca), "attachment": attachment}
        return self.write("job.json", json.dumps(fields))
