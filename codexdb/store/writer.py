"""The one thread that writes: operations queue up, and whatever has queued shares one durable commit.

States of an operation: queued → taken → resolved. A caller may time out, or be cancelled, only while its operation is
queued; once taken, it is awaited to its outcome. Futures are resolved after the commit, all of them in one call into
the event loop.
"""

import asyncio
import contextlib
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Concatenate, Generic, ParamSpec, TypeVar, cast

from codexdb.domain import crash
from codexdb.domain.errors import CodexDBError, ShuttingDownError, StoreBusyError, StoreFailedError
from codexdb.domain.limits import (
    BATCH_OPS_MAX,
    FOREIGN_POLL_MS,
    LOCK_POLL_MS_MAX,
    SHUTDOWN_WRITE_MS,
    STORE_BUSY_MS,
    WAL_CHECKPOINT_BYTES,
)
from codexdb.store.locks import FairLock, beside
from codexdb.store.pragmas import open_for_writing
from codexdb.store.transaction import Announcement, Transaction

P = ParamSpec("P")
T = TypeVar("T")


class Operation(Generic[T]):
    """A queued write and the future that its caller waits for."""

    __slots__ = ("announcements", "deadline", "error", "future", "result", "work")

    def __init__(self, work: Callable[[Transaction], T], future: "asyncio.Future[T]", deadline: float | None) -> None:
        self.work = work
        self.future = future
        self.deadline = deadline  # on time.monotonic(); None: waits as long as it takes
        self.result: T | None = None
        self.error: BaseException | None = None
        self.announcements: Sequence[Announcement] = ()

    def run(self, connection: sqlite3.Connection) -> None:
        transaction = Transaction(connection)
        self.result = self.work(transaction)
        self.announcements = transaction.announcements

    def resolve(self) -> None:
        """On the event loop. A caller that was cancelled meanwhile has a cancelled future; the write stands."""
        if self.future.done():
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.result)  # pyright: ignore[reportArgumentType] - set by run()


AnyOperation = Operation[object]


