"""Keys, domains, DKIM keys, templates, secrets."""

import asyncio
from dataclasses import replace
from ipaddress import ip_network

import pytest

from gateway.keyterms import Brakes, Duplicates, KeyRetention, Limit, Mode, ModeKind, Unit
from gateway.message.notify import DELAY, FAILURE
from gateway.store.records import DkimKeyRecord, DomainRecord, Duplicate, KeyRecord, StsRecord, TemplateRecord
from tests.store.conftest import Opener, Store
from tests.store.mail import Now

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
    limits=(Limit(Unit.REQUESTS, 100, 60, 20), Limit(Unit.RECIPIENTS, 5000, 86_400, 5000)),
    networks=(ip_network("192.168.1.0/24"), ip_network("2001:db8::/48")),
    duplicates=Duplicates.AT_MOST_ONCE,
    dsn=FAILURE | DELAY,
    mode=Mode(ModeKind.ALLOW, ("*@example.net", "boss@example.org")),
    track=3,
    brakes=Brakes(bounces=0.125, new_recipients=Limit(Unit.RECIPIENTS, 500, 86_400, 500)),
    retention=KeyRetention(content_delivered_s=0, messages_s=86_400),
)
FIRST = DkimKeyRecord("s1", "rsa", b"wrapped-1", 1000, active=True)
SECOND = DkimKeyRecord("s2", "rsa", b"wrapped-2", 2000, active=True)
DOMAIN = DomainRecord("example.com", True, 1000, (FIRST,))
TEMPLATE = TemplateRecord(b"1" * 16, "acme", "welcome", "Hello {{name}}", "<p>{{name}}</p>", None, 1000, 1000)


async def test_a_key_is_kept_as_it_was_given(opener: Opener) -> None:
    store = await opener()
    other = replace(KEY, name="cron", digest=b"e" * 32, route="relay", senders=(), default_from=None, expires_at=None)
    other = replace(other, limits=(), networks=(), duplicates=Duplicates.AT_LEAST_ONCE, dsn=None)
    other = replace(other, mode=Mode(), track=0, brakes=Brakes(), retention=KeyRetention())
    silent = replace(other, name="silent", digest=b"f" * 32, dsn=0)
    for record in (KEY, other, silent):
        await store.records.add_key(record)
    await store.close()
    again = await opener()
    assert await again.records.keys() == [other, KEY, silent]


@pytest.mark.parametrize("twin", [replace(KEY, digest=b"e" * 32), replace(KEY, name="other")])
async def test_a_name_and_a_text_belong_to_one_key(store: Store, twin: KeyRecord) -> None:
    await store.records.add_key(KEY)
    with pytest.raises(Duplicate):
        await store.records.add_key(twin)
    assert await store.records.keys() == [KEY]


async def test_the_mode_of_a_key_is_changed(store: Store) -> None:
    await store.records.add_key(KEY)
    for mode in (Mode(ModeKind.HOLD), Mode(ModeKind.REDIRECT, ("qa@example.org",)), Mode()):
        assert await store.records.set_key_mode("shop", mode)
        assert await store.records.keys() == [replace(KEY, mode=mode)]
    assert not await store.records.set_key_mode("other", Mode())
    await store.records.revoke_key("shop", 5000)
    assert not await store.records.set_key_mode("shop", Mode(ModeKind.HOLD))


async def test_where_bounces_of_a_domain_come_back_to(store: Store) -> None:
    await store.records.add_domain(replace(DOMAIN, return_path="bounces.example.com"))
    assert [one.return_path for one in await store.records.domains()] == ["bounces.example.com"]
    assert await store.records.set_return_path("example.com", None)
    assert await store.records.domains() == [DOMAIN]
    assert not await store.records.set_return_path("example.net", "bounces.example.net")


