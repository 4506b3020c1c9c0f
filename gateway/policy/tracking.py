"""May a message have links of ours: a pixel, links that lead over us, a link to unsubscribe?

Guarantees: where recipients cannot reach this gateway, a message that asks for such links is refused, and one that only
has a key's default goes without them; `warn` says so when the gateway starts.
"""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from gateway.errors import Problem, Reason, Refused

_NEEDS: Final = "needs http.public_url, which is not set in the configuration of this gateway"

log = logging.getLogger("gateway.policy")


@dataclass(frozen=True, slots=True)
class Names:
    """How a client asks for them."""

    track: str
    unsubscribe: str


JSON_NAMES: Final = Names("track", "unsubscribe")
HEADER_NAMES: Final = Names("X-Gateway-Track", "X-Gateway-Unsubscribe")


def admit(public_url: str | None, asked: int | None, usual: int, unsubscribe: str, names: Names) -> int:
    """What is tracked of a message: a sum of TRACK_…. `asked` None: nothing was said, so it is the key's `usual` one.

    Raises Refused, with every problem.
    """
    wanted = usual if asked is None else asked
    if public_url is not None or not (wanted or unsubscribe):
        return wanted
    without = [name for name, value in ((names.track, asked), (names.unsubscribe, unsubscribe)) if value]
    if without:
        problems = [Problem(name, _NEEDS, "not_supported") for name in without]
        raise Refused(Reason.NOT_SUPPORTED, f"{problems[0]}.", param=without[0], problems=problems)
    return 0


def warn(public_url: str | None, keys: Iterable[str]) -> None:
    """Tell the operator that these keys, which have a default, go without it. The file cannot say so (`check` refuses
    it there); keys of the store may be older than the setting that they need."""
    if public_url is None:
        for name in keys:
            log.warning("mail of the key %s goes without tracking, which %s", name, _NEEDS)
