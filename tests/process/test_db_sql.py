"""`codexdb db sql`: reads, and does nothing else."""

import json
import os
import pty
import signal
import sqlite3
import subprocess
import time
from contextlib import closing
from pathlib import Path

import pytest

from codexdb.domain.limits import QUERY_ROWS_MAX
from codexdb.store.queries import ask
from codexdb.testing.server_process import StartServer
from tests.process import command
from tests.process.command import on_file

TIMEOUT_S = 20
COUNT_TO = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {}) SELECT i FROM n"


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """A small database; `db sql` does not care whose."""
    path = tmp_path / "small.sqlite3"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE notes (id INTEGER, text TEXT)")
        connection.execute("INSERT INTO notes VALUES (1, 'one'), (2, 'tab\there' || char(10) || 'and line'), (3, NULL)")
        connection.commit()
    return path


def argv(*arguments: str) -> list[str]:
    return command.argv("db", "sql", *arguments)


def sql(database: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return command.run(argv(*arguments), on_file(database), timeout_s=TIMEOUT_S)


def test_a_pipe_gets_lines_with_tabs_whatever_the_values_hold(database: Path) -> None:
    result = sql(database, "SELECT * FROM notes")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == "id\ttext\n1\tone\n2\ttab\\there\\nand line\n3\t\n"


def test_a_program_gets_one_object_per_row(database: Path) -> None:
    result = sql(database, "--json", "SELECT id, text, text, x'00ff' AS bytes FROM notes WHERE id = 1")
    assert [json.loads(line) for line in result.stdout.splitlines()] == [
        {"id": 1, "text": "one", "text_2": "one", "bytes": "00ff"}
    ]


def test_a_person_gets_a_table(database: Path) -> None:
    ours, theirs = pty.openpty()
    with subprocess.Popen(argv("SELECT * FROM notes WHERE id = 1"), env=on_file(database), stdout=theirs) as process:
        assert process.wait(TIMEOUT_S) == 0
    os.close(theirs)
    seen = os.read(ours, 65_536).decode()
    os.close(ours)
    assert "─" in seen
    assert "one" in seen


def test_too_many_rows_are_cut_and_that_is_said(database: Path) -> None:
    enough = sql(database, COUNT_TO.format(QUERY_ROWS_MAX))
    assert (len(enough.stdout.splitlines()), enough.stderr) == (1 + QUERY_ROWS_MAX, "")
    more = sql(database, COUNT_TO.format(QUERY_ROWS_MAX + 1))
    assert len(more.stdout.splitlines()) == 1 + QUERY_ROWS_MAX
    assert more.stderr == "Only the first 1,000 rows are shown; there are more. Narrow the query.\n"


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM notes",
        "INSERT INTO notes VALUES (4, 'four')",
        "DROP TABLE notes",
        "CREATE TABLE other (id INTEGER)",
        "CREATE TEMP TABLE other (id INTEGER)",
        "ATTACH 'other.sqlite3' AS other",
        "VACUUM INTO 'copy.sqlite3'",
        "PRAGMA user_version = 5",
        "PRAGMA wal_checkpoint(TRUNCATE)",
        "BEGIN IMMEDIATE",
    ],
)
def test_nothing_is_ever_written(database: Path, statement: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(database.parent)
    before = database.read_bytes()
    result = sql(database, statement)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == "codexdb: Only queries that read are allowed here; nothing was changed.\n"
    assert database.read_bytes() == before
    assert {path.name for path in database.parent.iterdir()}.isdisjoint({"other.sqlite3", "copy.sqlite3"})


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("SELEC 1", 'SQLite does not take this query: near "SELEC": syntax error'),
        ("SELECT * FROM nowhere", "SQLite does not take this query: no such table: nowhere"),
        ("SELECT 1; SELECT 2", "SQLite does not take this query: You can only execute one statement at a time."),
        ("-- nothing", "The query is empty."),
    ],
)
def test_a_mistake_is_told_in_one_line(database: Path, query: str, sentence: str) -> None:
    result = sql(database, "--", query)
    assert (result.returncode, result.stdout, result.stderr) == (1, "", f"codexdb: {sentence}\n")


def test_a_missing_file_is_told_and_not_made(tmp_path: Path) -> None:
    path = tmp_path / "missing.sqlite3"
    result = sql(tmp_path / "unused", "--db", str(path), "SELECT 1")
    assert result.returncode == 1
    assert result.stderr.startswith(f"codexdb: There is no database at {path}.\nName the database with --db FILE")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_database_is_told(tmp_path: Path) -> None:
    path = tmp_path / "letter.txt"
    path.write_text("Dear reader, " * 100)
    result = sql(path, "SELECT * FROM notes")
    assert (result.returncode, result.stdout) == (1, "")
    assert "cannot be read: file is not a database" in result.stderr


def test_json_and_the_schema_can_be_looked_into(database: Path) -> None:
    assert sql(database, "SELECT value FROM json_each('[7]')").stdout == "value\n7\n"
    assert sql(database, "SELECT name FROM pragma_table_info('notes')").stdout == "name\nid\ntext\n"


def test_a_long_query_can_be_interrupted(database: Path) -> None:
    """The interrupt comes while SQLite is at work: the clock counts our own processor time."""
    began_s = time.process_time()
    before = signal.signal(signal.SIGVTALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_VIRTUAL, 0.05)
    try:
        with pytest.raises(KeyboardInterrupt):
            ask(database, f"{COUNT_TO.format(20_000_000)} ORDER BY i DESC", 1)
        assert time.process_time() - began_s < 1, "the query was worked to its end first"
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def test_a_database_at_work_can_be_read(server: StartServer, home: Path) -> None:
    process = server()
    process.call_tool("codex", {"prompt": "hello"})
    result = sql(home / "codexdb" / "codexdb.sqlite3", "SELECT state FROM turns")
    assert result.stdout == "state\ncompleted\n"
    assert process.call_tool("codex", {"prompt": "again"})["structuredContent"]["content"] == "ok"
