"""Putting a backup in the place of the database. Whoever calls this holds the schema lock exclusively.

The backup is first copied to a file of its own, where its open turns are ended; then the contents of the database are
replaced in one transaction. Only a file that SQLite cannot use is replaced as a file.
"""

import shutil
import sqlite3
from collections.abc import Generator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast
from urllib.parse import quote

from codexdb.domain.clock import SystemClock
from codexdb.domain.errors import StoreBusyError, StoreFailedError, StoreRefusedError
from codexdb.domain.event import error
from codexdb.domain.transition import TurnState
from codexdb.store import revision
from codexdb.store.backup import (
    SIDE_FILES,
    Progress,
    keep_beside,
    load,
    name_beside,
    refuse_full,
    remove,
    replace_contents,
    to_disk,
)
from codexdb.store.endings import Ending, end_all
from codexdb.store.locks import beside
from codexdb.store.pragmas import open_for_writing, read_only_uri
from codexdb.store.transaction import Transaction

ENDED = (
    "This turn was open in the backup that was restored. It was ended, since it may have gone on after the backup was "
    "made, and nothing is to run twice."
)
_ENDING = Ending(TurnState.INTERRUPTED, "server_stopped", error(ENDED))
_ABOUT = "SELECT count(*), max(updated_at_ms) FROM sessions"
_DAMAGED = frozenset({sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT})


@dataclass(frozen=True, slots=True)
class Backup:
    """What a file holds that may be restored."""

    path: Path
    schema: str
    sessions: int
    updated_at_ms: int | None  # when a turn of it last began or ended; None: it has no sessions


@dataclass(frozen=True, slots=True)
class Restored:
    """`kept`: the file as it was before, under its new name; None where there was nothing in it."""

    kept: Path | None
    ended: int  # turns that were open in the backup


def examine(path: Path) -> Backup:
    """Look whether a file can be restored. Changes nothing. Blocks.

    Raises:
        StoreRefusedError: it is not a sound database of ours, or of a newer schema.
    """
    schema = revision.stamp(path, _uri(path))
    revision.refuse_other(path, schema)
    if schema is None:
        raise StoreRefusedError(f"{path} is empty: there is nothing to restore.")
    try:
        with closing(sqlite3.connect(_uri(path), uri=True)) as connection:
            found = [str(each) for (each,) in connection.execute("PRAGMA quick_check")]
            if found != ["ok"]:
                raise StoreRefusedError(f"{path} is damaged and cannot be restored: {found[0]}.")
            count, updated_at_ms = cast("tuple[int, int | None]", connection.execute(_ABOUT).fetchone())
    except sqlite3.Error as error_:
        raise StoreRefusedError(f"{path} is damaged and cannot be restored: {error_}.") from error_
    return Backup(path, schema, count, updated_at_ms)


def restore(path: Path, backup: Path, progress: Progress) -> Restored:
    """Make the database what the backup is, with its open turns ended; what it was before is kept beside it. Blocks.

    Holds after: the database is all of the old one or all of the new one, also where this raised or the process died.

    Raises:
        StoreRefusedError: the backup or the present file cannot be used, or there is no room.
        StoreFailedError: the disk refused; the database is as it was.
        SchemaBusyError: another program writes to the database.
    """
    examine(backup)
    if path.exists() and path.samefile(backup):
        raise StoreRefusedError(f"{backup} is the database itself.")
    revision.create_directory(path)
    refuse_full(backup, path.parent, 3)
    kept, usable = _keep(path, progress)
    part = beside(path, ".restore.part")
    try:
        with _staged(backup, part, progress) as connection:
            ended = _end_turns(connection)
            if usable:
                replace_contents(path, connection, "restore", progress)
        if not usable:
            _put(path, part)
    except sqlite3.Error as error_:
        raise StoreFailedError(f"The database {path} was not changed: {error_}.") from error_
    finally:
        remove(part)
    return Restored(kept, ended)


def _uri(path: Path) -> str:
    """A backup stands alone, and may lie where no file can be made beside it; unless its log lies there as well."""
    alone = not beside(path, "-wal").exists()
    return f"file:{quote(str(path))}?immutable=1" if alone else read_only_uri(path)


def _keep(path: Path, progress: Progress) -> tuple[Path | None, bool]:
    """Keep what the file holds now; and whether SQLite can use it. Another program's file is refused."""
    if not path.exists():
        return None, False
    try:
        found = revision.stamp(path)
        if found == revision.FOREIGN:
            revision.refuse_other(path, found)
        if found is None:
            return None, True
        return keep_beside(path, found, progress), True
    except StoreBusyError:
        raise
    except StoreRefusedError as refused:
        if getattr(refused.__cause__, "sqlite_errorcode", 0) & 0xFF not in _DAMAGED:
            raise
        return _keep_damaged(path), False


def _keep_damaged(path: Path) -> Path:
    """The file with its log, byte by byte: SQLite cannot read it, so nobody here has it open."""
    kept = name_beside(path, "damaged")
    for suffix in ("", "-wal"):
        if beside(path, suffix).exists():
            copy = beside(kept, suffix)
            revision.create_file(copy)
            shutil.copyfile(beside(path, suffix), copy)
            to_disk(copy)
    to_disk(kept.parent)
    return kept


@contextmanager
def _staged(backup: Path, part: Path, progress: Progress) -> Generator[sqlite3.Connection]:
    """The backup in a file that may be changed."""
    remove(part)
    revision.create_file(part)
    with closing(open_for_writing(part)) as connection:
        load(connection, backup, _uri(backup), progress)
        yield connection


def _end_turns(connection: sqlite3.Connection) -> int:
    """The schema may be an older one, whose tables are the same in what an ending writes."""
    connection.execute("BEGIN IMMEDIATE")
    ended = end_all(Transaction(connection), _ENDING, SystemClock().now_ms())
    connection.execute("COMMIT")
    return ended


def _put(path: Path, part: Path) -> None:
    """In the place of a file that is missing or damaged. Its log goes first: SQLite would apply it to the new file."""
    for suffix in SIDE_FILES:
        beside(path, suffix).unlink(missing_ok=True)
    to_disk(part)
    part.replace(path)
    to_disk(path.parent)
