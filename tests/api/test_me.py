"""GET /api/v1/me, and what every answer says of a key's limits."""

import time
from dataclasses import replace

from gateway.keyterms import Limit, Unit
from gateway.policy.limits import Allowance
from tests.api.conftest import MAIL, Api

LIMIT = Limit(Unit.RECIPIENTS, 100, 60, 200)


def limited(api: Api) -> None:
    api.door.keys["full"] = replace(api.door.keys["full"], limits=(LIMIT, replace(LIMIT, unit=Unit.MESSAGES)))
    api.door.left = (
        Allowance(Unit.RECIPIENTS, 100, 60, 200, remaining=150, reset_s=30),
        Allowance(Unit.MESSAGES, 1000, 3600, 1000, remaining=20, reset_s=3528),
    )


async def test_what_a_key_may_do(api: Api) -> None:
    limited(api)
    reply = await api.call("GET", "/api/v1/me")
    assert reply.status == 200
    assert reply.json["data"]["key"] == "full"
    assert reply.json["data"]["account"] == "full-account"
    assert reply.json["data"]["scopes"] == ["read", "send"]
    assert reply.json["data"]["limits"][1] == {
        "unit": "messages",
        "count": 1000,
        "period_s": 3600,
        "burst": 1000,
        "remaining": 20,
        "reset_s": 3528,
    }
    assert (await api.call("GET", "/api/v1/me", key=None)).status == 401


async def test_the_fields_of_the_limits(api: Api) -> None:
    limited(api)
    reply = await api.send(MAIL)
    assert reply.headers["ratelimit-policy"] == '"recipients-60";q=100;w=60, "messages-3600";q=1000;w=3600'
    assert reply.headers["ratelimit"] == '"recipients-60";r=150;t=30, "messages-3600";r=20;t=3528'
    limit, remaining, reset = (int(reply.headers[f"x-ratelimit-{name}"]) for name in ("limit", "remaining", "reset"))
    assert (limit, remaining) == (1000, 20)
    assert 0 <= time.time() + 3528 - reset < 60, "a Unix time"


async def test_an_error_has_them_too(api: Api) -> None:
    limited(api)
    assert "ratelimit" in (await api.send({})).headers
    assert "ratelimit" not in (await api.send(MAIL, key=None)).headers
    assert "ratelimit" not in (await api.send(MAIL, key="sender")).headers
