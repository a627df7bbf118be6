"""Writing sessions to a file, or to stdout."""

import contextlib
import os
import sys
from collections.abc import Callable, Generator, Sequence
from pathlib import Path

import click

from codexdb.cli.finding import find_id
from codexdb.cli.moving.exports import header, last_line, line_of
from codexdb.cli.moving.progress import Progress
from codexdb.cli.opening import run_with_store
from codexdb.cli.target import written
from codexdb.store.database import Store
from codexdb.store.export import Exported, chosen, rows_of
from codexdb.store.readers import Snapshot


def export(db: str | None, wanted: Sequence[str] | None, output: Path | None) -> int:
    """Write these sessions, or all; returns the exit code. The file is there whole or not at all."""

    async def run(store: Store) -> None:
        ids = None if wanted is None else [await find_id(store.readers, each) for each in wanted]
        async with store.readers.snapshot() as snapshot:
            sessions = await chosen(snapshot, ids)
            together = None if ids is None else frozenset(ids)
            with _opened(output, store.path) as write:
                write(header())
                with Progress("Exporting", "sessions", len(sessions), shown=output is not None) as progress:
                    for session in sessions:
                        await _write(snapshot, session, together, write)
                        progress.advance()

    try:
        run_with_store(db, run)
    except BrokenPipeError:  # whoever read it has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        raise click.ClickException(f"the export cannot be written: {error}") from error
    return 0


async def _write(
    snapshot: Snapshot, session: Exported, together: frozenset[str] | None, write: Callable[[str], object]
) -> None:
    count = 0
    async with contextlib.aclosing(rows_of(snapshot, session, together)) as rows:
        async for row in rows:
            write(line_of(row))
            count += 1
    write(last_line(session.session_id, count))


@contextlib.contextmanager
def _opened(output: Path | None, database: Path) -> Generator[Callable[[str], object]]:
    """Where lines go."""
    if output is None:
        yield sys.stdout.write
        sys.stdout.flush()
        return
    with written(output, database) as file:
        yield file.write
