"""How mail is tried and kept: `delivery` and `retention`."""

from dataclasses import replace

from gateway.config import Delivery, Retention, Timeouts
from gateway.yamltree import Section, Value


def read_delivery(value: Value) -> Delivery:
    section = value.section()
    section.later("destinations")
    default = Delivery()
    concurrency = section.get("concurrency")
    initial, maximum = (
        _concurrency(concurrency, default)
        if concurrency is not None
        else (default.concurrency_initial, default.concurrency)
    )
    delivery = Delivery(
        retry_s=section.take("retry", read_pauses, default.retry_s),
        expire_after_s=section.take("expire_after", Value.duration, default.expire_after_s),
        concurrency_initial=initial,
        concurrency=maximum,
        messages_per_connection=section.take("messages_per_connection", Value.integer, default.messages_per_connection),
        connections=section.take("connections", Value.integer, default.connections),
        max_hops=section.take("max_hops", Value.integer, default.max_hops),
        timeouts=section.take("timeouts", _timeouts, default.timeouts),
    )
    section.close()
    return delivery


def read_pauses(value: Value) -> tuple[float, ...]:
    """A list of durations, in seconds."""
    items = list(value.items())
    if not items and value.is_list:
        value.problem("needs at least one pause")
    return tuple(pause for item in items if (pause := item.duration()) is not None)


def _concurrency(value: Value, default: Delivery) -> tuple[int, int]:
    section = value.section()
    maximum = section.take("maximum", Value.integer, default.concurrency)
    initial = section.take("initial", Value.integer, min(default.concurrency_initial, maximum))
    section.close()
    if initial > maximum:
        value.problem(f"initial ({initial}) is more than maximum ({maximum})")
    return initial, maximum


def _timeouts(value: Value) -> Timeouts:
    section = value.section()
    timeouts = Timeouts()
    for name in ("connect", "greeting", "command", "data_start", "data_block", "data_end"):
        seconds = section.take(name, Value.duration, None)
        if seconds is not None:
            timeouts = replace(timeouts, **{f"{name}_s": seconds})
    section.close()
    return timeouts


def read_retention(value: Value) -> Retention:
    section = value.section()
    default = Retention()
    delivered, failed = section.take("content", _content, (default.content_delivered_s, default.content_failed_s))
    retention = Retention(
        content_delivered_s=delivered,
        content_failed_s=failed,
        messages_s=section.take("messages", Value.duration, default.messages_s),
        events_s=section.take("events", Value.duration, default.events_s),
    )
    section.close()
    return retention


def _content(value: Value) -> tuple[float, float]:
    section: Section = value.section()
    default = Retention()
    kept = (
        section.take("delivered", _from_zero, default.content_delivered_s),
        section.take("failed", _from_zero, default.content_failed_s),
    )
    section.close()
    return kept


def _from_zero(value: Value) -> float | None:
    return value.duration(least_s=0)
