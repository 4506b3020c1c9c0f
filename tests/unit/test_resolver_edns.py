"""EDNS is asked for, and nobody waits in vain where it is lost on the way."""

import pytest

from gateway.resolver import Resolver
from tests.peers.dns import PeerDns

DIGEST = "ab" * 32
ZONE = f"""
safe.test SIGNED
safe.test MX 10 mx.safe.test
_25._tcp.mx.safe.test TLSA 3 1 1 {DIGEST}
slow.test MX 10 mx.slow.test
""" + "\n".join(f"large.safe.test MX {n} mx{n}.large.safe.test" for n in range(40))


async def test_trap_4_tlsa_lookups_do_not_hang_where_edns_is_dropped() -> None:
    async with PeerDns(ZONE, edns="dropped") as dns:
        resolver = Resolver([dns.listen], try_s=0.2)
        assert await resolver.tlsa("mx.safe.test", 25) == ((3, 1, 1, bytes.fromhex(DIGEST)),)
        assert await resolver.is_secure("safe.test", "MX")
        # Lost once, and not tried again for each question.
        assert dns.flags[0] == (True, True, True)
        assert set(dns.flags[1:]) == {(True, False, False)}


@pytest.mark.parametrize("edns", ["refused", "ignored"])
async def test_a_server_that_knows_no_edns_is_asked_without(edns: str) -> None:
    async with PeerDns(ZONE, edns=edns) as dns:  # type: ignore[arg-type] # of the parameters
        resolver = Resolver([dns.listen])
        assert await resolver.mx("safe.test") == ((10, "mx.safe.test"),)
        assert await resolver.is_secure("safe.test", "MX")
        await resolver.mx("large.safe.test")
        with_edns = [flags[1] for flags in dns.flags]
        assert with_edns == ([True, False, False, False] if edns == "refused" else [True, True, True])
        assert dns.queries[-1] == ("large.safe.test", "MX", "tcp")


async def test_the_answers_that_edns_makes_room_for_need_no_tcp() -> None:
    async with PeerDns(ZONE) as dns:
        found = await Resolver([dns.listen]).mx("large.safe.test")
        assert isinstance(found, tuple)
        assert len(found) == 40
        assert dns.queries == [("large.safe.test", "MX", "udp")]


async def test_a_question_without_an_answer_is_no_sign_against_a_server_that_knows_edns() -> None:
    """Whoever owns a slow domain would turn off DNSSEC for the others."""
    async with PeerDns(ZONE) as dns:
        resolver = Resolver([dns.listen], try_s=0.2)
        await resolver.mx("safe.test")
        dns.lost.add("slow.test")
        assert await resolver.mx("slow.test") == ((10, "mx.slow.test"),)
        asked = len(dns.flags)
        await resolver.mx("other.safe.test")
        assert dns.flags[asked] == (True, True, True)
