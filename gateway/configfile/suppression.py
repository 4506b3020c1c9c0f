"""`suppression`: how long an address is not sent to, by reason."""

from dataclasses import dataclass
from typing import Final

from gateway import yamltree
from gateway.config import Suppression
from gateway.yamltree import Value

NEVER: Final = "never"


@dataclass(frozen=True, slots=True)
class _Lasting:
    """In seconds; None: until an operator ends it."""

    seconds: float | None


def read_suppression(value: Value) -> Suppression:
    section = value.section()
    default = Suppression()
    suppression = Suppression(
        bounce_s=section.take("bounce", _lasting, _Lasting(default.bounce_s)).seconds,
        complaint_s=section.take("complaint", _lasting, _Lasting(default.complaint_s)).seconds,
        unsubscribe_s=section.take("unsubscribe", _lasting, _Lasting(default.unsubscribe_s)).seconds,
    )
    section.close()
    return suppression


def _lasting(value: Value) -> _Lasting | None:
    seconds = value.parsed(_parse)
    if seconds is not None and (seconds.seconds or 0) > yamltree.MAX_DURATION_S:
        value.problem(f"must be at most 3650d, or {NEVER}: until it is removed")
        return None
    return seconds


def _parse(text: str) -> _Lasting:
    if text == NEVER:
        return _Lasting(None)
    try:
        return _Lasting(yamltree.duration_s(text))
    except ValueError:
        raise ValueError(f"{text!r} is neither a duration like 90d nor {NEVER} (until it is removed)") from None
