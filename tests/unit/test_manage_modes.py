"""Mode, brakes, tracking and retention of keys, by the actions of operators and by the command line."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.config import CaptureRoute, Config, Http, KeyConfig, Secret
from gateway.errors import Reason, Refused
from gateway.keyterms import Brakes, Limit, Mode, ModeKind, Unit
from gateway.manage import Manager
from gateway.policy.auth import KeyRing
from gateway.policy.brakes import Braking
from gateway.policy.domains import Domains
from gateway.resolver import Missing
from gateway.runtime import Clock
from gateway.store.sqlite import SqliteStore
from gateway.store.vault import Vault
from gateway.tokens import Tokens
from tests.unit.test_cli import Shell

NOW = 1_800_000_000_000
URL = "https://mail.example.com"
VOLUME = Limit(Unit.RECIPIENTS, 2, 86_400, 2)


async def _no_lookup(name: str) -> Missing:
    raise AssertionError(f"{name} is looked up")


class Desk:
    """A manager with brakes, and what it keeps in memory."""

    def __init__(self, store: SqliteStore, public_url: str | None = None) -> None:
        declared = KeyConfig("cfg", Secret("c" * 30), "acme", mode=Mode(ModeKind.HOLD), brakes=Brakes(volume=VOLUME))
        config = Config(
            routes={"inbox": CaptureRoute("inbox")},
            default_route="inbox",
            keys={"cfg": declared},
            http=Http(public_url=public_url),
        )
        self.keys = KeyRing()
        clock = Clock(now_ms=lambda: NOW, monotonic=lambda: 1000.0)
        hashed = Tokens(b"k" * 32).hashed
        self.braking = Braking(store.brakes, store.event_log, self.keys, hashed=hashed, clock=clock)
        self.manager = Manager(
            config,
            store.records,
            Vault(b"k" * 32),
            store,
            keys=self.keys,
            domains=Domains(),
            clock=clock,
            lookup=_no_lookup,
            braking=self.braking,
        )

    async def act(self, action: str, /, **args: Any) -> Any:
        return await self.manager.actions()[action](args)

    async def refused(self, why: Reason, action: str, /, **args: Any) -> str:
        with pytest.raises(Refused) as refusal:
            await self.act(action, **args)
        assert refusal.value.reason is why
        return refusal.value.text


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    opened = await SqliteStore.open(tmp_path / "gateway.db")
    yield opened
    await opened.close()


@pytest.fixture
async def desk(store: SqliteStore) -> Desk:
    made = Desk(store, URL)
    await made.manager.load()
    return made


async def test_what_a_key_is_made_with(desk: Desk) -> None:
    given = {
        "mode": "allow:*@example.org",
        "track": ["opens", "clicks"],
        "brakes": ["volume=2/day", "bounces=10%"],
        "retention": ["messages=30d"],
    }
    made = await desk.act("key.create", name="shop", **given)
    assert {name: made[name] for name in given} == given
    principal = desk.keys.named("shop", NOW)
    assert (principal.mode, principal.track) == (Mode(ModeKind.ALLOW, ("*@example.org",)), 3)
    assert principal.brakes == Brakes(volume=VOLUME, bounces=0.1)
    assert desk.keys.with_brakes.keys() == {"cfg", "shop"}


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ({"mode": "paused"}, "mode: 'paused' is not"),
        ({"track": ["reads"]}, "track: 'reads' is not one of"),
        ({"brakes": ["volume=many"]}, "brake: 'many' is not a rate"),
        ({"retention": ["messages=0s"]}, "retention: "),
    ],
)
async def test_what_no_key_is_made_with(desk: Desk, args: dict[str, Any], words: str) -> None:
    assert (await desk.refused(Reason.INVALID_PARAMETER, "key.create", name="shop", **args)).startswith(words)


async def test_tracking_needs_a_url(store: SqliteStore) -> None:
    desk = Desk(store)
    await desk.manager.load()
    text = await desk.refused(Reason.INVALID_PARAMETER, "key.create", name="shop", track=["opens"])
    assert "http.public_url" in text


async def test_a_mode_is_changed_at_once(desk: Desk) -> None:
    await desk.act("key.create", name="shop")
    changed = await desk.act("key.mode", name="shop", mode="redirect:qa@example.org")
    assert changed["mode"] == "redirect:qa@example.org"
    assert desk.keys.named("shop", NOW).mode == Mode(ModeKind.REDIRECT, ("qa@example.org",))
    await desk.refused(Reason.NOT_FOUND, "key.mode", name="other", mode="live")
    await desk.refused(Reason.INVALID_PARAMETER, "key.mode", name="shop", mode="paused")
    assert "change its mode there" in await desk.refused(Reason.CONFLICT, "key.mode", name="cfg", mode="live")


async def test_a_braked_key_is_shown_and_released(desk: Desk) -> None:
    principal = desk.keys.named("cfg", NOW)
    await desk.refused(Reason.NOT_FOUND, "key.release", name="cfg")
    assert await desk.braking.judge(principal, ["a@example.com"] * 3)
    shown = await desk.act("key.show", name="cfg")
    assert shown["braked"] == {
        "reason": "volume",
        "detail": "more than 2 recipients per day",
        "since": "2027-01-15T08:00:00.000Z",
    }
    assert [view["braked"] is None for view in await desk.act("key.list")] == [False]
    await desk.refused(Reason.INVALID_PARAMETER, "key.release", name="cfg", reason="two\nlines")
    released = await desk.act("key.release", name="cfg", reason="it was meant")
    assert released["was"] == shown["braked"]
    assert (await desk.act("key.show", name="cfg"))["braked"] is None


# The command line


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(tmp_path, capsys)


def test_the_command_line(shell: Shell) -> None:
    shell.ok("key", "create", "shop", "--mode", "hold", "--brake", "volume=1/day", "--retention", "events=10d")
    shown = shell.json("key", "show", "shop")
    assert (shown["mode"], shown["brakes"], shown["retention"]) == ("hold", ["volume=1/day"], ["events=10d"])
    assert "redirect:qa@example.org" in shell.ok("key", "mode", "shop", "redirect:qa@example.org")
    assert "redirect:qa@example.org" in shell.ok("key", "list")
    assert "There is no braked key shop" in shell.fails(1, "key", "release", "shop")
    shell.ok("key", "mode", "shop", "live")
    text = shell.directory / "text"
    text.write_text("It works.\n")
    letter = ("send", "--key", "shop", "--from", "a@example.com", "--subject", "Hi", "--text", str(text))
    sent = shell.json(*letter, "--to", "b@example.com", "--to", "c@example.com")
    assert sent["status"] == "held"
    out = shell.ok("key", "show", "shop")
    assert "active (braked)" in out
    assert "held since" in out
    out = shell.ok("key", "release", "shop")
    assert "mail-gateway queue release --key shop" in out
    assert shell.json(*letter, "--to", "b@example.com")["status"] == "captured"
    shell.json(*letter, "--to", "b@example.com", "--to", "c@example.com")
    released = shell.json("key", "release", "shop", "--queued")
    assert released["queued"]["released"] == 4


@pytest.mark.parametrize(
    "argv",
    [
        ("key", "mode", "shop", "paused"),
        ("key", "create", "shop", "--mode", "held"),
        ("key", "create", "shop", "--track", "reads"),
        ("key", "create", "shop", "--brake", "volume"),
        ("key", "create", "shop", "--retention", "messages"),
    ],
)
def test_usage(shell: Shell, argv: tuple[str, ...]) -> None:
    assert "is not" in shell.fails(2, *argv)
