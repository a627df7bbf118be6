"""`codexdb db check`: a sound database passes, and whatever is broken in one is found by name."""
# ruff: noqa: S608 - the statements are our own

import json
import os
import re
import sqlite3
import subprocess
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import cast

import pytest

from codexdb.domain.limits import FINDINGS_SHOWN
from codexdb.store.check import PART, SCHEMA
from codexdb.store.invariants import INVARIANTS, TEXT_INDEX, WORDS, Invariant
from codexdb.testing.model_script import Hang, say
from codexdb.testing.scripted_model import ScriptedModel
from codexdb.testing.server_process import StartServer
from tests.migration.make_release import RELEASED
from tests.process import command
from tests.process.command import on_file
from tests.process.kept import argv, copied, db, fill
from tests.process.talking import begin

ENDED = "(SELECT min(id) FROM turns WHERE state = 'completed')"
WAITING = "(SELECT id FROM turns WHERE state = 'waiting')"
CALL = f"(SELECT id FROM tool_calls WHERE turn_id = {ENDED})"
DELTA = "INSERT INTO deltas SELECT session_id, {}, 1, 0, 0, 'agent_message_delta', 'x', 0 FROM turns WHERE id = {}"

BROKEN = {
    SCHEMA: ["DROP TRIGGER items_found"],
    "one turn holds a session": [f"UPDATE sessions SET active_turn_id = NULL WHERE active_turn_id = {WAITING}"],
    "a free session has no queue": [
        f"UPDATE sessions SET active_turn_id = NULL WHERE active_turn_id = {WAITING}",
        f"UPDATE turns SET state = 'interrupted' WHERE id = {WAITING}",
    ],
    "turns are counted": ["UPDATE sessions SET turn_count = turn_count + 1 WHERE id = 1"],
    "events have no gaps": ["DELETE FROM events WHERE session_id = 1 AND seq = 2"],
    "items have no gaps": ["UPDATE sessions SET next_item_seq = next_item_seq + 1 WHERE id = 1"],
    "a turn ends once": ["UPDATE events SET type = 'task_complete' WHERE session_id = 1 AND type = 'agent_message'"],
    "a call ends with its turn": [f"UPDATE tool_calls SET state = 'started', ended_at_ms = NULL WHERE id = {CALL}"],
    "a question is about an open turn": [f"UPDATE turns SET state = 'failed' WHERE id = {WAITING}"],
    "a waiting turn is asked about": ["UPDATE approvals SET state = 'withdrawn' WHERE state = 'pending'"],
    "a message is delivered or taken back": [f"UPDATE inputs SET delivered_at_ms = NULL WHERE turn_id = {ENDED}"],
    "pieces belong to open turns": [DELTA.format("id", ENDED)],
    "messages have their turns": [f"UPDATE inputs SET turn_id = 999 WHERE turn_id = {ENDED}"],
    "events have their turns": ["UPDATE events SET turn_id = 999 WHERE session_id = 1 AND type = 'agent_message'"],
    "calls have their turns": [f"UPDATE tool_calls SET turn_id = 999 WHERE id = {CALL}"],
    "calls have their items": [f"UPDATE tool_calls SET item_id = 999 WHERE id = {CALL}"],
    "outputs have their items": [f"UPDATE tool_calls SET output_item_id = 999 WHERE id = {CALL}"],
    "questions have their turns": ["UPDATE approvals SET turn_id = 999"],
    "questions have their calls": ["UPDATE approvals SET tool_call_id = 999"],
    "requests have their turns": [f"UPDATE model_requests SET turn_id = 999 WHERE turn_id = {ENDED}"],
    "turns have who accepted them": [f"UPDATE turns SET accepted_by_id = 999 WHERE id = {ENDED}"],
    "the text index knows every item": ["DROP TRIGGER items_lost", "DELETE FROM items WHERE role = 'assistant'"],
    "references hold": [f"UPDATE tool_calls SET session_id = 999 WHERE id = {CALL}"],
    "the file is sound": [f"UPDATE turns SET ended_at_ms = NULL WHERE id = {ENDED}"],
}


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    return fill(home)


