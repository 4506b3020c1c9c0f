"""What operators do with the queue, as actions over a real store: their answers, their refusals, their log."""

import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.config import CaptureRoute, Config, KeyConfig, MxRoute, RelayRoute, Secret
from gateway.errors import Reason, Refused
from gateway.events import State
from gateway.manage import Manager, suspensions
from gateway.policy.auth import KeyRing
from gateway.policy.domains import Domains
from gateway.resolver import Missing
from gateway.runtime import show_id
from gateway.store.sqlite import SqliteStore
from gateway.store.vault import Vault
from tests.store.mail import HOUR_MS, LEASE_MS, START_MS, Now, Post, attempt, claim_all

CHANGES = ("retry", "hold", "release", "cancel", "bounce", "redirect")
UNKNOWN = "eml_" + "0" * 24


async def _no_lookup(name: str) -> Missing:
    raise AssertionError(f"{name} is looked up")


class Desk:
    """A manager over a store with a clock that stands still."""

    def __init__(self, store: SqliteStore, now: Now) -> None:
        self.store = store
        self.now = now
        self.post = Post(now)
        routes = (MxRoute("direct"), RelayRoute("ses", "localhost", 587), CaptureRoute("inbox"))
        self.manager = Manager(
            Config(
                routes={route.name: route for route in routes},
                keys={"shop": KeyConfig("shop", Secret("c" * 30), "acme")},
            ),
            store.records,
            Vault(b"k" * 32),
            store,
            keys=KeyRing(),
            domains=Domains(),
            clock=now.clock,
            lookup=_no_lookup,
        )

    async def act(self, verb: str, **args: Any) -> Any:
        return await self.manager.actions()[f"queue.{verb}"](args)

    async def refused(self, verb: str, **args: Any) -> str:
        with pytest.raises(Refused) as refusal:
            await self.act(verb, **args)
        return str(refusal.value)

    async def accept(self, *to: str, **more: Any) -> str:
        message = self.post.message(*to, **more)
        await self.store.enqueue(message)
        return show_id("eml_", message.uuid)

    async def states(self) -> dict[str, tuple[str, str | None]]:
        return {row["to"]: (row["state"], row["blocked_by"]) for row in await self.act("list")}


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    now = Now()
    store = await SqliteStore.open(tmp_path / "q.db", clock=now.clock)
    made = Desk(store, now)
    await made.manager.load()
    yield made
    await store.close()


async def test_each_change_says_how_many_and_who_was_left_alone(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "gateway.manage")
    await desk.accept("a@example.com")
    await claim_all(desk.store, START_MS + LEASE_MS)
    await desk.accept("b@example.com", "c@example.net")
    assert await desk.act("hold", key="shop", reason="look") == {"held": 2, "in_hand": 1}
    assert await desk.states() == {
        "a@example.com": ("queued", "lease"),
        "b@example.com": ("held", "held"),
        "c@example.net": ("held", "held"),
    }
    assert await desk.act("release", domain="Example.COM") == {"released": 1, "in_hand": 0, "suspensions": 0}
    assert await desk.act("redirect", to="b@example.com", new_route="ses") == {
        "redirected": 1,
        "in_hand": 0,
        "waiting": 0,
    }
    assert await desk.act("cancel", route="ses") == {"cancelled": 1, "in_hand": 0}
    assert await desk.act("bounce", state="held", reason="552 5.0.0 no more") == {"bounced": 1, "in_hand": 0}
    assert await desk.act("retry", all=True) == {"retried": 0, "in_hand": 1, "suspensions": 0}
    assert [record.getMessage() for record in caplog.records] == [
        "queue hold (key=shop): 2 recipients, reason: look",
        "queue release (domain=Example.COM): 1 recipients",
        "queue redirect (to=b@example.com): 1 recipients, to the route ses",
        "queue cancel (route=ses): 1 recipients",
        "queue bounce (state=held): 1 recipients, reason: 552 5.0.0 no more",
        "queue retry (all): 0 recipients",
    ]


async def test_a_dry_run_changes_nothing_and_counts_what_would_be(desk: Desk) -> None:
    await desk.accept("hand@example.com")
    await claim_all(desk.store, START_MS + LEASE_MS)
    await desk.accept(*[f"u{n}@example.com" for n in range(28)], key="crm")
    await desk.accept("later@example.com", send_at=START_MS + HOUR_MS)
    await desk.act("hold", to="u0@example.com")
    before = await desk.states()
    for verb, count, in_hand in (
        ("hold", 28, 1),
        ("release", 1, 0),
        ("cancel", 29, 1),
        ("bounce", 29, 1),
        ("redirect", 29, 1),
        ("retry", 0, 1),
    ):
        said = await desk.act(verb, all=True, dry_run=True, new_route="ses")
        assert (said[f"would_{verb}"], said["in_hand"], said["more"]) == (count, in_hand, False), verb
        assert len(said["first"]) == min(count, 25)
    said = await desk.act("retry", state="scheduled", dry_run=True)
    assert [row["to"] for row in said["first"]] == ["later@example.com"]
    said = await desk.act("suspend", key="crm", dry_run=True)
    assert (said["would_suspend"], len(said["first"])) == (27, 25)
    assert await desk.states() == before
    assert (await desk.act("summary"))["suspensions"] == []


