"""The database itself refuses what the transition table does not allow, whoever tries it."""

import itertools
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from codexdb.domain.transition import APPROVAL, HOLDS_SESSION, TABLES, TOOL_CALL, TURN, TransitionTable
from codexdb.store.pragmas import open_for_writing
from codexdb.store.revision import snapshot_statements
from codexdb.store.tables import metadata

Row = dict[str, Any]

# What each state requires to be there; everything else of the kind has to be absent.
TIED = {
    "turns": {
        "worker_id": (1, ("running",)),
        "ended_at_ms": (9, TURN.terminal),
        "end_reason": ("why", TURN.terminal),
        "error_message": ("broken", ("failed",)),
    },
    "tool_calls": {"ended_at_ms": (9, TOOL_CALL.terminal)},
    "approvals": {"decided_at_ms": (9, APPROVAL.terminal)},
}
# What these states require, and the others may have too.
NEEDED = {
    "turns": ("started_at_ms", ("running", "waiting", "completed")),
    "tool_calls": ("started_at_ms", ("started", "succeeded", "failed", "unknown")),
}
REST: dict[str, Row] = {
    "turns": {"public_id": "t", "session_id": 1, "number": 1, "submission_id": "1", "created_at_ms": 1},
    "tool_calls": {
        "public_id": "c",
        "session_id": 1,
        "turn_id": 1,
        "call_id": "c1",
        "name": "shell",
        "arguments": "{}",
        "attempt": 1,
        "proposed_at_ms": 1,
    },
    "approvals": {
        "public_id": "a",
        "session_id": 1,
        "turn_id": 1,
        "kind": "exec",
        "question": "{}",
        "fallback": "deny",
        "created_at_ms": 1,
    },
}


def state_of(table: str, state: str) -> Row:
    """The columns that go with a state."""
    row: Row = {"state": state}
    row |= {column: value if state in states else None for column, (value, states) in TIED[table].items()}
    if table in NEEDED:
        row[NEEDED[table][0]] = 2
    return row


def insert(db: sqlite3.Connection, table: str, row: Row) -> None:
    marks = ", ".join("?" for _ in row)
    db.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})", list(row.values()))  # noqa: S608


@pytest.fixture(scope="module")
def schema() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
        db.execute("PRAGMA foreign_keys=ON")
        for statement in snapshot_statements():
            db.execute(statement)
        insert(
            db,
            "workers",
            {
                "id": 1,
                "public_id": "w",
                "pid": 1,
                "pid_started_at": "0",
                "boot_id": "b",
                "pid_namespace": "n",
                "uid": 0,
                "codex_home": "/",
                "version": "0",
                "started_at_ms": 1,
                "heartbeat_at_monotonic_ms": 1,
            },
        )
        for key in (1, 2):
            insert(
                db,
                "sessions",
                {
                    "id": key,
                    "public_id": f"s{key}",
                    "origin": "test",
                    "model": "m",
                    "model_provider": "p",
                    "cwd": "/",
                    "approval_policy": "never",
                    "sandbox_mode": "read-only",
                    "settings": "{}",
                    "created_at_ms": 1,
                    "updated_at_ms": 1,
                },
            )
        yield db


@pytest.fixture
def db(schema: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """The schema with a session and a worker in it; what a test does is undone."""
    schema.execute("BEGIN")
    yield schema
    schema.execute("ROLLBACK")


def with_parent(db: sqlite3.Connection, table: str) -> None:
    if table != "turns":
        insert(db, "turns", REST["turns"] | state_of("turns", "running"))


def pairs() -> list[tuple[TransitionTable, str, str]]:
    return [(table, source, target) for table in TABLES for source in table.states for target in table.states]


@pytest.mark.parametrize(("table", "source", "target"), pairs(), ids=lambda each: getattr(each, "table", str(each)))
def test_a_row_takes_exactly_the_steps_of_the_transition_table(
    db: sqlite3.Connection, table: TransitionTable, source: str, target: str
) -> None:
    name = table.table
    with_parent(db, name)
    insert(db, name, REST[name] | state_of(name, source))
    new = state_of(name, target)
    update = f"UPDATE {name} SET {', '.join(f'{column} = ?' for column in new)} WHERE public_id = ?"  # noqa: S608
    parameters = [*new.values(), REST[name]["public_id"]]
    if table.allows(source, target):
        assert db.execute(update, parameters).rowcount == 1
    else:
        with pytest.raises(sqlite3.IntegrityError, match=f"{name}: illegal change of state"):
            db.execute(update, parameters)


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.table)
def test_each_state_comes_with_its_data_and_no_other(db: sqlite3.Connection, table: TransitionTable) -> None:
    name = table.table
    with_parent(db, name)
    for state in table.states:
        row = REST[name] | state_of(name, state)
        for column, (value, _) in TIED[name].items():
            wrong = row | {column: value if row[column] is None else None}
            with pytest.raises(sqlite3.IntegrityError, match="CHECK constraint failed"):
                insert(db, name, wrong)
        if name in NEEDED and state in NEEDED[name][1]:
            with pytest.raises(sqlite3.IntegrityError, match="CHECK constraint failed"):
                insert(db, name, row | {NEEDED[name][0]: None})


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.table)
def test_an_unknown_state_is_refused(db: sqlite3.Connection, table: TransitionTable) -> None:
    with_parent(db, table.table)
    row = REST[table.table] | state_of(table.table, table.initial[0])
    with pytest.raises(sqlite3.IntegrityError, match="CHECK constraint failed"):
        insert(db, table.table, row | {"state": "sleeping"})


