"""The daemon as `python -m gateway` runs it, and every second it says in a file how many tasks its loop has and how
late the loop was at most since the last time (milliseconds).

Nothing of the daemon is changed but that one more task looks on.
"""

import asyncio
import os
from pathlib import Path

from gateway import __main__, app

FILE = "MAIL_GATEWAY_WATCHED"  # the variable that names the file
_LOOK_S = 0.05
_LOOKS = 20  # a second


class Watched(app.Gateway):
    """A daemon with one task more."""

    async def open(self) -> None:
        await super().open()
        self.supervisor.start(_watch(Path(os.environ[FILE])), name="watch")


async def _watch(path: Path) -> None:
    loop = asyncio.get_running_loop()
    while True:
        late = 0.0
        for _ in range(_LOOKS):
            before = loop.time()
            await asyncio.sleep(_LOOK_S)
            late = max(late, loop.time() - before - _LOOK_S)
        whole = path.with_suffix(".new")
        whole.write_text(f"{len(asyncio.all_tasks())} {late * 1000:.0f}")
        whole.rename(path)  # a reader sees the old line or the new one


if __name__ == "__main__":
    app.Gateway = Watched  # type: ignore[misc]  # `serve` looks it up when it runs
    __main__.main()
