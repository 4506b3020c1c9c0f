"""Bounces of other projects' tests, and all other odd mail there is, through the reader of what comes back (M8)."""

import random

import pytest

from gateway.message import reports
from gateway.tokens import Tokens
from tests.peers import corpora

pytestmark = pytest.mark.slow

TOKENS = Tokens(bytes(32))
FLUFL = "flufl.bounce/"
FEWEST = 0.95
# Of flufl.bounce's own samples: a mail of a person, an automatic answer, and three that name nobody.
NOBODY = {"groupwise_03", "qmail_08", "bounce_01", "dumbass_01", "simple_43"}
# As flufl.bounce's own tests have them.
KNOWN = {
    "postfix_01": {"xxxxx@local.ie"},
    "exim_01": {"userx@its.example.nl"},
    "simple_01": {"bbbsss@example.com"},
    "newmailru_01": {"zzzzz@newmail.ru"},
    "groupwise_01": {"userx@example.edu"},
    "yale_01": {"userx@cs.yale.edu", "userx@yale.edu"},
    "microsoft_01": {"userx@example.com"},
    "smtp32_01": {"userx@example.ph"},
    "qmail_01": {"userx@example.de"},
    "yahoo_01": {"userx@example.com"},
    "aol_01": {"screenname@aol.com"},
}
MUTANTS = 4


def bounces() -> dict[str, bytes]:
    found = {name.removeprefix(FLUFL): data for name, data in corpora.packages().items() if name.startswith(FLUFL)}
    assert len(found) >= 117
    return found


def test_nearly_every_address_is_found() -> None:
    found = {
        name for name, data in bounces().items() if any(told.addresses for told in reports.read(data, TOKENS).told)
    }
    missed = {name.removesuffix(".txt") for name in bounces().keys() - found}
    assert len(found) >= FEWEST * len(bounces())
    assert missed <= NOBODY


@pytest.mark.parametrize("name", KNOWN)
def test_the_address_is_the_right_one(name: str) -> None:
    report = reports.read(bounces()[f"{name}.txt"], TOKENS)
    assert {address.lower() for told in report.failed for address in told.addresses} == KNOWN[name]


def test_no_message_there_is_breaks_it() -> None:
    messages = corpora.packages() | corpora.cpython()
    assert len(messages) > 200
    for data in messages.values():
        reports.read(data, TOKENS)


def test_no_damaged_bounce_breaks_it() -> None:
    rng = random.Random(7)
    for data in bounces().values():
        for _ in range(MUTANTS):
            reports.read(mutated(data, rng), TOKENS)


def mutated(data: bytes, rng: random.Random) -> bytes:
    """Cut, doubled, joined or changed somewhere."""
    start, end = sorted((rng.randrange(len(data)), rng.randrange(len(data))))
    match rng.randrange(5):
        case 0:
            return data[:start]
        case 1:
            return data[:start] + data[end:]
        case 2:
            return data[:end] + data[start:]
        case 3:
            return data.replace(b"\n", b"\r", rng.randrange(20))
        case _:
            changed = bytearray(data)
            for _ in range(rng.randrange(1, 60)):
                changed[rng.randrange(len(changed))] = rng.randrange(256)
            return bytes(changed)
