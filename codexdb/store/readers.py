"""Reading connections: aiosqlite, read-only, whole results at once, never a transaction that outlives a call."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

import anyio

from codexdb.domain.limits import READERS_MAX
from codexdb.store.pragmas import BUSY_TIMEOUT_MS, read_only_uri
from codexdb.store.statement import Row, Statement

if TYPE_CHECKING:
    import aiosqlite


class Reads(Protocol):
    """Whoever answers a statement: `Readers`, each as of its own instant, or a `Snapshot`."""

    async def all(self, statement: Statement, parameters: Mapping[str, object]) -> list[Row]: ...


class Snapshot:
    """One instant, lent by `Readers.snapshot`."""

    def __init__(self, connection: "aiosqlite.Connection") -> None:
        self._connection = connection

    async def all(self, statement: Statement, parameters: Mapping[str, object]) -> list[Row]:
        return cast("list[Row]", await self._connection.execute_fetchall(statement.sql, statement.bind(parameters)))

    async def each(self, statement: Statement, parameters: Mapping[str, object]) -> AsyncGenerator[Row]:
        """The rows one by one, a few of them in memory at a time. Read them to the end."""
        async with self._connection.execute(statement.sql, statement.bind(parameters)) as cursor:
            async for row in cursor:
                yield cast("Row", row)


class Readers:
    """A few connections, opened when first needed and lent one call at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._idle: list[aiosqlite.Connection] = []
        self._slots = anyio.Semaphore(READERS_MAX)

    async def all(self, statement: Statement, parameters: Mapping[str, object]) -> list[Row]:
        """Every row, as of one instant. Sees all commits that were acknowledged before the call."""
        async with self._lent() as connection:
            return cast("list[Row]", await connection.execute_fetchall(statement.sql, statement.bind(parameters)))

    @asynccontextmanager
    async def snapshot(self) -> "AsyncGenerator[Snapshot]":
        """Reads that all see the rows as of one instant. Keep it short: while it is open, the WAL cannot be reset."""
        async with self._lent() as connection:
            await connection.execute_fetchall("BEGIN")
            yield Snapshot(connection)
            await connection.execute_fetchall("COMMIT")

    @asynccontextmanager
    async def _lent(self) -> AsyncGenerator["aiosqlite.Connection"]:
        """A connection for one call. One whose call was cancelled is closed: its thread may still be at work."""
        async with self._slots:
            connection = self._idle.pop() if self._idle else await self._open()
            try:
                yield connection
            except BaseException:
                with anyio.CancelScope(shield=True):
                    await connection.close()
                raise
            self._idle.append(connection)

    async def _open(self) -> "aiosqlite.Connection":
        """Not to be cancelled half-way: the connection's thread would be left behind, and keep the process alive."""
        import aiosqlite

        with anyio.CancelScope(shield=True):
            return await aiosqlite.connect(
                read_only_uri(self._path), uri=True, isolation_level=None, timeout=BUSY_TIMEOUT_MS / 1000
            )
        raise AssertionError("a shielded scope does not swallow anything")

    async def close(self) -> None:
        """Close every idle connection. Call it when no read is under way, and before the writer closes."""
        while self._idle:
            await self._idle.pop().close()
