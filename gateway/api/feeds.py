"""Who waits for events: how many at once, and that a stop waits for none of them.

Guarantees: one more than may wait, of one key or of all, is refused and told when to come again.
"""

from collections import Counter
from typing import Final

from gateway.errors import Reason, Refused
from gateway.policy.auth import Principal

MOST: Final = 500  # about 20 kB each
MOST_OF_KEY: Final = 20
_AGAIN_S: Final = 5


class Feeds:
    """Requests that wait, by key."""

    def __init__(self) -> None:
        self._of_key: Counter[str] = Counter()
        self.count = 0

    def enter(self, principal: Principal) -> None:
        """One more; raises Refused (429). Who enters leaves."""
        name = principal.name
        if self._of_key[name] >= MOST_OF_KEY:
            text = f"The key has {MOST_OF_KEY} requests that wait for events; that is the most."
            raise Refused(Reason.THROTTLED, text, retry_after_s=_AGAIN_S)
        if self.count >= MOST:
            raise Refused(Reason.THROTTLED, "Too many requests wait for events now.", retry_after_s=_AGAIN_S)
        self._of_key[name] += 1
        self.count += 1

    def leave(self, principal: Principal) -> None:
        self.count -= 1
        self._of_key[principal.name] -= 1
        if not self._of_key[principal.name]:
            del self._of_key[principal.name]
