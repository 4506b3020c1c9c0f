"""Which keys sign for a From domain, where unsigned mail is refused, and where bounces go."""

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519

from gateway.config import Signing
from gateway.errors import Reason, Refused
from gateway.message.dkim import Algorithm, PrivateKey
from gateway.policy.domains import Domains, SendingDomain, SigningKey

# Which kind a key is does not matter here: the domain says it.
KEY = PrivateKey(Algorithm.ED25519, ed25519.Ed25519PrivateKey.from_private_bytes(bytes(32)))


def domain(name: str, *selectors: str, require_dkim: bool = False) -> SendingDomain:
    """With none, one or two keys: RSA, and Ed25519 beside it."""
    first, second = ([SigningKey(name, selector, KEY) for selector in selectors] + [None, None])[:2]
    return SendingDomain(name, require_dkim, first, second)


def loaded(*domains: SendingDomain) -> Domains:
    made = Domains()
    made.load(domains)
    return made


def who(domains: Domains, name: str, signing: Signing = Signing.RSA_AND_ED25519) -> list[str]:
    return [f"{key.selector}.{key.domain}" for key in domains.signing_keys(name, signing)]


@pytest.mark.parametrize(
    ("signing", "one", "two"),
    [
        (Signing.NONE, [], []),
        (Signing.RSA, ["r.one.example"], ["r.two.example"]),
        (Signing.RSA_AND_ED25519, ["r.one.example"], ["r.two.example", "e.two.example"]),
    ],
)
def test_the_route_says_how_much_is_signed(signing: Signing, one: list[str], two: list[str]) -> None:
    domains = loaded(domain("one.example", "r"), domain("two.example", "r", "e"), domain("bare.example"))
    assert who(domains, "one.example", signing) == one
    assert who(domains, "two.example", signing) == two
    assert who(domains, "bare.example", signing) == []
    assert who(domains, "other.example", signing) == []
    assert who(domains, "", signing) == []


def test_the_nearest_domain_with_a_key_signs() -> None:
    domains = loaded(
        domain("example.com", "top", "top2"),
        domain("shop.example.com", "shop"),
        domain("bare.example.com"),
        domain("bare.bare.example.com"),
        domain("com.example", "not-a-parent"),
    )
    assert who(domains, "example.com") == ["top.example.com", "top2.example.com"]
    assert who(domains, "a.b.example.com") == ["top.example.com", "top2.example.com"]
    assert who(domains, "shop.example.com") == ["shop.shop.example.com"], "the second key of a parent is not mixed in"
    assert who(domains, "mail.shop.example.com") == ["shop.shop.example.com"]
    assert who(domains, "bare.bare.example.com") == ["top.example.com", "top2.example.com"]
    assert who(domains, "notexample.com") == []


def test_a_signature_is_required_of_whoever_can_give_it() -> None:
    domains = loaded(
        domain("example.com", "top"),
        domain("strict.example.com", require_dkim=True),
        domain("alone.example", require_dkim=True),
        domain("lax.example"),
    )
    for signed in ("example.com", "strict.example.com", "mail.strict.example.com", "lax.example", "other.example"):
        domains.require(signed)
    for name in ("alone.example", "mail.alone.example"):
        with pytest.raises(Refused, match=r"The domain alone\.example requires a DKIM signature") as refusal:
            domains.require(name)
        assert refusal.value.reason is Reason.SENDER_NOT_ALLOWED


def test_the_nearest_domain_with_a_return_path_has_the_bounces() -> None:
    def returning(name: str, return_path: str | None) -> SendingDomain:
        return SendingDomain(name, require_dkim=False, key=None, return_path=return_path)

    domains = loaded(
        returning("example.com", "bounces.example.com"),
        returning("shop.example.com", "bounces.shop.example.com"),
        returning("bare.shop.example.com", None),
        returning("none.example", None),
    )
    assert domains.return_path("example.com") == "bounces.example.com"
    assert domains.return_path("news.example.com") == "bounces.example.com"
    assert domains.return_path("bare.shop.example.com") == "bounces.shop.example.com"
    assert domains.return_path("none.example") is None
    assert domains.return_path("") is None
    domains.load([returning("example.com", None)])
    assert domains.return_path("example.com") is None
