"""Which schema a file has, checked at every start with the standard library alone; alembic is for upgrades (`upgrade`).

A new file gets the packaged DDL snapshot and the head's stamp in one transaction. CI proves that the snapshot equals
the migrations (`tests/migration`).
"""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from codexdb.domain.errors import StoreBusyError, StoreRefusedError
from codexdb.store.filesystem import refuse_network
from codexdb.store.pragmas import SQLITE_MIN, open_for_writing, read_only_uri, refuse_if_sealed

HEAD = "0003"
SNAPSHOT = Path(__file__).with_name("schema.sql")
FOREIGN = "foreign"  # no revision: tables, and no stamp of ours
UNSTAMPED = "unstamped"  # no revision: the stamp's table has lost its row
_DIRECTORY_MODE = 0o700
_FILE_MODE = 0o600


def create_directory(path: Path) -> None:
    """The folder of the database, closed to others where we make it.

    Raises:
        StoreRefusedError: it cannot be made.
    """
    if path.exists() and not path.is_file():
        raise StoreRefusedError(f"{path} is not a file. Name the database's file with --db or CODEXDB_DB.")
    try:
        path.parent.mkdir(mode=_DIRECTORY_MODE, parents=True, exist_ok=True)
    except OSError as error:
        raise StoreRefusedError(f"The folder {path.parent} cannot be made: {error}.") from error


def prepare(path: Path) -> str:
    """Make sure that `path` is a database of ours, and return its schema: `HEAD`, or an older one, which has to be
    upgraded before it is used.

    Raises:
        StoreRefusedError: the file cannot be used; the message says what to do.
    """
    if sqlite3.sqlite_version_info < SQLITE_MIN:
        needed = ".".join(map(str, SQLITE_MIN))
        raise StoreRefusedError(
            f"codexdb needs SQLite {needed} or newer; this Python has {sqlite3.sqlite_version}. "
            "Use a newer build of Python."
        )
    refuse_network(path)
    try:
        create_file(path)
        _refuse_second_name(path)
        with closing(sqlite3.connect(path)) as connection:  # changes nothing: a file that is refused stays as it was
            found = _revision(connection)
        if found is None:
            with closing(open_for_writing(path)) as connection:
                _create(connection)
                found = _revision(connection)
    except (OSError, sqlite3.Error) as error:
        raise StoreRefusedError(f"The database {path} cannot be used: {error}.") from error
    refuse_other(path, found)
    return found or HEAD


def look(path: Path) -> str | None:
    """The schema of a file that this program can use or upgrade; None where it is empty. Changes nothing. Blocks.

    Raises:
        StoreRefusedError: it cannot be used, with the sentence that `prepare` has for it.
        StoreBusyError: somebody else has it locked.
    """
    found = stamp(path)
    refuse_network(path)
    _refuse_second_name(path)
    refuse_other(path, found)
    return found


def stamp(path: Path, uri: str | None = None) -> str | None:
    """The stamp of a file, be it of ours or not, known or not; None where it is empty. Raises as `look` does."""
    if not path.is_file():
        raise StoreRefusedError(f"{path} is not a file. Name the database's file with --db or CODEXDB_DB.")
    try:
        with closing(sqlite3.connect(uri or read_only_uri(path), uri=True)) as connection:
            return _revision(connection)
    except sqlite3.OperationalError as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY:
            raise StoreBusyError(f"The database {path} is locked by another program.") from error
        refuse_if_sealed(path, error)
        raise StoreRefusedError(f"The database {path} cannot be used: {error}.") from error
    except (OSError, sqlite3.Error) as error:
        raise StoreRefusedError(f"The database {path} cannot be used: {error}.") from error


def too_old(path: Path, found: str) -> StoreRefusedError:
    """The refusal of a file that has to be upgraded first."""
    return StoreRefusedError(
        f"The database {path} has schema {found}, older than this codexdb ({HEAD}). "
        "`codexdb db upgrade` brings it up to date, with a backup first; so does the next server."
    )


def refuse_other(path: Path, found: str | None) -> None:
    """Refuse a schema that is neither ours nor an older one of ours."""
    if found == FOREIGN:
        raise StoreRefusedError(
            f"The file {path} is the database of some other program. Name another file with --db or CODEXDB_DB."
        )
    if found == UNSTAMPED:
        raise StoreRefusedError(
            f"The database {path} does not say which schema it has: alembic_version has lost its row. Restore a backup "
            "(`codexdb db restore`), or put the row back if you know the revision."
        )
    if found is not None and not (found.isdecimal() and found <= HEAD):
        raise StoreRefusedError(
            f"The database {path} has schema {found}, and this codexdb ({HEAD}) does not know it: a newer version "
            "wrote it. Upgrade codexdb, or name another file with --db or CODEXDB_DB."
        )


def _refuse_second_name(path: Path) -> None:
    if path.stat().st_nlink > 1:
        raise StoreRefusedError(
            f"The database {path} has a second name (a hard link), and SQLite would keep two write-ahead logs for one "
            "file. Remove one of the names, or copy the database with VACUUM INTO."
        )


def create_file(path: Path) -> None:
    """An empty file that only its owner can read; SQLite gives its side files the same mode."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _FILE_MODE))
    except FileExistsError:
        return


def _revision(connection: sqlite3.Connection) -> str | None:
    """The stamped revision; None for a file with nothing in it."""
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    if "alembic_version" in tables:
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        return str(row[0]) if row else UNSTAMPED
    return FOREIGN if tables else None


def _create(connection: sqlite3.Connection) -> None:
    """Create everything, unless another process was quicker: the look and the creation are one transaction."""
    connection.execute("PRAGMA busy_timeout=5000").fetchall()
    connection.execute("BEGIN IMMEDIATE")
    try:
        if _revision(connection) is None:
            for statement in snapshot_statements():
                connection.execute(statement)
            connection.execute("INSERT INTO alembic_version (version_num) VALUES (?)", (HEAD,))
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def snapshot_statements() -> list[str]:
    """The snapshot's statements, one by one: `executescript` would commit between them."""
    statements: list[str] = []
    pending = ""
    for line in SNAPSHOT.read_text().splitlines(keepends=True):
        pending += line
        if sqlite3.complete_statement(pending):
            statements.append(pending.strip().removesuffix(";"))
            pending = ""
    return statements
