"""Whether a database is sound: its pages, its references, its text index, and what `invariants` says of its rows.

Nothing is written, and servers may be at work. Each look is one statement, as of one instant, at a part of the
sessions where it reads much: while a reading transaction lasts, the write-ahead log cannot be cut back.
"""

import sqlite3
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from codexdb.domain.json import JsonObject
from codexdb.domain.limits import FINDINGS_SHOWN, SESSIONS_CHECKED_AT_ONCE, STORE_BUSY_MS
from codexdb.store import revision
from codexdb.store.backup import Progress
from codexdb.store.invariants import INVARIANTS, TEXT_INDEX, WORDS
from codexdb.store.locks import FileLock, beside
from codexdb.store.pragmas import read_only_uri
from codexdb.store.queries import STEPS_BETWEEN_LOOKS
from codexdb.store.text_index import SHADOWS

PART = "WITH sessions AS NOT MATERIALIZED (SELECT * FROM main.sessions WHERE id BETWEEN ? AND ?)\n"
"""Before a query of `invariants`: it then sees these sessions alone."""

_DAMAGED = (
    "The file is damaged. Stop the servers, keep a copy of it with its -wal file, and restore a backup "
    "(`codexdb db restore`)."
)
_DANGLING = "A program that wrote with foreign keys off has done this. Delete these rows, or restore a backup."
SCHEMA = "the schema is whole"
_DRIFTED = (
    "A program has changed the schema, so that what it guards is not guarded any more. Export all sessions (`codexdb "
    "sessions export --all -o FILE`) and import them into a new database, or restore a backup (`codexdb db restore`)."
)
_UNUSABLE = "The check itself failed, as it does on a damaged file. " + _DAMAGED

Rows = Iterator[JsonObject]


@dataclass(frozen=True, slots=True)
class Finding:
    """What one look has found: `count` things that must not be, of which `rows` shows the first."""

    check: str
    holds: str  # what must be so
    count: int
    rows: list[JsonObject]
    advice: str


def check(path: Path, progress: Progress, *, quick: bool) -> Iterator[Finding]:
    """Everything that is looked at, one finding each, also where all is well. Blocks.

    `quick`: indexes are not compared with their tables, nor the text index with the items.

    Raises:
        StoreRefusedError, StoreBusyError: there is no such database, or it cannot be read.
        KeyboardInterrupt: it was interrupted at the terminal.
    """
    found = revision.look(path)
    uri = read_only_uri(path)
    with closing(sqlite3.connect(uri, uri=True, isolation_level=None, timeout=STORE_BUSY_MS / 1000)) as connection:
        connection.set_progress_handler(lambda: 0, STEPS_BETWEEN_LOOKS)  # Python notices an interrupt only in Python
        if found == revision.HEAD:  # how older ones were made, only the migrations know
            holds = "Each table, index, view and trigger is as codexdb makes it; others may stand beside them."
            yield _finding(SCHEMA, holds, _DRIFTED, lambda: _schema(connection))
        yield from _looks(connection, path, progress, quick=quick)


def _looks(connection: sqlite3.Connection, path: Path, progress: Progress, *, quick: bool) -> Iterator[Finding]:
    kind = "quick_check" if quick else "integrity_check"
    holds = "Every page of the file, each table and each index is as SQLite wrote it, and each row keeps its CHECKs."
    yield _finding("the file is sound", holds, _DAMAGED, lambda: _integrity(path, kind, progress))
    holds = "Every foreign key names a row that is there."
    yield _finding("references hold", holds, _DANGLING, lambda: _references(connection, progress))
    for each in INVARIANTS:
        yield _finding(each.name, each.holds, each.advice, _rows(connection, each.query, each.name, progress))
    if not quick and "search" in _tables(connection, virtual=True):  # a database of the first schema has none
        each = TEXT_INDEX
        yield _finding(each.name, each.holds, each.advice, lambda: _text_index(connection, progress))


