"""How commands come to an open database without a server."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio
import click

from codexdb.config.database import database_path
from codexdb.domain.errors import CodexDBError, StoreRefusedError
from codexdb.store.database import Store, open_store

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
