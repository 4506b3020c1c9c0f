"""What the doors took and refused, as metrics."""

from typing import Final

from gateway.errors import Reason, StoreError, StoreFull
from gateway.metrics import Count, Distribution, Metrics

_ACCEPT_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class _Door:
    """The cells of one door."""

    __slots__ = ("messages", "recipients", "size", "took")

    def __init__(self, messages: Count, recipients: Count, size: Count, took: Distribution) -> None:
        self.messages = messages
        self.recipients = recipients
        self.size = size
        self.took = took


class IntakeFigures:
    """Doors are those of the mail log: smtp, http, dsn (the gateway's own notifications)."""

    def __init__(self, metrics: Metrics) -> None:
        self._messages = metrics.counter("messages_accepted_total", "Messages that were accepted, by door.", ("door",))
        self._recipients = metrics.counter("recipients_accepted_total", "Recipients of accepted messages.", ("door",))
        self._bytes = metrics.counter("accepted_bytes_total", "Size of accepted messages.", ("door",))
        self._refused = metrics.counter(
            "submissions_refused_total",
            "Submissions, or commands of one, that were refused; the reason is that of the mail log. What SMTP itself "
            "refuses (a syntax, a size, a NUL, a bare line feed) is in smtp_refusals_total alone.",
            ("door", "reason"),
        )
        self._took = metrics.distribution(
            "accept_seconds",
            "From the end of a submission (the final dot, the whole request) until it can be answered.",
            _ACCEPT_S,
            ("door",),
        )

        self._doors: dict[str, _Door] = {}

    def accepted(self, door: str, recipients: int, size: int) -> None:
        cells = self._doors.get(door) or self._new(door)
        cells.messages.value += 1
        cells.recipients.value += recipients
        cells.size.value += size

    def took(self, door: str, seconds: float) -> None:
        """Accepted, after so long."""
        (self._doors.get(door) or self._new(door)).took.observe(seconds)

    def unstored(self, door: str, error: StoreError) -> None:
        """The store could not take it."""
        reason = Reason.BACKLOG_FULL if isinstance(error, StoreFull) else Reason.STORAGE_UNAVAILABLE
        self.refused(door, reason.code)

    def refused(self, door: str, code: str) -> None:
        """A reason in the words of the mail log."""
        self._refused.at(door, code).value += 1

    def _new(self, door: str) -> _Door:
        cells = _Door(self._messages.at(door), self._recipients.at(door), self._bytes.at(door), self._took.at(door))
        self._doors[door] = cells
        return cells
