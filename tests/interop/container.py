"""An image run where no engine runs: as one with `--read-only --cap-drop ALL --security-opt no-new-privileges` would
run it, on the machine's network."""

import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.interop import ownroot
from tests.interop.dockerfile import Stage
from tests.peers.process import descendants, require, wait_until


class Container:
    """A stage run: its configuration mounted, its volumes kept in `work`, everything else read-only."""

    def __init__(self, stage: Stage, work: Path, binds: Mapping[Path, str]) -> None:
        self.stage = stage
        self.log = work / "log"
        self._process: subprocess.Popen[bytes] | None = None
        mounts = [f"mount -t tmpfs -o mode=1777 tmpfs {stage.root}/tmp"]
        for number, volume in enumerate(stage.volumes):
            kept = work / f"volume{number}"
            shutil.copytree(stage.root / volume.lstrip("/"), kept)  # an empty volume begins with what the image has
            os.chown(kept, *ownroot.ids(stage.root, stage.user))
            mounts.append(f"mount --bind {kept} {stage.root}{volume}")
        for source, target in binds.items():
            (stage.root / target.lstrip("/")).touch()
            mounts.append(f"mount --bind {source} {stage.root}{target}")
            mounts.append(f"mount -o remount,bind,ro {stage.root}{target}")
        self._command = ownroot.inside(
            stage.root, [*stage.entrypoint, *stage.command], user=stage.user, mounts=mounts, sealed=True
        )

    def start(self) -> None:
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command, env=self.stage.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The machine's number of the container's first process."""
        assert self._process is not None
        wait_until(lambda: len(descendants(self._process.pid)) > 1 or not self.running, "it starts", 60)  # type: ignore[union-attr]
        return descendants(self._process.pid)[1]

    def execute(self, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
        """As `docker exec` would, or the health check."""
        uid, gid = ownroot.ids(self.stage.root, self.stage.user)
        namespaces = ["--target", str(self.pid), "--mount", "--pid", "--root", "--wd"]
        return subprocess.run(
            [require("nsenter"), *namespaces, "--setuid", str(uid), "--setgid", str(gid), *command],
            env=self.stage.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def stop(self, timeout_s: float = 45) -> int:
        """The image's stop signal to the first process; its exit code."""
        assert self._process is not None
        os.kill(self.pid, signal.Signals[self.stage.stop_signal])
        return self._process.wait(timeout_s)

    def kill(self) -> None:
        if self.running and self._process is not None:
            os.kill(self.pid, signal.SIGKILL)
            self._process.wait()
