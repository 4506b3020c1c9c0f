"""The composition root: the only package that knows every class.

`Core` is a data directory opened for one process: lock, store, keys, domains, intake, actions; it sends nothing.
`Gateway` is the daemon on top of it: listeners, delivery, control socket. Both are async context managers, so any
asyncio program can embed one:

    async with Gateway(config) as gateway:
        receipt = await gateway.intake.submit(principal, submission, idempotency=None, client="")
"""

from gateway.app.daemon import Gateway
from gateway.app.datadir import Core, DataDirLocked, locked

__all__ = ["Core", "DataDirLocked", "Gateway", "locked"]
