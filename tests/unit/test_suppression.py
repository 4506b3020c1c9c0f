"""Who is not sent to, as intake and attempts ask: which entries count, and what is asked of the store at all."""

from collections.abc import Collection, Sequence
from dataclasses import replace

import pytest

from gateway.errors import StoreError
from gateway.policy import suppression
from gateway.policy.suppression import Suppressions
from gateway.runtime import Clock
from gateway.store.sieve import Sieve
from gateway.store.suppression import EVERYBODY, Entry, Kind, Reason
from gateway.tokens import SECRET_BYTES, Tokens

NOW = 1_800_000_000_000
TOKENS = Tokens(b"s" * SECRET_BYTES)
ANN = Entry("acme", "", Kind.ADDRESS, "ann@example.com", Reason.BOUNCE, "", NOW, None)


class Listed:
    """The store, with what it was asked for."""

    def __init__(self, *entries: Entry) -> None:
        self.entries = entries
        self.asked: list[str] = []
        self.sieve = Sieve()
        for entry in entries:
            self.sieve.add(entry.value)
        self.sieve.settle(None)

    async def find(self, account: str, asked: Sequence[tuple[str, Kind]]) -> list[Entry]:
        self.asked += [value for value, _ in asked]
        return [
            one for one in self.entries if one.account in {EVERYBODY, account} and (one.value, one.kind) in set(asked)
        ]


class Broken(Listed):
    async def find(self, account: str, asked: Sequence[tuple[str, Kind]]) -> list[Entry]:
        raise StoreError("the disk is away")


def over(store: Listed) -> Suppressions:
    return Suppressions(store, TOKENS, Clock(now_ms=lambda: NOW))


async def found(*entries: Entry, to: str = "ann@example.com", tags: Collection[str] = ()) -> Reason | None:
    entry = (await over(Listed(*entries)).find("acme", tags, (to,))).get(to)
    return entry.reason if entry is not None else None


async def test_an_entry_of_the_account_and_one_for_everybody_count() -> None:
    assert await found(ANN) is Reason.BOUNCE
    assert await found(replace(ANN, account=EVERYBODY)) is Reason.BOUNCE
    assert await found(replace(ANN, account="other")) is None


async def test_case_does_not_matter() -> None:
    assert await found(ANN, to="Ann@example.com") is Reason.BOUNCE


async def test_an_entry_for_a_tag_counts_for_mail_with_that_tag() -> None:
    tagged = replace(ANN, tag="news")
    assert await found(tagged) is None
    assert await found(tagged, tags=("order",)) is None
    assert await found(tagged, tags=("order", "news")) is Reason.BOUNCE


async def test_a_domain_means_itself_and_nothing_below() -> None:
    domain = replace(ANN, kind=Kind.DOMAIN, value="example.com")
    assert await found(domain) is Reason.BOUNCE
    assert await found(domain, to="ann@mail.example.com") is None
    assert await found(domain, to="ann@myexample.com") is None


async def test_an_erased_person_is_found_by_the_hash() -> None:
    hashed = replace(ANN, value=TOKENS.hashed("ann@example.com"))
    assert await found(hashed, to="ANN@example.com") is Reason.BOUNCE
    assert await found(hashed, to="bob@example.com") is None


async def test_the_hash_of_an_address_is_made_once() -> None:
    """At RCPT, at intake and at the attempt it is asked for: with one erased person in the list, of everybody."""

    class Counted(Tokens):
        made = 0

        def hashed(self, address: str) -> str:
            self.made += 1
            return super().hashed(address)

    tokens = Counted(b"s" * SECRET_BYTES)
    listed = Listed(replace(ANN, value=TOKENS.hashed("ann@example.com")))
    suppressions = Suppressions(listed, tokens, Clock(now_ms=lambda: NOW))
    assert not any(suppressions.may_have(to) for to in ("bob@example.com", "Bob@example.com"))
    assert suppressions.may_have("ann@example.com")
    assert await suppressions.find("acme", (), ("ann@example.com", "bob@example.com"))
    assert tokens.made == 2


@pytest.mark.parametrize(("expires_at", "counts"), [(NOW + 1, True), (NOW, False), (None, True)])
async def test_what_has_ended_does_not_count(expires_at: int | None, counts: bool) -> None:
    assert (await found(replace(ANN, expires_at=expires_at)) is not None) is counts


async def test_of_several_the_strongest_is_told() -> None:
    domain = replace(ANN, kind=Kind.DOMAIN, value="example.com", reason=Reason.OPERATOR)
    unsubscribed = replace(ANN, account=EVERYBODY, reason=Reason.UNSUBSCRIBE)
    assert await found(ANN, unsubscribed) is Reason.UNSUBSCRIBE
    assert await found(unsubscribed, ANN) is Reason.UNSUBSCRIBE
    assert await found(domain, ANN, unsubscribed) is Reason.OPERATOR


async def test_only_who_is_meant_is_found() -> None:
    store = Listed(ANN)
    assert set(await over(store).find("acme", (), ("ann@example.com", "bob@example.com"))) == {"ann@example.com"}


async def test_nothing_is_asked_for_addresses_that_were_never_there() -> None:
    store = Listed(ANN)
    suppressions = over(store)
    assert not await suppressions.find("acme", (), ("bob@example.net", "eve@example.org"))
    assert not suppressions.may_have("bob@example.net")
    assert suppressions.may_have("Ann@example.com")
    assert not store.asked
    await suppressions.find("acme", (), ("ann@example.com", "bob@example.net"))
    assert store.asked == ["ann@example.com"]


async def test_a_store_that_is_away_is_told() -> None:
    with pytest.raises(StoreError):
        await over(Broken(ANN)).find("acme", (), ("ann@example.com",))
    assert not await over(Broken(ANN)).find("acme", (), ("bob@example.net",))


@pytest.mark.parametrize("reason", list(Reason))
def test_what_clients_are_told_names_nobody(reason: Reason) -> None:
    entry = replace(ANN, reason=reason, note="a secret of ours", account="other")
    refusal = suppression.refusal(entry, param="to")
    assert refusal.smtp_reply.startswith("550 5.7.1 The recipient is suppressed: ")
    assert refusal.reason.code == "recipient_suppressed"
    assert refusal.reason.answer.http == 422
    assert "ann" not in refusal.text
    assert "secret" not in refusal.text
    assert "other" not in refusal.text