@pytest.fixture
def kept(sound: Path, tmp_path: Path) -> Path:
    return copied(sound, tmp_path / "kept.sqlite3")


def spoil(path: Path, statements: Iterable[str]) -> None:
    """What the database itself would refuse."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA foreign_keys=OFF")
        connection.execute("PRAGMA ignore_check_constraints=ON")
        guards = connection.execute("SELECT name, sql FROM sqlite_schema WHERE name LIKE '%_legal_moves'").fetchall()
        for name, _ in guards:
            connection.execute(f"DROP TRIGGER {name}")
        for statement in statements:
            assert connection.execute(statement).rowcount != 0, statement
        for _, trigger in guards:
            connection.execute(trigger)


def findings(path: Path, *arguments: str) -> dict[str, dict[str, object]]:
    result = db(path, "check", "--json", *arguments)
    assert result.stderr == ""
    found = [json.loads(line) for line in result.stdout.splitlines()]
    assert result.returncode == int(any(not each["ok"] for each in found))
    return {each["check"]: each for each in found}


def wrong(path: Path, *arguments: str) -> set[str]:
    return {name for name, each in findings(path, *arguments).items() if not each["ok"]}


def test_a_database_of_a_real_server_is_sound(kept: Path) -> None:
    before = kept.read_bytes()
    found = findings(kept)
    assert {name: each["rows"] for name, each in found.items() if not each["ok"]} == {}
    assert set(found) == set(BROKEN)
    assert kept.read_bytes() == before


def test_a_database_of_the_first_schema_can_be_checked(tmp_path: Path) -> None:
    path = copied(RELEASED / "0001.sqlite3", tmp_path / "old.sqlite3")
    assert set(findings(path)) == set(BROKEN) - {TEXT_INDEX.name, SCHEMA}
    assert wrong(path) == set()


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("DROP INDEX turns_one_holds_session", "index turns_one_holds_session missing"),
        ("DROP VIEW transcript", "view transcript missing"),
        ("ALTER TABLE workers ADD COLUMN mine TEXT", "table workers changed"),
    ],
)
def test_what_has_drifted_from_the_schema_is_named(kept: Path, statement: str, told: str) -> None:
    spoil(kept, [statement, "CREATE VIEW mine AS SELECT 1"])
    (row,) = cast("list[dict[str, str]]", findings(kept)[SCHEMA]["rows"])
    assert " ".join(row.values()) == told


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_is_found_by_name(kept: Path, name: str) -> None:
    spoil(kept, BROKEN[name])
    found = findings(kept)[name]
    assert found["ok"] is False
    assert found["count"]
    assert found["rows"]
    assert found["advice"]


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM search WHERE rowid = (SELECT max(id) FROM items WHERE role = 'assistant')",
        "UPDATE items SET turn_id = 1 WHERE id = 1",
    ],
)
def test_an_item_that_the_text_index_lost_is_found(kept: Path, statement: str) -> None:
    spoil(
        kept,
        [
            statement.replace(
                "DELETE FROM search WHERE",
                "INSERT INTO search (search, rowid, text) SELECT 'delete', id, text FROM searchable WHERE",
            ).replace("rowid = (", "id = (")
        ],
    )
    assert wrong(kept) == {TEXT_INDEX.name}
    assert wrong(kept, "--quick") == set()


def test_a_person_is_told_what_is_wrong_and_what_to_do(kept: Path) -> None:
    spoil(kept, ["UPDATE sessions SET turn_count = turn_count + 1"])
    result = db(kept, "check")
    assert result.returncode == 1
    assert re.search(
        r"^wrong  turns are counted: \d found\. What must hold: `sessions\.turn_count`", result.stdout, re.MULTILINE
    )
    assert "codexdb db restore" in result.stdout
    assert "ok     events have no gaps\n" in result.stdout
    assert result.stdout.endswith("Something is wrong in 1 of these.\n")


def test_many_rows_are_counted_and_a_few_are_shown(kept: Path) -> None:
    spoil(kept, ["UPDATE events SET turn_id = 999 WHERE turn_id IS NOT NULL"])
    found = findings(kept)["events have their turns"]
    with closing(sqlite3.connect(kept)) as connection:
        (count,) = connection.execute("SELECT count(*) FROM events WHERE turn_id = 999").fetchone()
    assert found["count"] == count > FINDINGS_SHOWN
    assert len(found["rows"]) == FINDINGS_SHOWN  # pyright: ignore[reportArgumentType]


def test_a_damaged_page_is_found_and_what_can_be_checked_is_checked(kept: Path) -> None:
    with closing(sqlite3.connect(kept)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (page,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'approvals'").fetchone()
    with kept.open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(b"\xff" * 4096)
    found = findings(kept)
    assert not found["the file is sound"]["ok"]
    assert found["events have no gaps"]["ok"]


def test_servers_work_on_meanwhile(server: StartServer, model: ScriptedModel, database: Path) -> None:
    process = server()
    model.add(Hang(answer=say("done")))
    begin(process)
    assert wrong(database) == set()
    model.release()
    assert process.wait_response(1)["result"]["structuredContent"]["content"] == "done"
    assert wrong(database) == set()


def test_whoever_may_only_read_can_check(kept: Path) -> None:
    with closing(sqlite3.connect(kept)) as owner:  # who has it open: its log is there
        owner.execute("SELECT 1 FROM sessions").fetchall()
        result = only_reading(kept, "check")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.endswith("All is well.\n")


@pytest.mark.parametrize("arguments", [("check",), ("sql", "SELECT * FROM turns"), ("current",)])
def test_where_sqlite_cannot_read_without_writing_the_way_out_is_told(kept: Path, arguments: tuple[str, ...]) -> None:
    result = only_reading(kept, *arguments)
    assert result.returncode == 1
    assert "Read a copy of it" in result.stderr


def only_reading(database: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command, by somebody who may write neither to the file nor to its folder."""
    as_root = os.geteuid() == 0  # whom the kernel lets write anything, unless that is given up
    unprivileged = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if as_root else []
    for path in (*database.parent.iterdir(), database.parent):
        if as_root:
            os.chown(path, 65534, 65534)
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        return command.run([*unprivileged, *argv(*arguments)], on_file(database))
    finally:
        database.parent.chmod(0o700)


def test_what_cannot_be_checked_is_told_in_a_sentence(tmp_path: Path) -> None:
    result = db(tmp_path / "missing.sqlite3", "check")
    assert result.returncode == 1
    assert "is not a file" in result.stderr


# -- the queries -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("invariant", INVARIANTS, ids=lambda each: each.name)
def test_a_query_reads_the_rows_of_its_sessions_and_nothing_twice(kept: Path, invariant: Invariant) -> None:
    with closing(sqlite3.connect(kept)) as connection:
        plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {PART}{invariant.query}", (1, 1000))]
        assert connection.execute(invariant.query).fetchall() == []  # as the page shows it
    scans = [step for step in plan if step.startswith("SCAN") and "subquery" not in step]
    assert scans == []
    assert not any("AUTOMATIC" in step for step in plan)
    ranges = [step for step in plan if re.search(r">\? AND \w+<\?", step)]
    assert 1 <= len(ranges) <= invariant.query.count("FROM sessions")


def test_the_query_of_the_text_index_can_be_run_by_hand(kept: Path) -> None:
    with closing(sqlite3.connect(kept)) as connection:
        connection.execute(WORDS)
        assert connection.execute(TEXT_INDEX.query).fetchall() == []
