"""The store: one file, its writer, its readers and its feed, opened and closed together."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import anyio
import anyio.to_thread

from codexdb.domain import foreign_file
from codexdb.domain.errors import StoreBusyError, StoreRefusedError
from codexdb.domain.limits import STORE_BUSY_MS
from codexdb.store import revision
from codexdb.store.feed import Feed
from codexdb.store.locks import FileLock, beside
from codexdb.store.readers import Readers
from codexdb.store.writer import Writer

SIDE_FILES = ("", "-wal", "-shm", ".wlock", ".schema.lock")  # of a database


class Store:
    """What the rest of the program is given. `writer` runs verbs, `readers` page, `feed` tells."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.feed = Feed()
        self.readers = Readers(path)
        self.writer = Writer(path, self.feed.announce, self.feed.nudge)


@asynccontextmanager
async def open_store(path: Path) -> AsyncGenerator[Store]:
    """Open the database, creating it where there is none.

    Holds while open: the schema is ours, and no migration can begin. At the end everything queued is committed,
    readers are closed before the writer, and the schema lock is let go.

    Raises:
        StoreRefusedError: the file cannot be used; the message says what to do.
        StoreBusyError: a migration of it is under way.
    """
    schema_lock = await anyio.to_thread.run_sync(_prepare, path)
    forget = foreign_file.keep_off(lambda: own_files(path))
    try:
        store = Store(path)
        try:
            yield store
        finally:
            with anyio.CancelScope(shield=True):
                await store.readers.close()
                await anyio.to_thread.run_sync(store.writer.close)
    finally:
        forget()
        schema_lock.close()


def own_files(path: Path) -> list[tuple[int, int]]:
    """The database's files by device and inode: opening and closing them here would drop SQLite's locks."""
    found: list[tuple[int, int]] = []
    for suffix in SIDE_FILES:
        try:
            status = beside(path, suffix).stat()
        except OSError:
            continue
        found.append((status.st_dev, status.st_ino))
    return found


def _prepare(path: Path) -> FileLock:
    """The shared schema lock, then the check. In this order: no migration may slip in between."""
    revision.create_directory(path)
    try:
        lock = FileLock(beside(path, ".schema.lock"))
    except OSError as error:
        raise StoreRefusedError(f"The folder {path.parent} cannot be written to: {error}.") from error
    try:
        _check(path, lock)
    except BaseException:
        lock.close()
        raise
    return lock


def _check(path: Path, schema_lock: FileLock) -> None:
    """Under the writers' lock: two processes that switch one new file to WAL at once fail each other, and whoever is
    the last to close a file makes a checkpoint.
    """
    if not schema_lock.lock(STORE_BUSY_MS, shared=True):
        raise StoreBusyError(f"The database {path} is being migrated by another process. Try again when it is done.")
    with closing(FileLock(beside(path, ".wlock"))) as write_lock:
        if not write_lock.lock(STORE_BUSY_MS):
            raise StoreBusyError(f"The database {path} is locked by another process. Try again.")
        revision.prepare(path)
