"""Operator actions over a real store."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.config import CaptureRoute, Config, KeyConfig, Limit, RelayRoute, Secret, Unit
from gateway.errors import Reason, Refused
from gateway.manage import Manager
from gateway.policy.auth import KeyRing
from gateway.policy.domains import Domains
from gateway.runtime import Clock
from gateway.store.sqlite import SqliteStore
from gateway.store.vault import Vault

NOW = 1_800_000_000_000


class Desk:
    """A manager and what it keeps in memory."""

    def __init__(self, config: Config, store: SqliteStore) -> None:
        self.keys = KeyRing()
        self.domains = Domains()
        self.now = NOW
        self.manager = Manager(
            config,
            store.records,
            Vault(b"k" * 32),
            store,
            keys=self.keys,
            domains=self.domains,
            clock=Clock(now_ms=lambda: self.now),
        )


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    config = Config(
        data_dir=tmp_path,
        routes={"inbox": CaptureRoute("inbox"), "ses": RelayRoute("ses", "localhost", 587)},
        default_route="inbox",
        keys={"cfg": KeyConfig("cfg", Secret("c" * 30), "acme", limits=(Limit(Unit.MESSAGES, 5, 1, 9),))},
    )
    store = await SqliteStore.open(tmp_path / "gateway.db")
    made = Desk(config, store)
    await made.manager.load()
    yield made
    await store.close()


async def test_a_key_is_made_used_listed_and_revoked(desk: Desk) -> None:
    made = await desk.manager.key_create(
        {"name": "shop", "route": "ses", "senders": ["*@example.com", "example.net"], "expires_s": 60}
    )
    principal = desk.keys.authenticate(made["secret"], NOW)
    assert (principal.name, principal.account, principal.route) == ("shop", "shop", "ses")
    assert principal.senders == ("*@example.com", "*@example.net")
    listed = {view["name"]: view for view in await desk.manager.key_list({})}
    assert listed.keys() == {"cfg", "shop"}
    assert listed["shop"]["state"] == "active"
    assert made["secret"] not in str(listed)
    assert "c" * 30 not in str(listed)
    desk.now += 61_000
    assert (await desk.manager.key_show({"name": "shop"}))["state"] == "expired"
    await desk.manager.key_revoke({"name": "shop"})
    with pytest.raises(Refused):
        desk.keys.authenticate(made["secret"], NOW)
    assert (await desk.manager.key_show({"name": "shop"}))["state"] == "revoked"


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        ({"name": "cfg"}, Reason.CONFLICT),
        ({"name": "has space"}, Reason.INVALID_PARAMETER),
        ({"name": "a", "route": "nowhere"}, Reason.INVALID_PARAMETER),
        ({"name": "a", "scopes": ["fly"]}, Reason.INVALID_PARAMETER),
        ({"name": "a", "secret": "short"}, Reason.INVALID_PARAMETER),
        ({"name": "a", "default_from": "nobody"}, Reason.INVALID_PARAMETER),
        ({"name": "a", "limits": ["recipients=100"]}, Reason.INVALID_PARAMETER),
        ({"name": "a", "limits": ["requests=1/s", "requests=2/s"]}, Reason.INVALID_PARAMETER),
    ],
)
async def test_a_key_that_cannot_be_made_is_refused_with_words(
    desk: Desk, args: dict[str, object], reason: Reason
) -> None:
    with pytest.raises(Refused) as refusal:
        await desk.manager.key_create(args)
    assert refusal.value.reason is reason
    assert refusal.value.text


async def test_limits_are_kept_shown_and_given_to_who_sends(desk: Desk) -> None:
    limits = ["recipients=100/min,burst=200", "requests=10/s"]
    made = await desk.manager.key_create({"name": "shop", "limits": limits})
    assert made["limits"] == limits
    expected = (Limit(Unit.RECIPIENTS, 100, 60, 200), Limit(Unit.REQUESTS, 10, 1, 10))
    assert desk.keys.authenticate(made["secret"], NOW).limits == expected
    assert desk.keys.authenticate("c" * 30, NOW).limits == (Limit(Unit.MESSAGES, 5, 1, 9),)
    listed = {view["name"]: view for view in await desk.manager.key_list({})}
    assert listed["shop"]["limits"] == limits
    assert listed["cfg"]["limits"] == ["messages=5/s,burst=9"]
    assert listed["shop"].keys() == listed["cfg"].keys()
    plain = await desk.manager.key_create({"name": "plain"})
    assert plain["limits"] == []
    assert desk.keys.authenticate(plain["secret"], NOW).limits == ()


async def test_names_and_secrets_are_unique(desk: Desk) -> None:
    await desk.manager.key_create({"name": "shop", "secret": "s" * 30})
    for again in ({"name": "shop"}, {"name": "other", "secret": "s" * 30}):
        with pytest.raises(Refused) as refusal:
            await desk.manager.key_create(again)
        assert refusal.value.reason is Reason.CONFLICT


async def test_a_domain_signs_from_the_moment_it_is_added(desk: Desk) -> None:
    assert desk.domains.signing_key("example.com") is None
    view = await desk.manager.domain_add({"name": "Example.COM.", "require_dkim": True})
    assert view["dns_name"] == "mgw1._domainkey.example.com"
    assert view["dns_value"].startswith("v=DKIM1; k=rsa; p=")
    assert "mgw1._domainkey.example.com. IN TXT (" in view["zone"]
    key = desk.domains.signing_key("mail.example.com")  # a subdomain is served by its parent
    assert key is not None
    assert key.domain == "example.com"
    assert [d["name"] for d in await desk.manager.domain_list({})] == ["example.com"]
    with pytest.raises(Refused):
        await desk.manager.domain_add({"name": "example.com"})
    await desk.manager.domain_remove({"name": "example.com"})
    assert desk.domains.signing_key("example.com") is None
    with pytest.raises(Refused):
        await desk.manager.domain_remove({"name": "example.com"})


async def test_a_wrong_master_key_is_named(desk: Desk, tmp_path: Path) -> None:
    await desk.manager.domain_add({"name": "example.com"})
    desk.manager._vault = Vault(b"x" * 32)
    desk.manager._parsed.clear()  # as after a restart
    with pytest.raises(Exception, match=r"master\.key"):
        await desk.manager.load()


async def test_queue_verbs_answer_on_an_empty_queue(desk: Desk) -> None:
    summary = await desk.manager.queue_summary({})
    assert summary == {"total": {"ready": 0, "waiting": 0, "in_hand": 0, "held": 0}, "destinations": []}
    assert await desk.manager.queue_list({"limit": 5}) == []
    assert await desk.manager.queue_retry({"all": True}) == {"retried": 0}
    for args in ({}, {"limit": 5}):
        with pytest.raises(Refused):  # a verb that changes needs a filter or all
            await desk.manager.queue_retry(args)
    for unknown in ("eml_" + "0" * 24, "nonsense"):
        with pytest.raises(Refused) as refusal:
            await desk.manager.queue_show({"id": unknown})
        assert refusal.value.reason is Reason.NOT_FOUND
