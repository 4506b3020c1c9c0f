"""To add to tests/unit/test_resolver.py."""

from pathlib import Path

import pytest

from gateway.resolver import Resolver, lookup
from gateway.resolver.nameserver import Nameserver
from tests.fakes.dns import FakeDns


async def test_the_systems_nameservers_are_read_again_when_they_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    conf = tmp_path / "resolv.conf"
    monkeypatch.setattr(lookup, "RESOLV_CONF", conf)
    monkeypatch.setattr(lookup, "LOOK_S", 0.0)
    async with FakeDns("a.test A 192.0.2.1") as dns:
        monkeypatch.setattr(lookup, "Nameserver", lambda _host, _port: Nameserver("127.0.0.1", dns.listen.port))
        resolver = Resolver(lifetime_s=5)
        asked = list(resolver._resolver.nameservers)
        assert await resolver.addresses("a.test", ipv4=True, ipv6=False) == ("192.0.2.1",)
        assert resolver._resolver.nameservers == asked
        conf.write_text("nameserver 127.0.0.7\n")
        await resolver.txt("b.test")
        assert resolver._resolver.nameservers != asked
