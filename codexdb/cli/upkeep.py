"""`codexdb db backup`, `restore` and `vacuum`: the whole file."""

from datetime import UTC, datetime
from pathlib import Path

import click

from codexdb.cli import screen
from codexdb.cli.opening import run_alone
from codexdb.config.database import database_path
from codexdb.domain.errors import CodexDBError
from codexdb.domain.json import JsonObject, encode
from codexdb.store.backup import back_up
from codexdb.store.restore import Backup, examine
from codexdb.store.restore import restore as put_back
from codexdb.store.vacuum import vacuum as make_small


def backup(db: str | None, target: Path, *, as_json: bool) -> int:
    """Copy the database; returns the exit code."""
    path = database_path(db)
    try:
        with screen.progress("backup") as progress:
            back_up(path, progress, target)
    except CodexDBError as error:
        raise click.ClickException(error.message) from error
    size = target.stat().st_size
    told: JsonObject = {"database": str(path), "backup": str(target), "bytes": size}
    screen.write(f"{encode(told)}\n" if as_json else f"{target}: {megabytes(size)}, as of now\n")
    return 0


def restore(db: str | None, source: Path, *, yes: bool, as_json: bool) -> int:
    """Put a backup in the place of the database; returns the exit code."""
    path = database_path(db)
    try:
        found = examine(source)
    except CodexDBError as error:
        raise click.ClickException(error.message) from error
    if not yes:
        screen.write(f"{source}: schema {found.schema}, {_contents(found)}\n", err=True)
        screen.agree(f"Put it in the place of {path}, whose contents are kept beside it?", "--yes")
    restored = run_alone(path, lambda path, progress: put_back(path, source, progress))
    told: JsonObject = {
        "database": str(path),
        "from": str(source),
        "schema": found.schema,
        "sessions": found.sessions,
        "ended_turns": restored.ended,
        "kept": None if restored.kept is None else str(restored.kept),
    }
    lines = [f"{path} is now what {source} was: schema {found.schema}, {_contents(found)}"]
    if restored.ended:
        lines.append(
            f"Turns that were open in it: {restored.ended}. They were ended as interrupted, since they may have gone "
            "on after the backup was made."
        )
    if restored.kept is not None:
        lines.append(f"The file as it was before: {restored.kept}")
    screen.write(f"{encode(told)}\n" if as_json else "".join(f"{line}\n" for line in lines))
    return 0


def vacuum(db: str | None, *, as_json: bool) -> int:
    """Return the space of deleted rows; returns the exit code."""
    path = database_path(db)
    if not path.is_file():
        raise click.ClickException(f"There is no database at {path}. Name it with --db or CODEXDB_DB.")
    sizes = run_alone(path, make_small)
    told: JsonObject = {"database": str(path), "bytes_before": sizes.before, "bytes_after": sizes.after}
    text = f"{path}: {megabytes(sizes.before)} before, {megabytes(sizes.after)} now\n"
    screen.write(f"{encode(told)}\n" if as_json else text)
    return 0


def megabytes(size: int) -> str:
    """An amount of bytes for people."""
    return f"{size / 1e6:,.1f} MB"


def minute(at_ms: int) -> str:
    """A time for people, UTC."""
    return f"{datetime.fromtimestamp(at_ms / 1000, UTC):%Y-%m-%d %H:%M} UTC"


def _contents(found: Backup) -> str:
    last = "" if found.updated_at_ms is None else f", the last one of {minute(found.updated_at_ms)}"
    return f"{found.sessions:,} sessions{last}"
