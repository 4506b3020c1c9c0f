"""What the doors make of recipients that are not sent to, over a real store."""

import io
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from gateway import doors
from gateway.app import Core
from gateway.config import CaptureRoute, Config, KeyConfig, Secret
from gateway.errors import Reason, Refused
from gateway.keyterms import Mode, ModeKind
from gateway.store.suppression import EVERYBODY, Entry, Kind
from gateway.store.suppression import Reason as Why

PEER = "192.0.2.7"
ANN = Entry("shop", "", Kind.ADDRESS, "ann@example.com", Why.COMPLAINT, "", 1, None)


@pytest.fixture
def log() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
async def core(tmp_path: Path, log: io.StringIO) -> AsyncIterator[Core]:
    away = Mode(ModeKind.REDIRECT, ("test@example.org",))
    config = Config(
        hostname="mail.example.com",
        data_dir=tmp_path / "data",
        routes={"in": CaptureRoute("in")},
        default_route="in",
        keys={
            "shop": KeyConfig("shop", Secret("shop_0123456789abcdefghijklmn"), "shop"),
            "away": KeyConfig("away", Secret("away_0123456789abcdefghijklmn"), "shop", mode=away),
        },
        simulator="simulator.test",
    )
    async with Core(config, log_stream=log) as opened:
        yield opened


def smtp(core: Core) -> doors.SmtpDoor:
    return doors.SmtpDoor(core.keys, core.intake, core.clock, core.mail_log, suppressions=core.suppressions)


async def test_a_suppressed_recipient_is_refused_in_public_words(core: Core, log: io.StringIO) -> None:
    await core.store.suppressed.add(
        (replace(ANN, note="by telephone"), replace(ANN, value="bob@example.com", tag="news"))
    )
    door = smtp(core)
    shop = door.network_principal("shop")
    assert door.is_suspect(shop, "Ann@example.com")
    with pytest.raises(Refused) as refusal:
        await door.judge_recipient(shop, "Ann@example.com", PEER)
    assert refusal.value.smtp_reply == "550 5.7.1 The recipient is suppressed: its owner complained about mail."
    assert refusal.value.reason is Reason.RECIPIENT_SUPPRESSED
    await door.judge_recipient(shop, "bob@example.com", PEER)  # its tag is not known yet
    assert not door.is_suspect(shop, "eve@example.com")
    core.mail_log.flush()
    assert f"refused door=smtp key=shop client={PEER} " in log.getvalue()


async def test_another_accounts_entry_is_nothing_to_it(core: Core) -> None:
    await core.store.suppressed.add((replace(ANN, account="other"),))
    door = smtp(core)
    await door.judge_recipient(door.network_principal("shop"), "ann@example.com", PEER)
    await core.store.suppressed.add((replace(ANN, account=EVERYBODY),))
    with pytest.raises(Refused):
        await door.judge_recipient(door.network_principal("shop"), "ann@example.com", PEER)


async def test_who_is_not_written_to_is_no_suspect(core: Core) -> None:
    await core.store.suppressed.add((ANN, replace(ANN, value="bounce@simulator.test")))
    door = smtp(core)
    assert not door.is_suspect(door.network_principal("away"), "ann@example.com")
    assert not door.is_suspect(door.network_principal("shop"), "bounce@simulator.test")
