"""Which hosts, in which order: the shapes of RFC 5321, 5.1, and RFC 7505."""

import random
from collections import Counter

import pytest

from gateway.delivery import mx
from gateway.delivery.verdict import Word

OURS = frozenset({"gw.test"})


def order(*records: tuple[int, str], seed: int = 1) -> list[str] | Word:
    return mx.order(records, OURS, random.Random(seed))


def test_the_lowest_preference_is_first() -> None:
    assert order((30, "c.test"), (10, "a.test"), (20, "b.test")) == ["a.test", "b.test", "c.test"]


def test_equals_share_the_load_and_stay_before_the_worse() -> None:
    firsts: Counter[str] = Counter()
    for seed in range(1000):
        hosts = order((10, "a.test"), (10, "b.test"), (20, "c.test"), seed=seed)
        assert isinstance(hosts, list)
        assert hosts[2] == "c.test"
        firsts[hosts[0]] += 1
    assert 450 < firsts["a.test"] < 550


def test_ten_hosts_are_enough() -> None:
    hosts = order(*[(n, f"mx{n}.test") for n in range(80)])
    assert hosts == [f"mx{n}.test" for n in range(10)]


@pytest.mark.parametrize(
    ("records", "hosts"),
    [
        (((10, "a.test"), (20, "gw.test"), (30, "c.test")), ["a.test"]),
        (((10, "a.test"), (20, "GW.test"), (20, "b.test")), ["a.test"]),  # equals go, too, whatever the shuffle did
        (((10, "a.test"), (20, "")), ["a.test"]),  # a root host beside others is no null MX
    ],
)
def test_ourselves_and_all_that_is_no_better_are_dropped(
    records: tuple[tuple[int, str], ...], hosts: list[str]
) -> None:
    assert all(order(*records, seed=seed) == hosts for seed in range(20))


@pytest.mark.parametrize(
    ("records", "enhanced"),
    [
        (((0, ""),), "5.1.10"),
        (((0, "."),), "5.1.10"),
        (((10, "gw.test"), (20, "b.test")), "5.4.6"),
    ],
)
def test_what_ends_at_once(records: tuple[tuple[int, str], ...], enhanced: str) -> None:
    word = order(*records)
    assert isinstance(word, Word)
    assert (word.stage, word.code, word.enhanced, word.permanent) == ("dns", 0, enhanced, True)


def test_words_about_lookups() -> None:
    assert mx.no_such_domain("a.test").permanent
    assert mx.no_such_domain("a.test").enhanced == "5.1.2"
    assert mx.no_address("a.test").permanent
    failed = mx.lookup_failed("a.test", "SERVFAIL")
    assert (failed.enhanced, failed.permanent, failed.code) == ("4.4.3", False, 0)
    assert "SERVFAIL" in failed.text
