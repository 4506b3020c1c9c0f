"""The native API: its operations and its shapes, as one dialect among the others.

The vendor's clients of Sendmux use the same paths: the native API is a superset of that one.
"""

import time
from typing import Final

from gateway.api import (
    batch,
    change,
    content,
    docs,
    envelope,
    events,
    health,
    me,
    openapi,
    search,
    send,
    status,
    suppressions,
    templates,
    webhooks,
)
from gateway.api.dialect import Dialect, Operation
from gateway.api.envelope import Headers
from gateway.policy.limits import Allowance


def limit_headers(allowances: tuple[Allowance, ...]) -> Headers:
    """RateLimit-Policy and RateLimit (draft-ietf-httpapi-ratelimit-headers-10, 3 and 4), one item for each limit, and
    the older trio for the limit that is nearest to its end."""
    names = [f'"{one.unit}-{one.period_s}"' for one in allowances]
    policy = ", ".join(f"{name};q={one.count};w={one.period_s}" for name, one in zip(names, allowances, strict=True))
    left = ", ".join(f"{name};r={one.remaining};t={one.reset_s}" for name, one in zip(names, allowances, strict=True))
    nearest = min(allowances, key=lambda one: one.remaining / one.burst)
    return (
        ("RateLimit-Policy", policy),
        ("RateLimit", left),
        ("X-RateLimit-Limit", str(nearest.count)),
        ("X-RateLimit-Remaining", str(nearest.remaining)),
        ("X-RateLimit-Reset", str(int(time.time()) + nearest.reset_s)),  # as the clients of Sendmux read it
    )


DIALECT: Final = Dialect(
    name="native",
    operations=(
        Operation("POST", send.PATH, send.send),
        Operation("POST", batch.PATH, batch.batch),
        Operation("GET", status.PATH, status.show),
        *search.OPERATIONS,
        *content.OPERATIONS,
        *change.OPERATIONS,
        *events.OPERATIONS,
        Operation("GET", me.PATH, me.me),
        *templates.OPERATIONS,
        *suppressions.OPERATIONS,
        *webhooks.OPERATIONS,
        *openapi.OPERATIONS,
        *docs.OPERATIONS,
        Operation("GET", health.LIVE_PATH, health.live),
        Operation("GET", health.READY_PATH, health.ready),
    ),
    owns=("/api/v1/", "/health/"),
    refusal=envelope.refusal,
    http_error=envelope.http_error,
    limit_headers=limit_headers,
)