@pytest.mark.parametrize("verb", CHANGES)
async def test_a_change_needs_to_know_of_what(desk: Desk, verb: str) -> None:
    await desk.accept("a@example.com")
    for args in ({}, {"limit": 5}, {"id": ""}, {"dry_run": True}):
        assert "say which: --id, --key" in await desk.refused(verb, new_route="ses", **args)
    assert await desk.refused(verb, id="nonsense", new_route="ses") == "There is no message nonsense."
    nobody = await desk.act(verb, id=UNKNOWN, new_route="ses")
    assert set(nobody.values()) == {0}
    assert "domain: " in await desk.refused(verb, domain="no domain", new_route="ses")
    assert "to: " in await desk.refused(verb, to="nobody", new_route="ses")
    assert "state: one of scheduled, held, queued, deferred" in await desk.refused(
        verb, state="delivered", new_route="ses"
    )
    assert await desk.states() == {"a@example.com": ("queued", "connections")}


async def test_mistakes_of_a_redirection(desk: Desk) -> None:
    assert "--new-route, --new-address, or both" in await desk.refused("redirect", all=True)
    said = await desk.refused("redirect", all=True, new_route="sse")
    assert said == "new_route: there is no route sse; the routes are: direct, ses, inbox"
    assert "new_address: " in await desk.refused("redirect", all=True, new_address="root")


async def test_a_redirection_sends_nobody_the_same_mail_twice(desk: Desk) -> None:
    id_ = await desk.accept("a@example.com", "b@example.com", "c@example.com")
    await desk.accept("d@example.com")
    before = await desk.states()
    for which in ({"all": True}, {"id": id_, "domain": "example.com"}, {"id": id_, "dry_run": True}):
        said = await desk.refused("redirect", new_address="me@example.net", **which)
        assert said.startswith(f"new_address: the message {id_} would go to me@example.net 3 times: ")
    assert "would go to b@example.com 2 times" in await desk.refused(
        "redirect", to="a@example.com", new_address="b@example.com"
    )
    assert await desk.states() == before
    done = await desk.act("redirect", to="a@example.com", new_address="me@example.net")
    assert done["redirected"] == 1
    assert (await desk.act("redirect", to="me@example.net", new_address="me@example.net"))["redirected"] == 1
    assert (await desk.act("redirect", to="d@example.com", new_address="me@example.net"))["redirected"] == 1


async def test_a_redirection_leaves_the_pause_and_says_so(desk: Desk) -> None:
    await desk.accept("a@example.com")
    (claimed,) = await claim_all(desk.store, START_MS + LEASE_MS)
    await desk.store.settle([attempt(claimed, State.DEFERRED, at=START_MS, next_at=START_MS + HOUR_MS)])
    await desk.accept("b@example.com")
    done = await desk.act("redirect", all=True, new_route="ses")
    assert done == {"redirected": 2, "in_hand": 0, "waiting": 1}
    assert (await desk.states())["a@example.com"] == ("deferred", "backoff")


async def test_what_is_let_go_finds_destinations_unremembered(desk: Desk) -> None:
    forgotten: list[str] = []
    desk.manager.on_go(lambda: forgotten.append("once"))
    await desk.accept("a@example.com")
    await desk.refused("retry")
    await desk.refused("release", all=True, reason="a\nb")
    for verb in ("retry", "release"):
        await desk.act(verb, all=True, dry_run=True)
    for verb in ("hold", "redirect", "cancel"):
        await desk.act(verb, id=UNKNOWN, new_route="ses")
    assert forgotten == []
    await desk.act("retry", all=True)
    await desk.act("release", all=True)
    assert forgotten == ["once", "once"]


@pytest.mark.parametrize("reason", ["a\nb", "x" * 501, "\x1b[31m"])
async def test_a_reason_is_one_line(desk: Desk, reason: str) -> None:
    for verb in ("hold", "release", "cancel", "bounce"):
        assert "reason: one line" in await desk.refused(verb, all=True, reason=reason)
    assert "reason: one line" in await desk.refused("suspend", all=True, reason=reason)


async def test_suspended_shown_and_resumed(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "gateway.manage")
    await desk.accept("a@example.com")
    made = await desk.act("suspend", domain="EXAMPLE.com", route="direct", reason="their storm", for_s=7200)
    shown = made["suspended"]
    assert made["notes"] == []
    assert (shown["route"], shown["domain"], shown["key"], shown["reason"]) == (
        "direct",
        "example.com",
        None,
        "their storm",
    )
    (row,) = await desk.act("list")
    assert (row["blocked_by"], row["next_attempt_at"]) == ("suspended", shown["until"])
    assert (await desk.act("summary"))["suspensions"] == [shown]
    assert await desk.act("resume", domain="example.com") == {"resumed": 0, "suspensions": []}
    assert await desk.act("resume", numbers=[shown["number"]], dry_run=True) == {
        "would_resume": 1,
        "suspensions": [shown],
    }
    assert await desk.act("resume", domain="example.com", route="direct") == {"resumed": 1, "suspensions": [shown]}
    assert await desk.states() == {"a@example.com": ("queued", "connections")}
    number = shown["number"]
    assert [record.getMessage() for record in caplog.records] == [
        f"queue suspend: number {number}, route direct, domain example.com until {shown['until']}: their storm",
        f"queue resume: number {number}, route direct, domain example.com",
    ]


