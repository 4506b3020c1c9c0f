"""The next DKIM keys: made, published at a real DNS server, seen, used."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.config import Config, Domain, Signing
from gateway.errors import Refused
from gateway.manage import Manager, dkimkeys
from gateway.manage.rotation import KEPT_S
from gateway.message import dkim
from gateway.policy.auth import KeyRing
from gateway.policy.domains import Domains
from gateway.resolver import Resolver
from gateway.runtime import Clock
from gateway.store.sqlite import SqliteStore
from gateway.store.vault import Vault
from tests.fakes.dns import FakeDns

NOW = 1_800_000_000_000
NAME = "example.com"


class Desk:
    """A manager over a store and a DNS server; every look asks the server again."""

    def __init__(self, store: SqliteStore, dns: FakeDns, directory: Path) -> None:
        self.dns = dns
        self.domains = Domains()
        self.now = NOW
        self.manager = Manager(
            Config(data_dir=directory, domains={"declared.example": Domain("declared.example")}),
            store.records,
            Vault(b"k" * 32),
            store,
            keys=KeyRing(),
            domains=self.domains,
            clock=Clock(now_ms=lambda: self.now),
            lookup=lambda name: Resolver([dns.listen]).txt(name),
        )

    async def act(self, action: str, **args: Any) -> Any:
        return await self.manager.actions()[f"domain.{action}"](args)

    async def states(self) -> dict[str, tuple[str, str]]:
        """(what it is for, what DNS shows) by selector."""
        return {
            key["selector"]: (key["state"], key["published"]) for key in (await self.act("check", name=NAME))["keys"]
        }

    async def publish(self, *selectors: str) -> None:
        """The records of those keys, in strings as `zone_lines` cuts them."""
        keys = (await self.act("check", name=NAME))["keys"]
        self.dns.load("\n".join(_line(key) for key in keys if key["selector"] in selectors))

    @property
    def signs(self) -> list[str]:
        return [key.selector for key in self.domains.signing_keys(NAME, Signing.RSA_AND_ED25519)]


def _line(key: Any) -> str:
    strings = " ".join(f'"{text}"' for text in dkim.txt_strings(key["dns_value"]))
    return f"{key['dns_name']} TXT {strings}"


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    store = await SqliteStore.open(tmp_path / "gateway.db")
    async with FakeDns("") as dns:
        made = Desk(store, dns, tmp_path)
        await made.manager.load()
        yield made
    await store.close()


async def test_a_key_signs_once_its_record_is_seen_and_the_old_one_is_kept(desk: Desk) -> None:
    await desk.act("add", name=NAME, selector="s1", ed25519=True)
    assert await desk.states() == {"s1": ("signs", "no"), "s1-ed25519": ("signs", "no")}
    await desk.act("rotate", name=NAME)
    assert await desk.states() == {
        "s1": ("signs", "no"),
        "s1-ed25519": ("signs", "no"),
        "s2": ("next", "no"),
        "s2-ed25519": ("next", "no"),
    }
    await desk.publish("s1", "s1-ed25519", "s2")
    await desk.manager.rotation.look()
    assert desk.signs == ["s2", "s1-ed25519"]  # each for itself
    await desk.publish("s1", "s1-ed25519", "s2", "s2-ed25519")
    await desk.act("rotate", name=NAME)  # the same command looks at once
    assert desk.signs == ["s2", "s2-ed25519"]
    assert (await desk.states())["s1"] == ("retired", "yes")
    desk.now += KEPT_S * 1000
    await desk.manager.rotation.look()
    assert "s1" in await desk.states()  # to the millisecond
    desk.now += 1
    await desk.manager.rotation.look()
    assert set(await desk.states()) == {"s2", "s2-ed25519"}
    again = Domains()
    assert again.signing_keys(NAME, Signing.RSA) == ()


async def test_nothing_is_used_that_dns_does_not_show(desk: Desk) -> None:
    await desk.act("add", name=NAME, selector="s1")
    await desk.act("rotate", name=NAME)
    old = (await desk.act("check", name=NAME))["keys"][0]
    record = f"s2._domainkey.{NAME}"
    for fate, said in (
        (f"{record} SERVFAIL", "unknown: "),
        (f"{record} A 192.0.2.1", "no"),
        (_line({**old, "dns_name": record}), "another record"),
        (f'{record} TXT "v=DKIM1; k=rsa; p="', "another record"),  # revoked (RFC 6376, 3.6.1)
    ):
        desk.dns.load(fate)
        await desk.manager.rotation.look()
        assert (await desk.states())["s2"][1].startswith(said)
        assert desk.signs == ["s1"]
    await desk.act("rotate", name=NAME, now=True)  # the operator knows better
    assert desk.signs == ["s2"]


async def test_a_new_key_never_has_the_selector_of_an_old_one(desk: Desk) -> None:
    await desk.act("add", name=NAME)
    await desk.act("rotate", name=NAME, selector="mgw3", now=True)
    await desk.act("rotate", name=NAME, selector="mgw2", now=True)
    await desk.act("rotate", name=NAME, now=True)
    assert desk.signs == ["mgw4"]
    with pytest.raises(Refused, match="selector mgw3 already"):
        await desk.act("rotate", name=NAME, selector="mgw3")


async def test_what_cannot_be_rotated(desk: Desk) -> None:
    for name, said in (
        ("unknown.example", "There is no domain"),
        ("declared.example", "declared in the configuration"),
    ):
        for action in ("rotate", "check"):
            with pytest.raises(Refused, match=said):
                await desk.act(action, name=name)
    await desk.act("add", name=NAME)
    await desk.act("rotate", name=NAME)
    with pytest.raises(Refused, match="made already"):
        await desk.act("rotate", name=NAME, selector="other")
    with pytest.raises(Refused, match="is not a DKIM selector"):
        await desk.act("rotate", name=await _fresh(desk), selector="-")


async def _fresh(desk: Desk) -> str:
    await desk.act("add", name="fresh.example")
    return "fresh.example"


@pytest.mark.parametrize(
    ("selector", "following"),
    [("mgw1", "mgw2"), ("s9", "s10"), ("s1-ed25519", "s2-ed25519"), ("mail", "mail2"), ("2026-11", "2027-11")],
)
def test_selectors_count_up(selector: str, following: str) -> None:
    assert dkimkeys.next_selector(selector) == following
