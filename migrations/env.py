"""Alembic's environment: `alembic upgrade head`, `current` and `check` from a checkout, through alembic.ini.

The file is the one that codexdb itself would open: `-x db=PATH`, else CODEXDB_DB, else
$CODEX_HOME/codexdb/codexdb.sqlite3.
"""

from pathlib import Path

from alembic import context
from sqlalchemy import Connection, create_engine, event, text
from sqlalchemy.pool import NullPool

from codexdb.config.database import database_path
from codexdb.store.pragmas import open_for_writing
from codexdb.store.revision import create_directory, create_file
from codexdb.store.tables import metadata
from codexdb.store.text_index import SHADOWS


def _path() -> Path:
    given = context.config.attributes.get("database")  # by a program that runs the migrations itself
    chosen = given or context.get_x_argument(as_dictionary=True).get("db")
    return Path(chosen) if chosen else database_path()


def _begin_immediate(connection: Connection) -> None:
    """Take the write lock before anything is read; pysqlite would begin only at the first write."""
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _compared(_object: object, name: str | None, kind: str, *_details: object) -> bool:
    """The tables behind the text index are SQLite's own."""
    return not (kind == "table" and name in {"search", *SHADOWS})


def run() -> None:
    """Apply the migrations in one transaction, with foreign keys off, and check those at its end."""
    path = _path()
    create_directory(path)
    create_file(path)
    engine = create_engine("sqlite://", creator=lambda: open_for_writing(path), poolclass=NullPool)
    event.listen(engine, "begin", _begin_immediate)
    with engine.connect() as connection:
        raw = connection.connection.dbapi_connection
        if raw is None:
            raise RuntimeError("no connection")
        raw.execute("PRAGMA foreign_keys=OFF")  # a pragma inside a transaction would have no effect
        context.configure(
            connection=connection,
            target_metadata=metadata,
            include_object=_compared,
            transactional_ddl=True,  # all revisions and their stamp are one transaction: SQLite can, alembic doubts it
        )
        with context.begin_transaction():
            context.run_migrations()
            broken = connection.execute(text("PRAGMA foreign_key_check")).fetchall()
            if broken:
                raise RuntimeError(f"the migrated database has {len(broken)} broken references; nothing was changed")
    engine.dispose()


if context.is_offline_mode():
    raise SystemExit("codexdb migrates databases, not scripts: run alembic without --sql")
run()