async def test_a_key_is_revoked_once_and_its_name_stays_taken(store: Store) -> None:
    await store.records.add_key(KEY)
    assert await store.records.revoke_key("shop", 5000)
    assert not await store.records.revoke_key("shop", 6000)
    assert not await store.records.revoke_key("unknown", 6000)
    assert await store.records.keys() == [replace(KEY, revoked_at=5000)]
    with pytest.raises(Duplicate):
        await store.records.add_key(replace(KEY, digest=b"e" * 32))


async def test_a_key_gets_another_text_and_keeps_the_old_one_a_while(opener: Opener) -> None:
    store = await opener()
    await store.records.add_key(KEY)
    assert await store.records.rotate_key("shop", b"n" * 32, "mgw_new", old_until=9000)
    rotated = replace(KEY, digest=b"n" * 32, hint="mgw_new", old_digest=KEY.digest, old_until=9000)
    assert await store.records.keys() == [rotated]
    for taken in (KEY.digest, rotated.digest):
        with pytest.raises(Duplicate):
            await store.records.rotate_key("shop", taken, "x", old_until=9000)
        with pytest.raises(Duplicate):
            await store.records.add_key(replace(KEY, name="other", digest=taken))
    await store.close()
    records = (await opener()).records
    assert await records.keys() == [rotated]
    assert not await records.rotate_key("unknown", b"x" * 32, "x", old_until=9000)
    assert await records.revoke_key("shop", 5000)
    assert not await records.rotate_key("shop", b"x" * 32, "x", old_until=9000)
    assert await records.keys() == [replace(rotated, revoked_at=5000)]


async def test_a_policy_is_kept_until_it_expires(opener: Opener, now: Now) -> None:
    store = await opener()
    text = "version: STSv1\r\nmode: enforce\r\nmx: *.example.com\r\nmax_age: 86400\r\n"
    first = StsRecord("example.com", "20260101T010101", text, 1000, now.ms + 10)
    other = StsRecord("example.net", "a", "mode: none", 2000, now.ms + 20)
    for record in (first, other):
        await store.records.save_sts_policy(record)
    await store.close()
    store = await opener()
    assert await store.records.sts_policies(now.ms + 9) == [first, other]
    assert await store.records.sts_policies(now.ms + 10) == [other]
    assert not await store.records.sts_policies(now.ms + 20)
    renewed = replace(first, id="b", fetched_at=3000, expires_at=now.ms + 30)
    await store.records.save_sts_policy(renewed)
    assert await store.records.sts_policies(now.ms) == [other, renewed]


async def test_policies_that_expired_are_swept(store: Store, now: Now) -> None:
    policies = [StsRecord(f"d{n}.example", "a", "mode: none", 0, now.ms + n) for n in range(250)]
    await asyncio.gather(*map(store.records.save_sts_policy, policies))
    await store.sweep(now.ms + 230)
    left = await store.records.sts_policies(0)
    assert [record.domain for record in left] == [f"d{n}.example" for n in range(231, 250)]


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
    assert domain.keys == (replace(FIRST, active=False, retired_at=SECOND.created_at), ed25519, SECOND)
    with pytest.raises(Duplicate):
        await store.records.add_dkim_key("example.com", replace(SECOND, private_wrapped=b"x"))
    (domain,) = await store.records.domains()
    assert domain.keys[2] == SECOND
    assert not await store.records.add_dkim_key("example.net", SECOND)


async def test_the_next_key_waits_until_it_is_activated(store: Store) -> None:
    await store.records.add_domain(DOMAIN)
    following = replace(SECOND, active=False)
    assert await store.records.add_dkim_key("example.com", following)
    (domain,) = await store.records.domains()
    assert domain.keys == (FIRST, following)
    assert not await store.records.activate_dkim_key("example.com", "s1", 3000)  # it signs already
    assert await store.records.activate_dkim_key("example.com", "s2", 3000)
    (domain,) = await store.records.domains()
    old = replace(FIRST, active=False, retired_at=3000)
    assert domain.keys == (old, SECOND)
    assert not await store.records.activate_dkim_key("example.com", "s1", 4000)  # its record may be gone
    assert list(await store.records.forget_dkim_keys(3000)) == []
    assert list(await store.records.forget_dkim_keys(3001)) == [("example.com", "s1")]
    (domain,) = await store.records.domains()
    assert domain.keys == (SECOND,)


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


