"""What the big database is made of could have been written by the program: else its figures would mean nothing."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.bench import soundness
from tests.bench.big_database import build
from tests.bench.vocabulary import VERY_COMMON
from tests.crash import invariants

SESSIONS, EVENTS = 150, 8_000


@pytest.mark.parametrize("schema", ["0001", "0002", "0003"])
def test_a_made_database_holds_what_every_database_holds(tmp_path: Path, schema: str) -> None:
    path = tmp_path / "made.sqlite3"
    assert EVENTS * 0.9 < build(path, SESSIONS, EVENTS, schema) < EVENTS * 1.2
    assert soundness.broken(path) == {}
    assert invariants.broken(path) == {}
    for column, table in (("state", "turns"), ("state", "tool_calls"), ("state", "approvals")):
        ((kinds,),) = invariants.query(path, f"SELECT count(DISTINCT {column}) FROM {table}")  # noqa: S608
        assert kinds > 1, f"{table} are all alike"


def test_its_words_are_found(tmp_path: Path) -> None:
    path = tmp_path / "made.sqlite3"
    build(path, SESSIONS, EVENTS)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("INSERT INTO search (search) VALUES ('integrity-check')")
    ((found,),) = invariants.query(path, "SELECT count(*) FROM search WHERE search MATCH ?", VERY_COMMON)
    ((said,),) = invariants.query(path, "SELECT count(*) FROM searchable WHERE text LIKE '% the %'")
    assert found >= said > SESSIONS


def test_what_does_not_hold_is_told(tmp_path: Path) -> None:
    path = tmp_path / "made.sqlite3"
    build(path, 20, 1_000)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DELETE FROM events WHERE session_id = 3 AND seq = 2")
        connection.execute("DELETE FROM items WHERE session_id = 4 AND seq = 2")
        connection.execute("UPDATE sessions SET active_turn_id = 7 WHERE id = 5")
        connection.execute("DELETE FROM events WHERE type = 'task_complete' AND session_id = 6")
        connection.execute("DELETE FROM sessions WHERE id = 8")
    assert len(soundness.broken(path)) == 5