def _finding(name: str, holds: str, advice: str, rows: Callable[[], Rows]) -> Finding:
    count = 0
    shown: list[JsonObject] = []
    try:
        for row in rows():
            count += 1
            if count <= FINDINGS_SHOWN:
                shown.append(row)
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_INTERRUPT:
            raise KeyboardInterrupt from error
        return Finding(name, holds, count + 1, [*shown, {"error": str(error)}], _UNUSABLE)
    return Finding(name, holds, count, shown, advice)


def _schema(connection: sqlite3.Connection) -> Rows:
    with closing(sqlite3.connect(":memory:")) as new:
        for statement in revision.snapshot_statements():
            new.execute(statement)
        wanted = _objects(new)
    there = _objects(connection)
    for (kind, name), ddl in wanted.items():
        if there.get((kind, name)) != ddl:
            yield {"type": kind, "name": name, "found": "changed" if (kind, name) in there else "missing"}


def _objects(connection: sqlite3.Connection) -> dict[tuple[str, str], str]:
    """What our statements have made: type and name, and the statement."""
    rows = connection.execute("SELECT type, name, sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY type, name")
    return {(kind, name): ddl for kind, name, ddl in rows if name not in SHADOWS}


def _integrity(path: Path, kind: str, progress: Progress) -> Rows:
    """On a connection of its own that could write: SQLite does not look at CHECKs on others."""
    with _looking(path) as connection:
        tables = _tables(connection)
        for number, table in enumerate(tables):
            progress(f"pages of {table}", number, len(tables))
            for (found,) in connection.execute(f"PRAGMA {kind}('{table}')"):
                if found != "ok":
                    yield {"table": table, "found": str(found)}


@contextmanager
def _looking(path: Path) -> Generator[sqlite3.Connection]:
    """A connection that could write and does not. It closes under the writers' lock: the last to close a file makes a
    checkpoint.
    """
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA query_only=ON").fetchall()
    connection.set_progress_handler(lambda: 0, STEPS_BETWEEN_LOOKS)
    try:
        yield connection
    finally:
        with _writers_kept_off(path):
            connection.close()


@contextmanager
def _writers_kept_off(path: Path) -> Generator[None]:
    """For some seconds at most. Whoever may not write beside the file makes no checkpoint either, and needs no lock."""
    try:
        lock = FileLock(beside(path, ".wlock"))
    except OSError:
        yield
        return
    with closing(lock):
        lock.lock(STORE_BUSY_MS)
        yield


def _references(connection: sqlite3.Connection, progress: Progress) -> Rows:
    tables = _tables(connection)
    for number, table in enumerate(tables):
        progress(f"references of {table}", number, len(tables))
        for _, rowid, parent, _ in connection.execute(f"PRAGMA foreign_key_check('{table}')"):
            yield {"table": table, "rowid": rowid, "refers_to": str(parent)}


def _rows(connection: sqlite3.Connection, query: str, name: str, progress: Progress) -> Callable[[], Rows]:
    def run() -> Rows:
        last = int(connection.execute("SELECT coalesce(max(id), 0) FROM sessions").fetchone()[0])
        for first in range(1, last + 1, SESSIONS_CHECKED_AT_ONCE):
            progress(name, first - 1, last)
            yield from _named(connection.execute(PART + query, (first, first + SESSIONS_CHECKED_AT_ONCE - 1)))

    return run


def _text_index(connection: sqlite3.Connection, progress: Progress) -> Rows:
    """In one go: a second for every twenty million words."""
    progress(TEXT_INDEX.name, 0, 0)
    connection.execute(WORDS)
    yield from _named(connection.execute(TEXT_INDEX.query))


def _named(cursor: sqlite3.Cursor) -> Rows:
    columns = [str(column[0]) for column in cursor.description]
    for row in cursor:
        yield dict(zip(columns, row, strict=True))


def _tables(connection: sqlite3.Connection, *, virtual: bool = False) -> list[str]:
    rows = connection.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'table' ORDER BY name")
    return [name for name, sql in rows if str(sql).startswith("CREATE VIRTUAL") == virtual]
