"""Mode, tracking, brakes and retention of keys: as the file and the command line have them."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway import configfile
from gateway.config import KeyConfig
from gateway.configfile import keymodes
from gateway.keyterms import Brakes, KeyRetention, Limit, Mode, ModeKind, Unit

SECRET = "a" * 28
DAILY = Limit(Unit.RECIPIENTS, 5000, 86_400, 5000)


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        ("live", Mode()),
        ("capture", Mode(ModeKind.CAPTURE)),
        ("hold", Mode(ModeKind.HOLD)),
        ("redirect:qa@Example.ORG", Mode(ModeKind.REDIRECT, ("qa@example.org",))),
        ("allow:*@example.org, a@example.com,*@*.example.net", None),
        ("allow:*", Mode(ModeKind.ALLOW, ("*",))),
    ],
)
def test_modes(text: str, mode: Mode | None) -> None:
    found = keymodes.mode(text)
    assert found == (mode or Mode(ModeKind.ALLOW, ("*@example.org", "a@example.com", "*@*.example.net")))
    assert keymodes.mode(str(found)) == found


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "is not live, capture"),
        ("Live", "is not live, capture"),
        ("paused", "is not live, capture"),
        ("hold:", "hold stands alone"),
        ("capture:x", "capture stands alone"),
        ("redirect", "names no address; a mode is live, .* redirect:ADDRESS"),
        ("redirect:a@b,c@d", "is not an address"),
        ("allow:", "names no address"),
        ("allow:a@b,", "'' is not an address or a pattern"),
        ("allow:example.com", "is not an address or a pattern"),
    ],
)
def test_no_modes(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        keymodes.mode(text)


@pytest.mark.parametrize(
    ("words", "total"), [([], 0), (["opens"], 1), (["clicks", "opens"], 3), (["clicks", "text"], 6)]
)
def test_tracks(words: list[str], total: int) -> None:
    assert keymodes.tracked(words) == total
    assert keymodes.tracked(keymodes.tracks(total)) == total


@pytest.mark.parametrize("words", [["text"], ["opens", "text"], ["reads"], [""]])
def test_no_tracks(words: list[str]) -> None:
    with pytest.raises(ValueError, match=r"text|reads|''"):
        keymodes.tracked(words)


@pytest.mark.parametrize(
    ("texts", "brakes"),
    [
        ([], Brakes()),
        (["volume=5000/day"], Brakes(volume=DAILY)),
        (["bounces=10%", "new_recipients=5000/d"], Brakes(bounces=0.1, new_recipients=DAILY)),
        (["bounces=2.5%"], Brakes(bounces=0.025)),
    ],
)
def test_brakes(texts: list[str], brakes: Brakes) -> None:
    found = keymodes.parse_brakes(texts)
    assert found == brakes
    assert keymodes.parse_brakes(keymodes.brake_texts(found)) == found
    assert bool(found) == bool(texts)


@pytest.mark.parametrize(
    "texts",
    [
        ["volume"],
        ["volume=many"],
        ["volume=1/day", "volume=2/day"],
        ["bounces=0%"],
        ["bounces=100%"],
        ["bounces=0.1"],
        [""],
    ],
)
def test_no_brakes(texts: list[str]) -> None:
    with pytest.raises(ValueError, match=r"volume|share|rate|brake"):
        keymodes.parse_brakes(texts)


@pytest.mark.parametrize(
    ("texts", "retention"),
    [
        ([], KeyRetention()),
        (["delivered=0s", "failed=7d"], KeyRetention(content_delivered_s=0, content_failed_s=7 * 86_400)),
        (["messages=90m", "events=36h"], KeyRetention(messages_s=5400, events_s=36 * 3600)),
    ],
)
def test_retention(texts: list[str], retention: KeyRetention) -> None:
    found = keymodes.parse_retention(texts)
    assert found == retention
    assert keymodes.parse_retention(keymodes.retention_texts(found)) == found


@pytest.mark.parametrize(
    "texts", [["content=1d"], ["messages=0s"], ["events=4000d"], ["failed=1d", "failed=2d"], ["events=x"]]
)
def test_no_retention(texts: list[str]) -> None:
    with pytest.raises(ValueError, match=r"time to keep|nothing|twice|duration"):
        keymodes.parse_retention(texts)


# In the file


def read(tmp_path: Path, **key: Any) -> tuple[KeyConfig | None, list[str]]:
    """The key of a file, and what is wrong with it."""
    path = tmp_path / "gateway.yaml"
    path.write_text(yaml.safe_dump({"hostname": "mail.example.com", "keys": {"shop": {"secret": SECRET} | key}}))
    path.chmod(0o600)
    config, problems, _ = configfile.read_config(path, {})
    return config.keys.get("shop"), [f"{one.path}: {one.message}" for one in problems if one.path != "hostname"]


def test_all_of_it_in_the_file(tmp_path: Path) -> None:
    key, problems = read(
        tmp_path,
        mode="redirect:qa@example.org",
        brakes={"volume": "5000/day", "bounces": "10%", "new_recipients": "5000/day"},
        retention={"content": {"delivered": "0s", "failed": "7d"}, "messages": "30d", "events": "60d"},
    )
    assert problems == []
    assert key is not None
    assert key.mode == Mode(ModeKind.REDIRECT, ("qa@example.org",))
    assert key.brakes == Brakes(DAILY, 0.1, DAILY)
    assert key.retention == KeyRetention(0, 7 * 86_400, 30 * 86_400, 60 * 86_400)


def test_nothing_of_it_in_the_file(tmp_path: Path) -> None:
    key, problems = read(tmp_path, track={"opens": False, "clicks": False})
    assert problems == []
    assert key is not None
    assert (key.mode, key.track, key.brakes, key.retention) == (Mode(), 0, Brakes(), KeyRetention())


@pytest.mark.parametrize(
    ("key", "problem"),
    [
        ({"mode": "paused"}, "keys.shop.mode: 'paused' is not live"),
        ({"track": ["opens"]}, "keys.shop.track: must be a mapping"),
        ({"track": {"text": True}}, "keys.shop.track: text means"),
        ({"track": {"reads": True}}, "keys.shop.track.reads: unknown key"),
        ({"brakes": {"bounce": "5%"}}, "keys.shop.brakes.bounce: unknown key; did you mean bounces?"),
        ({"brakes": {"bounces": "100%"}}, "keys.shop.brakes.bounces: '100%' is not a share"),
        ({"brakes": {"volume": "many"}}, "keys.shop.brakes.volume: 'many' is not a rate"),
        ({"retention": {"messages": "0s"}}, "keys.shop.retention.messages: must be more than nothing"),
        ({"retention": {"content": {"sent": "1d"}}}, "keys.shop.retention.content.sent: unknown key"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(tmp_path: Path, key: dict[str, Any], problem: str) -> None:
    _, (told,) = read(tmp_path, **key)
    assert told.startswith(problem)
