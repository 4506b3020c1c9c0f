"""What the configuration only points at: files, and secrets from the environment, files and systemd.

Guarantees: a file with secrets that others can read is refused, but under /run/secrets and $CREDENTIALS_DIRECTORY,
whose keepers guard the directory; no secret is ever in a problem's text.
"""

import os
import secrets
import stat
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from gateway.config import DATA_DIR, Secret
from gateway.errors import Problem
from gateway.yamltree import CONTROL, Findings, Section, Value

_MAX_FILE_BYTES: Final = 1_000_000  # keys and certificates are a few kilobytes
_GUARDED: Final = Path("/run/secrets")


class Sources:
    """Reads what values name. `elsewhere` are secrets that only the daemon's unit is given; a random one, which nobody
    knows, stands for each of them."""

    def __init__(self, path: Path | None, environ: Mapping[str, str], findings: Findings) -> None:
        self.path = path
        self.findings = findings
        self.data_dir = DATA_DIR
        self.now = datetime.now(UTC)
        self.elsewhere: list[Problem] = []
        self._environ = environ
        directory = environ.get("CREDENTIALS_DIRECTORY")
        self._credentials = Path(directory) if directory else None
        self._written_here: Value | None = None

    def take_data_dir(self, top: Section) -> Path:
        """What all other paths are relative to; read before them."""
        value = top.get("data_dir")
        text = value.text() if value is not None else None
        if value is not None and text is not None:
            self.data_dir = Path(text)
            if not self.data_dir.is_absolute():
                value.problem("must be an absolute path")
        return self.data_dir

    def file(self, value: Value) -> Path | None:
        """A readable file, relative to the data directory."""
        text = value.text()
        if text is None:
            return None
        path = self.data_dir / text
        return path if self._bytes(value, path) is not None else None

    def directory(self, value: Value) -> Path | None:
        """A readable directory, relative to the data directory."""
        text = value.text()
        if text is None:
            return None
        path = self.data_dir / text
        try:
            os.scandir(path).close()
        except OSError as error:
            value.problem(f"{path} cannot be read as a directory: {error.strerror}")
            return None
        return path

    def private_file(self, value: Value) -> Path | None:
        """A readable file that others cannot read."""
        path = self.file(value)
        if path is not None:
            self._refuse_readable_by_others(value, path)
        return path

    def secret(self, value: Value) -> Secret | None:
        """`{env: NAME}`, `{file: PATH}`, `{credential: NAME}` or, with a warning, the text itself."""
        if not value.is_mapping:
            text = value.text()
            if text is not None:
                self._written_here = self._written_here or value
                value.warning("a secret in the file itself; better {env: NAME}, {file: PATH} or {credential: NAME}")
            return Secret(text) if text is not None else None
        section = value.section()
        given = [(kind, source) for kind in ("env", "file", "credential") if (source := section.get(kind))]
        section.close()
        if len(given) != 1:
            value.problem("give one of env, file or credential")
            return None
        kind, source = given[0]
        name = source.text()
        text = self._secret_text(kind, name, source) if name is not None else None
        if text is not None and CONTROL.search(text):
            source.problem("the secret has a line end or another control character in it")
            return None
        return Secret(text) if text is not None else None

    def close(self) -> None:
        """After everything is read: a configuration that holds a secret itself must be private too."""
        if self._written_here is not None and self.path is not None:
            self._refuse_readable_by_others(self._written_here, self.path)

    def _secret_text(self, kind: str, name: str, source: Value) -> str | None:
        if kind == "env":
            if not self._environ.get(name):
                source.problem(f"the environment variable {name} is not set")
                return None
            return self._environ[name]
        directory: Path | None = self.data_dir
        if kind == "credential":
            if "/" in name or name in {".", ".."}:
                source.problem("a credential is named without a path")
                return None
            directory = self._credentials
        if directory is None:
            text = f"cannot be read here: systemd gives it to the unit (LoadCredential={name}:FILE)"
            self.elsewhere.append(Problem(source.path, text, line=source.line))
            return secrets.token_hex()
        path = directory / name
        content = self._bytes(source, path)
        if content is None:
            return None
        self._refuse_readable_by_others(source, path)
        try:
            text = content.decode("utf-8").rstrip("\r\n")
        except UnicodeDecodeError:
            source.problem(f"{path} holds no text")
            return None
        if not text:
            source.problem(f"{path} is empty")
        return text or None

    def _bytes(self, value: Value, path: Path) -> bytes | None:
        try:
            # Not blocking: a pipe in the place of a file must not hold a start up.
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            with os.fdopen(descriptor, "rb") as file:
                found = os.fstat(descriptor)
                if stat.S_ISREG(found.st_mode) and found.st_size <= _MAX_FILE_BYTES:
                    return file.read()
        except OSError as error:
            value.problem(f"{path} cannot be read: {error.strerror}")
            return None
        value.problem(f"{path} is not a file of at most {_MAX_FILE_BYTES} bytes")
        return None

    def _refuse_readable_by_others(self, value: Value, path: Path) -> None:
        try:
            mode = stat.S_IMODE(path.stat().st_mode)
        except OSError as error:
            value.problem(f"{path} cannot be read: {error.strerror}")
            return
        guarded = [_GUARDED]
        if self._credentials is not None:
            guarded.append(self._credentials.resolve())
        if any(path.resolve().is_relative_to(one) for one in guarded):
            return
        if mode & 0o007:
            value.problem(f"{path} holds a secret and others can read it: chmod 640 {path}")
