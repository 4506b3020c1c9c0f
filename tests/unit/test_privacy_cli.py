"""The commands that keep less: erase, return paths of domains, how long mail of a key is kept."""

from pathlib import Path

import pytest

from gateway.config import Config, KeyConfig, Secret
from gateway.errors import Refused
from gateway.keyterms import KeyRetention
from gateway.manage.erasure import ErasureActions
from gateway.manage.keeping import KeyTerms
from gateway.policy import brakes
from gateway.runtime import Clock
from gateway.store.records import KeyRecord
from gateway.store.sqlite import SqliteStore
from gateway.tokens import SECRET_BYTES, Tokens
from tests.unit.test_cli import Shell

BOB = "Bob@Example.net"


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    made = Shell(tmp_path, capsys)
    made.ok("key", "create", "shop")
    return made


def test_a_person_is_counted_and_erased(shell: Shell) -> None:
    shell.send("--to", BOB)
    shell.send()
    counted = shell.ok("erase", BOB.lower(), "--dry-run")
    assert counted.startswith("Would be removed:\n         1  recipients of messages to others, too\n")
    assert "not counted beforehand" in counted
    assert "In a log with hashed addresses it is h:" in counted
    removed = shell.ok("erase", BOB.upper())
    assert removed.startswith("Removed:\n         1  recipients of messages to others, too\n         2  events\n")
    assert "1  contents of messages that others still wait for, once they have them\n" in removed
    assert "Ask again when the others have theirs" in removed
    assert shell.ok("erase", BOB).startswith("Removed:\n  nothing\n")
    assert shell.json("erase", "you@example.net", "--account", "nobody")["removed"]["messages"] == 0
    assert shell.json("erase", "you@example.net", "--account", "shop", "--wait", "0s")["removed"]["messages"] == 2


def test_what_is_no_address_is_not_looked_for(shell: Shell) -> None:
    assert "address: " in shell.fails(1, "erase", "bob")
    assert "is not more than nothing" in shell.fails(2, "erase", BOB, "--wait", "200000d")
    assert "wait: from 0s to 1h" in shell.fails(1, "erase", BOB, "--wait", "2h")


def test_the_return_path_of_a_domain(shell: Shell) -> None:
    added = shell.ok("domain", "add", "example.com", "--return-path", "bounces.example.com")
    assert "Bounces come back to bounces.example.com; its records: mail-gateway domain zone example.com" in added
    listed = shell.ok("domain", "list")
    assert "RETURN PATH" in listed
    assert "bounces.example.com" in listed
    zone = shell.ok("domain", "zone", "example.com")
    assert "mgw1._domainkey.example.com. IN TXT" in zone
    assert "bounces.example.com. IN MX 10 mail.example.org.\n" in zone
    assert 'bounces.example.com. IN TXT "v=spf1 a:mail.example.org -all"\n' in zone
    assert "no listener takes what comes back" in shell.err
    assert "mail is sent from example.com" in shell.fails(1, "domain", "add", "a.test", "--return-path", "example.com")
    assert "bounces.example.com" not in shell.ok("domain", "add", "example.com", "--return-path", "none")


def test_a_domain_without_records(shell: Shell) -> None:
    shell.configure("domains: {example.net: {}}\n")
    assert shell.run("domain", "zone", "example.net") == 0
    assert shell.out == ""
    assert "neither key nor return path" in shell.err


async def test_terms_of_keys_are_told_whenever_they_change(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "gateway.db")
    told: list[dict[str, KeyRetention]] = []
    week, month = KeyRetention(messages_s=7 * 86_400), KeyRetention(messages_s=30 * 86_400)
    plain = Config(data_dir=tmp_path)
    try:
        terms = KeyTerms(plain, store.records, lambda by_key: told.append(dict(by_key)))
        await terms.load()
        create = terms.after(lambda args: store.records.add_key(_record(args["name"], args["kept"])))
        await create({"name": "news", "kept": week})
        await create({"name": "shop", "kept": KeyRetention()})
        declared = {"news": KeyConfig("news", Secret("x" * 22), "news", retention=month)}
        terms.reconfigure(Config(data_dir=tmp_path, keys=declared))
        terms.reconfigure(plain)
    finally:
        await store.close()
    assert told == [{}, {"news": week}, {"news": week}, {"news": month}, {"news": week}]


def _record(name: str, kept: KeyRetention) -> KeyRecord:
    senders: tuple[str, ...] = ()
    return KeyRecord(
        name=name,
        digest=name.encode(),
        hint=name,
        account=name,
        route=None,
        senders=senders,
        scopes=("send",),
        default_from=None,
        created_at=0,
        expires_at=None,
        revoked_at=None,
        retention=kept,
    )


async def test_whom_a_key_knows_is_found_by_the_hash_that_is_stored(tmp_path: Path) -> None:
    """As Brakes would have stored it; and another spelling of the address is the same."""
    tokens = Tokens(bytes(SECRET_BYTES))
    store = await SqliteStore.open(tmp_path / "gateway.db")
    try:
        number = brakes.number_of(tokens.hashed(BOB.lower()))
        await store.brakes.acquaint([("shop", number, 1), ("shop", number + 1, 1)])
        done = await ErasureActions(store.erasing, tokens, Clock()).erase({"address": BOB})
        assert done["removed"]["acquaintances"] == 1
        with pytest.raises(Refused):
            await ErasureActions(store.erasing, tokens, Clock()).erase({"address": "nobody"})
    finally:
        await store.close()
