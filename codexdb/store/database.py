"""The store: one file, its writer, its readers and its feed, opened and closed together."""

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import anyio
import anyio.from_thread
import anyio.to_thread

from codexdb.domain import foreign_file
from codexdb.domain.errors import SchemaBusyError, StoreBusyError, StoreRefusedError
from codexdb.domain.limits import SCHEMA_POLL_MS, STORE_BUSY_MS
from codexdb.store import revision
from codexdb.store.backup import OWN_FILES, Progress
from codexdb.store.diagnosis import open_workers
from codexdb.store.feed import Feed
from codexdb.store.locks import FileLock, beside
from codexdb.store.readers import Readers
from codexdb.store.upgrade import upgrade
from codexdb.store.writer import Writer

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Waiting:
    """What a process that waits for the database tells meanwhile: `busy` on the event loop, `progress` on a thread."""

    busy: Callable[[SchemaBusyError], None]
    progress: Progress


class Store:
    """What the rest of the program is given. `writer` runs verbs, `readers` page, `feed` tells."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.feed = Feed()
        self.readers = Readers(path)
        self.writer = Writer(path, self.feed.announce, self.feed.nudge)


@asynccontextmanager
async def open_store(path: Path, waiting: Waiting | None = None) -> AsyncGenerator[Store]:
    """Open the database, creating it where there is none.

    Holds while open: the schema is ours, and no upgrade can begin. At the end everything queued is committed,
    readers are closed before the writer, and the schema lock is let go. With `waiting`, an older schema is upgraded
    first, and others who upgrade it are waited for as long as it takes.

    Raises:
        StoreRefusedError: the file cannot be used; the message says what to do.
        SchemaBusyError: an upgrade of it is under way.
    """
    schema_lock = await _hold_schema(path, waiting)
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
    for suffix in OWN_FILES:
        try:
            status = beside(path, suffix).stat()
        except OSError:
            continue
        found.append((status.st_dev, status.st_ino))
    return found


async def alone(path: Path, work: Callable[[Path, Progress], T], progress: Progress) -> T:
    """Do `work` on a file that nobody has open, on a thread; returns what it returns. Where this is cancelled, the next
    word of progress raises inside of it.

    Raises:
        SchemaBusyError: others have it open.
        StoreRefusedError: there can be no lock beside it.
    """
    with closing(_schema_lock(path)) as lock:
        await _take(path, lock, None, shared=False)
        return await _in_thread(path, work, progress)


async def _hold_schema(path: Path, waiting: Waiting | None) -> FileLock:
    """The shared schema lock, then the check. In this order: no upgrade may slip in between."""
    lock = await anyio.to_thread.run_sync(_schema_lock, path)
    try:
        while True:
            await _take(path, lock, waiting, shared=True)
            if await anyio.to_thread.run_sync(_check, path, waiting is not None) or waiting is None:
                return lock
            lock.unlock()
            if await _take(path, lock, waiting, shared=False, unless=partial(_is_ours, path)) and not _is_ours(path):
                await _in_thread(path, upgrade, waiting.progress)
            lock.unlock()
    except BaseException:
        lock.close()
        raise


def _schema_lock(path: Path) -> FileLock:
    revision.create_directory(path)
    try:
        return FileLock(beside(path, ".schema.lock"))
    except OSError as error:
        raise StoreRefusedError(f"The folder {path.parent} cannot be written to: {error}.") from error


def _is_ours(path: Path) -> bool:
    """Whether the file has our schema."""
    return revision.look(path) == revision.HEAD


async def _take(
    path: Path, lock: FileLock, waiting: Waiting | None, *, shared: bool, unless: Callable[[], bool] | None = None
) -> bool:
    """Wait for the schema lock; whoever would rather be told is told every `STORE_BUSY_MS`.

    Returns whether we hold it: not, where `unless` came true first. Somebody who was quicker to upgrade the file may
    have it open for ever.
    """
    since = anyio.current_time()
    while not lock.try_lock(shared=shared):
        if unless is not None and lock.try_lock(shared=True):  # nobody changes the file meanwhile
            needless = await anyio.to_thread.run_sync(unless)
            lock.unlock()
            if needless:
                return False
        if anyio.current_time() - since > STORE_BUSY_MS / 1000:
            error = SchemaBusyError(_in_the_way(path, shared=shared, older=waiting is not None))
            if waiting is None:
                raise error
            waiting.busy(error)
            since = anyio.current_time()
        await anyio.sleep(SCHEMA_POLL_MS / 1000)
    return True


def _in_the_way(path: Path, *, shared: bool, older: bool) -> str:
    if shared:
        return f"The database {path} is being upgraded by another process. Try again when it is done."
    pids: list[str] = []
    with suppress(StoreRefusedError):  # it may be damaged, or not there
        pids = [str(worker.pid) for worker in open_workers(path) if worker.lives is not False]
    who = f"process {', '.join(pids)}" if pids else "another program"
    if older:
        return f"The database {path} has to be upgraded, and {who} has it open with an older codexdb. Close that first."
    return f"The database {path} cannot be changed: {who} has it open. Close that first."


async def _in_thread(path: Path, work: Callable[[Path, Progress], T], progress: Progress) -> T:
    def tell(what: str, done: int, total: int) -> None:
        anyio.from_thread.check_cancelled()
        progress(what, done, total)

    return await anyio.to_thread.run_sync(work, path, tell)


def _check(path: Path, older_may_be: bool) -> bool:  # noqa: FBT001 - a thread's argument
    """Whether the file's schema is ours. Under the writers' lock: two processes that switch one new file to WAL at once
    fail each other, and whoever is the last to close a file makes a checkpoint.
    """
    with closing(FileLock(beside(path, ".wlock"))) as write_lock:
        if not write_lock.lock(STORE_BUSY_MS):
            raise StoreBusyError(f"The database {path} is locked by another process. Try again.")
        found = revision.prepare(path)
    if found != revision.HEAD and not older_may_be:
        raise revision.too_old(path, found)
    return found == revision.HEAD
