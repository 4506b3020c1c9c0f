"""From the YAML file to the `Config` tree: every key, every check, every problem at once.

A start (`load`), other commands (`load_outside`) and `mail-gateway check` (`read_config`) share all of it. They differ
in one thing: a secret that only systemd hands to the unit is a problem to a start, a warning to `check`, which runs
outside it, and nothing to a command that looks at the data.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from gateway import config as tree
from gateway import yamltree
from gateway.configfile import local
from gateway.configfile.document import read_document
from gateway.configfile.grammar import is_loopback, parse_listen
from gateway.configfile.limits import parse_limit, parse_limits
from gateway.configfile.sources import Sources
from gateway.errors import ConfigError, Problem
from gateway.yamltree import Findings

__all__ = [
    "is_loopback",
    "load",
    "load_outside",
    "parse_limit",
    "parse_limits",
    "parse_listen",
    "read_config",
    "read_data_dir",
    "read_local_socket",
]


def load(
    path: Path | None,
    environ: Mapping[str, str] = os.environ,
    *,
    hostname: str | None = None,
    warn: Callable[[Problem], object] | None = None,
) -> tree.Config:
    """The configuration of a file (None: the default place), for the daemon. Raises ConfigError with every problem.

    `hostname` is the name where the file gives none (None: the machine's own). `warn` is told each warning, by line.
    """
    config, sources = _read(path or tree.default_path(), environ, hostname)
    _refuse([*sources.findings.problems, *sources.elsewhere])
    if warn is not None:
        for warning in sorted(sources.findings.warnings, key=_line):
            warn(warning)
    return config


def load_outside(path: Path | None, environ: Mapping[str, str] = os.environ) -> tree.Config:
    """As `load`, for commands: they run outside the unit, and do without the secrets that only systemd hands to it. A
    random one, which nobody knows, stands for each of these."""
    config, sources = _read(path or tree.default_path(), environ)
    _refuse(sources.findings.problems)
    return config


def read_config(
    path: Path, environ: Mapping[str, str] = os.environ
) -> tuple[tree.Config, tuple[Problem, ...], tuple[Problem, ...]]:
    """(configuration, problems, warnings) of a file, by line. What could not be read has its default."""
    config, sources = _read(path, environ)
    warnings = [*sources.findings.warnings, *sources.elsewhere]
    return config, tuple(sorted(sources.findings.problems, key=_line)), tuple(sorted(warnings, key=_line))


def read_data_dir(path: Path | None) -> Path:
    """Only `data_dir`, for commands that ask the running daemon: they need neither its secrets nor its certificate.

    Raises ConfigError where the file cannot be read.
    """
    findings = Findings()
    path = path or tree.default_path()
    text = _text(path, findings)
    root = yamltree.read(text, findings) if text is not None else None
    data_dir = Sources(path, {}, findings).take_data_dir(root.section()) if root is not None else None
    if findings.problems or data_dir is None:
        raise ConfigError(findings.problems)
    return data_dir


def read_local_socket(path: Path | None) -> Path | None:
    """Only `local.socket`, for programs that hand mail in and for the daemon that takes it; None: the default place.

    Raises ConfigError where the file cannot be read.
    """
    findings = Findings()
    text = _text(path or tree.default_path(), findings)
    root = yamltree.read(text, findings) if text is not None else None
    value = root.section().get("local") if root is not None else None
    socket = local.read_socket(value) if value is not None else None
    if findings.problems:
        raise ConfigError(findings.problems)
    return socket


def _read(path: Path, environ: Mapping[str, str], hostname: str | None = None) -> tuple[tree.Config, Sources]:
    """The configuration, and in its sources what is to be said of it."""
    findings = Findings()
    sources = Sources(path, environ, findings)
    text = _text(path, findings)
    root = yamltree.read(text, findings) if text is not None else None
    config = read_document(root, sources, hostname) if root is not None else tree.Config(path=path)
    return config, sources


def _refuse(problems: Sequence[Problem]) -> None:
    if problems:
        raise ConfigError(sorted(problems, key=_line))


def _text(path: Path, findings: Findings) -> str | None:
    """The text of a file; None where it cannot be read, and the findings say why."""
    try:
        with path.open("rb") as file:
            content = file.read(yamltree.MAX_BYTES + 1)
    except OSError as error:
        findings.problems.append(Problem("", f"{path} cannot be read: {error.strerror}"))
        return None
    if len(content) > yamltree.MAX_BYTES:
        findings.problems.append(Problem("", f"{path} is larger than {yamltree.MAX_BYTES} bytes"))
        return None
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        findings.problems.append(Problem("", "this is not UTF-8 text", line=line))
        return None


def _line(problem: Problem) -> int:
    return problem.line or 0
