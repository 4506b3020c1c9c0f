"""Which hosts take mail for a domain (RFC 5321, 5.1; RFC 7505). Pure: answers in, hosts or a word out."""

import random
from collections.abc import Sequence
from typing import Final

from gateway.delivery.verdict import Word

MAX_HOSTS: Final = 10


def order(records: Sequence[tuple[int, str]], own_names: frozenset[str], rng: random.Random) -> list[str] | Word:
    """Host names by preference, equals shuffled. `records` are (preference, host) of a successful lookup with answers.

    A null MX is a permanent word; so is a set in which we ourselves are the best host (a loop).
    """
    if all(host in {"", "."} for _, host in records):
        text = "550 5.1.10 the domain accepts no mail (null MX)"
        return Word("dns", 0, "5.1.10", text, permanent=True)  # RFC 7505, 4.2
    shuffled = [(preference, host) for preference, host in records if host not in {"", "."}]
    rng.shuffle(shuffled)
    shuffled.sort(key=lambda record: record[0])
    for position, (preference, host) in enumerate(shuffled):
        if host.rstrip(".").lower() in own_names:
            # RFC 5321, 5.1: ourselves and everything of the same or a lower preference is dropped.
            shuffled = [record for record in shuffled[:position] if record[0] < preference]
            break
    if not shuffled:
        text = "554 5.4.6 this host is the best MX of the domain and does not take mail for it (mail loop)"
        return Word("dns", 0, "5.4.6", text, permanent=True)
    return [host for _, host in shuffled[:MAX_HOSTS]]


def no_such_domain(domain: str) -> Word:
    return Word("dns", 0, "5.1.2", f"550 5.1.2 the domain {domain} does not exist", permanent=True)


def no_address(domain: str) -> Word:
    """The domain exists and has neither MX nor address, or none of its MX hosts has an address."""
    return Word("dns", 0, "5.4.4", f"550 5.4.4 no host takes mail for {domain}", permanent=True)


def lookup_failed(name: str, why: str) -> Word:
    """Temporary, and never a reason to try an address record instead of the MX (RFC 5321, 5.1)."""
    return Word("dns", 0, "4.4.3", f"451 4.4.3 the DNS lookup of {name} failed: {why}")
