"""docs/log.md says what the log says: every event, every field, an example of each in both forms; and the texts that
it explains are in the code."""

import ast
import io
import json
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from gateway.delivery import telling
from gateway.delivery.figures import DeliveryFigures
from gateway.events import BounceClass, EventType, State
from gateway.metrics import Metrics
from gateway.observe import MailLog
from gateway.runtime import read_id
from gateway.store.queue import Attempt, Result

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = (ROOT / "docs" / "log.md").read_text()
MAIL, DAEMON = "## What happens to mail\n", "## What happens to the daemon\n"
AT = "2026-11-21T18:00:00.123Z"
ID, NOTICE = "eml_01ygweqb5bc6mivcae6u654w", "eml_01ygweqb83d0n2yal2yll6x3"
REPORT: dict[str, Any] = {
    "message": ID,
    "key": "shop",
    "to": "shop@example.com",
    "kind": "failure",
    "recipients": ["a@example.com", "b@example.com"],
}
# What an attempt may say of a recipient, all of it: reply, class, when next.
ATTEMPTS: dict[EventType, tuple[str, BounceClass | None, int]] = {
    EventType.DELIVERED: ("250 2.0.0 Ok: queued as 4F1", None, 0),
    EventType.DEFERRED: ("450 4.2.0 greylisted", BounceClass.TRANSIENT_FAILURE, 300_000),
    EventType.BOUNCED: ("550 5.1.1 no such user", BounceClass.INVALID_RECIPIENT, 0),
    EventType.FAILED: ("the remote host closed the connection", BounceClass.UNCERTAIN, 0),
    EventType.EXPIRED: ("450 4.2.0 greylisted", BounceClass.MESSAGE_EXPIRED, 0),
    EventType.CAPTURED: ("captured: nothing left this machine", None, 0),
    EventType.SUPPRESSED: ("550 5.7.1 The recipient is suppressed: its owner unsubscribed.", None, 0),
}


def uuid() -> bytes:
    found = read_id("eml_", ID)
    assert found is not None
    return found


def attempt(event: EventType) -> Attempt:
    """One that says everything there is to say."""
    reply, bounce, wait_ms = ATTEMPTS[event]
    nobody_asked = event in {EventType.CAPTURED, EventType.SUPPRESSED}
    reached: dict[str, Any] = (
        {} if nobody_asked else {"host": "mx.example.com", "address": "192.0.2.25", "tls": "TLSv1.3"}
    )
    result = Result(
        1,
        1,
        State.DEFERRED if event is EventType.DEFERRED else State.FAILED,
        event,
        attempts=1 if nobody_asked else 2,
        to="a@example.com",
        next_at=wait_ms + 84,
        reply=reply,
        bounce_class=bounce,
        note="" if nobody_asked else "MTA-STS: verified",
        possible_duplicate=event is not EventType.CAPTURED,
        **reached,
    )
    return Attempt(
        message=1,
        uuid=uuid(),
        destination=1,
        route="inbox" if event is EventType.CAPTURED else "direct",
        started_at=84 if nobody_asked else 0,
        ended_at=84,
        results=(result,),
    )


def write_all(log: MailLog) -> None:
    """Every line that the mail log can write."""
    log.accepted(
        message=ID, door="smtp", key="shop", sender="shop@example.com", recipients=2, size=5120, client="192.0.2.7"
    )
    text = "from: this key may not send as other@example.com."
    log.refused(door="http", key="shop", client="192.0.2.7", reason="sender_not_allowed", text=text)
    for event in ATTEMPTS:
        telling.tell(log, [attempt(event)])
    log.reported(**REPORT, notice=NOTICE)
    log.reported(**REPORT, notice="", note="this sender has had too many notifications")


