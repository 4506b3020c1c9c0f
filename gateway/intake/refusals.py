"""What was refused, counted and told: the one way to do both.

Guarantees: each refusal is counted; what the mail log tells of them, and how often, is its own matter (observe.py).
"""

from gateway.errors import Refused
from gateway.intake.figures import IntakeFigures
from gateway.observe import MailLog


class Refusals:
    """Tells of refusals at both doors."""

    def __init__(self, log: MailLog, figures: IntakeFigures) -> None:
        self._log = log
        self._figures = figures

    def tell(self, refusal: Refused, *, door: str, key: str, client: str, always: bool = False) -> None:
        """`always`: also where the same was told within the minute. The refusal knows from then on that it was told."""
        refusal.told = True
        self.say(refusal.reason.code, refusal.text, door=door, key=key, client=client, always=always)

    def say(self, reason: str, text: str, *, door: str, key: str, client: str, always: bool = False) -> None:
        """The same of what has a reason only that door knows of."""
        self._figures.refused(door, reason)
        self._log.refused(door=door, key=key, client=client, reason=reason, text=text, always=always)
