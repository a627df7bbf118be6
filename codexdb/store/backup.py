"""Copies of a database: made while servers work, and put in its place as one transaction."""

import glob
import os
import shutil
import sqlite3
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from codexdb.domain.clock import SystemClock
from codexdb.domain.errors import SchemaBusyError, StoreRefusedError
from codexdb.domain.limits import BACKUP_PAGES_AT_ONCE
from codexdb.store import revision
from codexdb.store.locks import beside
from codexdb.store.pragmas import open_for_writing, read_only_uri

SIDE_FILES = ("-wal", "-shm", "-journal")
OWN_FILES = ("", *SIDE_FILES, ".wlock", ".wlock.next", ".schema.lock")
"""All that belongs to a database."""
_BACKUP = ".backup"
_PART = ".part"  # not complete yet
_BUSY = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})

Progress = Callable[[str, int, int], None]
"""Told what is being done, and how far: pages or rows done, and of how many. What it raises ends the work."""


def back_up(path: Path, progress: Progress, target: Path | None = None) -> Path:
    """Copy the database as of one instant, whoever reads or writes it meanwhile; returns the copy. Blocks.

    `target`: a file that must not exist; else one beside the database, named after its schema and the time.

    Raises:
        StoreRefusedError: the target exists or cannot be written, or there is no room for it.
    """
    found = revision.look(path) or "empty"
    if target is None:
        return keep_beside(path, found, progress)
    refuse_own(path, target)
    return _keep(path, target, progress)


def refuse_own(path: Path, target: Path) -> None:
    """Refuse to write to a file that belongs to the database. SQLite takes a journal of that name for its own.

    Raises:
        StoreRefusedError: `target` is the database, or one of its side files, there or not.
    """
    if target.resolve() in {beside(path, suffix).resolve() for suffix in OWN_FILES}:
        raise StoreRefusedError(f"{target} belongs to the database {path}. Name another file.")


def keep_beside(path: Path, what: str, progress: Progress) -> Path:
    """As `back_up`, beside the database, whatever SQLite database it is; for who holds the schema lock exclusively."""
    for left in path.parent.glob(f"{glob.escape(path.name)}.*{_BACKUP}{_PART}*"):  # by one who was killed in it
        left.unlink(missing_ok=True)
    return _keep(path, name_beside(path, what), progress)


def name_beside(path: Path, what: str) -> Path:
    """A new name for a copy of the database, beside it: what it is, and when it was made."""
    return beside(path, f".{what}.{_stamp()}{_BACKUP}")


def _keep(path: Path, target: Path, progress: Progress) -> Path:
    if target.exists():
        raise StoreRefusedError(f"{target} exists already. Name another file.")
    if not target.parent.is_dir():
        raise StoreRefusedError(f"There is no folder {target.parent}.")
    refuse_full(path, target.parent, 2)
    try:
        with _part_of(target) as part:
            _copy(path, part, progress)
        to_disk(target.parent)
    except (OSError, sqlite3.Error) as error:
        raise StoreRefusedError(f"The backup {target} cannot be written: {error}.") from error
    return target


@contextmanager
def _part_of(target: Path) -> Generator[Path]:
    """A new file beside the target, whose name it takes at the end. One that was left there is removed, be it by a dead
    process or by one that makes the same copy now: that one is refused, for what lies there is not its own.
    """
    part = beside(target, _PART)
    remove(part)
    descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        yield part
        os.fsync(descriptor)
        if target.exists() or not _is_at(descriptor, part):
            raise StoreRefusedError(f"Another process makes the backup {target} as well.")
        part.rename(target)
    finally:
        if _is_at(descriptor, part):
            remove(part)
        os.close(descriptor)


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether the file that is open is still the one of this name."""
    return path.exists() and os.path.samestat(os.fstat(descriptor), path.stat())


def refuse_full(path: Path, folder: Path, times: int) -> None:
    """Refuse work that needs so many times the room that the database takes.

    Raises:
        StoreRefusedError: there is less.
    """
    needed = times * size(path)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise StoreRefusedError(
            f"There is no room in {folder}: {path} needs {needed / 1e6:,.0f} MB there for this, and "
            f"{free / 1e6:,.0f} MB are free."
        )


def size(path: Path) -> int:
    """Bytes of the database with its write-ahead log."""
    return sum(_size(each) for each in (path, beside(path, "-wal")))


def _copy(path: Path, target: Path, progress: Progress) -> None:
    """Inside of one reading transaction: without it SQLite would begin anew whenever somebody writes."""
    with (
        closing(sqlite3.connect(read_only_uri(path), uri=True, isolation_level=None)) as source,
        closing(sqlite3.connect(target)) as copy,
    ):
        copy.execute("PRAGMA journal_mode=OFF").fetchall()  # it is whole, or thrown away
        source.execute("BEGIN")
        source.execute("SELECT count(*) FROM sqlite_schema").fetchall()
        source.backup(copy, pages=BACKUP_PAGES_AT_ONCE, progress=_told(path, "backup", progress))


def replace_contents(path: Path, source: sqlite3.Connection, what: str, progress: Progress) -> None:
    """Make the database what `source` is, in one transaction of its log: a process that dies in it leaves the database
    as it was.

    Raises:
        SchemaBusyError: another program writes to it; nothing was changed.
        sqlite3.Error: the disk refused; nothing was changed.
    """
    with closing(open_for_writing(path)) as target:
        source.backup(target, pages=BACKUP_PAGES_AT_ONCE, progress=_told(path, what, progress))
        target.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def load(target: sqlite3.Connection, source: Path, uri: str, progress: Progress) -> None:
    """Copy a file to where `target` is open."""
    with closing(sqlite3.connect(uri, uri=True)) as connection:
        connection.backup(target, pages=BACKUP_PAGES_AT_ONCE, progress=_told(source, "copy", progress))


def remove(path: Path) -> None:
    """Remove a database of our own making, with its side files, if it is there."""
    for suffix in ("", *SIDE_FILES):
        beside(path, suffix).unlink(missing_ok=True)


def _told(path: Path, what: str, progress: Progress) -> Callable[[int, int, int], None]:
    """SQLite's word of progress, handed on. Left to itself it waits for a busy file for ever."""

    def told(status: int, left: int, total: int) -> None:
        if status & 0xFF in _BUSY:
            raise SchemaBusyError(f"Another program writes to {path}: close it, then try again.")
        progress(what, total - left, total)

    return told


def _stamp() -> str:
    return datetime.fromtimestamp(SystemClock().now_ms() / 1000, UTC).strftime("%Y%m%dT%H%M%S.%fZ")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def to_disk(path: Path) -> None:
    """Have the kernel write a file, or the names in a folder."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
