"""Metrics: what is declared follows the conventions, what is counted comes out as Prometheus reads it."""

import asyncio
import io
import itertools
import logging
import random
import re
import subprocess
import time
from pathlib import Path

import pytest
import yaml
from msgspec import structs
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as text_format

from gateway.api.figures import Figures, describe
from gateway.delivery import telling
from gateway.delivery.figures import MOST_ROUTES, UNQUEUED_ROUTE, DeliveryFigures
from gateway.errors import Reason, StoreError, StoreFull
from gateway.events import BounceClass, EventType, State
from gateway.intake.figures import IntakeFigures
from gateway.metrics import PREFIX, Metrics
from gateway.metrics.cells import MOST_SERIES, OTHER
from gateway.metrics.looplag import ALARM_S, MINUTE_S, LoopLag
from gateway.observe import MailLog
from gateway.runtime import uuid7
from gateway.store.queue import Attempt, Result
from tests.peers.process import require

ALERTS = Path(__file__).resolve().parents[2] / "docs" / "prometheus-alerts.yaml"
OPENMETRICS = "application/openmetrics-text; version=1.0.0"


def scraped(metrics: Metrics) -> dict[str, float]:
    """The samples, each by its name with its labels."""
    text = metrics.exposition("")[0]().decode()
    return {
        sample.name + "".join(f" {name}={value}" for name, value in sorted(sample.labels.items())): sample.value
        for family in text_format(text)
        for sample in family.samples
    }


# What is declared


def test_names_follow_the_conventions() -> None:
    found = describe()
    assert len(found) > 25
    for one in found:
        assert re.fullmatch(rf"{PREFIX}[a-z][a-z0-9_]*[a-z0-9]", one.name), one
        assert (one.kind == "counter") == one.name.endswith("_total"), one
        assert one.kind != "histogram" or one.name.endswith(("_seconds", "_jobs")), one
        assert not re.search(r"_(ms|milliseconds|minutes|kb|mb|percent|count|sum|bucket)(_|$)", one.name), one
        assert one.text.endswith("."), one
        assert all(re.fullmatch(r"[a-z]+", label) and label not in {"le", "job", "instance"} for label in one.labels), (
            one
        )


def test_no_label_can_hold_an_address_or_free_text() -> None:
    """What labels there are: of each the values are known, or come from the configuration."""
    assert {label for one in describe() for label in one.labels} == {
        "class",
        "direction",
        "door",
        "fate",
        "outcome",
        "path",
        "place",
        "python",
        "reason",
        "reply",
        "route",
        "stage",
        "state",
        "status",
        "type",
        "version",
    }


def test_a_name_is_declared_once() -> None:
    metrics = Metrics()
    metrics.counter("a_total", "A.")
    with pytest.raises(ValueError, match="Duplicated"):
        metrics.counter("a_total", "Another.")


# What is counted


def test_series_are_bounded() -> None:
    metrics = Metrics()
    family = metrics.counter("a_total", "A.", ("route",))
    for number in range(MOST_SERIES + 10):
        family.at(f"r{number}").value += 1
    assert len(list(family.cells())) == MOST_SERIES + 1
    assert scraped(metrics)[f"{PREFIX}a_total route={OTHER}"] == 10
    with pytest.raises(ValueError, match="has the labels"):
        family.at("one", "too many")


def test_a_distribution_counts_what_is_within_each_bound() -> None:
    metrics = Metrics()
    cell = metrics.distribution("a_seconds", "A.", (0.1, 1, 10)).at()
    values = [0, 0.1, 0.1000001, 1, 5, 10, 11, 1e9]
    for value in values:
        cell.observe(value)
    found = scraped(metrics)
    for bound in ("0.1", "1.0", "10.0", "+Inf"):
        assert found[f"{PREFIX}a_seconds_bucket le={bound}"] == sum(value <= float(bound) for value in values)
    assert found[f"{PREFIX}a_seconds_count"] == len(values)
    assert found[f"{PREFIX}a_seconds_sum"] == pytest.approx(sum(values))


def test_a_gauge_is_read_when_it_is_scraped() -> None:
    metrics = Metrics()
    gauge = metrics.gauge("a", "A.", ("state",))
    assert not any(name.startswith(f"{PREFIX}a ") for name in scraped(metrics))
    now = itertools.count(1)
    gauge.read = lambda: {("x",): next(now)}
    assert [scraped(metrics)[f"{PREFIX}a state=x"] for _ in range(2)] == [1, 2]


