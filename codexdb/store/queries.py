"""Questions that people ask a database in SQL: how a query is run, and the queries that the README and the demo show.

For people at a terminal, so it stands apart from everything that serves: a connection of its own, the standard library
alone, and nothing but reading.
"""

import sqlite3
from dataclasses import dataclass
from pathlib import Path

from codexdb.domain.errors import InvalidArgumentsError, StoreRefusedError
from codexdb.domain.limits import STORE_BUSY_MS
from codexdb.store.pragmas import read_only_uri

STEPS_BETWEEN_LOOKS = 100_000  # of SQLite's machine: how soon an interrupt typed at the terminal is noticed

SESSIONS = """\
SELECT s.public_id AS session, s.turn_count AS turns, t.state AS last_turn,
       datetime(s.updated_at_ms / 1000, 'unixepoch') AS updated_utc
FROM sessions AS s LEFT JOIN turns AS t ON t.session_id = s.id AND t.number = s.turn_count
ORDER BY s.updated_at_ms DESC;"""

TURNS = """\
SELECT t.number AS turn, t.state, t.end_reason, t.ended_at_ms - t.created_at_ms AS ms,
       substr(t.last_agent_message, 1, 60) AS last_agent_message
FROM turns AS t JOIN sessions AS s ON s.id = t.session_id
ORDER BY s.id, t.number;"""

ITEMS = """\
SELECT i.seq, t.number AS turn, i.type, i.role, substr(replace(i.text, char(10), ' '), 1, 60) AS text
FROM items AS i LEFT JOIN turns AS t ON t.id = i.turn_id
ORDER BY i.session_id, i.seq;"""

EVENTS = """\
SELECT e.seq, t.number AS turn, e.type
FROM events AS e LEFT JOIN turns AS t ON t.id = e.turn_id
ORDER BY e.session_id, e.seq;"""

COMMANDS = """\
SELECT t.number AS turn, c.state, c.exit_code, c.ended_at_ms - c.started_at_ms AS ms,
       json_extract(c.arguments, '$.command') AS command
FROM tool_calls AS c JOIN turns AS t ON t.id = c.turn_id
WHERE c.name = 'shell' ORDER BY c.id;"""

TOKENS = """\
SELECT model, count(*) AS requests, sum(input_tokens) AS input_tokens, sum(output_tokens) AS output_tokens
FROM model_requests GROUP BY model ORDER BY input_tokens DESC;"""

RUNNING = "SELECT pid FROM tool_calls WHERE state = 'started' AND pid IS NOT NULL"
ATTEMPTS = """\
SELECT t.attempt, count(e.seq) FILTER (WHERE e.type IN ('task_complete', 'error')) AS ends
FROM turns AS t JOIN events AS e ON e.session_id = t.session_id AND e.turn_id = t.id
GROUP BY t.id ORDER BY t.id"""
NUMBERING = """\
SELECT s.public_id AS session, count(*) AS events, max(e.seq) AS last_seq, s.next_seq
FROM sessions AS s JOIN events AS e ON e.session_id = s.id
GROUP BY s.id ORDER BY s.id;"""

LATEST_SESSIONS = "SELECT public_id, title FROM sessions ORDER BY updated_at_ms DESC, id DESC"
LOOK_AT_SESSIONS = "SELECT public_id, origin, model, cwd FROM sessions"
LOOK_AT_EVENTS = "SELECT seq, type, msg FROM events"

_READING_ACTIONS = frozenset(
    {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE}
)
_SCHEMA_TABLE = "sqlite_master"
_READING_PRAGMAS = frozenset(
    {
        "foreign_key_check",
        "foreign_key_list",
        "index_info",
        "index_list",
        "integrity_check",
        "quick_check",
        "table_info",
        "table_list",
        "table_xinfo",
    }
)
_UNREADABLE = frozenset(
    {sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_IOERR}
)


@dataclass(frozen=True, slots=True)
class Answer:
    """The rows of a query. `more`: there were further ones."""

    columns: tuple[str, ...]
    rows: list[tuple[object, ...]]
    more: bool


def ask(path: Path, query: str, rows_max: int) -> Answer:
    """The first `rows_max` rows of one query, as of one instant, whoever writes meanwhile. Blocks.

    It cannot write: not to this file, and not to any other that SQL could name.

    Raises:
        StoreRefusedError: there is no such database, or it cannot be read.
        InvalidArgumentsError: the query is not one that reads, or SQLite does not understand it.
        KeyboardInterrupt: it was interrupted at the terminal.
    """
    try:
        if not path.is_file():
            raise StoreRefusedError(f"There is no database at {path}.")
        connection = sqlite3.connect(read_only_uri(path), uri=True, isolation_level=None, timeout=STORE_BUSY_MS / 1000)
    except (OSError, sqlite3.Error) as error:
        raise StoreRefusedError(f"The database {path} cannot be opened: {error}.") from error
    try:
        connection.text_factory = _text
        return _ask(connection, path, query, rows_max)
    finally:
        connection.close()


def _text(stored: bytes) -> str:
    """What people put into a column need not be UTF-8."""
    return stored.decode(errors="replace")


def _ask(connection: sqlite3.Connection, path: Path, query: str, rows_max: int) -> Answer:
    refused: list[int] = []

    def authorize(action: int, name: str | None, *_details: str | None) -> int:
        if _reads(action, name):
            return sqlite3.SQLITE_OK
        refused.append(action)
        return sqlite3.SQLITE_DENY

    connection.set_authorizer(authorize)
    connection.set_progress_handler(lambda: 0, STEPS_BETWEEN_LOOKS)  # Python notices an interrupt only in Python code
    try:
        cursor = connection.execute(query)
        found = cursor.fetchmany(rows_max + 1)
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_INTERRUPT:
            raise KeyboardInterrupt from error
        if refused:
            raise InvalidArgumentsError("Only queries that read are allowed here; nothing was changed.") from error
        if getattr(error, "sqlite_errorcode", None) in _UNREADABLE:
            raise StoreRefusedError(f"The database {path} cannot be read: {error}.") from error
        raise InvalidArgumentsError(f"SQLite does not take this query: {error}") from error
    if cursor.description is None:
        raise InvalidArgumentsError("The query is empty.")
    return Answer(tuple(str(column[0]) for column in cursor.description), found[:rows_max], more=len(found) > rows_max)


def _reads(action: int, name: str | None) -> bool:
    """Whatever is not known to read is refused: the file is open read-only, but ATTACH and VACUUM INTO reach others."""
    if action == sqlite3.SQLITE_PRAGMA:
        return name in _READING_PRAGMAS
    if action == sqlite3.SQLITE_UPDATE:
        return (
            name == _SCHEMA_TABLE
        )  # asked for by table functions such as json_each; never done, the file is read-only
    return action in _READING_ACTIONS
