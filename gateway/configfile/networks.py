"""Lists of networks whose clients are believed."""

from gateway.config import Network
from gateway.configfile import grammar
from gateway.yamltree import Value


def own_networks(value: Value, harm: str) -> tuple[Network, ...]:
    """Networks, none of which is open to strangers; `harm` is what these could do."""
    found = []
    for item in value.items():
        network = item.parsed(grammar.network)
        if network is None:
            continue
        if grammar.is_open(network):
            item.problem(f"{network} is full of strangers, {harm}")
        found.append(network)
    return tuple(found)
