"""Whether a big database holds what is promised of every database, asked so that it reads each table once."""

import sqlite3
from contextlib import closing
from pathlib import Path

CACHE_KIB = 256 * 1024

_NEVER = {
    "P2: one turn holds a session, and the session names it": """
        SELECT s.id FROM sessions AS s LEFT JOIN turns AS t ON t.session_id = s.id
        AND t.state IN ('ready', 'running', 'waiting') WHERE s.active_turn_id IS NOT t.id""",
    "P4: events are numbered without gaps": """
        SELECT s.id FROM sessions AS s LEFT JOIN
        (SELECT session_id, count(*) AS many, max(seq) AS last FROM events GROUP BY session_id) AS e
        ON e.session_id = s.id WHERE e.many IS NOT s.next_seq - 1 OR e.last IS NOT s.next_seq - 1""",
    "items are numbered without gaps": """
        SELECT s.id FROM sessions AS s LEFT JOIN
        (SELECT session_id, count(*) AS many, max(seq) AS last FROM items GROUP BY session_id) AS i
        ON i.session_id = s.id WHERE i.many IS NOT s.next_item_seq - 1 OR i.last IS NOT s.next_item_seq - 1""",
    "P6: every ended turn has one end, behind everything else of it": """
        SELECT t.id FROM turns AS t LEFT JOIN (SELECT turn_id, sum(type IN ('task_complete', 'error')) AS ends,
        max(seq) AS last, max(iif(type IN ('task_complete', 'error'), seq, 0)) AS ended FROM events GROUP BY turn_id)
        AS e ON e.turn_id = t.id
        WHERE e.ends IS NOT (t.ended_at_ms IS NOT NULL) OR e.ends = 1 AND e.ended <> e.last""",
    "references hold": "SELECT * FROM pragma_foreign_key_check",
    "the file is sound": "SELECT * FROM pragma_quick_check WHERE quick_check <> 'ok'",
}


def broken(path: Path) -> dict[str, tuple[object, ...]]:
    """What does not hold of the database, with a row that shows it."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA cache_size=-{CACHE_KIB}")
        found = {name: connection.execute(f"{query} LIMIT 1").fetchone() for name, query in _NEVER.items()}
    return {name: row for name, row in found.items() if row is not None}
