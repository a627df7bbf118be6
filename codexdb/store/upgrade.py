"""Bringing a database to another schema: a backup first, then all revisions in one transaction, with alembic.

Whoever calls this holds the schema lock exclusively: no other process of ours has the file open.
"""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from codexdb.domain.errors import SchemaBusyError, StoreFailedError
from codexdb.store.backup import Progress, back_up
from codexdb.store.pragmas import open_for_writing

if TYPE_CHECKING:
    from alembic.config import Config


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
