"""The listener's TLS on real sockets: STARTTLS and implicit, versions, certificates that change."""

import asyncio
import contextlib
import resource
import smtplib
import socket
import ssl
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from trustme import KeyType

from gateway.config import Auth, Limits, ListenerTls
from gateway.errors import ConfigError
from gateway.smtp import implicit
from tests.fakes import certs
from tests.fakes.smtp_door import FakeDoor
from tests.fakes.smtp_listener import HOME, MESSAGE, WAIT_S, client, config, in_thread, on_both_loops, serving


@pytest.fixture
def door() -> FakeDoor:
    return FakeDoor()


@on_both_loops
@pytest.mark.parametrize("mode", [ListenerTls.STARTTLS, ListenerTls.IMPLICIT])
async def test_smtplib_over_tls(door: FakeDoor, tmp_path: Path, mode: ListenerTls) -> None:
    made = certs.make(tmp_path)
    listener = replace(HOME, tls=mode, auth=Auth.REQUIRED, networks=(), plaintext_auth=False)
    body = b"x" * 70 + b"\r\n"
    async with serving(config(listener, tls=made), door) as server:
        port = server.addresses[0].port

        def send() -> None:
            smtp = (
                smtplib.SMTP_SSL("localhost", port, timeout=WAIT_S, context=made.client)
                if mode is ListenerTls.IMPLICIT
                else smtplib.SMTP("localhost", port, timeout=WAIT_S)
            )
            with smtp:
                if mode is ListenerTls.STARTTLS:
                    assert smtp.ehlo()[0] == 250
                    assert not smtp.has_extn("auth")
                    smtp.starttls(context=made.client)
                smtp.login("shop", "secret")
                smtp.sendmail("a@example.com", "b@example.org", MESSAGE)
                smtp.sendmail("a@example.com", "b@example.org", body * 20_000)

        await in_thread(send)
    assert [message.content for message in door.accepted] == [MESSAGE, body * 20_000]
    assert {message.envelope.protocol for message in door.accepted} == {"ESMTPSA"}


@on_both_loops
async def test_an_old_tls_version_is_refused_unless_configured(door: FakeDoor, tmp_path: Path) -> None:
    made = certs.make(tmp_path)
    made.client.maximum_version = ssl.TLSVersion.TLSv1_2
    for least, works in (("1.3", False), ("1.2", True), ("1.0", True)):
        listener = replace(HOME, tls=ListenerTls.IMPLICIT, min_tls=least)
        async with serving(config(listener, tls=made), door) as server:
            with contextlib.nullcontext() if works else pytest.raises((ssl.SSLError, ConnectionError)):
                async with client(server, ssl=made.client, server_hostname="localhost"):
                    pass


@on_both_loops
async def test_a_failed_handshake_leaves_nothing(door: FakeDoor, tmp_path: Path) -> None:
    listener = replace(HOME, tls=ListenerTls.STARTTLS)
    limits = Limits(connections=1)
    async with serving(config(listener, tls=certs.make(tmp_path), limits=limits), door) as server:
        async with client(server) as made:
            await made.say(b"STARTTLS\r\n", "220")
            await made.say(b"this is no handshake\r\n")
            with contextlib.suppress(ConnectionError):
                await made.reader.read()
        async with client(server) as made:
            await made.say(b"QUIT\r\n", "221")


