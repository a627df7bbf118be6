"""Returning the space of deleted rows to the file system. Whoever calls this holds the schema lock exclusively.

SQLite's own VACUUM would build the new file in a temporary folder that may have no room for it; here it is built beside
the database, and put in its place in one transaction.
"""

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from codexdb.domain.errors import SchemaBusyError, StoreFailedError
from codexdb.store import revision
from codexdb.store.backup import Progress, refuse_full, remove, replace_contents, size
from codexdb.store.locks import beside
from codexdb.store.pragmas import open_for_writing
from codexdb.store.queries import STEPS_BETWEEN_LOOKS

_PART = ".vacuum.part"
_ROOM = 3  # times the size of the database: the index rewritten in the log, the new file, the log that takes it over
_MERGE_INDEX = "INSERT INTO search (search) VALUES ('optimize')"  # else it keeps what it knew of deleted items


@dataclass(frozen=True, slots=True)
class Sizes:
    """Bytes of the database, before and after."""

    before: int
    after: int


def vacuum(path: Path, progress: Progress) -> Sizes:
    """Make the file as small as its rows allow. Blocks.

    Holds after: the same rows are in it, also where this raised or the process died.

    Raises:
        StoreRefusedError: the file cannot be used, or there is no room beside it.
        StoreFailedError: the disk refused; nothing was lost.
        SchemaBusyError: another program writes to it.
    """
    found = revision.look(path)
    refuse_full(path, path.parent, _ROOM)
    before = size(path)
    part = beside(path, _PART)
    remove(part)
    try:
        with closing(open_for_writing(path)) as connection:
            if found == revision.HEAD:
                progress("merging the text index", 0, 0)
                connection.execute(_MERGE_INDEX)
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            revision.create_file(part)
            _build(connection, part, before, progress)
        with closing(sqlite3.connect(part)) as source:
            replace_contents(path, source, "taking it over", progress)
    except sqlite3.Error as error:
        if "locked" in str(error):
            raise SchemaBusyError(f"Another program holds the database {path}: close it, then try again.") from error
        raise StoreFailedError(f"The database {path} was not made smaller: {error}.") from error
    finally:
        remove(part)
    return Sizes(before, size(path))


def _build(connection: sqlite3.Connection, part: Path, total: int, progress: Progress) -> None:
    """The same rows in a file without gaps. What `progress` raises ends it."""
    stopped: list[BaseException] = []

    def look() -> int:
        try:
            progress("writing anew", part.stat().st_size, total)
        except BaseException as error:  # noqa: BLE001 - SQLite would swallow it; raised below
            stopped.append(error)
        return len(stopped)

    connection.set_progress_handler(look, STEPS_BETWEEN_LOOKS)
    try:
        connection.execute("VACUUM INTO ?", (str(part),))
    except sqlite3.Error:
        if stopped:
            raise stopped[0] from None
        raise
    finally:
        connection.set_progress_handler(None, 0)
