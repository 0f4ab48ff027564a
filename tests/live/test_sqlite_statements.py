"""The plans that SQLite makes: the work of a statement does not grow with what it is not about."""

from __future__ import annotations

import re
import sqlite3
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from importlib import resources
from pathlib import Path

import pytest
from brokerq_sqlite.queries import load
from brokerq_sqlite.session import migrations

TABLES = "messages|jobs|payloads|keys|letters|outbox"
NAMES = sorted(
    Path(entry.name).stem
    for entry in resources.files("brokerq_sqlite.queries").iterdir()
    if entry.name.endswith(".sql")
)
ORDERED = ["claim_messages", "find_ended", "find_next_kept_message", "search_jobs"]
INDEXES = ["brokerq_jobs_by_state", "brokerq_jobs_by_key", "brokerq_jobs_by_correlation"]
FILTERS = ["state = 'dead' AND id < 'z'", "user_key = 'k'", "correlation = 'c'"]


@pytest.fixture
def db() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:")) as db:
        for script in migrations():
            db.executescript(script)
        yield db


def plan(db: sqlite3.Connection, statement: str) -> list[str]:
    """Return the lines of the plan, with something or other for every parameter."""
    explained = f"EXPLAIN QUERY PLAN {statement}"
    if re.search(r"(?<![:\w]):[a-z]", statement):
        return [row[3] for row in db.execute(explained, defaultdict[str, str](lambda: "[]"))]
    return [row[3] for row in db.execute(explained, ["[]"] * statement.count("?"))]


@pytest.mark.parametrize("name", NAMES)
def test_no_statement_walks_through_a_whole_table(db: sqlite3.Connection, name: str) -> None:
    lines = plan(db, load(name).replace("{index}", ""))
    assert [line for line in lines if re.search(rf"SCAN ({TABLES})\b(?! USING)", line)] == []


@pytest.mark.parametrize("name", ORDERED)
def test_what_is_wanted_in_order_is_not_sorted(db: sqlite3.Connection, name: str) -> None:
    statement = load(name).replace("{index}", "")
    if name == "search_jobs":
        statement += " ORDER BY id DESC LIMIT 10"
    assert [line for line in plan(db, statement) if "TEMP B-TREE" in line] == []


@pytest.mark.parametrize(("index", "condition"), list(zip(INDEXES, FILTERS, strict=True)))
def test_a_search_uses_the_index_for_what_is_asked(
    db: sqlite3.Connection, index: str, condition: str
) -> None:
    search = load("search_jobs").replace("{index}", f"INDEXED BY {index}")
    (line, *_) = plan(db, f"{search} AND {condition} ORDER BY id DESC LIMIT 10")
    assert f"USING INDEX {index} (app=? AND" in line


@pytest.mark.parametrize("name", ["put_back_kept_messages", "remove_sent_messages"])
def test_rows_that_are_named_are_found_by_their_number(db: sqlite3.Connection, name: str) -> None:
    assert "USING INTEGER PRIMARY KEY" in plan(db, load(name))[0]
