"""The doors tell the mail log whom they did not let in, and show nobody another's mail."""

import io
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway import doors
from gateway.app import Core
from gateway.config import CaptureRoute, Config, KeyConfig, Secret
from gateway.delivery.passthrough import PassThrough
from gateway.delivery.waits import Waits
from gateway.errors import Reason, Refused
from gateway.resolver import Resolver
from gateway.store.queue import Filter

SECRET = "cfg_0123456789abcdefghijklmnop"
WRONG = "wrong_secret"
PEER = "192.0.2.7"


class Entrance:
    """Both doors over one data directory."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self.http = doors.HttpDoor(
            core.keys,
            core.intake,
            core.store,
            limiter=core.limiter,
            waits=Waits(core.store, core.clock),
            pass_through=PassThrough(core.config, core.store, Resolver(()), clock=core.clock, log=core.mail_log),
            templates=core.templates,
            clock=core.clock,
            log=core.mail_log,
            why_not_ready=lambda: None,
        )
        self.smtp = doors.SmtpDoor(core.keys, core.intake, core.clock, core.mail_log)


@pytest.fixture
def log() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
async def entrance(tmp_path: Path, log: io.StringIO) -> AsyncIterator[Entrance]:
    config = Config(
        hostname="localhost",
        data_dir=tmp_path,
        routes={"inbox": CaptureRoute("inbox")},
        default_route="inbox",
        keys={"shop": KeyConfig("shop", Secret(SECRET), "acme")},
    )
    async with Core(config, log_stream=log) as core:
        yield Entrance(core)


async def test_who_is_let_in(entrance: Entrance) -> None:
    assert entrance.http.authenticate(SECRET, PEER).name == "shop"
    assert entrance.smtp.authenticate("anything", SECRET, PEER).name == "shop"
    assert entrance.smtp.network_principal("shop").account == "acme"
    assert entrance.http.ready() is None


@pytest.mark.parametrize("door", ["http", "smtp"])
async def test_who_is_not_let_in_is_told_without_the_secret(entrance: Entrance, log: io.StringIO, door: str) -> None:
    http, smtp = entrance.http, entrance.smtp
    knock = {"http": lambda: http.authenticate(WRONG, PEER), "smtp": lambda: smtp.authenticate("shop", WRONG, PEER)}
    with pytest.raises(Refused) as refusal:
        knock[door]()
    assert refusal.value.reason is Reason.AUTHENTICATION_REQUIRED
    entrance.core.mail_log.flush()
    assert f'refused door={door} key="" client={PEER} reason=authentication_required' in log.getvalue()
    assert WRONG not in log.getvalue()


async def test_a_network_whose_key_is_gone_is_told(entrance: Entrance, log: io.StringIO) -> None:
    with pytest.raises(Refused):
        entrance.smtp.network_principal("gone")
    entrance.core.mail_log.flush()
    assert "refused door=smtp key=gone " in log.getvalue()


async def test_anothers_message_is_not_there(entrance: Entrance) -> None:
    actions = entrance.core.actions()
    sent = await actions["send"](
        {"key": "shop", "body": {"from": "a@example.com", "to": "b@example.net", "text_body": "x"}}
    )
    shown = await actions["queue.show"]({"id": sent["message_id"]})
    await actions["key.create"]({"name": "other", "secret": SECRET[::-1]})
    uuid = (await entrance.core.store.find(Filter()))[0].uuid
    mine = entrance.http.authenticate(SECRET, "")
    theirs = entrance.http.authenticate(SECRET[::-1], "")
    assert shown["account"] == "acme"
    assert await entrance.http.status(mine, uuid) is not None
    assert await entrance.http.status(theirs, uuid) is None