def lines(*, as_json: bool) -> list[str]:
    """They, at the document's time."""
    stream = io.StringIO()
    write_all(MailLog(stream, as_json=as_json))
    return [re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+Z", AT, line, count=1) for line in stream.getvalue().splitlines()]


def sections() -> dict[str, str]:
    """The document's words on each event."""
    part = DOCUMENT[DOCUMENT.index(MAIL) : DOCUMENT.index(DAEMON)]
    return {part.partition("\n")[0]: part for part in part.split("\n### ")[1:]}


def named(text: str) -> list[str]:
    return re.findall(r"`(\w+)`", text)


def documented_fields(event: str) -> set[str]:
    """Those of its table, and those of another event where it says so."""
    section = sections()[event]
    rows = [row.split("|")[1] for row in section.splitlines() if row.startswith("| `")]
    fields = {name for row in rows for name in named(row)}
    if (like := re.search(r"Fields of `(\w+)`(?: but ([^.:]+?))?(?:[.;]|, and:)", section)) is not None:
        fields |= documented_fields(like[1]) - set(named(like[2] or ""))
    return fields


# The mail log


def test_every_event_is_in_the_document_and_no_other() -> None:
    assert [json.loads(line)["event"] for line in lines(as_json=True)] == list(sections())


def test_every_field_is_in_the_document_and_no_other() -> None:
    for line in lines(as_json=True):
        fields = json.loads(line)
        event = fields.pop("event")
        assert fields.pop("at") == AT
        assert documented_fields(event) == set(fields), event


@pytest.mark.parametrize("as_json", [False, True])
def test_the_examples_are_what_is_written(as_json: bool) -> None:
    for line, section in zip(lines(as_json=as_json), sections().values(), strict=True):
        assert f"\n{line}\n" in section


def test_these_are_all_lines_that_there_can_be() -> None:
    """A new function of the mail log, or an event of an attempt that is counted, belongs in this test."""
    assert {name for name in vars(MailLog) if not name.startswith("_")} == {
        "accepted",
        "attempted",
        "flush",
        "reconfigure",
        "refused",
        "reported",
    }
    metrics = Metrics()
    figures = DeliveryFigures(metrics)
    figures.settled([attempt(event) for event in ATTEMPTS])
    counted = set(re.findall(r'outcomes_total\{outcome="(\w+)"', metrics.exposition("")[0]().decode()))
    assert counted == {event.value for event in ATTEMPTS}


# The daemon's own lines


def texts(tree: ast.AST) -> Iterator[str]:
    """Every string of a module, with … for what differs."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield re.sub(r"%(\.\d)?[a-z]", "…", node.value)
        elif isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)


def explained_texts() -> list[str]:
    rows = re.findall(r"^\| `([^|]+)` \|", DOCUMENT[DOCUMENT.index(DAEMON) :], flags=re.MULTILINE)
    return [text for row in rows for text in row.split("`, `")]


def test_the_texts_that_are_explained_are_in_the_code() -> None:
    explained = explained_texts()
    assert len(explained) >= 20
    # To read all of the code as syntax would take seconds: a module with none of these words in a log has none of them.
    words = {max(text.split("…"), key=len)[:25] for text in explained}
    modules = [path.read_text() for path in (ROOT / "gateway").rglob("*.py")]
    speaking = [one for one in modules if "logging.getLogger" in one and any(word in one for word in words)]
    written = {text for module in speaking for text in texts(ast.parse(module))}
    assert [text for text in explained if text not in written] == []


def test_every_error_is_explained_and_once() -> None:
    """What is of level error or comes with a traceback, but where it names the document that explains it."""
    explained = explained_texts()
    assert sorted(explained) == sorted(set(explained))
    modules = [path.read_text() for path in (ROOT / "gateway").rglob("*.py")]
    speaking = [ast.parse(one) for one in modules if "log.error(" in one or "log.exception(" in one]
    errors = {text for tree in speaking for text in texts_of_errors(tree)}
    assert len(errors) > 30
    assert sorted(errors - set(explained)) == []


def texts_of_errors(tree: ast.AST) -> Iterator[str]:
    """As `texts`, of the calls whose text stands in them."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(
                func=ast.Attribute(value=ast.Name("log"), attr="error" | "exception"), args=[ast.Constant() as text, *_]
            ):
                yield from (one for one in texts(text) if one != "…: …" and ".md" not in one)


def test_headings_do_not_skip_a_level() -> None:
    levels = [
        len(line.split()[0])
        for line in re.sub(r"```.*?```", "", DOCUMENT, flags=re.DOTALL).splitlines()
        if line.startswith("#")
    ]
    assert all(after <= before + 1 for before, after in pairwise(levels))
