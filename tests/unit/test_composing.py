"""How much work a submission is: what is heavier is composed in a thread."""

from dataclasses import replace
from typing import Any

import pytest

from gateway.intake.draft import THREAD_BYTES
from gateway.message import composing
from gateway.message.model import Mailbox
from tests.unit.conftest import letter

LIGHT = letter(text=None)


@pytest.mark.parametrize(
    "given",
    [
        {"to": (Mailbox("ü" * 100, "a@b.test"),) * 100},
        {"headers": tuple((f"X-{number}", "ü" * 1000) for number in range(10))},
        {"subject": "ü" * 8000, "headers": (("X", "ü" * 8000),)},
        {"html": "<p>" * 10_000},
        {"text": "x" * 300_000},
    ],
)
def test_what_is_heavy(given: dict[str, Any]) -> None:
    assert composing.weight(replace(LIGHT, **given)) > THREAD_BYTES


def test_what_is_not() -> None:
    boxes = tuple(Mailbox("A Person", f"person{number}@example.com") for number in range(50))
    assert composing.weight(replace(LIGHT, to=boxes, subject="Subject", text="x" * 50_000)) < THREAD_BYTES
