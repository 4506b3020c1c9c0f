"""Keys, domains, DKIM keys, secrets."""

from dataclasses import replace

import pytest

from gateway.store.records import DkimKeyRecord, DomainRecord, Duplicate, KeyRecord
from tests.store.conftest import Opener, Store

KEY = KeyRecord(
    name="shop",
    digest=b"d" * 32,
    hint="mgw_abcd",
    account="acme",
    route=None,
    senders=("*@example.com", "a@example.org"),
    scopes=("send", "read"),
    default_from="shop@example.com",
    created_at=1000,
    expires_at=2000,
)
FIRST = DkimKeyRecord("s1", "rsa", b"wrapped-1", 1000, active=True)
SECOND = DkimKeyRecord("s2", "rsa", b"wrapped-2", 2000, active=True)
DOMAIN = DomainRecord("example.com", True, 1000, (FIRST,))


async def test_a_key_is_kept_as_it_was_given(opener: Opener) -> None:
    store = await opener()
    other = replace(KEY, name="cron", digest=b"e" * 32, route="relay", senders=(), default_from=None, expires_at=None)
    await store.records.add_key(KEY)
    await store.records.add_key(other)
    await store.close()
    again = await opener()
    assert await again.records.keys() == [other, KEY]


@pytest.mark.parametrize("twin", [replace(KEY, digest=b"e" * 32), replace(KEY, name="other")])
async def test_a_name_and_a_text_belong_to_one_key(store: Store, twin: KeyRecord) -> None:
    await store.records.add_key(KEY)
    with pytest.raises(Duplicate):
        await store.records.add_key(twin)
    assert await store.records.keys() == [KEY]


async def test_a_key_is_revoked_once_and_its_name_stays_taken(store: Store) -> None:
    await store.records.add_key(KEY)
    assert await store.records.revoke_key("shop", 5000)
    assert not await store.records.revoke_key("shop", 6000)
    assert not await store.records.revoke_key("unknown", 6000)
    assert await store.records.keys() == [replace(KEY, revoked_at=5000)]
    with pytest.raises(Duplicate):
        await store.records.add_key(replace(KEY, digest=b"e" * 32))


async def test_a_domain_comes_with_its_keys(store: Store) -> None:
    plain = DomainRecord("example.net", False, 1500)
    await store.records.add_domain(plain)
    await store.records.add_domain(DOMAIN)
    assert await store.records.domains() == [DOMAIN, plain]
    with pytest.raises(Duplicate):
        await store.records.add_domain(replace(DOMAIN, keys=(SECOND,)))
    assert await store.records.domains() == [DOMAIN, plain]


async def test_a_new_active_key_retires_the_old_one(store: Store) -> None:
    await store.records.add_domain(DOMAIN)
    ed25519 = DkimKeyRecord("e1", "ed25519", b"wrapped-e", 1500, active=True)
    assert await store.records.add_dkim_key("example.com", ed25519)
    assert await store.records.add_dkim_key("example.com", SECOND)
    (domain,) = await store.records.domains()
    assert domain.keys == (replace(FIRST, active=False), ed25519, SECOND)
    with pytest.raises(Duplicate):
        await store.records.add_dkim_key("example.com", replace(SECOND, private_wrapped=b"x"))
    (domain,) = await store.records.domains()
    assert domain.keys[2] == SECOND
    assert not await store.records.add_dkim_key("example.net", SECOND)


async def test_a_domain_goes_with_its_keys(store: Store) -> None:
    await store.records.add_domain(DOMAIN)
    assert await store.records.remove_domain("example.com")
    assert not await store.records.remove_domain("example.com")
    await store.records.add_domain(replace(DOMAIN, keys=()))
    assert await store.records.domains() == [replace(DOMAIN, keys=())]


async def test_a_secret_is_replaced(store: Store) -> None:
    assert await store.records.secret("dev-key") is None
    await store.records.put_secret("dev-key", b"one")
    await store.records.put_secret("dev-key", b"two")
    assert await store.records.secret("dev-key") == b"two"