def attempt(route: str, *results: tuple[EventType | None, BounceClass | None], accepted_at: int = 0) -> Attempt:
    return Attempt(
        message=1,
        uuid=uuid7(accepted_at),
        destination=1,
        route=route,
        started_at=2_000,
        ended_at=2_250,
        results=tuple(
            Result(1, 1, State.QUEUED, event, attempts=1, to="a@example.com", bounce_class=bounce, stage="dot")
            for event, bounce in results
        ),
    )


def test_attempts_are_counted_by_route_outcome_and_class() -> None:
    metrics = Metrics()
    figures = DeliveryFigures(metrics)
    delivered = (EventType.DELIVERED, None)
    bounced = (EventType.BOUNCED, BounceClass.INVALID_RECIPIENT)
    figures.settled([attempt("direct", delivered, delivered, bounced, accepted_at=1_250)])
    untried = structs.replace(attempt("ses", (None, None)), tried=False)
    figures.settled([attempt("direct", (EventType.DEFERRED, BounceClass.QUOTA_ISSUES)), untried])
    figures.settled([attempt("pass_through mx.example.com:25", delivered)], UNQUEUED_ROUTE)
    found = scraped(metrics)
    assert found[f"{PREFIX}attempts_total route=direct"] == 2
    assert found[f"{PREFIX}attempts_total route=ses"] == 0  # given back, not tried
    assert found[f"{PREFIX}attempt_seconds_count route=ses"] == 0
    assert found[f"{PREFIX}recipient_outcomes_total outcome=delivered route=direct"] == 2
    assert found[f"{PREFIX}recipient_outcomes_total outcome=bounced route=direct"] == 1
    assert found[f"{PREFIX}recipient_outcomes_total outcome=expired route=direct"] == 0
    assert found[f"{PREFIX}recipient_outcomes_total outcome=delivered route=pass_through"] == 1
    assert found[f"{PREFIX}recipients_not_delivered_total class=InvalidRecipient outcome=bounced"] == 1
    assert found[f"{PREFIX}recipients_not_delivered_total class=QuotaIssues outcome=deferred"] == 1
    assert found[f"{PREFIX}delivery_seconds_sum route=direct"] == pytest.approx(2 * 1.0)
    assert found[f"{PREFIX}attempt_seconds_sum route=direct"] == pytest.approx(2 * 0.25)


def test_what_failed_without_an_attempt_of_this_process_is_an_outcome_and_no_attempt() -> None:
    metrics = Metrics()
    lost = structs.replace(attempt("direct", (EventType.FAILED, BounceClass.UNCERTAIN)), tried=False)
    DeliveryFigures(metrics).settled([lost])
    found = scraped(metrics)
    assert found[f"{PREFIX}recipient_outcomes_total outcome=failed route=direct"] == 1
    assert (found[f"{PREFIX}attempts_total route=direct"], found[f"{PREFIX}attempt_seconds_count route=direct"]) == (
        0,
        0,
    )


def test_who_was_suppressed_after_the_acceptance_is_an_outcome() -> None:
    """It broke the worker down, after the result was written and before anybody was told."""
    metrics = Metrics()
    DeliveryFigures(metrics).settled([attempt("direct", (EventType.SUPPRESSED, None))])
    assert scraped(metrics)[f"{PREFIX}recipient_outcomes_total outcome=suppressed route=direct"] == 1


def test_configured_routes_have_their_zeros_before_anything_is_sent() -> None:
    metrics = Metrics()
    figures = DeliveryFigures(metrics)
    figures.know(["direct", "ses"])
    figures.settled([attempt("ses", (EventType.DELIVERED, None))])
    figures.know(["direct", "ses", "new"])  # a reload
    found = scraped(metrics)
    outcomes = [
        found[f"{PREFIX}recipient_outcomes_total outcome=delivered route={one}"] for one in ("direct", "ses", "new")
    ]
    assert outcomes == [0, 1, 0]


