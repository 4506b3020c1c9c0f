"""Keys: their text, who they stand for, and one answer for every reason to refuse."""

import pytest

from gateway.config import Limit, Unit
from gateway.errors import Reason, Refused
from gateway.policy import auth, senders
from gateway.policy.auth import KeyRing, Principal
from gateway.store.records import KeyRecord

NOW = 1_800_000_000_000


def record(
    name: str,
    secret: str,
    *,
    expires_at: int | None = None,
    revoked_at: int | None = None,
    limits: tuple[Limit, ...] = (),
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


@pytest.mark.parametrize("case", ["unknown", "expired", "revoked", "empty"])
def test_every_refusal_reads_the_same(case: str) -> None:
    secret = auth.make_key()
    keys = ring(
        record("old", secret if case == "expired" else "x" * 30, expires_at=NOW),
        record("gone", secret if case == "revoked" else "y" * 30, revoked_at=NOW - 1),
    )
    with pytest.raises(Refused) as refusal:
        keys.authenticate("" if case == "empty" else secret, NOW)
    assert refusal.value.reason is Reason.AUTHENTICATION_REQUIRED
    assert refusal.value.text == "The key is missing, unknown, expired or revoked."


def test_any_user_name_but_the_name_of_another_key() -> None:
    first, second = auth.make_key(), auth.make_key()
    keys = ring(record("shop", first), record("crm", second))
    assert keys.authenticate(first, NOW, login="whoever").name == "shop"
    assert keys.authenticate(first, NOW, login="shop").name == "shop"
    with pytest.raises(Refused):
        keys.authenticate(first, NOW, login="crm")


def test_a_key_of_the_configuration_wins_over_its_namesake() -> None:
    stored, declared = auth.make_key(), auth.make_key()
    keys = KeyRing()
    principal = Principal("shop", "b", None, (), frozenset({"send"}), None, None, source="config")
    keys.load([record("shop", stored)], [(principal, auth.digest(declared))])
    assert keys.authenticate(declared, NOW).account == "b"
    with pytest.raises(Refused):
        keys.authenticate(stored, NOW)


def test_allowed_senders() -> None:
    secret = auth.make_key()
    principal = ring(record("shop", secret)).authenticate(secret, NOW)
    senders.check(principal, ["", "a@example.com", "OPS@example.net"], param="from")
    with pytest.raises(Refused) as refusal:
        senders.check(principal, ["a@example.com", "a@example.net"], param="from")
    assert refusal.value.reason is Reason.SENDER_NOT_ALLOWED
    assert refusal.value.param == "from"
    assert "a@example.net" in refusal.value.text


def test_a_principal_has_the_limits_of_its_key() -> None:
    limits = (Limit(Unit.RECIPIENTS, 100, 60, 200),)
    keys = ring(record("shop", "s" * 30, limits=limits), record("crm", "c" * 30))
    assert keys.authenticate("s" * 30, NOW).limits == limits
    assert keys.named("shop", NOW).limits == limits
    assert keys.named("crm", NOW).limits == ()


def test_scopes() -> None:
    principal = Principal("r", "a", None, (), frozenset({"read"}), None, None)
    auth.require_scope(principal, "read")
    with pytest.raises(Refused) as refusal:
        auth.require_scope(principal, "send")
    assert refusal.value.reason is Reason.INSUFFICIENT_PERMISSIONS
