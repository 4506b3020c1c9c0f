"""How soon a message is wanted: three words and their numbers, the lower the sooner. Pure."""

from typing import Final

from gateway.errors import Reason, Refused

HIGH: Final = 0
NORMAL: Final = 1
LOW: Final = 2
WORDS: Final = {"high": HIGH, "normal": NORMAL, "low": LOW}


def of_header(text: str) -> int:
    """The number of X-Gateway-Priority. Raises Refused."""
    number = WORDS.get(text.lower())
    if number is None:
        raise Refused(Reason.MALFORMED_MESSAGE, "X-Gateway-Priority must be high, normal or low.")
    return number