@on_both_loops
async def test_a_handshake_counts_as_a_connection(
    door: FakeDoor, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Who connects for TLS and says nothing is not let in without end; stopping does not wait for it."""
    made = certs.make(tmp_path)
    listener = replace(HOME, tls=ListenerTls.IMPLICIT)
    options: dict[str, Any] = {"ssl": made.client, "server_hostname": "localhost"}
    async with serving(config(listener, tls=made, limits=Limits(connections_per_ip=2)), door) as server:
        address = server.addresses[0]
        async with client(server, **options) as honest:
            silent_reader, silent = await asyncio.open_connection(address.host, address.port)
            while len(server._connections) < 2:
                await asyncio.sleep(0)
            with pytest.raises((ssl.SSLError, ConnectionError)):
                async with client(server, **options):
                    pass
            await honest.say(b"NOOP\r\n", "250")
            silent.write(b"this is no handshake\r\n")
            with caplog.at_level("INFO", "gateway.smtp"), contextlib.suppress(ConnectionError):
                await silent_reader.read()
                while len(server._connections) > 1:
                    await asyncio.sleep(0)
            assert "TLS with 127.0.0.1 failed: " in caplog.text
            silent.close()
            async with client(server, **options) as again:
                await again.say(b"NOOP\r\n", "250")
            _, waiting = await asyncio.open_connection(address.host, address.port)
            while not any(kept._handshake for kept in server._connections):
                await asyncio.sleep(0)
            await asyncio.wait_for(server.stop(WAIT_S), WAIT_S / 2)
            assert not server._connections
            waiting.close()


@on_both_loops
async def test_accepting_pauses_when_no_file_can_be_opened(
    door: FakeDoor, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(implicit, "PAUSE_S", 0.1)
    made = certs.make(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with serving(config(replace(HOME, tls=ListenerTls.IMPLICIT), tls=made), door) as server:
        address = server.addresses[0]
        with socket.socket() as sock, socket.socket() as probe:
            sock.setblocking(False)
            resource.setrlimit(resource.RLIMIT_NOFILE, (probe.fileno() + 1, hard))
            try:
                await asyncio.get_running_loop().sock_connect(sock, (address.host, address.port))
                before = time.process_time()
                await asyncio.sleep(0.5)
                assert time.process_time() - before < 0.25
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            assert 1 <= caplog.text.count("no connection can be accepted for now: Too many open files") <= 6
            reader, writer = await asyncio.open_connection(
                sock=sock.dup(), ssl=made.client, server_hostname="localhost"
            )
            assert (await reader.readline()).startswith(b"220 ")
            writer.close()


@on_both_loops
async def test_a_renewed_certificate_is_used_and_a_bad_one_is_not(door: FakeDoor, tmp_path: Path) -> None:
    old = certs.make(tmp_path)
    listener = replace(HOME, tls=ListenerTls.IMPLICIT)
    async with serving(config(listener, tls=old), door) as server:
        options: dict[str, Any] = {"server_hostname": "localhost"}
        async with client(server, ssl=old.client, **options) as under_way:
            assert not server.reload_certificate()
            new = certs.make(tmp_path)
            assert server.reload_certificate()
            async with client(server, ssl=new.client, **options):
                pass
            with pytest.raises(ssl.SSLCertVerificationError):
                async with client(server, ssl=old.client, **options):
                    pass
            new.tls.key.write_bytes(b"half a file")
            assert not server.reload_certificate()
            async with client(server, ssl=new.client, **options):
                pass
            await under_way.say(b"NOOP\r\n", "250")


@on_both_loops
@pytest.mark.parametrize("kinds", [(KeyType.RSA, KeyType.ECDSA), (KeyType.ECDSA, KeyType.RSA)], ids=["to EC", "to RSA"])
@pytest.mark.parametrize("mode", [ListenerTls.STARTTLS, ListenerTls.IMPLICIT])
async def test_a_key_of_another_kind_leaves_nothing_of_the_old_certificate(
    door: FakeDoor, tmp_path: Path, mode: ListenerTls, kinds: tuple[KeyType, KeyType]
) -> None:
    """A context has a place for each kind of key, and would show either."""
    old = certs.make(tmp_path, kind=kinds[0])
    async with serving(config(replace(HOME, tls=mode), tls=old), door) as server:
        new = certs.make(tmp_path, kind=kinds[1])
        assert server.reload_certificate()
        port = server.addresses[0].port

        def greet(context: ssl.SSLContext) -> None:
            if mode is ListenerTls.IMPLICIT:
                with smtplib.SMTP_SSL("localhost", port, timeout=WAIT_S, context=context):
                    return
            with smtplib.SMTP("localhost", port, timeout=WAIT_S) as smtp:
                smtp.starttls(context=context)

        await in_thread(lambda: greet(new.client))
        of_the_old_kind = old.client
        of_the_old_kind.maximum_version = ssl.TLSVersion.TLSv1_2
        of_the_old_kind.set_ciphers("aRSA" if kinds[0] is KeyType.RSA else "aECDSA")
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await in_thread(lambda: greet(of_the_old_kind))


@on_both_loops
async def test_a_certificate_that_cannot_be_used_is_said_at_start(door: FakeDoor, tmp_path: Path) -> None:
    made = certs.make(tmp_path)
    made.tls.key.unlink()
    listener = replace(HOME, tls=ListenerTls.STARTTLS)
    with pytest.raises(ConfigError, match=r"tls\.certificate"):
        async with serving(config(listener, tls=made), door):
            pass
    with pytest.raises(ConfigError, match=r"smtp\.listeners\[0\]\.tls"):
        async with serving(config(listener), door):
            pass
