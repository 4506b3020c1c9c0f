"""GET /health/live and /health/ready: for supervisors and load balancers, without a key.

Guarantees: minimal bodies; `live` answers as long as the loop turns, `ready` only while mail is taken, and says why
not in public words.
"""

from typing import Final

import msgspec

from gateway.api.door import Call
from gateway.api.envelope import RETRY_AFTER_S, SHUTTING_DOWN, Answer
from gateway.api.service import Service

LIVE_PATH: Final = "/health/live"
READY_PATH: Final = "/health/ready"
ALIVE: Final = Answer(200, b'{"status":"ok"}')


def readiness(reason: str | None) -> Answer:
    """200, or 503 with the reason."""
    if reason is None:
        return ALIVE
    body = msgspec.json.encode({"status": "unavailable", "reason": reason})
    return Answer(503, body, (("Retry-After", str(RETRY_AFTER_S)),))


async def live(_service: Service, _call: Call) -> Answer:
    return ALIVE


async def ready(service: Service, _call: Call) -> Answer:
    return readiness(SHUTTING_DOWN if service.stopping else service.door.ready())