async def test_mistakes_of_a_suspension(desk: Desk) -> None:
    assert "say which: --route, --domain, --key, or --all" in await desk.refused("suspend")
    assert "say which: a number" in await desk.refused("resume")
    assert await desk.refused("resume", numbers=[7]) == "There is no suspension 7."
    assert "there is no route sse; the routes are: direct, ses, inbox" in await desk.refused("suspend", route="sse")
    assert "domain: " in await desk.refused("suspend", domain="no domain")
    said = await desk.refused("suspend", route="ses", domain="example.com")
    assert "not kept apart by domain; use queue hold --domain example.com" in said
    for name in ("id", "account", "state", "older_s", "to"):
        assert "use queue hold" in await desk.refused("suspend", key="shop", **{name: "x"})
    assert "at most a year" in await desk.refused("suspend", all=True, for_s=10**9)
    assert (await desk.act("summary"))["suspensions"] == []


async def test_what_is_to_be_resumed_is_said_in_one_way(desk: Desk) -> None:
    first, *_ = [(await desk.act("suspend", key=key))["suspended"]["number"] for key in ("shop", "crm")]
    for args in (
        {"all": True, "key": "shop"},
        {"numbers": [first], "key": "crm"},
        {"numbers": [first], "all": True},
        {"numbers": [first], "key": "shop", "dry_run": True},
    ):
        assert "exclude one another" in await desk.refused("resume", **args)
    assert "use queue hold" in await desk.refused("resume", numbers=[first], to="a@example.com")
    assert "exclude one another" in await desk.refused("suspend", all=True, route="ses")
    assert len((await desk.act("summary"))["suspensions"]) == 2


async def test_what_a_suspension_does_not_do_is_said(desk: Desk) -> None:
    assert (
        "Mail to example.com by a relay (ses) goes on" in (await desk.act("suspend", domain="example.com"))["notes"][0]
    )
    assert "There is no key shpo" in (await desk.act("suspend", key="shpo"))["notes"][0]
    assert (await desk.act("suspend", key="shop"))["notes"] == []
    assert (await desk.act("suspend", all=True))["notes"] == []
    assert (await desk.act("resume", all=True))["resumed"] == 4


async def test_one_for_the_same_mail_takes_the_place_of_the_other(desk: Desk) -> None:
    first = (await desk.act("suspend", key="shop", reason="one"))["suspended"]
    await desk.act("suspend", key="shop", route="ses")
    again = await desk.act("suspend", key="shop", reason="two", for_s=60)
    assert again["notes"] == [f"It takes the place of number {first['number']}."]
    in_force = (await desk.act("summary"))["suspensions"]
    assert [(one["route"], one["key"], one["reason"]) for one in in_force] == [
        ("ses", "shop", ""),
        (None, "shop", "two"),
    ]


async def test_suspensions_are_bounded(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suspensions, "MOST", 2)
    for key in ("a", "b"):
        await desk.act("suspend", key=key)
    assert "there are 2 suspensions already" in await desk.refused("suspend", key="c")


async def test_the_summary_names_the_oldest(desk: Desk) -> None:
    await desk.accept("a@example.com")
    desk.now.ms += HOUR_MS
    await desk.accept("b@example.net")
    summary = await desk.act("summary")
    assert summary["total"] == {"ready": 2, "waiting": 0, "in_hand": 0, "held": 0}
    assert summary["oldest_at"] == "2027-01-15T08:00:00.000Z"
    await desk.accept("c@example.net")
    summary = await desk.act("summary", limit=1)
    assert [row["domain"] for row in summary["destinations"]] == ["example.net"]
    assert (summary["more"], summary["total"]["ready"]) == (1, 3)


async def test_what_a_message_went_through_is_shown(desk: Desk) -> None:
    id_ = await desk.accept("a@example.com")
    await desk.act("redirect", id=id_, new_address="b@example.net", reason="moved")
    await desk.act("hold", id=id_)
    shown = await desk.act("show", id=id_)
    assert [(event["type"], event["to"], event.get("note")) for event in shown["events"]] == [
        ("accepted", "b@example.net", None),
        ("redirected", "b@example.net", "from a@example.com to b@example.net: moved"),
        ("held", "b@example.net", None),
    ]
    with pytest.raises(Refused) as refusal:
        await desk.act("show", id=UNKNOWN)
    assert refusal.value.reason is Reason.NOT_FOUND
