"""The gateway in another program: what cannot be opened leaves nothing open, and each part ends whatever others do."""

import asyncio
import json
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway import configfile
from gateway.api.admin import AdminServer
from gateway.api.server import HttpServer
from gateway.app import Core, Gateway
from gateway.config import Config
from gateway.control import ControlServer
from gateway.errors import StoreError
from tests.peers.client import message_json
from tests.peers.daemon import SECRET, relay_to
from tests.peers.process import descendants, free_port, listens
from tests.peers.sink import Sink

RECIPIENT = "you@example.net"


def settings(directory: Path, **more: Any) -> Config:
    path = directory / "gateway.yaml"
    tree = {
        "hostname": "gateway.test",
        "data_dir": str(directory / "data"),
        "http": {"listeners": [{"listen": "127.0.0.1:0"}], "admin": None},
        "smtp": {"listeners": [{"listen": "127.0.0.1:0"}]},
        "keys": {"shop": {"secret": SECRET}},
        **relay_to(free_port()),
        **more,
    }
    path.write_text(json.dumps(tree))
    path.chmod(0o600)
    return configfile.load(path)


async def test_a_busy_port_leaves_nothing_open(tmp_path: Path) -> None:
    """Neither the other door nor the signing process nor the data directory."""
    below = set(descendants(os.getpid()))
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        config = settings(tmp_path, smtp={"listeners": [{"listen": f"127.0.0.1:{port}"}]})
        gateway = Gateway(config)
        with pytest.raises(OSError, match="address already in use"):
            await gateway.open()
    (http,) = gateway.http.addresses
    assert not listens(http.port)
    assert set(descendants(os.getpid())) <= below
    async with Gateway(config) as again:
        assert again.smtp.addresses[0].port == port


async def test_a_database_that_cannot_be_opened_leaves_nothing_open(tmp_path: Path) -> None:
    config = settings(tmp_path)
    config.data_dir.mkdir(mode=0o700)
    config.database_path.write_bytes(b"no database " * 1000)
    for opened in (Core, Gateway):
        with pytest.raises(StoreError, match="not a database"):
            await opened(config).open()
    config.database_path.unlink()
    async with Gateway(config):
        pass


async def test_a_stored_key_that_cannot_be_tracked_any_more_is_told_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    http = {"listeners": [{"listen": "127.0.0.1:0"}], "admin": None}
    async with Core(settings(tmp_path, http={**http, "public_url": "https://mail.example.com"})) as core:
        await core.actions()["key.create"]({"name": "news", "track": ["opens"]})
    async with Gateway(settings(tmp_path)):
        pass
    (told,) = [record.getMessage() for record in caplog.records if record.name == "gateway.policy"]
    assert told.startswith("mail of the key news goes without tracking, which needs http.public_url")


async def test_a_part_that_fails_at_its_end_keeps_no_other_from_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What is on the wire hears its answer, and others may have the data directory."""
    below = set(descendants(os.getpid()))
    on_the_wire, failed = threading.Event(), threading.Event()

    def answer(line: str) -> None:
        if line == ".":
            on_the_wire.set()
            assert failed.wait(60)

    def fails(part: type[Any], *, then: Callable[[], None] = lambda: None) -> None:
        stop = part.stop

        async def stop_and_fail(self: Any, *rest: float) -> None:
            await stop(self, *rest)
            then()
            raise OSError(f"{part.__name__} fails")

        monkeypatch.setattr(part, "stop", stop_and_fail)

    fails(ControlServer)
    fails(HttpServer, then=failed.set)
    fails(AdminServer)
    with Sink(answer=answer) as sink:
        config = settings(tmp_path, **relay_to(sink.port))
        async with Gateway(config) as gateway:
            sent = await gateway.actions()["send"]({"key": "shop", "body": message_json(RECIPIENT)})
            assert await asyncio.to_thread(on_the_wire.wait, 60)
        assert len(sink.accepted) == 1
    for part in ("ControlServer", "HttpServer", "AdminServer"):
        assert f"{part} fails" in caplog.text
    assert set(descendants(os.getpid())) <= below
    async with Core(config) as again:
        (recipient,) = (await again.actions()["queue.show"]({"id": sent["message_id"]}))["recipients"]
    assert (recipient["state"], recipient["possible_duplicate"]) == ("delivered", False)
