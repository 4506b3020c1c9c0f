"""`webhooks`: what endpoints may be, and how long they are tried."""

import ipaddress
from typing import Final

from gateway.config import Network, Webhooks
from gateway.configfile import grammar
from gateway.configfile.delivery import read_pauses
from gateway.yamltree import Value

# Where machines of the large clouds are told their credentials, by anybody who asks.
_CREDENTIALS: Final = tuple(
    map(
        ipaddress.ip_address,
        ("169.254.169.254", "fd00:ec2::254", "192.0.0.192", "168.63.129.16", "100.100.100.200"),
    )
)
_MAX_TIMEOUT_S: Final = 60.0  # longer, and dead endpoints hold the connections that others need


def read_webhooks(value: Value) -> Webhooks:
    section = value.section()
    default = Webhooks()
    webhooks = Webhooks(
        allow_http=section.take("allow_http", Value.boolean, default.allow_http),
        allow_networks=section.take("allow_networks", _networks, default.allow_networks),
        timeout_s=section.take("timeout", _timeout, default.timeout_s),
        retry_s=section.take("retry", read_pauses, default.retry_s),
        disable_after_s=section.take("disable_after", Value.duration, default.disable_after_s),
    )
    section.close()
    return webhooks


def _networks(value: Value) -> tuple[Network, ...]:
    found = []
    for item in value.items():
        network = item.parsed(grammar.network)
        if network is None:
            continue
        held = next((address for address in _CREDENTIALS if address in network), None)
        if held is not None:
            item.warning(f"holds {held}, where machines of clouds ask for their credentials: name less")
        found.append(network)
    return tuple(found)


def _timeout(value: Value) -> float | None:
    seconds = value.duration()
    if seconds is not None and seconds > _MAX_TIMEOUT_S:
        value.problem(f"must be at most {_MAX_TIMEOUT_S:.0f}s")
        return None
    return seconds
