"""Write codexdb/store/schema.sql from the migrations: `python -m tests.migration.snapshot`.

The snapshot is what a new file gets, so that starting does not need alembic.
"""

import sqlite3
import tempfile
from pathlib import Path

import alembic.command
from alembic.config import Config

from codexdb.store.text_index import SHADOWS

ROOT = Path(__file__).resolve().parents[2]


def migrated(path: Path, revision: str = "head") -> None:
    """Run the migrations on `path` through alembic.ini."""
    config = Config(ROOT / "alembic.ini", cmd_opts=None)
    config.cmd_opts = None
    config.attributes["database"] = path
    alembic.command.upgrade(config, revision)


def schema(path: Path) -> dict[tuple[str, str], str]:
    """Every object of a database that was made by a statement of its own: (type, name) → its DDL."""
    connection = sqlite3.connect(path)
    try:
        rows = connection.execute(
            "SELECT type, name, sql FROM sqlite_schema "
            "WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%' ORDER BY rowid"
        ).fetchall()
    finally:
        connection.close()
    return {(kind, name): sql for kind, name, sql in rows if name not in SHADOWS}


def snapshot_text() -> str:
    """What schema.sql has to hold."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "migrated.sqlite3"
        migrated(path)
        statements = schema(path).values()
    head = "-- The schema of a new database, made by `python -m tests.migration.snapshot`; do not edit.\n"
    return head + "".join(f"{statement};\n" for statement in statements)


if __name__ == "__main__":
    (ROOT / "codexdb" / "store" / "schema.sql").write_text(snapshot_text())
