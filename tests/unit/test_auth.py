"""Keys: their text, who they stand for, and one answer for every reason to refuse."""

from dataclasses import replace
from ipaddress import ip_network

import pytest

from gateway.errors import Reason, Refused
from gateway.keyterms import Duplicates, Limit, Unit
from gateway.policy import auth, senders
from gateway.policy.auth import KeyRing, Principal
from gateway.store.records import KeyRecord

NOW = 1_800_000_000_000
PEER = "192.0.2.7"


def record(
    name: str,
    secret: str,
    *,
    expires_at: int | None = None,
    revoked_at: int | None = None,
    limits: tuple[Limit, ...] = (),
    networks: tuple[str, ...] = (),
    old: tuple[str, int] | None = None,
) -> KeyRecord:
    return KeyRecord(
        name=name,
        digest=auth.digest(secret),
        hint=auth.hint(secret),
        account="a",
        route=None,
        senders=("*@example.com", "ops@example.net"),
        scopes=("send",),
        default_from=None,
        created_at=NOW,
        expires_at=expires_at,
        revoked_at=revoked_at,
        limits=limits,
        networks=tuple(map(ip_network, networks)),
        old_digest=old and auth.digest(old[0]),
        old_until=old and old[1],
    )


def ring(*records: KeyRecord) -> KeyRing:
    keys = KeyRing()
    keys.load(records, [])
    return keys


def test_a_new_key_is_random_prefixed_and_checksummed() -> None:
    made = {auth.make_key() for _ in range(50)}
    assert len(made) == 50
    assert all(key.startswith("mgw_") and len(key) == 42 and key[4:].isalnum() for key in made)
    assert auth.make_key("re_").startswith("re_")


def test_only_the_digest_is_kept() -> None:
    secret = auth.make_key()
    kept = record("shop", secret)
    assert secret not in repr(kept)
    assert len(kept.hint) < 12


@pytest.mark.parametrize(
    ("secret", "login", "whose", "why"),
    [
        ("unknown", "", None, "no key has this text"),
        ("", "", None, "no key has this text"),
        ("old", "", "old", "the key, or this text of it, has expired"),
        ("before", "", "shop", "the key, or this text of it, has expired"),
        ("gone", "", "gone", "the key is revoked"),
        ("here", "", "here", "the key is not for this address"),
        ("shop", "here", "shop", "the user name is the name of another key"),
        ("shop", "gone", "shop", None),  # the name of no key any more
        ("shop", "anything", "shop", None),
        ("shop", "shop", "shop", None),
        ("now", "", "rotated", None),
    ],
)
def test_the_operator_is_told_why(secret: str, login: str, whose: str | None, why: str | None) -> None:
    keys = ring(
        record("shop", "shop", old=("before", NOW)),
        record("rotated", "new", old=("now", NOW + 1)),
        record("old", "old", expires_at=NOW),
        record("gone", "gone", revoked_at=NOW - 1),
        record("here", "here", networks=("198.51.100.0/24",)),
    )
    principal, fault = keys.judge(secret, NOW, peer=PEER, login=login)
    assert (principal and principal.name, fault) == (whose, why)


def good(keys: KeyRing, secret: str, **more: str) -> Principal:
    principal, fault = keys.judge(secret, NOW, peer=PEER, **more)
    assert principal is not None
    assert fault is None
    return principal


def test_any_user_name_but_the_name_of_another_key() -> None:
    first, second = auth.make_key(), auth.make_key()
    keys = ring(record("shop", first), record("crm", second))
    assert good(keys, first, login="whoever").name == "shop"
    assert good(keys, first, login="shop").name == "shop"
    assert keys.judge(first, NOW, peer=PEER, login="crm").fault is not None


def test_a_key_of_the_configuration_wins_over_its_namesake() -> None:
    stored, declared = auth.make_key(), auth.make_key()
    keys = KeyRing()
    principal = Principal("shop", "b", None, (), frozenset({"send"}), None, None, source="config")
    keys.load([record("shop", stored)], [(principal, auth.digest(declared))])
    assert good(keys, declared).account == "b"
    assert keys.judge(stored, NOW, peer=PEER) == (None, "no key has this text")


def test_allowed_senders() -> None:
    secret = auth.make_key()
    principal = good(ring(record("shop", secret)), secret)
    senders.check(principal, ["", "a@example.com", "OPS@example.net"], param="from")
    with pytest.raises(Refused) as refusal:
        senders.check(principal, ["a@example.com", "a@example.net"], param="from")
    assert refusal.value.reason is Reason.SENDER_NOT_ALLOWED
    assert refusal.value.param == "from"
    assert "a@example.net" in refusal.value.text


def test_a_principal_has_the_limits_of_its_key() -> None:
    limits = (Limit(Unit.RECIPIENTS, 100, 60, 200),)
    shop = replace(record("shop", "s" * 30, limits=limits), duplicates=Duplicates.AT_MOST_ONCE, dsn=0)
    keys = ring(shop, record("crm", "c" * 30))
    assert (keys.named("shop", NOW).duplicates, keys.named("shop", NOW).dsn) == (Duplicates.AT_MOST_ONCE, 0)
    assert (keys.named("crm", NOW).duplicates, keys.named("crm", NOW).dsn) == (Duplicates.AT_LEAST_ONCE, None)
    assert good(keys, "s" * 30).limits == limits
    assert keys.named("shop", NOW).limits == limits
    assert keys.named("crm", NOW).limits == ()


def test_scopes() -> None:
    principal = Principal("r", "a", None, (), frozenset({"read"}), None, None)
    auth.require_scope(principal, "read")
    with pytest.raises(Refused) as refusal:
        auth.require_scope(principal, "send")
    assert refusal.value.reason is Reason.INSUFFICIENT_PERMISSIONS
