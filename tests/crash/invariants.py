"""What holds of every database at every moment when nobody works on it: nothing is half done."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

# Each finds rows that must not be.
_NEVER = {
    "events without gaps": """
        SELECT s.public_id FROM sessions s LEFT JOIN events e ON e.session_id = s.id GROUP BY s.id
        HAVING count(e.seq) <> s.next_seq - 1 OR coalesce(max(e.seq), 0) <> s.next_seq - 1""",
    "items without gaps": """
        SELECT s.public_id FROM sessions s LEFT JOIN items i ON i.session_id = s.id GROUP BY s.id
        HAVING count(i.seq) <> s.next_item_seq - 1 OR coalesce(max(i.seq), 0) <> s.next_item_seq - 1""",
    "an ended turn has one terminal event, the last of its events": """
        SELECT t.public_id FROM turns t WHERE t.ended_at_ms IS NOT NULL AND (
          1 <> (SELECT count(*) FROM events e WHERE e.session_id = t.session_id AND e.turn_id = t.id
                AND e.type IN ('task_complete', 'error'))
          OR (SELECT e.type FROM events e WHERE e.session_id = t.session_id AND e.turn_id = t.id
              ORDER BY e.seq DESC LIMIT 1) NOT IN ('task_complete', 'error'))""",
    "an open turn has none": """
        SELECT t.public_id FROM turns t JOIN events e ON e.session_id = t.session_id AND e.turn_id = t.id
        WHERE t.ended_at_ms IS NULL AND e.type IN ('task_complete', 'error')""",
    "the session names the turn that holds it": """
        SELECT s.public_id FROM sessions s WHERE s.active_turn_id IS NOT
          (SELECT t.id FROM turns t WHERE t.session_id = s.id AND t.state IN ('ready', 'running', 'waiting'))""",
    "every turn has its message": """
        SELECT t.public_id FROM turns t WHERE
          NOT EXISTS (SELECT 1 FROM inputs i WHERE i.turn_id = t.id)
          OR NOT EXISTS (SELECT 1 FROM items m WHERE m.session_id = t.session_id AND m.turn_id = t.id
                         AND m.role = 'user')""",
    "a call of an ended turn has ended": """
        SELECT c.public_id FROM tool_calls c JOIN turns t ON t.id = c.turn_id
        WHERE t.ended_at_ms IS NOT NULL AND c.ended_at_ms IS NULL""",
    "every call item of an ended turn has one output item": """
        SELECT i.id FROM items i JOIN turns t ON t.id = i.turn_id
        WHERE t.ended_at_ms IS NOT NULL AND i.type = 'function_call' AND 1 <>
          (SELECT count(*) FROM items o WHERE o.session_id = i.session_id AND o.turn_id = i.turn_id
           AND o.type = 'function_call_output'
           AND json_extract(o.payload, '$.call_id') = json_extract(i.payload, '$.call_id'))""",
    "every call item is a call": """
        SELECT i.id FROM items i WHERE i.type = 'function_call'
        AND NOT EXISTS (SELECT 1 FROM tool_calls c WHERE c.item_id = i.id)""",
    "deltas only of open turns": """
        SELECT d.turn_id FROM deltas d JOIN turns t ON t.id = d.turn_id WHERE t.ended_at_ms IS NOT NULL""",
    "references hold": "SELECT * FROM pragma_foreign_key_check",
    "the file is sound": "SELECT * FROM pragma_integrity_check WHERE integrity_check <> 'ok'",
}


def query(database: Path, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=5)) as connection:
        return connection.execute(sql, parameters).fetchall()


def broken(database: Path) -> dict[str, list[tuple[Any, ...]]]:
    """The invariants that do not hold, with the rows that break them."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=5)) as connection:
        found = {name: connection.execute(sql).fetchall() for name, sql in _NEVER.items()}
    return {name: rows for name, rows in found.items() if rows}
