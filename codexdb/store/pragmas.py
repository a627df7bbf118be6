"""How connections are opened. Every connection of the program comes from here."""

import sqlite3
from pathlib import Path
from urllib.parse import quote

from codexdb.domain.errors import StoreRefusedError

BUSY_TIMEOUT_MS = 100  # inside SQLite; our own deadlines lie above it
CACHE_KIB = 8 * 1024  # a few sessions' working set
WAL_KEPT_BYTES = 64 * 1024 * 1024  # a checkpoint cuts the WAL file back to this
SQLITE_MIN = (3, 37, 0)  # STRICT tables


def open_for_writing(path: Path) -> sqlite3.Connection:
    """The writing connection: WAL, every commit on the disk before it returns, foreign keys, transactions by hand.

    Checkpoints are made by the writer under its file lock (`wal_autocheckpoint=0`).
    """
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=BUSY_TIMEOUT_MS / 1000)
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        "wal_autocheckpoint=0",
        "temp_store=MEMORY",
        f"cache_size=-{CACHE_KIB}",
        f"journal_size_limit={WAL_KEPT_BYTES}",
    ):
        connection.execute(f"PRAGMA {pragma}").fetchall()
    return connection


def read_only_uri(path: Path) -> str:
    """The URI under which readers open the file."""
    return f"file:{quote(str(path))}?mode=ro"


def refuse_if_sealed(path: Path, error: sqlite3.Error) -> None:
    """Where a reader failed since the folder cannot be written to, say so: SQLite alone calls the file read-only.

    Raises:
        StoreRefusedError: that was it.
    """
    if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_READONLY:
        raise StoreRefusedError(
            f"The database {path} cannot be read: SQLite needs files beside it, and nothing may be written to "
            f"{path.parent}. Read a copy of it."
        ) from error