async def test_a_template_is_found_by_its_id_and_by_its_alias(opener: Opener) -> None:
    store = await opener()
    assert await store.records.add_template(TEMPLATE, most=9)
    await store.close()
    again = (await opener()).records
    assert await again.template("acme", TEMPLATE.uuid, "") == TEMPLATE
    assert await again.template("acme", None, "welcome") == TEMPLATE
    assert await again.template("acme", bytes(16), "welcome") is None
    assert await again.template("acme", None, "Welcome") is None


def bodiless(record: TemplateRecord) -> TemplateRecord:
    return replace(record, html=None, text=None)


async def test_a_template_belongs_to_its_account(store: Store) -> None:
    records = store.records
    theirs = replace(TEMPLATE, account="other", subject="Theirs")
    assert await records.add_template(TEMPLATE, most=1)
    assert await records.add_template(theirs, most=1)
    assert await records.template("other", TEMPLATE.uuid, "") == theirs
    assert await records.templates("acme") == [bodiless(TEMPLATE)]
    assert await records.template("third", TEMPLATE.uuid, "") is None
    assert not await records.remove_template("third", TEMPLATE.uuid)
    assert not await records.replace_template(replace(TEMPLATE, account="third"))
    assert await records.templates("third") == []


async def test_templates_are_listed_by_alias_then_age(store: Store) -> None:
    late = replace(TEMPLATE, uuid=b"2" * 16, alias="", created_at=3000)
    early = replace(TEMPLATE, uuid=b"3" * 16, alias="", created_at=2000)
    first = replace(TEMPLATE, uuid=b"4" * 16, alias="absence", html=None, text="text")
    for record in (TEMPLATE, late, early, first):
        assert await store.records.add_template(record, most=9)
    assert await store.records.templates("acme") == [bodiless(record) for record in (early, late, first, TEMPLATE)]
    assert await store.records.template("acme", None, "") is None


async def test_an_alias_is_used_once(store: Store) -> None:
    other = replace(TEMPLATE, uuid=b"2" * 16, alias="bye")
    assert await store.records.add_template(TEMPLATE, most=9)
    assert await store.records.add_template(other, most=9)
    with pytest.raises(Duplicate, match="alias welcome"):
        await store.records.add_template(replace(other, uuid=b"3" * 16, alias="welcome"), most=9)
    with pytest.raises(Duplicate, match="alias welcome"):
        await store.records.replace_template(replace(other, alias="welcome"))
    assert not await store.records.replace_template(replace(TEMPLATE, uuid=b"4" * 16))
    assert await store.records.templates("acme") == [bodiless(other), bodiless(TEMPLATE)]


async def test_an_account_has_so_many_templates_and_no_more(store: Store) -> None:
    assert await store.records.add_template(TEMPLATE, most=2)
    assert await store.records.add_template(replace(TEMPLATE, uuid=b"2" * 16, alias=""), most=2)
    third = replace(TEMPLATE, uuid=b"3" * 16, alias="")
    assert not await store.records.add_template(third, most=2)
    assert await store.records.remove_template("acme", TEMPLATE.uuid)
    assert not await store.records.remove_template("acme", TEMPLATE.uuid)
    assert await store.records.add_template(third, most=2)


async def test_a_template_is_replaced_but_for_its_creation(store: Store) -> None:
    assert await store.records.add_template(TEMPLATE, most=1)
    new = replace(TEMPLATE, alias="hello", subject="Hi", html=None, text="Hi", updated_at=9000)
    assert await store.records.replace_template(replace(new, created_at=8000))
    assert await store.records.template("acme", new.uuid, "") == new
    assert await store.records.replace_template(replace(new, subject="Hi again"))
    assert not await store.records.replace_template(replace(new, uuid=bytes(16)))
