"""Who the client is behind proxies: the rules, and over real sockets."""

from dataclasses import replace
from ipaddress import ip_network

import pytest

from gateway.api.proxies import TrustedProxies
from gateway.config import Config, Http
from tests.api.conftest import MAIL, SEND, Api, Client, Start

TRUSTED = TrustedProxies([ip_network(text) for text in ("127.0.0.0/8", "10.0.0.0/8", "2001:db8:1::/48")])
PROXY = "127.0.0.1"


@pytest.mark.parametrize(
    ("fields", "client"),
    [
        ([], PROXY),
        ([""], PROXY),
        (["192.0.2.7"], "192.0.2.7"),
        ([" 192.0.2.7\t"], "192.0.2.7"),
        (["192.0.2.7:4711"], "192.0.2.7"),
        (["2001:db8::7"], "2001:db8::7"),
        (["2001:DB8:0::7"], "2001:db8::7"),
        (["[2001:db8::7]"], "2001:db8::7"),
        (["[2001:db8::7]:4711"], "2001:db8::7"),
        (["::ffff:192.0.2.7"], "192.0.2.7"),
        (["fe80::7%eth0"], "fe80::7"),
        # What stands to the left of the right-most address that is not trusted, the client wrote itself.
        (["10.1.2.3, 192.0.2.7"], "192.0.2.7"),
        (["192.0.2.1, 192.0.2.7"], "192.0.2.7"),
        (["nonsense, 192.0.2.7"], "192.0.2.7"),
        (["192.0.2.7, 10.1.2.3"], "192.0.2.7"),
        (["192.0.2.1, 192.0.2.7, 2001:db8:1::5, ::ffff:10.1.2.3"], "192.0.2.7"),
        (["192.0.2.1", "192.0.2.7"], "192.0.2.7"),  # several fields are one list (RFC 9110, 5.3)
        (["192.0.2.7", "10.1.2.3"], "192.0.2.7"),
        # All trusted: a client within those networks.
        (["10.9.9.9, 10.1.2.3"], "10.9.9.9"),
        # Not an address where one must be: nobody but the proxy can be named.
        (["192.0.2.7, unknown"], PROXY),
        (["192.0.2.7,"], PROXY),
        (["192.0.2.7, _hidden, 10.1.2.3"], PROXY),
        (["localhost"], PROXY),
        (["192.0.2.256"], PROXY),
        (["192.0.2.07"], PROXY),
        (["3221225991"], PROXY),
        (["[192.0.2.7"], "192.0.2.7"),
        (["192.0.2.7\x00"], PROXY),
        (["192.0.2.7 10.1.2.3"], PROXY),
        (["," * 10_000], PROXY),
    ],
)
def test_the_client_behind_a_proxy(fields: list[str], client: str) -> None:
    assert TRUSTED.behind(PROXY, fields) == client


@pytest.mark.parametrize(
    ("peer", "trusted"),
    [
        ("127.9.9.9", True),
        ("::ffff:10.0.0.1", True),
        ("2001:db8:1:ffff::1", True),
        ("2001:db8:2::1", False),
        ("fe80::1%eth0", False),
        ("192.0.2.1", False),
        ("", False),
    ],
)
def test_who_is_trusted(peer: str, trusted: bool) -> None:
    assert TRUSTED.trusts(peer) is trusted
    assert not TrustedProxies(()).trusts(peer)


async def _peer(api: Api, *fields: str) -> str:
    client = await Client.connect(api.server)
    forwarded = "".join(f"X-Forwarded-For: {field}\r\n" for field in fields)
    client.writer.write(
        f"POST {SEND} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer full\r\nContent-Length: 87\r\n"
        f"{forwarded}Forwarded: for=198.51.100.1\r\nX-Real-Ip: 198.51.100.2\r\n\r\n".encode()
        + str(MAIL).replace("'", '"').encode().ljust(87)
    )
    assert (await client.read()).status == 201
    await client.close()
    return api.door.asked[-1].peer


async def test_the_door_is_told_of_the_client(start: Start, config: Config) -> None:
    networks = (ip_network("127.0.0.0/8"),)
    api = await start(replace(config, http=replace(config.http, trusted_proxies=networks)))
    assert await _peer(api, "192.0.2.1", "192.0.2.7, 127.0.0.2") == "192.0.2.7"
    assert await _peer(api) == "127.0.0.1"


async def test_others_cannot_say_who_they_are(start: Start, config: Config) -> None:
    networks = (ip_network("10.0.0.0/8"),)
    for http in (config.http, Http(config.http.listeners, trusted_proxies=networks)):
        api = await start(replace(config, http=http))
        assert await _peer(api, "192.0.2.7") == "127.0.0.1"
        assert await _peer(api, "10.0.0.1, 192.0.2.7") == "127.0.0.1"
