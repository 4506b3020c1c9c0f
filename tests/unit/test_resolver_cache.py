"""How long an answer is believed, and how many are kept."""

import pytest

from gateway.resolver.answers import LONGEST_MISSING_S, LONGEST_S, Answer, Cache, Missing

MX, A = ("a.test", "MX"), ("a.test", "A")


def test_an_answer_is_out_of_date_after_its_ttl() -> None:
    cache = Cache(10)
    answer = Answer(((10, "mx.test"),), ttl_s=300)
    cache.put(MX, answer, now=1000)
    assert cache.get(MX, now=1299.9) is answer
    assert cache.get(A, now=1000) is None
    assert cache.get(MX, now=1300) is None
    assert len(cache) == 0


@pytest.mark.parametrize(
    ("records", "longest"), [((), LONGEST_S), (Missing.NAME, LONGEST_MISSING_S), (Missing.RECORD, LONGEST_MISSING_S)]
)
def test_no_answer_is_believed_for_years(records: tuple[()] | Missing, longest: float) -> None:
    cache = Cache(10)
    cache.put(MX, Answer(records, ttl_s=2**31 - 1), now=0)
    assert cache.get(MX, now=longest - 1) is not None
    assert cache.get(MX, now=longest) is None


def test_a_ttl_of_nothing_takes_the_old_answer_away() -> None:
    cache = Cache(10)
    cache.put(MX, Answer((), ttl_s=300), now=0)
    cache.put(MX, Answer((), ttl_s=0), now=0)
    assert len(cache) == 0


def test_the_one_that_was_not_asked_for_longest_goes_first() -> None:
    cache = Cache(3)
    names = [(f"{n}.test", "A") for n in range(4)]
    for name in names[:3]:
        cache.put(name, Answer((), ttl_s=300), now=0)
    cache.get(names[0], now=1)
    cache.put(names[3], Answer((), ttl_s=300), now=1)
    assert len(cache) == 3
    assert [cache.get(name, now=1) is not None for name in names] == [True, False, True, True]
