"""How commands come to an open database without a server, or to one that nobody has open."""

import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import anyio
import click

from codexdb.cli import screen
from codexdb.config.database import database_path
from codexdb.domain.errors import CodexDBError, StoreRefusedError
from codexdb.store.backup import Progress
from codexdb.store.database import Store, alone, open_store

_T = TypeVar("_T")


def run_with_store(db: str | None, work: Callable[[Store], Awaitable[_T]], *, create: bool = False) -> _T:
    """Open the database, which must be there unless `create`, do `work` with it, and close it. A refusal is the
    command's error.
    """
    path = database_path(db)

    async def run() -> _T:
        if not create and not path.is_file():
            raise StoreRefusedError(f"There is no database at {path}. Name it with --db or CODEXDB_DB.")
        async with open_store(path) as store:
            return await work(store)

    try:
        return anyio.run(run)
    except CodexDBError as error:
        raise click.ClickException(error.message) from error


def run_alone(path: Path, work: Callable[[Path, Progress], _T]) -> _T:
    """Do `work` on a file that nobody else has open, and show how far it is. A refusal is the command's error; so is a
    signal, after which nothing was changed.
    """

    async def run(progress: Progress) -> _T | CodexDBError | None:
        outcome: _T | CodexDBError | None = None  # it stays None where a signal came first
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async with anyio.create_task_group() as group:
                group.start_soon(_give_up, signals, group.cancel_scope)
                try:
                    outcome = await alone(path, work, progress)
                except CodexDBError as error:  # a value, since the group would wrap it
                    outcome = error
                group.cancel_scope.cancel()
        return outcome

    with screen.progress("opening") as progress:
        outcome = anyio.run(run, progress)
    if isinstance(outcome, CodexDBError):
        raise click.ClickException(outcome.message)
    if outcome is None:
        raise click.ClickException(f"given up: {path} was not changed")
    return outcome


async def _give_up(signals: AsyncIterator[signal.Signals], scope: anyio.CancelScope) -> None:
    async for _ in signals:
        scope.cancel()
