"""Every statement compiles; none that runs with the queue reads a table from end to end, or sorts what grows."""

import re
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import pytest

from gateway.store import connection, db
from gateway.store.connection import Database

# Counts read the narrow tables whole, as said in the contract. `leased` holds only what is in hand, `staging`
# only what is being received. A list of keys or domains is a list of all of them.
WHOLE = {
    "braked_all": {"braked"},
    "count_ready": {"ready"},
    "count_waiting": {"waiting"},
    "count_scheduled": {"waiting"},
    "count_leased": {"leased"},
    "count_held": {"held"},
    "leased_lost": {"leased"},
    "staging_old": {"s"},
    "keys_all": {"key"},
    "domains_all": {"domain"},
    "dkim_keys_all": {"dkim_key"},
    "dkim_keys_forget": {"dkim_key"},
    "erasure_webhooks": {"webhook"},
    "webhooks_all": {"webhook"},
    "erasure_keys": {"key_ref"},
    "suppression_count": {"suppression"},  # once, beside the start
}
# First row of an index, in its order, and nothing more; or rows that the statement itself made.
BOUNDED = {
    "waiting_first": {"waiting"},
    "due_destinations": {"due"},
    "waiting_due": {"present"},
    "ready_keys": {"present"},
    "ready_ranks": {"present"},
    "events_old": {"event", "(subquery-1)"},
    "log_slice": {"(subquery-1)"},
    "archive_slice": {"json_each"},  # tags of a message; states
}
# What is sorted is few: what is in hand, a page of promotion, what people made by hand. An operator's search of one
# destination sorts what is queued there.
SORTED = {
    "count_leased",
    "waiting_destinations",
    "dkim_keys_all",
    "templates_of",
    "brakes_outcomes",
    "ready_page",
    "waiting_page",
}
# Files of statements that do not run with the queue: at the opening, and once after a restoration.
APART = {"tally", "restored"}
FILES = ("common", "sqlite", "brakes", "events", "late", "offers", "suppression", "archive", "erasure", "webhooks")
STATEMENTS = db.load(*FILES)


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    path: Path = tmp_path_factory.mktemp("plans") / "queue.db"
    opened = connection.open_writer(path)
    db.migrate(opened.cursor(), db.migrations())
    yield opened
    opened.close()


@pytest.mark.parametrize("name", sorted(name for name, sql in STATEMENTS.items() if "PRAGMA" not in sql))
def test_no_table_is_read_whole(database: Database, name: str) -> None:
    steps = plan(database, name)
    scanned = {match[1] for step in steps if (match := re.match(r"SCAN (\S+)", step))} - {"CONSTANT"}
    assert scanned == WHOLE.get(name, set()) | BOUNDED.get(name, set()), steps
    assert any("TEMP B-TREE" in step for step in steps) is (name in SORTED), steps


def plan(database: Database, name: str) -> list[str]:
    """The steps of a statement, with no value known."""
    sql = STATEMENTS[name]
    values = [None] * max((int(n) for n in re.findall(r"\?(\d+)", sql)), default=0)
    return [row[3] for row in database.cursor().execute(f"EXPLAIN QUERY PLAN {sql}", values).fetchall()]


def test_every_statement_is_looked_at() -> None:
    files = {Path(file.name).stem for file in resources.files("gateway.store").joinpath("sql").iterdir()}
    assert files == set(FILES) | APART
    assert STATEMENTS.keys() >= WHOLE.keys() | BOUNDED.keys() | SORTED
    pragmas = {name for name, sql in STATEMENTS.items() if "PRAGMA" in sql}
    assert pragmas == {"freelist", "vacuum_step"}


