"""Operator actions over a real store."""

import base64
from collections.abc import AsyncIterator
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from gateway.config import CaptureRoute, Config, DkimKey, Domain, KeyConfig, RelayRoute, Secret, Signing
from gateway.errors import ConfigError, Reason, Refused
from gateway.keyterms import Duplicates, Limit, Unit
from gateway.manage import Manager
from gateway.message import address, dkim
from gateway.message.notify import DELAY, FAILURE, SUCCESS
from gateway.policy import auth
from gateway.policy.auth import KeyRing, Principal
from gateway.policy.domains import Domains
from gateway.resolver import Missing
from gateway.runtime import Clock
from gateway.store.sqlite import SqliteStore
from gateway.store.vault import Vault, VaultError

NOW = 1_800_000_000_000


async def _no_lookup(name: str) -> Missing:
    raise AssertionError(f"{name} is looked up")


class Desk:
    """A manager and what it keeps in memory."""

    def __init__(self, config: Config, store: SqliteStore, *, master: bytes = b"k" * 32) -> None:
        self.config = config
        self.store = store
        self.keys = KeyRing()
        self.domains = Domains()
        self.now = NOW
        self.manager = Manager(
            config,
            store.records,
            Vault(master),
            store,
            keys=self.keys,
            domains=self.domains,
            clock=Clock(now_ms=lambda: self.now),
            lookup=_no_lookup,
        )

    async def act(self, action: str, args: dict[str, Any]) -> Any:
        return await self.manager.actions()[action](args)

    def who(self, secret: str, peer: str = "192.0.2.7") -> Principal | None:
        """Whose key it is; None where it is not good."""
        principal, fault = self.keys.judge(secret, self.now, peer=peer)
        return principal if fault is None else None


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
    made = await desk.act(
        "key.create", {"name": "shop", "route": "ses", "senders": ["*@example.com", "example.net"], "expires_s": 60}
    )
    principal = desk.who(made["secret"])
    assert principal is not None
    assert (principal.name, principal.account, principal.route) == ("shop", "shop", "ses")
    assert principal.senders == ("*@example.com", "*@example.net")
    listed = {view["name"]: view for view in await desk.act("key.list", {})}
    assert listed.keys() == {"cfg", "shop"}
    assert listed["shop"]["state"] == "active"
    assert made["secret"] not in str(listed)
    assert "c" * 30 not in str(listed)
    desk.now += 61_000
    assert (await desk.act("key.show", {"name": "shop"}))["state"] == "expired"
    await desk.act("key.revoke", {"name": "shop"})
    assert desk.who(made["secret"]) is None
    assert (await desk.act("key.show", {"name": "shop"}))["state"] == "revoked"


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
        ({"name": "a", "networks": ["192.168.1.0/33"]}, Reason.INVALID_PARAMETER),
        ({"name": "a", "networks": ["192.168.1.7/24"]}, Reason.INVALID_PARAMETER),
        ({"name": "a", "duplicates": "twice"}, Reason.INVALID_PARAMETER),
        ({"name": "a", "dsn": ["always"]}, Reason.INVALID_PARAMETER),
        ({"name": "a", "dsn": ["never", "delay"]}, Reason.INVALID_PARAMETER),
        ({"name": "a", "short": True}, Reason.INVALID_PARAMETER),
        ({"name": "a", "short": True, "networks": ["10.0.0.0/8", "0.0.0.0/0"]}, Reason.INVALID_PARAMETER),
        ({"name": "a", "prefix": "with space "}, Reason.INVALID_PARAMETER),
        ({"name": "a", "secret": "c" * 30}, Reason.CONFLICT),
    ],
)
async def test_a_key_that_cannot_be_made_is_refused_with_words(
    desk: Desk, args: dict[str, object], reason: Reason
) -> None:
    with pytest.raises(Refused) as refusal:
        await desk.act("key.create", args)
    assert refusal.value.reason is reason
    assert refusal.value.text


async def test_limits_are_kept_shown_and_given_to_who_sends(desk: Desk) -> None:
    limits = ["recipients=100/min,burst=200", "requests=10/s"]
    made = await desk.act("key.create", {"name": "shop", "limits": limits})
    assert made["limits"] == limits
    expected = (Limit(Unit.RECIPIENTS, 100, 60, 200), Limit(Unit.REQUESTS, 10, 1, 10))
    limited, declared = desk.who(made["secret"]), desk.who("c" * 30)
    assert limited is not None
    assert limited.limits == expected
    assert declared is not None
    assert declared.limits == (Limit(Unit.MESSAGES, 5, 1, 9),)
    listed = {view["name"]: view for view in await desk.act("key.list", {})}
    assert listed["shop"]["limits"] == limits
    assert listed["cfg"]["limits"] == ["messages=5/s,burst=9"]
    assert listed["shop"].keys() == listed["cfg"].keys()
    plain = await desk.act("key.create", {"name": "plain"})
    assert plain["limits"] == []
    unlimited = desk.who(plain["secret"])
    assert unlimited is not None
    assert unlimited.limits == ()


