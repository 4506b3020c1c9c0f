"""Every statement compiles, and none that runs with the queue reads a table from end to end."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.store import connection, db
from gateway.store.connection import Database

# Counts read the narrow tables whole, as said in the contract. `leased` holds only what is in hand, `staging`
# only what is being received. A list of keys or domains is a list of all of them.
WHOLE = {
    "count_ready": {"ready"},
    "count_waiting": {"waiting"},
    "count_leased": {"leased"},
    "count_held": {"held"},
    "leased_lost": {"leased"},
    "staging_old": {"s"},
    "keys_all": {"key"},
    "domains_all": {"domain"},
    "dkim_keys_all": {"dkim_key"},
    "dkim_keys_forget": {"dkim_key"},
}
# First or last row of an index, in its order, and nothing more; or rows that the statement itself made.
BOUNDED = {
    "event_last": {"event"},
    "message_last": {"message"},
    "waiting_first": {"waiting"},
    "due_destinations": {"due", "ready"},
    "ready_keys": {"present"},
    "events_old": {"event", "(subquery-1)"},
}
STATEMENTS = db.load("common", "sqlite")


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    path: Path = tmp_path_factory.mktemp("plans") / "queue.db"
    opened = connection.open_writer(path)
    db.migrate(opened.cursor(), db.migrations())
    yield opened
    opened.close()


@pytest.mark.parametrize("name", sorted(name for name, sql in STATEMENTS.items() if "PRAGMA" not in sql))
def test_no_table_is_read_whole(database: Database, name: str) -> None:
    sql = STATEMENTS[name]
    values = [None] * max((int(n) for n in re.findall(r"\?(\d+)", sql)), default=0)
    steps = [row[3] for row in database.cursor().execute(f"EXPLAIN QUERY PLAN {sql}", values).fetchall()]
    scanned = {match[1] for step in steps if (match := re.match(r"SCAN (\S+)", step))} - {"CONSTANT"}
    assert scanned <= WHOLE.get(name, set()) | BOUNDED.get(name, set()), steps


def test_waiting_rows_are_counted_by_their_index(database: Database) -> None:
    (row,) = database.cursor().execute(f"EXPLAIN QUERY PLAN {STATEMENTS['count_waiting']}").fetchall()
    assert row[3] == "SCAN waiting USING COVERING INDEX waiting_destination"


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("scheduled_promote", "SEARCH recipient USING PRIMARY KEY (message=? AND id=?)"),
        ("scheduled_promote", "SEARCH waiting USING PRIMARY KEY ((at,recipient)<(?,?))"),
        ("scheduled_release", "SEARCH recipient USING PRIMARY KEY (message=? AND id=?)"),
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
    ],
)
def test_the_index_that_is_meant_is_used(database: Database, name: str, step: str) -> None:
    values = [None] * len(set(re.findall(r"\?(\d+)", STATEMENTS[name])))
    steps = database.cursor().execute(f"EXPLAIN QUERY PLAN {STATEMENTS[name]}", values).fetchall()
    assert step in [row[3] for row in steps]


@pytest.mark.parametrize("name", ["waiting_first", "events_old", "reports_first", "report_recipients", "erase_due"])
def test_what_is_bounded_needs_no_sorting(database: Database, name: str) -> None:
    rows = database.cursor().execute(f"EXPLAIN QUERY PLAN {STATEMENTS[name]}", [None] * STATEMENTS[name].count("?"))
    assert not [row for row in rows.fetchall() if "TEMP B-TREE" in row[3]]
