"""`pass_through`: the relays that a request may name itself, and the networks whose clients may.

Guarantees: no configuration that passes lends its relays to strangers, or reaches a port that is not for mail.
"""

from gateway.config import Network, PassThrough
from gateway.configfile import grammar
from gateway.configfile.networks import own_networks
from gateway.keyterms import Limit, Unit
from gateway.yamltree import Section, Value


def read_pass_through(value: Value) -> PassThrough:
    section = value.section()
    default = PassThrough()
    given = PassThrough(
        relays=tuple(section.each("relays", grammar.relay)),
        networks=section.take("networks", _networks, default.networks),
        limit=section.parsed("limit", _limit, default.limit),
    )
    section.close()
    _check_both(section)
    return given


def _networks(value: Value) -> tuple[Network, ...]:
    return own_networks(value, "who could all use the relays: name your own")


def _limit(text: str) -> Limit:
    count, period_s = grammar.rate(text)
    return Limit(Unit.MESSAGES, count, period_s, burst=count)


def _check_both(section: Section) -> None:
    """Judged by what is written: a relay or network that cannot be read is no second mistake."""
    relays, networks = section.get("relays"), section.get("networks")
    has_relays = relays is not None and bool(relays.node.value)
    has_networks = networks is not None and bool(networks.node.value)
    if relays is not None and has_relays and not has_networks:
        relays.problem('nobody could use them: name the networks of your clients, as in networks: ["10.0.0.0/8"]')
    if networks is not None and has_networks and not has_relays:
        networks.warning("has no effect: no relay is listed")
