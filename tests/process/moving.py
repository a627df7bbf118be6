"""How tests of exports and imports run the commands, and compare databases."""

import contextlib
import json
import sqlite3
import subprocess
from pathlib import Path
from typing import cast

from codexdb.testing.model_script import Json
from tests.process import command
from tests.process.command import in_home

TIMEOUT_S = 60
TABLES = ("sessions", "turns", "inputs", "items", "tool_calls", "approvals", "model_requests", "events")

_UNSOUND = """
SELECT 'events', s.id FROM sessions AS s LEFT JOIN events AS e ON e.session_id = s.id GROUP BY s.id
HAVING count(e.seq) <> s.next_seq - 1 OR max(e.seq) <> s.next_seq - 1;

SELECT 'items', s.id FROM sessions AS s LEFT JOIN items AS i ON i.session_id = s.id GROUP BY s.id
HAVING count(i.seq) <> s.next_item_seq - 1 OR max(i.seq) <> s.next_item_seq - 1;

SELECT 'turns', t.id FROM turns AS t
LEFT JOIN events AS e ON e.session_id = t.session_id AND e.turn_id = t.id AND e.type IN ('task_complete', 'error')
GROUP BY t.id HAVING count(e.seq) <> (t.ended_at_ms IS NOT NULL);

SELECT 'held', id FROM sessions
WHERE active_turn_id IS NOT NULL AND active_turn_id NOT IN (SELECT id FROM turns WHERE ended_at_ms IS NULL);

SELECT 'calls', c.id FROM tool_calls AS c JOIN turns AS t ON t.id = c.turn_id
WHERE t.ended_at_ms IS NOT NULL AND c.ended_at_ms IS NULL;

SELECT 'asked', a.id FROM approvals AS a JOIN turns AS t ON t.id = a.turn_id
WHERE t.ended_at_ms IS NOT NULL AND a.state = 'pending';

SELECT 'outputs', c.id FROM items AS c JOIN turns AS t ON t.id = c.turn_id
WHERE c.type = 'function_call' AND t.ended_at_ms IS NOT NULL AND NOT EXISTS (
  SELECT 1 FROM items AS o WHERE o.session_id = c.session_id AND o.seq > c.seq AND o.type = 'function_call_output'
  AND o.payload ->> 'call_id' = c.payload ->> 'call_id');

PRAGMA foreign_key_check;

SELECT 'integrity', integrity_check FROM pragma_integrity_check WHERE integrity_check <> 'ok'
"""


def argv(*arguments: str | Path) -> list[str]:
    return command.argv("sessions", *arguments)


def sessions(home: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """`codexdb sessions …` in and on this home."""
    return command.run(argv(*arguments), in_home(home), cwd=home, timeout_s=TIMEOUT_S)


def taken_in(home: Path, *arguments: str | Path) -> list[Json]:
    """What an import tells of each file, and the sum last."""
    result = sessions(home, "import", "--json", *arguments)
    assert result.stderr == ""
    told = [cast("Json", json.loads(line)) for line in result.stdout.splitlines()]
    assert result.returncode == (1 if told[-1]["faults"] else 0)
    return told


def exported(home: Path, *arguments: str | Path) -> bytes:
    result = subprocess.run(
        argv("export", *(arguments or ("--all",))),
        cwd=home,
        env=in_home(home),
        capture_output=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, b"")
    return result.stdout


def dump(database: Path) -> dict[str, list[tuple[object, ...]]]:
    """Every row of every session."""
    with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        return {table: connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2").fetchall() for table in TABLES}  # noqa: S608 - ours


def unsound(database: Path) -> list[tuple[object, ...]]:
    """What breaks a promise: gaps in the log, turns that did not end once, calls without an outcome or an output."""
    with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        return [row for query in _UNSOUND.split(";") for row in connection.execute(query)]
