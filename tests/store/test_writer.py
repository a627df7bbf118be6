"""The writing thread: shared commits, bounded waits, and callers that fail or leave without harm to the others."""

import asyncio
import sqlite3
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import cast

import anyio
import pytest
from making import identity, query

from codexdb.domain.errors import ShuttingDownError, StoreBusyError
from codexdb.domain.ids import new_id
from codexdb.domain.limits import BATCH_OPS_MAX
from codexdb.domain.worker import InterruptRequest, WorkerIdentity
from codexdb.store import revision, workers
from codexdb.store.locks import FileLock, beside
from codexdb.store.transaction import Announcement, Transaction
from codexdb.store.writer import Writer

Hold = Callable[[Path, str], AbstractContextManager[None]]

BUSY_MS = 200
BOUND_S = 10


class Bench:
    """A writer on a fresh database, with what it announced and every statement it ran."""

    def __init__(self, path: Path, busy_ms: int) -> None:
        revision.create_directory(path)
        revision.prepare(path)
        self.path = path
        self.announced: list[Announcement] = []
        self.statements: list[str] = []
        self.writer = Writer(path, self._announce, lambda: None, busy_ms)
        self.file_lock = FileLock(beside(path, ".wlock"))

    def _announce(self, announcements: Sequence[Announcement]) -> None:
        self.announced += announcements

    async def watch_statements(self) -> None:
        def watch(transaction: Transaction) -> None:
            transaction._connection.set_trace_callback(self.statements.append)  # pyright: ignore[reportPrivateUsage]

        await self.writer.submit(watch)
        self.statements.clear()

    def worker(self) -> "asyncio.Future[int]":
        return self.writer.submit(add_worker, identity())

    def rows(self) -> dict[int, str]:
        return dict(cast("list[tuple[int, str]]", query(self.path, "SELECT id, public_id FROM workers ORDER BY id")))


def add_worker(transaction: Transaction, new: WorkerIdentity) -> int:
    transaction.announce(InterruptRequest(new.public_id))
    return workers.register(transaction, new, 1, 1)


def add_two(transaction: Transaction, one: WorkerIdentity, other: WorkerIdentity, between: Callable[[], object]) -> int:
    add_worker(transaction, one)
    between()
    return add_worker(transaction, other)


def bench(path: Path, test: Callable[[Bench], Awaitable[None]], busy_ms: int = BUSY_MS) -> Bench:
    """Run the coroutine function `test`; afterwards the writer is closed and everything is on the disk."""
    made: list[Bench] = []

    async def run() -> None:
        made.append(Bench(path, busy_ms))
        try:
            with anyio.fail_after(BOUND_S):
                await test(made[0])
        finally:
            made[0].file_lock.close()
            made[0].writer.close()

    anyio.run(run)
    return made[0]


def test_callers_that_queue_together_share_a_commit(path: Path) -> None:
    count = 2 * BATCH_OPS_MAX

    async def test(b: Bench) -> None:
        await b.watch_statements()
        assert b.file_lock.lock(5_000)
        waiting = [b.worker() for _ in range(count)]
        b.file_lock.unlock()
        keys = await asyncio.gather(*waiting)
        assert b.statements.count("COMMIT") == 2
        assert sorted(keys) == sorted(b.rows())
        assert len(set(keys)) == count

    bench(path, test, busy_ms=5_000)


def test_free_running_callers_share_commits_too(path: Path) -> None:
    async def test(b: Bench) -> None:
        await b.watch_statements()
        keys = await asyncio.gather(*(b.worker() for _ in range(100)))
        assert b.statements.count("COMMIT") < 100 / 2
        assert sorted(keys) == sorted(b.rows())

    bench(path, test, busy_ms=5_000)


def test_what_is_resolved_is_committed(path: Path) -> None:
    """Seen from another connection at the very moment the caller goes on."""

    async def test(b: Bench) -> None:
        for _ in range(20):
            assert await b.worker() in b.rows()

    bench(path, test)


def test_only_the_guilty_operation_fails(path: Path) -> None:
    async def test(b: Bench) -> None:
        names = [identity() for _ in range(9)]
        assert b.file_lock.lock(5_000)
        before = [b.writer.submit(add_worker, each) for each in names[:4]]
        guilty = b.writer.submit(add_two, names[4], names[5], lambda: 1 / 0)
        twice = b.writer.submit(add_worker, names[0])  # the database refuses the second of a name
        after = [b.writer.submit(add_worker, each) for each in names[6:]]
        b.file_lock.unlock()
        with pytest.raises(ZeroDivisionError):
            await guilty
        with pytest.raises(sqlite3.IntegrityError):
            await twice
        keys = await asyncio.gather(*before, *after)
        good = [each.public_id for each in names[:4] + names[6:]]
        assert b.rows() == dict(zip(keys, good, strict=True))
        assert b.announced == [InterruptRequest(name) for name in good]  # each once, in order

    bench(path, test)


def test_a_failed_operation_leaves_the_writer_at_work(path: Path) -> None:
    async def test(b: Bench) -> None:
        for _ in range(3):
            with pytest.raises(ZeroDivisionError):
                await b.writer.submit(add_two, identity(), identity(), lambda: 1 / 0)
            assert await b.worker() in b.rows()
        assert len(b.rows()) == 3

    bench(path, test)


def test_a_caller_cancelled_while_queued_leaves_all_or_nothing(path: Path) -> None:
    async def test(b: Bench) -> None:
        assert b.file_lock.lock(5_000)
        future = b.writer.submit(add_two, identity(), identity(), lambda: None)
        neighbour = b.worker()
        future.cancel()
        b.file_lock.unlock()
        assert await neighbour in b.rows()
        assert len(b.rows()) in (1, 3)

    bench(path, test)


