"""The HTTP door by another configuration, and with another certificate. Over real sockets."""

import json
import ssl
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path

import pytest
from trustme import KeyType

from gateway.config import Config, Dialects, Http, HttpListener, Limits, Listen, ListenerTls, Tls
from gateway.errors import ConfigError
from tests.api.conftest import MAIL, SEND, Api, Client, Start
from tests.fakes import certs

BODY = json.dumps(MAIL).encode()
AUTH = {"Authorization": "Bearer full"}


async def _shakes_hands(api: Api, context: ssl.SSLContext, name: str = "localhost") -> bool:
    try:
        client = await Client.connect(api.server, ssl=context, server_hostname=name)
    except (ssl.SSLError, ConnectionError):
        return False
    client.write("GET", "/health/live")
    answered = (await client.read()).status == 200
    await client.close()
    return answered


async def test_half_of_a_renewal_is_not_used(
    start: Start, config: Config, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = certs.make(tmp_path)
    listener = HttpListener(Listen("127.0.0.1", 0), tls=ListenerTls.IMPLICIT)
    api = await start(replace(config, tls=first.tls, http=Http((listener,))))
    assert not api.server.refresh_certificate()
    key = first.tls.key.read_bytes()
    second = certs.make(tmp_path)
    new_key = second.tls.key.read_bytes()

    second.tls.key.write_bytes(key)
    assert not api.server.refresh_certificate()
    assert "cannot be used yet" in caplog.text
    assert await _shakes_hands(api, first.client)
    first.tls.certificate.rename(tmp_path / "away")
    assert not api.server.refresh_certificate()
    assert await _shakes_hands(api, first.client)

    (tmp_path / "away").rename(first.tls.certificate)
    second.tls.key.write_bytes(new_key)
    assert api.server.refresh_certificate()
    assert not api.server.refresh_certificate()
    assert await _shakes_hands(api, second.client)
    assert not await _shakes_hands(api, first.client)


@pytest.mark.parametrize("kinds", [(KeyType.RSA, KeyType.ECDSA), (KeyType.ECDSA, KeyType.RSA)], ids=["to EC", "to RSA"])
async def test_a_key_of_another_kind_leaves_nothing_of_the_old_certificate(
    start: Start, config: Config, tmp_path: Path, kinds: tuple[KeyType, KeyType]
) -> None:
    """A context has a place for each kind of key, and would show either."""
    old = certs.make(tmp_path, kind=kinds[0])
    listener = HttpListener(Listen("127.0.0.1", 0), tls=ListenerTls.IMPLICIT)
    api = await start(replace(config, tls=old.tls, http=Http((listener,))))
    assert await _shakes_hands(api, old.client)
    new = certs.make(tmp_path, kind=kinds[1])
    assert api.server.refresh_certificate()
    assert await _shakes_hands(api, new.client)
    of_the_old_kind = old.client
    of_the_old_kind.maximum_version = ssl.TLSVersion.TLSv1_2
    of_the_old_kind.set_ciphers("aRSA" if kinds[0] is KeyType.RSA else "aECDSA")
    assert not await _shakes_hands(api, of_the_old_kind)


async def test_who_names_no_host_is_shown_the_newest_certificate_too(
    start: Start, config: Config, tmp_path: Path
) -> None:
    old = certs.make(tmp_path)
    listener = HttpListener(Listen("127.0.0.1", 0), tls=ListenerTls.IMPLICIT)
    api = await start(replace(config, tls=old.tls, http=Http((listener,))))
    new = certs.make(tmp_path)
    assert api.server.refresh_certificate()
    old.client.check_hostname = new.client.check_hostname = False
    for newest in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        old.client.maximum_version = new.client.maximum_version = newest
        assert await _shakes_hands(api, new.client, name="")
        assert not await _shakes_hands(api, old.client, name="")


async def test_a_certificate_elsewhere(start: Start, config: Config, tmp_path: Path) -> None:
    first, second = certs.make(tmp_path / "one"), certs.make(tmp_path / "two")
    listener = HttpListener(Listen("127.0.0.1", 0), tls=ListenerTls.IMPLICIT)
    config = replace(config, tls=first.tls, http=Http((listener,)))
    api = await start(config)
    with pytest.raises(ConfigError, match=r"tls\.certificate"):
        await api.server.prepare(replace(config, tls=Tls(first.tls.certificate, second.tls.key)))
    (await api.server.prepare(replace(config, tls=second.tls)))()
    assert await _shakes_hands(api, second.client)
    assert not await _shakes_hands(api, first.client)


async def test_requests_to_come_go_by_the_new_configuration(start: Start, config: Config) -> None:
    """Also on a connection that is open already."""
    api = await start(config)
    client = await Client.connect(api.server)
    client.write("POST", SEND, BODY, AUTH)
    assert (await client.read()).status == 201
    commit = await api.server.prepare(
        replace(
            config,
            max_message=1000,
            limits=Limits(connections=1),
            http=replace(config.http, trusted_proxies=(ip_network("127.0.0.0/8"),)),
            dialects=Dialects(disabled=frozenset({"overton"}), sendmux_success_status=200),
        )
    )
    client.write("POST", SEND, BODY, AUTH)
    assert (await client.read()).status == 201, "nothing changes before it is committed"
    commit()
    client.write("POST", SEND, BODY, AUTH | {"X-Forwarded-For": "192.0.2.9"})
    assert (await client.read()).status == 200
    assert api.door.asked[-1].peer == "192.0.2.9"
    large = json.dumps(MAIL | {"text": "x" * 4_000_000}).encode()
    client.write("POST", SEND, large, AUTH)
    assert (await client.read()).status == 413
    second = await Client.connect(api.server)
    assert (await second.read()).status == 503, "one connection is all there may be"
    for one in (client, second):
        await one.close()