def test_waiting_rows_are_counted_by_their_index(database: Database) -> None:
    assert plan(database, "count_waiting") == ["SCAN waiting USING COVERING INDEX waiting_destination"]
    assert plan(database, "count_scheduled") == ["SCAN waiting USING COVERING INDEX waiting_scheduled"]


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("scheduled_promote", "SEARCH recipient USING PRIMARY KEY (message=? AND id=?)"),
        ("scheduled_promote", "SEARCH waiting USING PRIMARY KEY ((at,recipient)<(?,?))"),
        ("scheduled_release", "SEARCH recipient USING PRIMARY KEY (message=? AND id=?)"),
        ("ready_remove", "SEARCH ready USING PRIMARY KEY (destination=? AND priority=? AND key=? AND recipient=?)"),
        ("ready_take", "SEARCH ready USING PRIMARY KEY (destination=? AND priority=? AND key=? AND recipient>?)"),
        ("waiting_boundary", "SEARCH waiting USING PRIMARY KEY (at<?)"),
        ("waiting_due", "SEARCH waiting USING COVERING INDEX waiting_destination (destination>?)"),
        ("waiting_due", "SEARCH waiting EXISTS USING COVERING INDEX waiting_destination (destination=? AND at<?)"),
        ("waiting_of", "SEARCH waiting USING COVERING INDEX waiting_destination (destination=? AND at<?)"),
        ("destination_find", "SEARCH f USING COVERING INDEX sqlite_autoindex_destination_1 (route=? AND domain=?)"),
        ("destination_find", "SEARCH d USING INTEGER PRIMARY KEY (rowid=?)"),
        ("waiting_promote", "SEARCH waiting USING PRIMARY KEY ((at,recipient)<(?,?))"),
        ("expiry_due", "SEARCH expiry USING PRIMARY KEY ((at,message)>(?,?) AND at<?)"),
        ("erase_due", "SEARCH erase USING PRIMARY KEY (at<?)"),
        ("messages_old", "SEARCH m USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)"),
        ("events_delete", "SEARCH event USING INTEGER PRIMARY KEY (rowid<?)"),
        ("claim_message", "SEARCH m USING INTEGER PRIMARY KEY (rowid=?)"),
        ("claim_recipient", "SEARCH recipient USING PRIMARY KEY (message=? AND id=?)"),
        ("leased_find", "SEARCH leased USING INTEGER PRIMARY KEY (rowid=?)"),
        ("idempotency_find", "SEARCH idempotency USING PRIMARY KEY (account=? AND text=?)"),
        ("template_by_alias", "SEARCH template USING INDEX template_alias (account=? AND alias=?)"),
        ("reports_first", "SEARCH report USING COVERING INDEX report_at ((at,message)>(?,?) AND at<?)"),
        ("report_recipients", "SEARCH p USING PRIMARY KEY (message=?)"),
        ("report_drop", "SEARCH report USING PRIMARY KEY (message=? AND recipient=? AND kind=?)"),
        ("delay_note", "SEARCH recipient USING PRIMARY KEY (message=? AND id=?)"),
        ("pending_end", "SEARCH report USING PRIMARY KEY (message=?)"),
        ("erase_due", "SEARCH r USING PRIMARY KEY (message=?)"),
        ("leased_mark", "SEARCH leased USING INTEGER PRIMARY KEY (rowid=?)"),
        ("recipient_lose", "SEARCH recipient USING PRIMARY KEY (message=? AND id=?)"),
        ("sts_policies", "SEARCH sts_policy USING INDEX sts_policy_expiry (expires_at>?)"),
        ("template_count", "SEARCH template USING COVERING INDEX sqlite_autoindex_template_1 (account=?)"),
        (
            "suppression_find",
            "SEARCH suppression USING INDEX sqlite_autoindex_suppression_1 (value=? AND kind=? AND account=?)",
        ),
        (
            "suppression_relieve",
            "SEARCH suppression USING INDEX sqlite_autoindex_suppression_1 (value=? AND kind=? AND account=?)",
        ),
        ("suppression_old", "SEARCH suppression USING COVERING INDEX suppression_expiry (expires_at<?)"),
        ("suppressions_of", "SEARCH suppression USING INDEX suppression_account (account=? AND rowid<?)"),
        ("suppressions_by_tag", "SEARCH suppression USING INDEX suppression_tag (account=? AND tag=? AND rowid<?)"),
        ("settled_whom", "SEARCH r USING PRIMARY KEY (message=? AND id=?)"),
        ("archive_boundary", "SEARCH m USING COVERING INDEX message_account (account_ref=? AND rowid<?)"),
        ("archive_slice", "SEARCH m USING INDEX message_account (account_ref=? AND rowid>? AND rowid<?)"),
        ("archive_slice", "SEARCH r USING PRIMARY KEY (message=?)"),
        ("archive_events", "SEARCH e USING INDEX event_message (message=? AND rowid>?)"),
        ("webhooks_of", "SEARCH webhook USING INDEX webhook_account (account=?)"),
        ("webhook_progress", "SEARCH webhook USING INTEGER PRIMARY KEY (rowid=?)"),
        ("webhook_parked_of", "SEARCH webhook_parked USING PRIMARY KEY (webhook=?)"),
        ("webhook_dead_trim", "SEARCH webhook_dead USING PRIMARY KEY (webhook=? AND seq<?)"),
        ("webhook_attempt_trim", "SEARCH webhook_attempt USING PRIMARY KEY (webhook=? AND id<?)"),
        ("message_recipients", "SEARCH g USING PRIMARY KEY (message=? AND recipient=?) LEFT-JOIN"),
    ],
)
def test_the_index_that_is_meant_is_used(database: Database, name: str, step: str) -> None:
    assert step in plan(database, name)
