"""GET /health/live and /health/ready: for supervisors and load balancers, without a key.

Guarantees: minimal bodies; `live` answers as long as the loop turns, `ready` only while mail is taken.
"""

from typing import Final

import msgspec

from gateway.api.door import Call, Door
from gateway.api.envelope import RETRY_AFTER_S, Answer

LIVE_PATH: Final = "/health/live"
READY_PATH: Final = "/health/ready"
_OK: Final = b'{"status":"ok"}'


async def live(_call: Call) -> Answer:
    return Answer(200, _OK)


class Ready:
    """The handler of `/health/ready`."""

    def __init__(self, door: Door) -> None:
        self._door = door

    async def __call__(self, _call: Call) -> Answer:
        reason = self._door.ready()
        return Answer(200, _OK) if reason is None else unready(reason)


def unready(reason: str) -> Answer:
    body = msgspec.json.encode({"status": "unavailable", "reason": reason})
    return Answer(503, body, (("Retry-After", str(RETRY_AFTER_S)),))
