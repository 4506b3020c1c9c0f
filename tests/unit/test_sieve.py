"""The sieve before the list of who is not sent to: never a false "no", few false "maybe"."""

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.store.sieve import FIRST_TEXTS, GROWTH, Layer, Sieve


def filled(count: int) -> Sieve:
    sieve = Sieve()
    sieve.settle(None)
    for number in range(count):
        sieve.add(f"p{number}@example.com")
    return sieve


@settings(max_examples=30)
@given(st.lists(st.text(), max_size=50))
def test_what_was_added_is_never_denied(texts: list[str]) -> None:
    sieve = Sieve()
    sieve.settle(None)
    for text in texts:
        sieve.add(text)
    assert all(sieve.may_have(text) for text in texts)


def test_nothing_is_denied_before_it_is_known_what_was_there() -> None:
    sieve = Sieve()
    assert answers(sieve) == (False, True, True)
    sieve.settle(None)
    assert answers(sieve) == (True, False, False)


def answers(sieve: Sieve) -> tuple[bool, bool, bool]:
    return sieve.is_empty, sieve.may_have("ann@example.com"), sieve.may_have_hashes


def test_what_comes_while_it_is_loaded_stays() -> None:
    sieve = Sieve()
    sieve.add("new@example.com")
    known = Layer(1)
    known.add("old@example.com")
    sieve.settle(known)
    assert sieve.may_have("new@example.com")
    assert sieve.may_have("old@example.com")
    assert not sieve.is_empty


def test_few_others_may_be_there_however_many_are() -> None:
    """Also beyond the first layer, of which others are made."""
    count = FIRST_TEXTS * 2
    sieve = filled(count)
    assert all(sieve.may_have(f"p{number}@example.com") for number in range(count))
    wrong = sum(sieve.may_have(f"q{number}@example.net") for number in range(2000))
    assert wrong < 50  # 1 in 400 at most for each of two layers, so some 5
    assert sieve.size_bytes == 2 * FIRST_TEXTS * (1 + GROWTH)


def test_what_comes_again_takes_no_room() -> None:
    sieve = filled(10)
    size = sieve.size_bytes
    for _ in range(FIRST_TEXTS + 1):
        sieve.add("p1@example.com")
    assert sieve.size_bytes == size


def test_it_says_whether_hashes_are_there() -> None:
    sieve = filled(3)
    assert not sieve.may_have_hashes
    sieve.add("hash:abc")
    assert sieve.may_have_hashes
