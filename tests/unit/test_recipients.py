"""Names without a domain: the key's alias, else its default domain, else a refusal with the remedy."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import Reason, Refused
from gateway.message.address import parse_path
from gateway.policy.recipients import qualify
from tests.unit.conftest import SHOP

OLD = replace(
    SHOP, default_domain="example.com", aliases=(("root", "ops@example.net"), ("web.master", "w@example.net"))
)


@pytest.mark.parametrize(
    ("given_address", "used"),
    [
        ("root", "ops@example.net"),
        ("ROOT", "ops@example.net"),
        ("Web.Master", "w@example.net"),
        ("scanner", "scanner@example.com"),
        ("Scanner", "Scanner@example.com"),
        ('"a b"', '"a b"@example.com'),
        ('"a@b"', '"a@b"@example.com'),
        ("müller", "müller@example.com"),
        ("root@example.org", "root@example.org"),
        ('"root"@example.org', '"root"@example.org'),
        ("root@[192.0.2.1]", "root@[192.0.2.1]"),
        ("", ""),
    ],
)
def test_what_a_name_becomes(given_address: str, used: str) -> None:
    assert qualify(OLD, given_address) == used


def test_an_alias_needs_no_default_domain() -> None:
    only_aliases = replace(OLD, default_domain=None)
    assert qualify(only_aliases, "root") == "ops@example.net"
    with pytest.raises(Refused) as refusal:
        qualify(only_aliases, "scanner")
    assert refusal.value.reason is Reason.UNQUALIFIED
    assert refusal.value.smtp_reply.startswith("553 5.1.3 ")
    assert "default_domain" in refusal.value.text
    assert "scanner" not in refusal.value.text  # what a client sent is not said back


@pytest.mark.parametrize("name", ["a" * 65, "a b", "a\rb", "a..b"])
def test_what_is_no_address_with_a_domain_either(name: str) -> None:
    with pytest.raises(Refused) as refusal:
        qualify(OLD, name)
    assert refusal.value.reason is Reason.VALIDATION_ERROR
    assert refusal.value.smtp_reply.isprintable()


@given(st.text(max_size=40))
def test_what_comes_out_is_an_address_or_a_refusal(text: str) -> None:
    try:
        used = qualify(OLD, text)
    except Refused:
        return
    assert used == text or parse_path(used) == used