def test_a_caller_cancelled_in_the_middle_of_its_operation_leaves_it_whole(path: Path) -> None:
    async def test(b: Bench) -> None:
        taken, go_on = threading.Event(), threading.Event()

        def between() -> None:
            taken.set()
            assert go_on.wait(BOUND_S)

        one, other = identity(), identity()
        future = b.writer.submit(add_two, one, other, between)
        await asyncio.to_thread(taken.wait, BOUND_S)
        future.cancel()
        neighbour = b.worker()
        go_on.set()
        await neighbour
        assert list(b.rows().values())[:2] == [one.public_id, other.public_id]
        assert b.announced[:2] == [InterruptRequest(one.public_id), InterruptRequest(other.public_id)]

    bench(path, test)


@pytest.mark.parametrize("kind", ["file lock", "write lock"])
def test_a_caller_is_told_that_the_store_is_busy(path: Path, hold: Hold, kind: str) -> None:
    async def test(b: Bench) -> None:
        with hold(path, kind):
            begun = time.monotonic()
            refused = await asyncio.gather(*(b.worker() for _ in range(5)), return_exceptions=True)
            waited_s = time.monotonic() - begun
        assert [type(each) for each in refused] == [StoreBusyError] * 5
        assert BUSY_MS / 1000 <= waited_s < BUSY_MS / 1000 + 2
        assert await b.worker() in b.rows()
        assert len(b.rows()) == 1  # nothing of the refused ones

    bench(path, test)


@pytest.mark.parametrize("kind", ["file lock", "write lock"])
def test_records_of_running_work_wait_out_a_busy_store(path: Path, hold: Hold, kind: str) -> None:
    async def test(b: Bench) -> None:
        with hold(path, kind):
            record = b.writer.submit_in_order(add_worker, identity())
            with pytest.raises(StoreBusyError):
                await b.worker()
            assert not record.done()
        assert await record in b.rows()

    bench(path, test)


def test_records_keep_their_order(path: Path) -> None:
    async def test(b: Bench) -> None:
        assert b.file_lock.lock(5_000)
        records = [b.writer.submit_in_order(add_worker, identity()) for _ in range(50)]
        b.file_lock.unlock()
        assert await asyncio.gather(*records) == list(range(1, 51))

    bench(path, test)


def test_acknowledgements_go_before_records(path: Path) -> None:
    async def test(b: Bench) -> None:
        assert b.file_lock.lock(5_000)
        record = b.writer.submit_in_order(add_worker, identity())
        acknowledged = b.worker()
        b.file_lock.unlock()
        assert await acknowledged < await record

    bench(path, test)


def test_an_operation_that_was_taken_is_awaited_beyond_the_deadline(path: Path) -> None:
    """Whoever gets `store_busy` can be sure that nothing was written."""

    async def test(b: Bench) -> None:
        taken, go_on = threading.Event(), threading.Event()

        def between() -> None:
            taken.set()
            assert go_on.wait(BOUND_S)

        future = b.writer.submit(add_two, identity(), identity(), between)
        await asyncio.to_thread(taken.wait, BOUND_S)
        _, still_waiting = await asyncio.wait([future], timeout=2 * BUSY_MS / 1000)
        assert still_waiting == {future}
        go_on.set()
        assert await future in b.rows()

    bench(path, test)


def test_closing_commits_what_is_queued_and_takes_no_more(path: Path) -> None:
    async def test(b: Bench) -> None:
        assert b.file_lock.lock(5_000)
        waiting = [b.worker() for _ in range(10)]
        closing = threading.Thread(target=b.writer.close)
        closing.start()
        with b.writer._condition:  # pyright: ignore[reportPrivateUsage]
            assert b.writer._condition.wait_for(lambda: b.writer._closing, BOUND_S)  # pyright: ignore[reportPrivateUsage]
        with pytest.raises(ShuttingDownError):
            await b.worker()
        b.file_lock.unlock()
        assert sorted(await asyncio.gather(*waiting)) == sorted(b.rows())
        closing.join(BOUND_S)

    bench(path, test, busy_ms=5_000)


def test_every_commit_waits_for_the_disk(path: Path) -> None:
    async def test(b: Bench) -> None:
        def pragmas(transaction: Transaction) -> list[object]:
            connection = transaction._connection  # pyright: ignore[reportPrivateUsage]
            names = ("journal_mode", "synchronous", "foreign_keys", "wal_autocheckpoint", "mmap_size")
            return [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in names]

        assert await b.writer.submit(pragmas) == ["wal", 2, 1, 0, 0]  # synchronous 2 is FULL

    bench(path, test)


def test_the_write_ahead_log_stays_small(path: Path) -> None:
    """Checkpoints come when they are due: often enough to bound the file, and not with every commit."""
    commits, kib = 120, 128

    async def test(b: Bench) -> None:
        await b.watch_statements()

        def write(transaction: Transaction, number: int) -> None:
            connection = transaction._connection  # pyright: ignore[reportPrivateUsage]
            connection.execute(
                "INSERT OR REPLACE INTO workers VALUES (?, ?, 1, ?, '', '', 1, '', '', 1, 1, NULL)",
                (1 + number % 8, new_id(), "x" * kib * 1024),
            )

        for number in range(commits):
            await b.writer.submit(write, number)
        assert beside(path, "-wal").stat().st_size < 8 * 1024 * 1024
        checkpoints = sum(statement.startswith("PRAGMA wal_checkpoint") for statement in b.statements)
        written = commits * kib * 1024
        assert 1 <= checkpoints <= 2 * written / (4 * 1024 * 1024)

    bench(path, test, busy_ms=5_000)