def test_of_too_many_routes_the_last_ones_are_counted_together_and_by_outcome() -> None:
    metrics = Metrics()
    figures = DeliveryFigures(metrics)
    figures.know(f"r{number}" for number in range(MOST_ROUTES))
    for name in ("late", "later", "r0", f"r{MOST_ROUTES - 1}"):
        figures.settled([attempt(name, (EventType.DELIVERED, None)), attempt(name, (EventType.BOUNCED, None))])
    found = scraped(metrics)
    for name, count in ((OTHER, 2), ("r0", 1), (f"r{MOST_ROUTES - 1}", 1)):
        for outcome in ("delivered", "bounced"):
            assert found[f"{PREFIX}recipient_outcomes_total outcome={outcome} route={name}"] == count
        assert found[f"{PREFIX}attempts_total route={name}"] == 2 * count
    assert not any("late" in name or f"outcome={OTHER}" in name for name in found)


def test_a_clock_that_is_set_back_makes_no_sum_fall() -> None:
    metrics = Metrics()
    back = structs.replace(attempt("direct", (EventType.DELIVERED, None), accepted_at=9_000), started_at=8_000)
    DeliveryFigures(metrics).settled([back])
    found = scraped(metrics)
    assert (
        found[f"{PREFIX}delivery_seconds_sum route=direct"] == found[f"{PREFIX}attempt_seconds_sum route=direct"] == 0
    )
    log = io.StringIO()
    telling.tell(MailLog(log), [back])
    assert " ms=0" in log.getvalue()


def test_submissions_are_counted_by_door_and_reason() -> None:
    metrics = Metrics()
    figures = IntakeFigures(metrics)
    figures.accepted("smtp", 3, 5_000)
    figures.took("smtp", 0.02)
    figures.refused("http", Reason.RATE_LIMITED.code)
    for error in (StoreFull("x"), StoreError("x")):
        figures.unstored("http", error)
    found = scraped(metrics)
    assert found[f"{PREFIX}messages_accepted_total door=smtp"] == 1
    assert found[f"{PREFIX}recipients_accepted_total door=smtp"] == 3
    assert found[f"{PREFIX}accepted_bytes_total door=smtp"] == 5_000
    assert found[f"{PREFIX}accept_seconds_bucket door=smtp le=0.025"] == 1
    for reason in ("rate_limit_exceeded", "backlog_full", "storage_unavailable"):
        assert found[f"{PREFIX}submissions_refused_total door=http reason={reason}"] == 1


# The loop


def test_the_lag_of_the_loop_is_seen_and_told_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    metrics = Metrics()
    now = [0.0]
    lag = LoopLag(metrics, monotonic=lambda: now[0])
    worst = f"{PREFIX}loop_lag_max_seconds"
    with caplog.at_level(logging.WARNING):
        for seconds in (0.001, ALARM_S, ALARM_S + 1):
            lag.note(seconds)
    assert [record.getMessage() for record in caplog.records] == [
        "the event loop was held up for 1.0 s: all mail waited"
    ]
    assert scraped(metrics)[worst] == ALARM_S + 1
    now[0] = MINUTE_S
    with caplog.at_level(logging.WARNING):
        lag.note(ALARM_S)
    assert len(caplog.records) == 2
    assert scraped(metrics)[worst] == ALARM_S + 1  # of the minute before
    now[0] = 2 * MINUTE_S
    lag.note(0)
    assert scraped(metrics)[worst] == ALARM_S
    now[0] = 10 * MINUTE_S
    lag.note(0)
    assert scraped(metrics)[worst] == 0


async def test_a_loop_that_is_held_up_is_noticed() -> None:
    metrics = Metrics()
    lag = LoopLag(metrics)
    watching = asyncio.get_running_loop().create_task(lag.watch())
    try:
        await asyncio.sleep(0)  # it has begun to wait
        time.sleep(0.3)  # this is what it must notice
        while scraped(metrics)[f"{PREFIX}loop_lag_max_seconds"] < 0.1:
            await asyncio.sleep(0.01)
    finally:
        watching.cancel()


# What is scraped


