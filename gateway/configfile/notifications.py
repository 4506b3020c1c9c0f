"""What a key's submitters are told when they do not say it: `never`, or some of success, failure and delay. Pure."""

from collections.abc import Iterable
from typing import Final

NEVER: Final = "never"

_BITS: Final = {"success": 1, "failure": 2, "delay": 4}  # those of message/notify.py
WORDS: Final = (NEVER, *_BITS)


def word(text: str) -> str:
    """One of the words; ValueError says what is wrong."""
    if text not in WORDS:
        raise ValueError(f"{text!r} is not one of {', '.join(WORDS)}")
    return text


def total(words: Iterable[str]) -> int:
    """The sum of words that were checked; ValueError where they contradict each other."""
    given = set(words)
    if NEVER in given and len(given) > 1:
        raise ValueError(f"{NEVER} stands alone")
    return sum(_BITS.get(one, 0) for one in given)


def words(asked: int | None) -> list[str] | None:
    """The inverse of `total`; None for None."""
    if asked is None:
        return None
    return [one for one, bit in _BITS.items() if asked & bit] or [NEVER]