class Writer:
    """Owns the writing connection and its thread. All methods are called on the event loop."""

    def __init__(
        self,
        path: Path,
        announce: Callable[[Sequence[Announcement]], None],
        on_foreign_commit: Callable[[], None],
        busy_ms: int = STORE_BUSY_MS,
    ) -> None:
        self._path = path
        self._wal = beside(path, "-wal")
        self._announce = announce
        self._on_foreign_commit = on_foreign_commit
        self._data_version = 0
        self._busy_ms = busy_ms
        self._loop = asyncio.get_running_loop()
        self._lock = FairLock(beside(path, ".wlock"))
        self._condition = threading.Condition()
        self._urgent: deque[AnyOperation] = deque()  # somebody waits for an acknowledgement
        self._orderly: deque[AnyOperation] = deque()  # turns' own records, in their order
        self._closing = False
        self._connection: sqlite3.Connection | None = None
        self._checkpointed_bytes = 0  # of the WAL at the last checkpoint: it is then filled again before it grows
        self._identity = (0, 0)  # device and inode of the open file
        self.generation = 0  # grows on the thread when a commit failed and nobody knows what it left behind
        self._thread = threading.Thread(target=self._run, name="codexdb-writer", daemon=True)
        self._thread.start()

    def submit(
        self, work: Callable[Concatenate[Transaction, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> "asyncio.Future[T]":
        """Queue an acknowledgement. The future fails with `StoreBusyError` if nobody took it within the busy
        deadline.
        """
        return self._queue(
            self._urgent,
            lambda transaction: work(transaction, *args, **kwargs),
            time.monotonic() + self._busy_ms / 1000,
        )

    def submit_in_order(
        self, work: Callable[Concatenate[Transaction, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> "asyncio.Future[T]":
        """Queue a record of running work, behind all earlier ones. Waits for the lock as long as it takes."""
        return self._queue(self._orderly, lambda transaction: work(transaction, *args, **kwargs), None)

    def _queue(
        self, queue: deque[AnyOperation], work: Callable[[Transaction], T], deadline: float | None
    ) -> "asyncio.Future[T]":
        future: asyncio.Future[T] = self._loop.create_future()
        operation = Operation(work, future, deadline)
        with self._condition:
            if self._closing:
                future.set_exception(ShuttingDownError("The server is shutting down."))
                return future
            queue.append(operation)  # pyright: ignore[reportArgumentType] - T is erased in the queue
            self._condition.notify()
        return future

    def close(self) -> None:
        """Commit what is queued, checkpoint, close the connection and end the thread. Blocks for that long, but where
        somebody else has the lock no longer than `SHUTDOWN_WRITE_MS`: what is queued then fails as `store_busy`.
        """
        with self._condition:
            self._closing = True
            late = time.monotonic() + SHUTDOWN_WRITE_MS / 1000
            for operation in (*self._urgent, *self._orderly):
                operation.deadline = late
            self._condition.notify()
        self._thread.join()

    # -- on the thread -------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while self._await_work():
            if not self._take_locks():
                continue
            try:
                self._look_for_foreign_commits()
                batch = self._take_batch()
                self._commit(batch)
                crash.point("commit.after")
                self._hand_back(batch)
                self._checkpoint_if_due()
            finally:
                self._lock.unlock()
        self._shut()

    def _await_work(self) -> bool:
        """Whether there is work; False once closing and empty."""
        with self._condition:
            while not (self._urgent or self._orderly):
                if self._closing:
                    return False
                if not self._condition.wait(FOREIGN_POLL_MS / 1000):
                    self._look_for_foreign_commits()
        return True

    def _look_for_foreign_commits(self) -> None:
        """SQLite's own counter of commits by other connections, as seen by this one; our readers do not commit."""
        if self._connection is None:
            return
        try:
            version = cast("int", self._connection.execute("PRAGMA data_version").fetchone()[0])
        except sqlite3.Error:
            return
        if version != self._data_version:
            self._data_version = version
            with contextlib.suppress(RuntimeError):  # the loop is gone
                self._loop.call_soon_threadsafe(self._on_foreign_commit)

    def _take_locks(self) -> bool:
        """The file lock, then SQLite's own. False where every waiting caller timed out first."""
        while not self._lock.lock(self._patience_ms()):
            if not self._expire():
                return False
        while True:
            try:
                self._connected().execute("BEGIN IMMEDIATE")
            except (sqlite3.Error, StoreFailedError) as error:
                if not _is_busy(error):
                    self._fail_all(error)
                    self._lock.unlock()
                    return False
                if not self._expire():
                    self._lock.unlock()
                    return False
                time.sleep(LOCK_POLL_MS_MAX / 1000)
            else:
                if not self._file_is_gone():
                    return True
                self._fail_all(StoreFailedError(f"The database {self._path} was moved or deleted while it was open."))
                self._lock.unlock()
                return False

    def _file_is_gone(self) -> bool:
        """Whether what we would write is no longer the file of that name: SQLite would go on writing into nowhere."""
        try:
            found = self._path.stat()
        except OSError:
            return True
        return (found.st_dev, found.st_ino) != self._identity

    def _patience_ms(self) -> int:
        """Until the next deadline, a second at most, so that newly queued callers are seen."""
        with self._condition:
            queued = (*self._urgent, *self._orderly)
            deadlines = [operation.deadline for operation in queued if operation.deadline is not None]
        left = min(deadlines, default=time.monotonic() + 1) - time.monotonic()
        return max(1, min(1000, int(left * 1000)))

    def _expire(self) -> bool:
        """Refuse callers whose deadline has passed. Whether anybody still waits."""
        now = time.monotonic()
        late: list[AnyOperation] = []
        with self._condition:
            for queue in (self._urgent, self._orderly):
                for operation in [o for o in queue if o.deadline is not None and o.deadline <= now]:
                    queue.remove(operation)
                    late.append(operation)
            remaining = bool(self._urgent or self._orderly)
        for operation in late:
            operation.error = StoreBusyError(
                f"The database was locked by another process for {self._busy_ms} ms; nothing was written. Try again."
            )
        self._hand_back(late)
        return remaining

    def _take_batch(self) -> list[AnyOperation]:
        batch: list[AnyOperation] = []
        with self._condition:
            for queue in (self._urgent, self._orderly):
                while queue and len(batch) < BATCH_OPS_MAX:
                    batch.append(queue.popleft())
        return batch

    def _commit(self, batch: list[AnyOperation]) -> None:
        """Run and commit all; where one misbehaves, roll back and run each by itself, so that only the guilty one
        fails.
        """
        connection = self._connected()
        try:
            for operation in batch:
                operation.run(connection)
        except Exception as error:  # noqa: BLE001 - whatever it is, it belongs to one operation, found below
            connection.execute("ROLLBACK") if connection.in_transaction else None
            if len(batch) == 1:
                batch[0].error = _explained(error)
                return
            for operation in batch:
                self._commit_alone(operation)
            return
        self._finish(batch)

    def _commit_alone(self, operation: AnyOperation) -> None:
        try:
            self._connected().execute("BEGIN IMMEDIATE")
        except (sqlite3.Error, StoreFailedError) as error:
            operation.error = _explained(error)
            return
        self._commit([operation])

    def _finish(self, batch: list[AnyOperation]) -> None:
        """COMMIT. If that fails, nobody knows what is on the disk: say so to all, and start over with a fresh
        connection.
        """
        crash.point("commit.before")
        try:
            self._connected().execute("COMMIT")
        except sqlite3.Error as error:
            for operation in batch:
                operation.error = _explained(error)
                operation.announcements = ()
            self.generation += 1
            self._disconnect()

    def _fail_all(self, error: Exception) -> None:
        batch = self._take_batch()
        for operation in batch:
            operation.error = _explained(error)
        self._disconnect()
        self._hand_back(batch)

    def _hand_back(self, batch: Sequence[AnyOperation]) -> None:
        if not batch:
            return
        try:
            self._loop.call_soon_threadsafe(self._resolve, batch)
        except RuntimeError:
            return  # the loop is gone; so is everybody who waited

    def _resolve(self, batch: Sequence[AnyOperation]) -> None:
        """On the loop. Callers first: an acknowledgement is written before its turn's first event."""
        for operation in batch:
            operation.resolve()
        announcements = [each for operation in batch if operation.error is None for each in operation.announcements]
        if announcements:
            self._announce(announcements)

    def _checkpoint_if_due(self) -> None:
        """Under the file lock, so that no two processes checkpoint at once."""
        try:
            size = self._wal.stat().st_size
            if size >= WAL_CHECKPOINT_BYTES and size > self._checkpointed_bytes:
                self._connected().execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
                self._checkpointed_bytes = size
        except (OSError, sqlite3.Error):
            return  # it is tried again after the next commit

    def _connected(self) -> sqlite3.Connection:
        if self._connection is None:
            if not self._path.exists():  # SQLite would make an empty one
                raise StoreFailedError(f"The database {self._path} was moved or deleted while it was open.")
            self._connection = open_for_writing(self._path)
            found = self._path.stat()
            self._identity = found.st_dev, found.st_ino
        return self._connection

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _shut(self) -> None:
        """Checkpoint and close under the file lock; without the lock, leave the WAL to whoever opens the file next."""
        if self._connection is not None and self._lock.lock(SHUTDOWN_WRITE_MS):
            self._checkpoint_if_due()
            self._disconnect()
        self._lock.close()


def _is_busy(error: Exception) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


_DISK_TROUBLE = {
    sqlite3.SQLITE_FULL: "The disk is full",
    sqlite3.SQLITE_IOERR: "Reading or writing the database file failed",
    sqlite3.SQLITE_READONLY: "The database file is read-only, was moved or was deleted",
    sqlite3.SQLITE_CORRUPT: "The database file is damaged",
    sqlite3.SQLITE_NOTADB: "The file is not a database",
    sqlite3.SQLITE_CANTOPEN: "The database file cannot be opened",
}


def _explained(error: Exception) -> Exception:
    """A sentence for trouble with the disk; anything else stays what it is."""
    if isinstance(error, CodexDBError) or not isinstance(error, sqlite3.Error):
        return error
    sentence = _DISK_TROUBLE.get(getattr(error, "sqlite_errorcode", 0) & 0xFF)
    if _is_busy(error):
        return StoreBusyError("The database was locked by another program; nothing was written. Try again.")
    return StoreFailedError(f"{sentence} ({error}).") if sentence else error