def filled() -> Metrics:
    """Something in every family that has labels, as a daemon would have."""
    figures = Figures()
    rng = random.Random(1)
    for route in ("direct", 'a "quoted" \\ name\n'):
        figures.delivery.settled([attempt(route, (EventType.BOUNCED, BounceClass.BAD_DOMAIN))])
    figures.intake.accepted("smtp", 1, 100)
    figures.intake.took("smtp", rng.random())
    figures.intake.refused("smtp", Reason.LOOP.code)
    figures.connections.tls.at("in", "TLSv1.3").value += 1
    figures.connections.refused.at("http").value += 1
    figures.connections.refusals.at("smtp", "552 5.3.4").value += 1
    figures.http.requests.at("/api/v1/emails/{}", "200").value += 1
    figures.resolver.lookups.at("MX", "found").value += 1
    figures.outgoing.failed.at("connect").value += 1
    figures.outgoing.signing.observe(0.01)
    return figures.metrics


@pytest.mark.parametrize(("accept", "parse"), [("", text_format), (OPENMETRICS, openmetrics)])
def test_both_formats_are_read_back(accept: str, parse: object) -> None:
    encode, content_type = filled().exposition(accept)
    assert content_type.startswith("text/plain; version=0.0.4" if not accept else "application/openmetrics-text")
    assert callable(parse)
    families = {family.name: family for family in parse(encode().decode())}
    declared = {one.name.removesuffix("_total") if one.kind == "counter" else one.name for one in describe()}
    assert declared <= set(families)
    assert {name for name in families if not name.startswith(PREFIX)} >= {"process_open_fds", "process_cpu_seconds"}
    routes = {sample.labels["route"] for sample in families[f"{PREFIX}attempts"].samples}
    assert routes == {"direct", 'a "quoted" \\ name\n'}


@pytest.mark.slow
def test_promtool_finds_nothing_to_mend() -> None:
    text = filled().exposition("")[0]()
    done = subprocess.run(
        [require("promtool"), "check", "metrics"], input=text, capture_output=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, b"")


# The alerts that are shipped as an example


def test_alerts_name_metrics_that_there_are() -> None:
    rules = [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]
    assert len(rules) == 5
    known = {name for one in describe() for name in (one.name, f"{one.name}_bucket", f"{one.name}_count")}
    labels = {label for one in describe() for label in one.labels} | {"job", "instance"}
    for rule in rules:
        used = set(re.findall(rf"{PREFIX}\w+", rule["expr"]))
        assert used <= known, used - known
        assert used or rule["alert"] == "MailGatewayDown"
        assert set(re.findall(r"(\w+)(?:=|!=|=~|!~)\"", rule["expr"])) <= labels
        assert set(rule["annotations"]) == {"summary", "description"}
    text = ALERTS.read_text()
    assert set(re.findall(rf"{PREFIX}\w+", text)) <= known


@pytest.mark.slow
def test_promtool_reads_the_alerts() -> None:
    done = subprocess.run(
        [require("promtool"), "check", "rules", str(ALERTS)], capture_output=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr


QUEUED = f'{PREFIX}queue_recipients{{place="waiting",route="direct",instance="a"}}'
SCHEDULED = QUEUED.replace("waiting", "scheduled")
DELIVERED = f'{PREFIX}recipient_outcomes_total{{outcome="delivered",route="direct",instance="a"}}'


@pytest.mark.slow
@pytest.mark.parametrize(
    ("series", "fires"),
    [
        ({QUEUED: "200x60"}, True),  # restarted in an outage: nothing was ever delivered
        ({QUEUED: "200x60", DELIVERED: "0x60"}, True),
        ({QUEUED: "200x60", DELIVERED: "500x60"}, True),
        ({QUEUED: "200x60", DELIVERED: "500+1x60"}, False),
        ({QUEUED: "20x60"}, False),
        ({SCHEDULED: "9000x60"}, False),
    ],
)
def test_nothing_is_delivered_and_somebody_is_told(tmp_path: Path, series: dict[str, str], fires: bool) -> None:
    case = {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [
            {
                "expr": 'count(ALERTS{alertname="MailGatewayDeliversNothing",alertstate="firing"})',
                "eval_time": "55m",
                "exp_samples": [{"labels": "{}", "value": 1}] if fires else [],
            }
        ],
    }
    rules = tmp_path / "rules.yaml"
    rules.write_text(yaml.safe_dump({"rule_files": [str(ALERTS)], "evaluation_interval": "1m", "tests": [case]}))
    done = subprocess.run(
        [require("promtool"), "test", "rules", str(rules)], capture_output=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
