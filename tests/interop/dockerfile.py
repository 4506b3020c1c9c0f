"""A Dockerfile built where no engine runs: its instructions, one after the other, in a root of our own.

Every RUN is a process in a chroot, as the user and with the environment that the file says. Packages come from a
directory of wheels, made before. It knows the instructions that our Dockerfile has; another one is an error.
"""

import fnmatch
import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.interop import ownroot

_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_STEP_S: Final = 300


@dataclass(frozen=True, slots=True)
class Instruction:
    """One line of the file, continuations joined: `RUN`, and what stands after it."""

    name: str
    text: str


@dataclass(slots=True)
class Stage:
    """What has been made of a stage: its root, and what the image would say of itself."""

    root: Path
    base: str
    environment: dict[str, str] = field(default_factory=lambda: {"PATH": _PATH})
    directory: str = "/"
    user: str = "root"
    volumes: list[str] = field(default_factory=list)
    ports: list[str] = field(default_factory=list)
    labels: dict[str, str] = field(default_factory=dict)
    stop_signal: str = "SIGTERM"
    health: list[str] = field(default_factory=list)
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)


def parse(text: str) -> list[Instruction]:
    """The instructions of a Dockerfile; comments are left out, as an engine does."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n", " ", "\n".join(lines))
    return [
        Instruction(*(part.strip() for part in line.split(maxsplit=1))) for line in joined.splitlines() if line.strip()
    ]


def ignored(path: str, patterns: Sequence[str]) -> bool:
    """Whether .dockerignore keeps a path of the context out: the last pattern that fits it or a parent decides."""
    out = False
    parts = path.split("/")
    parents = ["/".join(parts[: n + 1]) for n in range(len(parts))]
    for pattern in patterns:
        bare = pattern.removeprefix("!").strip("/")
        if any(fnmatch.fnmatchcase(p, bare) or fnmatch.fnmatchcase(p, bare.removeprefix("**/")) for p in parents) or (
            bare.startswith("**/") and any(fnmatch.fnmatchcase(part, bare[3:]) for part in parts)
        ):
            out = not pattern.startswith("!")
    return out


class Build:
    """`Build(context, work, wheels).run()`: every stage, and the last one as the image."""

    def __init__(self, context: Path, work: Path, wheels: Path) -> None:
        self._context = context
        self._work = work
        self._wheels = wheels
        self._ignore = [
            line for line in (context / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")
        ]
        self._arguments: dict[str, str] = {}
        self._stages: dict[str, Stage] = {}

    def run(self) -> Stage:
        stage: Stage | None = None
        for instruction in parse((self._context / "Dockerfile").read_text()):
            if instruction.name == "ARG" and stage is None:
                name, _, value = instruction.text.partition("=")
                self._arguments[name] = value
            elif instruction.name == "FROM":
                stage = self._from(instruction.text)
            else:
                assert stage is not None, f"{instruction} before FROM"
                getattr(self, f"_{instruction.name.lower()}")(stage, instruction.text)
        assert stage is not None
        return stage

    def _from(self, text: str) -> Stage:
        words = self._expand(text, self._arguments).split()
        name = words[2] if len(words) == 3 else f"stage{len(self._stages)}"
        stage = Stage(ownroot.fresh(self._work / name), words[0])
        self._stages[name] = stage
        return stage

    def _run(self, stage: Stage, text: str) -> None:
        environment = {**stage.environment, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/wheels", "HOME": "/root"}
        done = subprocess.run(
            ownroot.inside(
                stage.root,
                ["/bin/sh", "-c", f"cd {shlex.quote(stage.directory)} && {text}"],
                user=stage.user,
                mounts=[f"mount --bind {shlex.quote(str(self._wheels))} {stage.root}/wheels"],
            ),
            env=environment,
            capture_output=True,
            text=True,
            timeout=_STEP_S,
            check=False,
        )
        assert done.returncode == 0, f"RUN {text}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"

    def _copy(self, stage: Stage, text: str) -> None:
        words = text.split()
        source = self._context
        from_stage = words[0].startswith("--from=")
        if from_stage:
            source = self._stages[words.pop(0).removeprefix("--from=")].root
        *names, target = words
        place = stage.root / str(Path(stage.directory, target)).lstrip("/")
        for name in names:
            path = source / name.lstrip("/")
            into = place / path.name if target.endswith("/") else place
            into.parent.mkdir(parents=True, exist_ok=True)
            if path.is_dir():
                left = None if from_stage else self._left
                shutil.copytree(path, into, symlinks=True, dirs_exist_ok=True, ignore=left)
            else:
                assert from_stage or not ignored(name, self._ignore), f"COPY {name}: .dockerignore keeps it out"
                shutil.copy2(path, into)

    def _left(self, directory: str, names: list[str]) -> set[str]:
        """What copytree leaves out."""
        below = Path(directory).relative_to(self._context)
        return {name for name in names if ignored(str(below / name), self._ignore)}

    def _env(self, stage: Stage, text: str) -> None:
        for pair in shlex.split(text):
            name, _, value = pair.partition("=")
            stage.environment[name] = self._expand(value, stage.environment)

    def _label(self, stage: Stage, text: str) -> None:
        stage.labels |= dict(pair.split("=", 1) for pair in shlex.split(text))

    def _workdir(self, stage: Stage, text: str) -> None:
        stage.directory = text
        (stage.root / text.lstrip("/")).mkdir(parents=True, exist_ok=True)

    def _user(self, stage: Stage, text: str) -> None:
        stage.user = text

    def _volume(self, stage: Stage, text: str) -> None:
        stage.volumes.append(text)

    def _expose(self, stage: Stage, text: str) -> None:
        stage.ports += text.split()

    def _stopsignal(self, stage: Stage, text: str) -> None:
        stage.stop_signal = text

    def _healthcheck(self, stage: Stage, text: str) -> None:
        stage.health = json.loads(text.partition("CMD")[2])

    def _entrypoint(self, stage: Stage, text: str) -> None:
        stage.entrypoint = json.loads(text)  # the exec form: a shell in between would swallow signals

    def _cmd(self, stage: Stage, text: str) -> None:
        stage.command = json.loads(text)

    @staticmethod
    def _expand(text: str, values: Mapping[str, str]) -> str:
        return re.sub(r"\$\{?(\w+)\}?", lambda match: values[match[1]], text)
