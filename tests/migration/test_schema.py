"""The three descriptions of the schema are one: migrations, the snapshot for new files, the tables in code."""

import os
import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy
from alembic.config import Config
from alembic.script import ScriptDirectory

from codexdb.store import revision
from codexdb.store.tables import metadata
from codexdb.store.text_index import SHADOWS, create_text_index
from codexdb.store.triggers import create_triggers
from codexdb.store.views import create_views
from tests.migration.freeze import hashes, recorded
from tests.migration.snapshot import ROOT, migrated, schema, snapshot_text

STAMP = ("table", "alembic_version")


@pytest.fixture
def from_migrations(tmp_path: Path) -> Path:
    path = tmp_path / "migrated.sqlite3"
    migrated(path)
    return path


def words(ddl: dict[tuple[str, str], str]) -> dict[tuple[str, str], str]:
    """Without what only concerns the eye: blanks, quotes around names."""
    return {key: re.sub(r"\s+", "", sql).replace('"', "") for key, sql in ddl.items()}


def test_a_new_file_gets_exactly_what_the_migrations_make(tmp_path: Path, from_migrations: Path) -> None:
    fresh = tmp_path / "fresh.sqlite3"
    revision.prepare(fresh)
    assert schema(fresh) == schema(from_migrations)
    assert stamp(fresh) == stamp(from_migrations) == revision.HEAD


def test_the_snapshot_is_up_to_date() -> None:
    assert revision.SNAPSHOT.read_text() == snapshot_text(), "run: python -m tests.migration.snapshot"


def test_the_tables_in_code_are_those_of_the_migrations(from_migrations: Path) -> None:
    """Object by object, with CHECKs, STRICT, partial indexes and triggers, which alembic does not compare."""
    engine = sqlalchemy.create_engine("sqlite://")
    with engine.begin() as connection:
        metadata.create_all(connection)
        for statement in (*create_triggers(), *create_views(), *create_text_index()):
            connection.exec_driver_sql(statement)
        rows = connection.exec_driver_sql("SELECT type, name, sql FROM sqlite_schema WHERE sql IS NOT NULL").fetchall()
    engine.dispose()
    in_code = words({(kind, name): sql for kind, name, sql in rows if name not in SHADOWS})
    made = words({key: sql for key, sql in schema(from_migrations).items() if key != STAMP})
    assert set(in_code) == set(made)
    assert {key for key in made if in_code[key] != made[key]} == set()


def stamp(path: Path) -> str:
    with closing(sqlite3.connect(path)) as connection:
        return str(connection.execute("SELECT version_num FROM alembic_version").fetchone()[0])


# -- revisions ---------------------------------------------------------------------------------------------------------


def scripts() -> ScriptDirectory:
    return ScriptDirectory.from_config(Config(ROOT / "alembic.ini"))


def test_the_revision_that_the_program_expects_is_the_newest() -> None:
    assert scripts().get_heads() == [revision.HEAD]


def test_revisions_are_numbered_in_one_line() -> None:
    found = list(reversed(list(scripts().walk_revisions())))
    assert [each.revision for each in found] == [f"{number:04}" for number in range(1, len(found) + 1)]
    assert [each.down_revision for each in found] == [None, *(each.revision for each in found[:-1])]
    assert all(Path(each.path).name.startswith(f"{each.revision}_") for each in found)


def test_landed_migrations_do_not_change() -> None:
    assert hashes() == recorded(), "a new one is recorded by: python -m tests.migration.freeze"


# -- the command line of alembic ---------------------------------------------------------------------------------------


def alembic(*arguments: str, **environment: str) -> str:
    """Run `python -m alembic …` in the checkout; what it printed."""
    result = subprocess.run(
        [sys.executable, "-m", "alembic", *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout + result.stderr


@pytest.mark.parametrize("way", ["CODEXDB_DB", "-x db", "CODEX_HOME"])
def test_alembic_works_from_the_checkout(tmp_path: Path, way: str) -> None:
    path = tmp_path / "codexdb" / "codexdb.sqlite3"
    given = ["-x", f"db={path}"] if way == "-x db" else []
    environment = {"CODEXDB_DB": {"CODEXDB_DB": str(path)}, "CODEX_HOME": {"CODEX_HOME": str(tmp_path)}}.get(way, {})
    alembic(*given, "upgrade", "head", **environment)
    assert stamp(path) == revision.HEAD
    assert f"{revision.HEAD} (head)" in alembic(*given, "current", **environment)
    assert "No new upgrade operations" in alembic(*given, "check", **environment)
    revision.prepare(path)  # the program takes what alembic made


def test_a_file_that_alembic_makes_is_closed_to_others(tmp_path: Path) -> None:
    path = tmp_path / "codexdb.sqlite3"
    migrated(path)
    assert path.stat().st_mode & 0o077 == 0


def test_a_file_that_the_program_made_is_current_to_alembic(tmp_path: Path) -> None:
    path = tmp_path / "codexdb.sqlite3"
    revision.prepare(path)
    assert f"{revision.HEAD} (head)" in alembic("current", CODEXDB_DB=str(path))
