"""`kill -9` while a database is restored, vacuumed or pruned: it is the old or the new one, and a repeat goes on."""

import random
import shutil
import sqlite3
import subprocess
import time
from contextlib import closing
from pathlib import Path

import pytest

from tests.crash.invariants import query
from tests.migration.filling import contents
from tests.process.command import on_file
from tests.process.kept import argv, db, fill_large
from tests.process.talking import until

KILLS = 10
MEGABYTES = 6.0
TIMEOUT_S = 60.0
SESSIONS = "SELECT count(*) FROM sessions"


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("large") / "large.sqlite3"
    fill_large(path, MEGABYTES)
    return path


def renewed(large: Path, tmp_path: Path) -> Path:
    """The database in a folder of its own, as if nothing had happened."""
    shutil.rmtree(tmp_path / "work", ignore_errors=True)
    path = tmp_path / "work" / "codexdb.sqlite3"
    path.parent.mkdir()
    shutil.copyfile(large, path)
    return path


def wait_for_sign(path: Path, work: subprocess.Popen[bytes]) -> None:
    """Until the command has made a file of its own, or has ended."""
    until(lambda: work.poll() is not None or len(list(path.parent.iterdir())) >= 2, "a file", TIMEOUT_S)


def killed(path: Path, after_s: float, *arguments: str) -> bool:
    """Run a command and kill it so long after its first sign in the folder; whether it was still at work."""
    with subprocess.Popen(argv(*arguments), env=on_file(path), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as work:
        wait_for_sign(path, work)
        time.sleep(after_s)  # the instant of the kill is the input
        work.kill()
        return work.wait() != 0


def took_s(path: Path, *arguments: str) -> float:
    """How long it takes undisturbed, from its first sign."""
    with subprocess.Popen(argv(*arguments), env=on_file(path), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as work:
        wait_for_sign(path, work)
        began = time.monotonic()
        assert work.wait(TIMEOUT_S) == 0
        return time.monotonic() - began


def instants(whole_s: float) -> list[float]:
    rng = random.Random(1)  # noqa: S311 - repeatable, not secret
    return [rng.uniform(0, whole_s) for _ in range(KILLS)]


def assert_sound(path: Path) -> None:
    result = db(path, "check")
    assert result.returncode == 0, result.stdout


@pytest.mark.slow
def test_a_restore_that_is_killed_leaves_the_old_database_or_the_new_one(large: Path, tmp_path: Path) -> None:
    backup = tmp_path / "backup.sqlite3"
    shutil.copyfile(large, backup)
    with closing(sqlite3.connect(backup)) as connection, connection:
        connection.execute("UPDATE sessions SET title = 'of the backup'")
    old, new = contents(large), contents(backup)
    work = ("restore", "--yes", str(backup))
    seen: list[bool] = []
    for after_s in instants(took_s(renewed(large, tmp_path), *work)):
        path = renewed(large, tmp_path)
        killed(path, after_s, *work)
        found = contents(path)
        assert found in (old, new)
        seen.append(found == new)
        assert_sound(path)
        assert db(path, *work).returncode == 0
        assert contents(path) == new
        assert not list(path.parent.glob("*.part*"))
    assert not all(seen), "no kill came before the end"


@pytest.mark.slow
def test_a_vacuum_that_is_killed_changes_no_row(large: Path, tmp_path: Path) -> None:
    thin = tmp_path / "thin.sqlite3"
    shutil.copyfile(large, thin)
    with closing(sqlite3.connect(thin)) as connection, connection:
        connection.execute("PRAGMA foreign_keys=ON")
        connection.execute("DELETE FROM sessions WHERE id % 2 = 0")
    rows = contents(thin)
    hit = 0
    for after_s in instants(took_s(renewed(thin, tmp_path), "vacuum")):
        path = renewed(thin, tmp_path)
        hit += killed(path, after_s, "vacuum")
        assert contents(path) == rows
        assert_sound(path)
        assert db(path, "vacuum").returncode == 0
        assert contents(path) == rows
        assert path.stat().st_size < thin.stat().st_size
        assert not list(path.parent.glob("*.part*"))
    assert hit, "no kill came before the end"


@pytest.mark.slow
def test_a_prune_that_is_killed_leaves_each_session_whole_or_gone(large: Path, tmp_path: Path) -> None:
    work = ("prune", "--keep", "2", "--yes")
    ((before,),) = query(large, SESSIONS)
    left: list[int] = []
    for after_s in instants(took_s(renewed(large, tmp_path), *work)):
        path = renewed(large, tmp_path)
        killed(path, after_s, *work)
        left.append(query(path, SESSIONS)[0][0])
        assert_sound(path)
        assert db(path, *work).returncode == 0
        assert query(path, SESSIONS) == [(2,)]
        assert_sound(path)
    assert all(2 <= number <= before for number in left)
    assert any(2 < number < before for number in left), f"no kill came while sessions were deleted: {left}"
