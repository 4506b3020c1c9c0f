"""What a host's later word means: the rules for replies, for what a notification quotes of one. Pure.

Guarantees: at which stage it was said is not known, so what no rule knows is nobody's fault, and the recipient's least
of all.
"""

from typing import Final

from gateway.delivery import verdict
from gateway.delivery.rules import Meaning
from gateway.delivery.verdict import Word

_STAGE: Final = "late"  # none that verdict.py draws conclusions from
_CODES: Final = {"5": 550, "4": 450}


def judge(code: int, enhanced: str, text: str) -> Meaning:
    """Of a reply code (0: not told), an enhanced code ("": none) and a host's words: class and scope."""
    code = code if code >= 400 else _CODES.get(enhanced[:1], 550)
    return verdict.classify(Word(_STAGE, code, enhanced, text))
