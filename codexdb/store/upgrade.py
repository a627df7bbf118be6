"""Bringing a database to another schema: a backup first, then all revisions in one transaction, with alembic.

Whoever calls this holds the schema lock exclusively: no other process of ours has the file open.
"""

import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from codexdb.domain.clock import SystemClock
from codexdb.domain.errors import SchemaBusyError, StoreFailedError, StoreRefusedError
from codexdb.domain.limits import BACKUP_PAGES_AT_ONCE
from codexdb.store import revision
from codexdb.store.locks import beside
from codexdb.store.pragmas import open_for_writing, read_only_uri

if TYPE_CHECKING:
    from alembic.config import Config

Progress = Callable[[str, int, int], None]
"""Told what is being done, and how far: pages or rows done, and of how many. What it raises ends the work."""


def upgrade(path: Path, progress: Progress) -> Path:
    """Bring the file to `revision.HEAD`; returns the backup that was made of it. Blocks.

    Holds after: all of the upgrade is in the file, or, where this raised or the process died, nothing of it.

    Raises:
        StoreRefusedError: it cannot be used, or there is no room for the backup.
        StoreFailedError: a revision failed; the file is as it was.
        SchemaBusyError: another program holds the file.
    """
    backup = back_up(path, progress)
    from alembic.command import upgrade as run

    _migrate(path, lambda config: run(config, "head"), progress)
    return backup


def downgrade(path: Path, progress: Progress) -> Path:
    """Take the newest revision back, with all that it added; otherwise like `upgrade`."""
    backup = back_up(path, progress)
    from alembic.command import downgrade as run

    _migrate(path, lambda config: run(config, "-1"), progress)
    return backup


def back_up(path: Path, progress: Progress, target: Path | None = None) -> Path:
    """Copy the database as of one instant, whoever reads or writes it meanwhile; returns the copy. Blocks.

    `target`: a file that must not exist; else one beside the database, named after its schema and the time.

    Raises:
        StoreRefusedError: the target exists or cannot be written, or there is no room for it.
    """
    found = revision.look(path)
    target = target or beside(path, f".{found}.{_stamp()}.backup")
    if target.exists():
        raise StoreRefusedError(f"{target} exists already. Name another file.")
    size = path.stat().st_size + _size(beside(path, "-wal"))
    if shutil.disk_usage(target.parent).free < 2 * size:
        raise StoreRefusedError(
            f"There is no room in {target.parent} for a backup of {path} ({size / 1e6:.0f} MB) and for the work itself."
        )
    part = target.with_name(target.name + ".part")
    try:
        part.unlink(missing_ok=True)
        revision.create_file(part)
        _copy(path, part, progress)
        _to_disk(part)
        part.rename(target)
        _to_disk(target.parent)
    except (OSError, sqlite3.Error) as error:
        raise StoreRefusedError(f"The backup {target} cannot be written: {error}.") from error
    finally:
        part.unlink(missing_ok=True)
    return target


def _copy(path: Path, target: Path, progress: Progress) -> None:
    def told(_status: int, left: int, total: int) -> None:
        progress("backup", total - left, total)

    with (
        closing(sqlite3.connect(read_only_uri(path), uri=True)) as source,
        closing(sqlite3.connect(target)) as copy,
    ):
        source.backup(copy, pages=BACKUP_PAGES_AT_ONCE, progress=told)


def _migrate(path: Path, run: "Callable[[Config], None]", progress: Progress) -> None:
    from alembic.config import Config

    def told(done: int, total: int) -> None:
        progress("upgrade", done, total)

    config = Config()
    config.set_main_option("script_location", str(_scripts()).replace("%", "%%"))
    config.attributes["database"] = path
    config.attributes["progress"] = told
    try:
        run(config)
        with closing(open_for_writing(path)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    except Exception as error:
        if "locked" in str(error):
            raise SchemaBusyError(f"Another program holds the database {path}: close it, then try again.") from error
        if isinstance(error, (sqlite3.Error, RuntimeError)) or "sqlalchemy" in type(error).__module__:
            raise StoreFailedError(f"The database {path} was not changed: {error}") from error
        raise


def _scripts() -> Path:
    """The migrations: in a wheel inside the package, in a checkout beside it."""
    package = Path(__file__).parents[1]
    inside = package / "migrations"
    return inside if inside.is_dir() else package.parent / "migrations"


def _stamp() -> str:
    return datetime.fromtimestamp(SystemClock().now_ms() / 1000, UTC).strftime("%Y%m%dT%H%M%S.%fZ")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _to_disk(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
