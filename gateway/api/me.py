"""GET /api/v1/me: what the key that asks may do."""

from typing import Any, Final

from gateway.api import envelope
from gateway.api.door import Call
from gateway.api.envelope import Answer
from gateway.api.service import Service
from gateway.policy.auth import Principal
from gateway.policy.limits import Allowance
from gateway.runtime import rfc3339

PATH: Final = "/api/v1/me"
PERMISSIONS: Final = {"send": "email.send", "read": "email.read"}  # scopes in the words of Sendmux


async def me(service: Service, call: Call) -> Answer:
    """The operation; any key may ask, whatever its scopes. Raises Refused."""
    principal = service.principal(call, call.bearer(), None)
    return envelope.success(describe(principal, service.door.allowances(principal)), call.id)


def describe(principal: Principal, allowances: tuple[Allowance, ...]) -> dict[str, Any]:
    """What is ours, and what the vendor's clients of Sendmux want to know of their connection."""
    return {
        "credential": {"id": principal.name, "name": principal.name, "type": "api_key"},
        "label": principal.name,
        "mailboxes": [],
        "permissions": sorted(PERMISSIONS[scope] for scope in principal.scopes if scope in PERMISSIONS),
        "team": {"id": principal.account, "name": principal.account},
        "key": principal.name,
        "account": principal.account,
        "scopes": sorted(principal.scopes),
        "from": list(principal.senders),
        "default_from": principal.default_from,
        "expires_at": rfc3339(principal.expires_at) if principal.expires_at is not None else None,
        "limits": [
            {
                "unit": one.unit,
                "count": one.count,
                "period_s": one.period_s,
                "burst": one.burst,
                "remaining": one.remaining,
                "reset_s": one.reset_s,
            }
            for one in allowances
        ],
    }
