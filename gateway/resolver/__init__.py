"""DNS: the only dnspython user. Names in, values out.

Guarantees: a name that does not exist, a name without such a record and a lookup that failed are three different
things; failures are values; answers are kept for their TTL, within bounds; a question that is being asked is not asked
again; what cannot be a host name is never asked; no search list; whether an answer is authentic (DNSSEC) is the word
of a nameserver that counts, or it is not. It validates nothing itself, and does not choose among hosts
(delivery/mx.py).
"""

from gateway.resolver.answers import LookupFailed, Missing
from gateway.resolver.lookup import Resolver
from gateway.resolver.route import has_ipv6_route, has_route, source_address

__all__ = ["LookupFailed", "Missing", "Resolver", "has_ipv6_route", "has_route", "source_address"]
