"""Other people's clients, run as their users run them: curl and swaks."""

import json
import subprocess
from pathlib import Path
from typing import Any

from tests.peers.daemon import SECRET
from tests.peers.process import require


def curl(port: int, body: dict[str, Any], *, secret: str = SECRET) -> Any:
    """POST a message as the README's example does; returns the answer, decoded. Fails where curl fails."""
    done = _run(
        require("curl"),
        "-sS",
        f"http://127.0.0.1:{port}/api/v1/emails/send",
        "-H",
        f"Authorization: Bearer {secret}",
        "-H",
        "Content-Type: application/json",
        "-d",
        json.dumps(body),
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def swaks(
    port: int,
    recipient: str,
    *,
    auth: str = "PLAIN",
    tls: str = "",
    ca: Path | None = None,
    secret: str = SECRET,
) -> str:
    """Send a message and return swaks's transcript; fails where the message is not taken.

    `tls` is "" (in clear), "starttls" or "implicit"; with `ca` the certificate is checked.
    """
    options = {"": [], "starttls": ["--tls"], "implicit": ["--tls-on-connect"]}[tls]
    if ca is not None:
        options += ["--tls-verify", "--tls-ca-path", str(ca)]
    done = _run(
        require("swaks"),
        *("--server", "127.0.0.1", "--port", str(port), "--timeout", "20"),
        *("--auth", auth, "--auth-user", "shop", "--auth-password", secret),
        *("--from", "shop@example.com", "--to", recipient, "--header", f"Subject: to {recipient}"),
        *("--body", "It works."),
        *options,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _run(*command: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
