"""Databases of the first schema with as much in them as a test wants, and what a database holds."""

import hashlib
import json
import random
import sqlite3
from contextlib import closing
from pathlib import Path

from tests.migration.snapshot import migrated

TABLES = (
    "sessions", "workers", "approvals", "deltas", "events", "inputs", "items", "model_requests", "tool_calls", "turns",
)  # fmt: skip
ITEMS_PER_SESSION = 400
_NOW_MS = 1_780_000_000_000
_WORDS = ("alpha", "beta", "gamma", "build", "test", "session", "turn", "patch", "file", "error", "model", "token")


def fill(path: Path, megabytes: float) -> None:
    """Make a database of revision 0001 of about that size: sessions with one ended turn of many items each."""
    migrated(path, "0001")
    rng = random.Random(7)  # noqa: S311 - repeatable, not secret
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA synchronous=OFF")
        number = 0
        while path.stat().st_size < megabytes * 1e6:
            number += 1
            with connection:
                _session(connection, number, rng)
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def _session(connection: sqlite3.Connection, number: int, rng: random.Random) -> None:
    said = [" ".join(rng.choices(_WORDS, k=40)) + f" number{number}x{seq}" for seq in range(1, ITEMS_PER_SESSION + 1)]
    connection.execute(
        "INSERT INTO sessions (id, public_id, origin, model, model_provider, cwd, approval_policy, sandbox_mode, "
        "settings, turn_count, next_seq, next_item_seq, created_at_ms, updated_at_ms) "
        "VALUES (?, ?, 'codex', 'm', 'p', '/', 'never', 'read-only', '{}', 1, ?, ?, ?, ?)",
        (number, f"session-{number}", len(said) + 1, len(said) + 1, _NOW_MS, _NOW_MS + number),
    )
    connection.execute(
        "INSERT INTO turns (id, public_id, session_id, number, state, attempt, submission_id, end_reason, "
        "created_at_ms, started_at_ms, ended_at_ms) VALUES (?, ?, ?, 1, 'completed', 1, '1', 'answered', ?, ?, ?)",
        (number, f"turn-{number}", number, _NOW_MS, _NOW_MS, _NOW_MS),
    )
    for seq, text in enumerate(said, 1):
        payload = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}
        connection.execute(
            "INSERT INTO items (session_id, seq, turn_id, type, role, payload, created_at_ms) "
            "VALUES (?, ?, ?, 'message', 'user', ?, ?)",
            (number, seq, number, json.dumps(payload), _NOW_MS),
        )
        message = json.dumps({"type": "agent_message", "message": text})
        connection.execute(
            "INSERT INTO events (session_id, seq, turn_id, type, msg, created_at_ms) VALUES (?, ?, ?, ?, ?, ?)",
            (number, seq, number, "agent_message", message, _NOW_MS),
        )


def contents(path: Path, tables: tuple[str, ...] = TABLES) -> dict[str, str]:
    """A digest of the rows of each table, in the order of their keys."""
    found: dict[str, str] = {}
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        for table in tables:
            digest = hashlib.sha256()
            for row in connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2"):  # noqa: S608 - our own names
                digest.update(repr(row).encode())
            found[table] = digest.hexdigest()
    return found