@pytest.mark.parametrize(
    ("words", "asked"),
    [(None, None), (["never"], 0), (["failure"], FAILURE), (["delay", "success"], SUCCESS | DELAY)],
)
async def test_what_becomes_of_a_keys_mail_is_kept_shown_and_given_to_who_sends(
    desk: Desk, words: list[str] | None, asked: int | None
) -> None:
    made = await desk.act("key.create", {"name": "shop", "duplicates": "at_most_once", "dsn": words})
    shown = await desk.act("key.show", {"name": "shop"})
    for view in (made, shown):
        assert (view["duplicates"], sorted(view["dsn"] or ())) == ("at_most_once", sorted(words or ()))
    assert (shown["dsn"] is None) == (words is None)
    principal, plain = desk.who(made["secret"]), desk.who("c" * 30)
    assert principal is not None
    assert (principal.duplicates, principal.dsn) == (Duplicates.AT_MOST_ONCE, asked)
    assert plain is not None
    assert (plain.duplicates, plain.dsn) == (Duplicates.AT_LEAST_ONCE, None)


async def test_names_and_secrets_are_unique(desk: Desk) -> None:
    await desk.act("key.create", {"name": "shop", "secret": "s" * 30})
    for again in ({"name": "shop"}, {"name": "other", "secret": "s" * 30}):
        with pytest.raises(Refused) as refusal:
            await desk.act("key.create", again)
        assert refusal.value.reason is Reason.CONFLICT


async def test_a_key_bound_to_networks(desk: Desk) -> None:
    made = await desk.act("key.create", {"name": "printers", "networks": ["192.168.1.0/24", "2001:db8::/48"]})
    assert made["networks"] == ["192.168.1.0/24", "2001:db8::/48"]
    for peer in ("192.168.1.77", "::ffff:192.168.1.77", "2001:db8::7"):
        assert desk.who(made["secret"], peer) is not None
    for peer in ("192.168.2.1", "2001:db8:1::7", "", "no address"):
        assert desk.who(made["secret"], peer) is None
    assert (await desk.act("key.show", {"name": "printers"}))["networks"] == made["networks"]
    assert (await desk.act("key.show", {"name": "cfg"}))["networks"] == []


async def test_a_short_key_can_be_typed(desk: Desk) -> None:
    made = await desk.act("key.create", {"name": "scanner", "short": True, "networks": ["192.168.1.9"]})
    assert len(made["secret"]) == auth.SHORT_LENGTH
    assert set(made["secret"]) <= set("abcdefghjkmnpqrstuvwxyz23456789")
    assert made["hint"] == made["secret"][:4] + "…"
    assert desk.who(made["secret"], "192.168.1.9") is not None
    assert desk.who(made["secret"], "192.168.1.10") is None


async def test_what_a_key_of_the_configuration_says_reaches_who_sends(tmp_path: Path, desk: Desk) -> None:
    networks = (ip_network("10.0.0.0/8"),)
    given = KeyConfig(
        "old",
        Secret("o" * 30),
        "acme",
        networks=networks,
        default_domain="example.com",
        aliases=(("root", "ops@example.com"),),
        rewrite_from="noreply@example.com",
        duplicates=Duplicates.AT_MOST_ONCE,
        dsn=0,
    )
    other = Desk(Config(data_dir=tmp_path, keys={"old": given}), desk.store)
    await other.manager.load()
    principal = other.who("o" * 30, "10.1.2.3")
    assert principal is not None
    assert (principal.networks, principal.default_domain) == (networks, "example.com")
    assert (principal.aliases, principal.rewrite_from) == ((("root", "ops@example.com"),), "noreply@example.com")
    assert (principal.duplicates, principal.dsn) == (Duplicates.AT_MOST_ONCE, 0)
    shown = await other.act("key.show", {"name": "old"})
    assert (shown["networks"], shown["duplicates"], shown["dsn"]) == (["10.0.0.0/8"], "at_most_once", ["never"])


async def test_a_key_is_rotated_without_a_gap(desk: Desk) -> None:
    first = await desk.act("key.create", {"name": "shop", "networks": ["10.0.0.0/8"]})
    second = await desk.act("key.rotate", {"name": "shop"})
    assert second["secret"] != first["secret"]
    assert second["old_until"] == "2027-01-16T08:00:00.000Z"  # a day from now
    assert second["hint"] == auth.hint(second["secret"])
    for made in (first, second):
        assert desk.who(made["secret"], "10.0.0.1") is not None
        assert desk.who(made["secret"]) is None
    assert made["secret"] not in str(await desk.act("key.list", {}))
    again = Desk(desk.config, desk.store)
    await again.manager.load()
    assert again.who(first["secret"], "10.0.0.1") is not None
    desk.now += 86_400_000
    assert desk.who(first["secret"], "10.0.0.1") is None
    assert desk.who(second["secret"], "10.0.0.1") is not None
    assert (await desk.act("key.show", {"name": "shop"}))["old_until"] is None