@pytest.mark.parametrize(("first", "second"), list(itertools.product(TURN.states, repeat=2)))
def test_one_turn_at_most_holds_a_session(db: sqlite3.Connection, first: str, second: str) -> None:
    insert(db, "turns", REST["turns"] | state_of("turns", first))
    another = REST["turns"] | state_of("turns", second) | {"public_id": "t2", "number": 2}
    if first in HOLDS_SESSION and second in HOLDS_SESSION:
        with pytest.raises(sqlite3.IntegrityError, match=r"UNIQUE constraint failed: turns\.session_id"):
            insert(db, "turns", another)
    else:
        insert(db, "turns", another)
    insert(db, "turns", another | {"public_id": "t3", "session_id": 2})


def test_a_message_is_accepted_once_in_its_session_and_opens_one_session_at_most(db: sqlite3.Connection) -> None:
    row: Row = {
        "public_id": "i1",
        "session_id": 1,
        "message_id": "m",
        "mode": "start",
        "outcome": "started",
        "content": "[]",
        "content_hash": "h",
        "created_at_ms": 1,
    }
    insert(db, "inputs", row)
    insert(db, "inputs", row | {"public_id": "i2", "message_id": None})
    insert(db, "inputs", row | {"public_id": "i3", "message_id": None})
    insert(db, "inputs", row | {"public_id": "i4", "session_id": 2, "opens_session": 1})
    with pytest.raises(sqlite3.IntegrityError, match=r"inputs\.session_id, inputs\.message_id"):
        insert(db, "inputs", row | {"public_id": "i5"})
    with pytest.raises(sqlite3.IntegrityError, match=r"UNIQUE constraint failed: inputs\.message_id"):
        insert(db, "inputs", row | {"public_id": "i6", "opens_session": 1})


def test_an_event_number_is_given_once(db: sqlite3.Connection) -> None:
    row: Row = {"session_id": 1, "seq": 1, "type": "task_started", "msg": "{}", "created_at_ms": 1}
    insert(db, "events", row)
    with pytest.raises(sqlite3.IntegrityError, match="UNIQUE"):
        insert(db, "events", row)
    insert(db, "events", row | {"session_id": 2})


def test_every_table_is_strict(db: sqlite3.Connection) -> None:
    strict = {name: flag for _, name, _, _, _, flag in db.execute("PRAGMA table_list") if name in metadata.tables}
    assert strict == dict.fromkeys(metadata.tables, 1)
    with pytest.raises(sqlite3.IntegrityError, match="cannot store TEXT value in INTEGER column"):
        insert(db, "turns", REST["turns"] | state_of("turns", "queued") | {"created_at_ms": "yesterday"})


@pytest.mark.parametrize(
    "payload",
    [
        '{"type":"function_call_output","call_id":"c","output":"text"}',
        '{"type":"function_call_output","call_id":"c","output":[{"type":"input_text","text":"a"}]}',
        '{"type":"odd","output":7}',
        '{"type":"odd","output":true}',
        '{"type":"odd","content":[{"text":1.5}]}',
        '{"type":"odd","arguments":{"a":1}}',
        '{"type":"odd","content":"plain"}',
        '{"type":"odd"}',
    ],
)
def test_an_item_of_any_shape_can_be_stored_and_read(db: sqlite3.Connection, payload: str) -> None:
    insert(db, "items", {"session_id": 1, "seq": 1, "type": "odd", "payload": payload, "created_at_ms": 1})
    ((stored, _text),) = db.execute("SELECT payload, text FROM items").fetchall()
    assert stored == payload


def test_the_writing_connection_keeps_references(tmp_path: Path) -> None:
    with closing(open_for_writing(tmp_path / "db")) as connection:
        assert connection.execute("PRAGMA foreign_keys").fetchone() == (1,)
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL: a commit is on the disk
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
