"""Questions that people ask a database in SQL: how a query is run, and the queries that the README and the demo show.

For people at a terminal, so it stands apart from everything that serves: a connection of its own, the standard library
alone, and nothing but reading.
"""

import sqlite3
from dataclasses import dataclass
from pathlib import Path

from codexdb.domain.errors import InvalidArgumentsError, StoreRefusedError
from codexdb.domain.limits import STORE_BUSY_MS
from codexdb.store.pragmas import read_only_uri, refuse_if_sealed

STEPS_BETWEEN_LOOKS = 100_000  # of SQLite's machine: how soon an interrupt typed at the terminal is noticed

_LATEST = "(SELECT session FROM session_overview ORDER BY updated_at_ms DESC LIMIT 1)"
_LATEST_KEY = "(SELECT id FROM sessions ORDER BY updated_at_ms DESC LIMIT 1)"

SESSIONS = """\
SELECT session, state, turns, substr(title, 1, 24) AS title, substr(updated_at, 1, 16) AS updated
FROM session_overview ORDER BY updated_at_ms DESC LIMIT 10;"""

TURNS = f"""\
SELECT turn_number, state, duration_ms, total_tokens, substr(answer, 1, 45) AS answer
FROM turn_overview
WHERE session = {_LATEST}
ORDER BY turn_number;"""  # noqa: S608 - a constant of ours

TRANSCRIPT = f"""\
SELECT seq, turn_number, kind, substr(replace(text, char(10), ' '), 1, 60) AS text
FROM transcript
WHERE session = {_LATEST}
ORDER BY seq;"""  # noqa: S608

CALLS = f"""\
SELECT turn_number, state, exit_code, duration_ms, substr(command, 1, 60) AS command
FROM tool_call_log
WHERE session = {_LATEST}
ORDER BY id;"""  # noqa: S608

FAILURES = """\
SELECT ended_at, session, error_kind, error_message
FROM failed_turns ORDER BY ended_at_ms DESC LIMIT 10;"""

TOKENS = """\
SELECT day, model, sum(requests) AS requests, sum(input_tokens) AS input_tokens, sum(output_tokens) AS output_tokens
FROM token_usage WHERE day >= date('now', '-7 days') GROUP BY day, model;"""

WORDS = """\
SELECT t.session, t.turn_number, t.kind, snippet(search, 0, '[', ']', '…', 12) AS found
FROM search JOIN transcript AS t ON t.id = search.rowid
WHERE search MATCH 'notes durable' ORDER BY search.rowid DESC LIMIT 20;"""

EVENTS = f"""\
SELECT e.seq, t.number AS turn_number, e.type
FROM events AS e LEFT JOIN turns AS t ON t.id = e.turn_id
WHERE e.session_id = {_LATEST_KEY}
ORDER BY e.seq;"""  # noqa: S608

RUNNING = """\
SELECT c.pid FROM turns AS t CROSS JOIN tool_calls AS c ON c.session_id = t.session_id AND c.turn_id = t.id
WHERE t.state IN ('ready', 'running', 'waiting') AND c.state = 'started' AND c.pid IS NOT NULL"""
ATTEMPTS = f"""\
SELECT t.attempt, count(e.seq) FILTER (WHERE e.type IN ('task_complete', 'error')) AS ends
FROM turns AS t JOIN events AS e ON e.session_id = t.session_id AND e.turn_id = t.id
WHERE t.session_id = {_LATEST_KEY}
GROUP BY t.id ORDER BY t.id"""  # noqa: S608
NUMBERING = f"""\
SELECT s.public_id AS session, count(*) AS events, max(e.seq) AS last_seq, s.next_seq
FROM sessions AS s JOIN events AS e ON e.session_id = s.id
WHERE s.id = {_LATEST_KEY}
GROUP BY s.id"""  # noqa: S608

LATEST_SESSIONS = "SELECT public_id, title FROM sessions ORDER BY updated_at_ms DESC, id DESC LIMIT 1000"
LOOK_AT_EVENTS = "SELECT seq, type, msg FROM events WHERE session_id = 1"

_READING_ACTIONS = frozenset(
    {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE}
)
_SCHEMA_TABLE = "sqlite_master"
_READING_PRAGMAS = frozenset(
    {
        "data_version",  # asked for by the index of words
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
        refuse_if_sealed(path, error)
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
