"""`codexdb db current`, `upgrade` and `downgrade`: from schema to schema."""

from collections.abc import Callable
from pathlib import Path

import click

from codexdb.cli import screen
from codexdb.cli.opening import run_alone
from codexdb.config.database import database_path
from codexdb.domain.errors import CodexDBError
from codexdb.domain.json import JsonObject, encode
from codexdb.store import revision
from codexdb.store.backup import Progress
from codexdb.store.upgrade import downgrade as take_back
from codexdb.store.upgrade import upgrade as bring_up


def current(db: str | None, *, as_json: bool) -> int:
    """Print the file's schema; returns the exit code."""
    path = database_path(db)
    found = _look(path)
    told: JsonObject = {"database": str(path), "schema": found, "wanted": revision.HEAD}
    if found == revision.HEAD:
        advice = "up to date"
    elif found is None:
        advice = "the file is empty; the first server makes its tables"
    else:
        advice = f"this codexdb wants {revision.HEAD}: `{screen.program()} db upgrade`, or the next server, upgrades it"
    screen.write(f"{encode(told)}\n" if as_json else f"{found or 'none'}: {advice}\n")
    return 0 if found == revision.HEAD else 1


def upgrade(db: str | None, *, as_json: bool) -> int:
    """Bring the file to this program's schema; returns the exit code."""
    path = database_path(db)
    found = _look(path)
    if found == revision.HEAD:
        told: JsonObject = {"database": str(path), "from": found, "to": found, "backup": None}
        screen.write(f"{encode(told)}\n" if as_json else f"{path} has schema {found} already; nothing was changed\n")
        return 0
    if found is None:
        raise click.ClickException(f"{path} is empty: the first server makes its tables")
    return _change(path, found, bring_up, as_json=as_json)


def downgrade(db: str | None, *, as_json: bool) -> int:
    """Take the newest revision back; returns the exit code."""
    path = database_path(db)
    found = _look(path)
    if found != revision.HEAD:
        raise click.ClickException(f"{path} has schema {found}: only {revision.HEAD} can be taken back here")
    return _change(path, found, take_back, as_json=as_json)


def _look(path: Path) -> str | None:
    try:
        return revision.look(path)
    except CodexDBError as error:
        raise click.ClickException(error.message) from error


def _change(path: Path, found: str, work: Callable[[Path, Progress], Path], *, as_json: bool) -> int:
    backup = run_alone(path, work)
    now = _look(path)
    told: JsonObject = {"database": str(path), "from": found, "to": now, "backup": str(backup)}
    text = f"{path}: schema {found} → {now}. The file as it was before: {backup}\n"
    screen.write(f"{encode(told)}\n" if as_json else text)
    return 0
