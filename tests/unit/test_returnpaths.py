"""Return paths of sending domains: given, refused, published, looked for."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.config import Config, Domain, Role, Smtp, SmtpListener
from gateway.errors import Refused
from gateway.manage import Manager
from gateway.policy.auth import KeyRing
from gateway.policy.domains import Domains
from gateway.resolver import Resolver
from gateway.runtime import Clock
from gateway.store.sqlite import SqliteStore
from gateway.store.vault import Vault
from tests.fakes.dns import FakeDns

NAME, BACK = "example.com", "bounces.example.com"
MX = "bounces.example.com. IN MX 10 mail.example.com."
SPF = 'bounces.example.com. IN TXT "v=spf1 a:mail.example.com -all"'


class Desk:
    """A manager over a store and a DNS server; every look asks the server again."""

    def __init__(self, store: SqliteStore, dns: FakeDns, config: Config) -> None:
        self.dns = dns
        self.domains = Domains()
        self.manager = Manager(
            config,
            store.records,
            Vault(b"k" * 32),
            store,
            keys=KeyRing(),
            domains=self.domains,
            clock=Clock(),
            lookup=lambda name: Resolver([dns.listen]).txt(name),
            lookup_mx=lambda name: Resolver([dns.listen]).mx(name),
        )

    async def act(self, action: str, **args: Any) -> Any:
        return await self.manager.actions()[f"domain.{action}"](args)

    async def shown(self, zone: str) -> list[str]:
        """What the check says of both records, where DNS has these."""
        self.dns.load(zone)
        return [record["published"] for record in (await self.act("check", name=NAME))["return_path"]["records"]]


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    store = await SqliteStore.open(tmp_path / "gateway.db")
    config = Config(
        hostname="mail.example.com",
        data_dir=tmp_path,
        domains={"declared.example": Domain("declared.example", return_path="b.declared.example")},
        simulator="play.example.com",
    )
    async with FakeDns("") as dns:
        made = Desk(store, dns, config)
        await made.manager.load()
        yield made
    await store.close()


async def test_a_domain_is_added_with_its_return_path(desk: Desk) -> None:
    added = await desk.act("add", name=NAME, return_path="Bounces.Example.COM.")
    assert added["return_path"] == BACK
    assert desk.domains.return_path(f"news.{NAME}") == BACK
    zone = await desk.act("zone", name=NAME)
    assert zone["zone"][0].startswith("mgw1._domainkey.example.com. ")
    assert (zone["zone"][1:], zone["heard"]) == ([MX, SPF], False)


async def test_it_is_given_taken_away_and_stays_over_restarts(desk: Desk) -> None:
    await desk.act("add", name=NAME)
    assert (await desk.act("check", name=NAME))["return_path"] is None
    await desk.act("add", name=NAME, return_path=BACK)
    await desk.manager.load()
    assert desk.domains.return_path(NAME) == BACK
    assert (await desk.act("add", name=NAME, ed25519=True))["return_path"] == BACK
    assert (await desk.act("add", name=NAME, return_path="none"))["return_path"] is None
    assert desk.domains.return_path(NAME) is None
    with pytest.raises(Refused, match="There is a domain"):
        await desk.act("add", name=NAME)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (NAME, "mail is sent from example.com"),
        ("declared.example", "mail is sent from declared.example"),
        ("play.example.com", "the simulator's domain"),
        ("not a domain", "return_path: "),
        ("bounces", "bounces is no full domain"),
    ],
)
async def test_what_cannot_be_one(desk: Desk, given: str, why: str) -> None:
    with pytest.raises(Refused, match=why):
        await desk.act("add", name=NAME, return_path=given)
    assert NAME not in [domain["name"] for domain in await desk.act("list")]


async def test_no_mail_is_sent_from_where_bounces_come_back(desk: Desk) -> None:
    with pytest.raises(Refused, match=r"bounces come back to b\.declared\.example"):
        await desk.act("add", name="b.declared.example")


@pytest.mark.parametrize(
    ("zone", "shown"),
    [
        ("", ["no", "no"]),
        (f'{BACK} MX 10 MAIL.example.com.\n{BACK} TXT "v=spf1 a:mail.example.com -all"', ["yes", "yes"]),
        (f"{BACK} MX 5 other.example.net.\n{BACK} TXT hello", ["another host: other.example.net", "no"]),
        (f'{BACK} TXT "v=spf1 include:relay.example.net ~all"', ["no", "yes"]),
        (f'{BACK} TXT "v=spf1 redirect=example.net"', ["no", "yes"]),
        (f'{BACK} TXT "v=spf1 -all"', ["no", "it allows nobody: v=spf1 -all"]),
        (f'{BACK} TXT "v=spf1 a -all"\n{BACK} TXT "v=spf1 mx -all"', ["no", "several records: none of them counts"]),
    ],
)
async def test_what_dns_shows(desk: Desk, zone: str, shown: list[str]) -> None:
    await desk.act("add", name=NAME, return_path=BACK)
    assert await desk.shown(zone) == shown


async def test_that_of_a_declared_domain_is_looked_at_too(desk: Desk) -> None:
    found = await desk.act("check", name="declared.example")
    assert found["keys"] == []
    assert found["return_path"]["domain"] == "b.declared.example"
    assert (await desk.act("zone", name="declared.example"))["zone"][0].endswith("IN MX 10 mail.example.com.")


async def test_whether_a_listener_takes_it_is_told(desk: Desk) -> None:
    listening = Config(
        hostname="mail.example.com", smtp=Smtp((SmtpListener(role=Role.RETURN_PATH),)), data_dir=Path("/srv")
    )
    (await desk.manager.prepare(listening))()
    await desk.act("add", name=NAME, return_path=BACK)
    assert (await desk.act("zone", name=NAME))["heard"]
    assert (await desk.act("check", name=NAME))["return_path"]["heard"]