async def test_a_text_before_the_old_one_ends_at_once(desk: Desk) -> None:
    made = [await desk.act("key.create", {"name": "shop"})]
    made += [await desk.act("key.rotate", {"name": "shop"}) for _ in range(2)]
    assert [desk.who(one["secret"]) is not None for one in made] == [False, True, True]
    now = await desk.act("key.rotate", {"name": "shop", "overlap_s": 0, "prefix": "re_"})
    assert now["secret"].startswith("re_")
    assert [desk.who(one["secret"]) is not None for one in (*made, now)] == [False, False, False, True]
    assert now["old_until"] is None
    await desk.act("key.revoke", {"name": "shop"})
    assert desk.who(now["secret"]) is None


async def test_an_old_text_ends_with_its_key(desk: Desk) -> None:
    first = await desk.act("key.create", {"name": "shop", "expires_s": 60})
    second = await desk.act("key.rotate", {"name": "shop"})
    desk.now += 60_000
    assert desk.who(first["secret"]) is None
    assert desk.who(second["secret"]) is None
    with pytest.raises(Refused, match="no active key shop"):
        await desk.act("key.rotate", {"name": "shop"})


async def test_what_cannot_be_rotated(desk: Desk) -> None:
    await desk.act("key.create", {"name": "shop", "secret": "s" * 30})
    await desk.act("key.create", {"name": "gone"})
    await desk.act("key.revoke", {"name": "gone"})
    for args, reason in (
        ({"name": "nobody"}, Reason.NOT_FOUND),
        ({"name": "gone"}, Reason.NOT_FOUND),
        ({"name": "cfg"}, Reason.CONFLICT),
        ({"name": "shop", "secret": "s" * 30}, Reason.CONFLICT),
        ({"name": "shop", "short": True}, Reason.INVALID_PARAMETER),
        ({"name": "shop", "overlap_s": -1}, Reason.INVALID_PARAMETER),
    ):
        with pytest.raises(Refused) as refusal:
            await desk.act("key.rotate", args)
        assert refusal.value.reason is reason
    assert desk.who("s" * 30) is not None


async def test_a_domain_signs_from_the_moment_it_is_added(desk: Desk) -> None:
    assert desk.domains.signing_keys("example.com", Signing.RSA) == ()
    view = await desk.act("domain.add", {"name": "Example.COM.", "require_dkim": True})
    assert view["dns_name"] == "mgw1._domainkey.example.com"
    assert view["dns_value"].startswith("v=DKIM1; k=rsa; p=")
    assert "mgw1._domainkey.example.com. IN TXT (" in view["zone"]
    (key,) = desk.domains.signing_keys("mail.example.com", Signing.RSA)  # a subdomain is served by its parent
    assert key.domain == "example.com"
    assert [d["name"] for d in await desk.act("domain.list", {})] == ["example.com"]
    with pytest.raises(Refused):
        await desk.act("domain.add", {"name": "example.com"})
    await desk.act("domain.remove", {"name": "example.com"})
    assert desk.domains.signing_keys("example.com", Signing.RSA) == ()
    with pytest.raises(Refused):
        await desk.act("domain.remove", {"name": "example.com"})


def selectors(desk: Desk, name: str, signing: Signing) -> list[str]:
    return [key.selector for key in desk.domains.signing_keys(name, signing)]


async def test_a_domain_has_two_keys_where_that_is_asked_for(desk: Desk) -> None:
    view = await desk.act("domain.add", {"name": "example.com", "selector": "s1", "ed25519": True})
    assert (view["selector"], view["ed25519"]["selector"]) == ("s1", "s1-ed25519")
    assert view["ed25519"]["dns_name"] == "s1-ed25519._domainkey.example.com"
    head, public = view["ed25519"]["dns_value"].split("p=")
    assert head == "v=DKIM1; k=ed25519; "
    assert len(base64.b64decode(public, validate=True)) == 32  # RFC 8463, 4.2: bare, in no structure
    assert view["ed25519"]["zone"].startswith("s1-ed25519._domainkey.example.com. IN TXT (")
    assert selectors(desk, "example.com", Signing.RSA_AND_ED25519) == ["s1", "s1-ed25519"]
    assert selectors(desk, "example.com", Signing.RSA) == ["s1"]
    assert selectors(desk, "example.com", Signing.NONE) == []
    again = Desk(desk.config, desk.store)
    await again.manager.load()
    assert selectors(again, "example.com", Signing.RSA_AND_ED25519) == ["s1", "s1-ed25519"]
    assert (await again.act("domain.list", {}))[0] == view
    with pytest.raises(Refused, match="an Ed25519 key already"):
        await desk.act("domain.add", {"name": "example.com", "ed25519": True})
    await desk.act("domain.remove", {"name": "example.com"})
    assert selectors(desk, "example.com", Signing.RSA_AND_ED25519) == []


