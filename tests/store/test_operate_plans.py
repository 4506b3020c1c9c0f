"""The statements of operators' verbs find their rows by index; what reads a destination reads nothing else."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.store import connection, db
from gateway.store.connection import Database

STATEMENTS = db.load("common", "sqlite")
STEPS = {
    "find_slice": [
        "SEARCH e USING PRIMARY KEY ((at,message)>(?,?) AND (at,message)<(?,?))",
        "SEARCH m USING INTEGER PRIMARY KEY (rowid=?)",
        "SEARCH k USING INTEGER PRIMARY KEY (rowid=?)",
        "SEARCH r USING PRIMARY KEY (message=?)",
        "SEARCH d USING INTEGER PRIMARY KEY (rowid=?)",
        "SEARCH w USING PRIMARY KEY (at=? AND recipient=?) LEFT-JOIN",
        "SEARCH l USING INTEGER PRIMARY KEY (rowid=?) LEFT-JOIN",
        "SEARCH h USING PRIMARY KEY (destination=? AND recipient=?) LEFT-JOIN",
    ],
    "find_row": [
        "SEARCH r USING PRIMARY KEY (message=? AND id=?)",
        "SEARCH d USING INTEGER PRIMARY KEY (rowid=?)",
        "SEARCH m USING INTEGER PRIMARY KEY (rowid=?)",
        "SEARCH k USING INTEGER PRIMARY KEY (rowid=?)",
        "SEARCH w USING PRIMARY KEY (at=? AND recipient=?) LEFT-JOIN",
        "SEARCH l USING INTEGER PRIMARY KEY (rowid=?) LEFT-JOIN",
        "SEARCH h USING PRIMARY KEY (destination=? AND recipient=?) LEFT-JOIN",
    ],
    "ready_page": ["SEARCH ready USING PRIMARY KEY (destination=?)", "USE TEMP B-TREE FOR ORDER BY"],
    "waiting_page": [
        "SEARCH waiting USING COVERING INDEX waiting_destination (destination=?)",
        "USE TEMP B-TREE FOR ORDER BY",
    ],
    "waiting_row": ["SEARCH waiting USING PRIMARY KEY (at=? AND recipient=?)"],
    "held_page": ["SEARCH held USING PRIMARY KEY (destination=? AND recipient>?)"],
    "leased_page": ["SEARCH leased USING INTEGER PRIMARY KEY (rowid>?)"],
    "held_destination": ["SEARCH held USING PRIMARY KEY (destination>?)"],
    "route_next": ["SEARCH destination USING COVERING INDEX sqlite_autoindex_destination_1 (route>?)"],
    "route_destinations": ["SEARCH destination USING COVERING INDEX sqlite_autoindex_destination_1 (route=?)"],
    "suspension_add": [],
    "suspensions_all": ["SEARCH suspension USING INTEGER PRIMARY KEY (rowid>?)"],
    "suspension_remove": ["SEARCH suspension USING INTEGER PRIMARY KEY (rowid=?)"],
    "suspension_end": ["SEARCH suspension USING INTEGER PRIMARY KEY (rowid>?)"],
    "operate_row": [
        "SEARCH r USING PRIMARY KEY (message=? AND id=?)",
        "SEARCH m USING INTEGER PRIMARY KEY (rowid=?)",
    ],
    "ready_remove": ["SEARCH ready USING PRIMARY KEY (destination=? AND priority=? AND key=? AND recipient=?)"],
    "held_remove": ["SEARCH held USING PRIMARY KEY (destination=? AND recipient=?)"],
    "held_add": [],
    "recipient_place": ["SEARCH recipient USING PRIMARY KEY (message=? AND id=?)"],
    "recipient_redirect": ["SEARCH recipient USING PRIMARY KEY (message=? AND id=?)"],
    "recipient_bounce": ["SEARCH recipient USING PRIMARY KEY (message=? AND id=?)"],
}


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    path: Path = tmp_path_factory.mktemp("plans") / "queue.db"
    opened = connection.open_writer(path)
    db.migrate(opened.cursor(), db.migrations())
    yield opened
    opened.close()


@pytest.mark.parametrize("name", list(STEPS))
def test_rows_are_found_by_index(database: Database, name: str) -> None:
    sql = STATEMENTS[name]
    values = [None] * max((int(n) for n in re.findall(r"\?(\d+)", sql)), default=0)
    rows = database.cursor().execute(f"EXPLAIN QUERY PLAN {sql}", values).fetchall()
    assert [row[3] for row in rows] == STEPS[name]