async def test_an_international_domain_is_its_a_label_everywhere(desk: Desk) -> None:
    view = await desk.act("domain.add", {"name": "Bücher.example", "ed25519": True})
    assert view["name"] == "xn--bcher-kva.example"
    for record in (view, view["ed25519"]):
        assert record["dns_name"] == f"{record['selector']}._domainkey.xn--bcher-kva.example"
        assert record["zone"].startswith(f"{record['dns_name']}. IN TXT (")
    assert selectors(desk, address.domain_of(address.parse_path("a@shop.bücher.example")), Signing.RSA) == ["mgw1"]


async def test_a_domain_gets_its_second_key_later_and_keeps_the_first(desk: Desk) -> None:
    before = await desk.act("domain.add", {"name": "example.com", "selector": "s7"})
    assert before["ed25519"] is None
    for more in ({"selector": "s8"}, {"require_dkim": True}):  # it cannot change what is there
        with pytest.raises(Refused, match=r"There is a domain example\.com already"):
            await desk.act("domain.add", {"name": "example.com", "ed25519": True, **more})
    after = await desk.act("domain.add", {"name": "example.com", "ed25519": True})
    assert after["ed25519"]["selector"] == "s7-ed25519"
    assert {**after, "ed25519": None} == before
    assert selectors(desk, "example.com", Signing.RSA_AND_ED25519) == ["s7", "s7-ed25519"]


@pytest.mark.parametrize("selector", ["s 1", "-s", "s-", "s..1", "s_1", "é", "a" * 64, "a" * 60])
async def test_a_selector_that_cannot_be_published_makes_no_domain(desk: Desk, selector: str) -> None:
    with pytest.raises(Refused, match="is not a DKIM selector"):
        await desk.act("domain.add", {"name": "example.com", "selector": selector, "ed25519": True})
    assert await desk.act("domain.list", {}) == []


@pytest.mark.parametrize("order", [("rsa", "ed25519"), ("ed25519", "rsa")])
async def test_declared_keys_sign_whatever_their_order(desk: Desk, tmp_path: Path, order: tuple[str, str]) -> None:
    keys = {"rsa": dkim.generate_rsa(), "ed25519": dkim.generate_ed25519()}
    for name, pem in keys.items():
        (tmp_path / f"{name}.pem").write_bytes(pem)
    declared = tuple(DkimKey(name, tmp_path / f"{name}.pem") for name in order)
    config = replace(desk.config, domains={"example.org": Domain("example.org", dkim=declared)})
    other = Desk(config, desk.store)
    await other.manager.load()
    assert selectors(other, "example.org", Signing.RSA_AND_ED25519) == ["rsa", "ed25519"]
    assert selectors(other, "example.org", Signing.RSA) == ["rsa"]
    with pytest.raises(Refused, match="declared in the configuration"):
        await other.act("domain.add", {"name": "example.org", "ed25519": True})
    (tmp_path / f"{order[1]}.pem").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"domains\.example\.org\.dkim\[1\]\.key"):
        await Desk(config, desk.store).manager.load()


async def test_a_wrong_master_key_is_named(desk: Desk, tmp_path: Path) -> None:
    await desk.act("domain.add", {"name": "example.com"})
    with pytest.raises(VaultError, match=r"master\.key"):
        await Desk(desk.config, desk.store, master=b"x" * 32).manager.load()


async def test_queue_verbs_answer_on_an_empty_queue(desk: Desk) -> None:
    summary = await desk.act("queue.summary", {})
    assert summary == {
        "total": {"ready": 0, "waiting": 0, "in_hand": 0, "held": 0},
        "oldest_at": None,
        "destinations": [],
        "more": 0,
        "suspensions": [],
    }
    assert await desk.act("queue.list", {"limit": 5}) == []
    assert await desk.act("queue.retry", {"all": True}) == {"retried": 0, "in_hand": 0, "suspensions": 0}
    for args in ({}, {"limit": 5}):
        with pytest.raises(Refused):  # a verb that changes needs a filter or all
            await desk.act("queue.retry", args)
    for unknown in ("eml_" + "0" * 24, "nonsense"):
        with pytest.raises(Refused) as refusal:
            await desk.act("queue.show", {"id": unknown})
        assert refusal.value.reason is Reason.NOT_FOUND
