"""`codexdb demo`: what it shows is real, what it claims is checked, and it leaves the user's own things alone."""

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from codexdb.testing.server_process import ENVIRONMENT_KEPT

TIME_MAX_S = 10  # what the demo may take


def run_demo(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The demo without a key, in an environment that holds nothing it could use but PATH and the like."""
    kept = {name: os.environ[name] for name in ENVIRONMENT_KEPT if name in os.environ}
    return subprocess.run(
        [sys.executable, "-m", "codexdb", "demo", *arguments],
        env=kept | environment,
        capture_output=True,
        text=True,
        timeout=TIME_MAX_S,
        check=False,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo") / "new" / "folder"


@pytest.fixture(scope="module")
def played(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> subprocess.CompletedProcess[str]:
    """One run that the tests of what it leaves behind share."""
    home = tmp_path_factory.mktemp("user")
    result = run_demo("--dir", str(folder), HOME=str(home), CODEX_HOME=str(home), CODEXDB_DB=str(home / "mine"))
    assert list(home.iterdir()) == [], "the user's own configuration and database were touched"
    return result


def rows(folder: Path, query: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(f"file:{folder / 'codexdb.sqlite3'}?mode=ro", uri=True)) as connection:
        return connection.execute(query).fetchall()


def test_it_ends_well_and_says_what_is_scripted(played: subprocess.CompletedProcess[str]) -> None:
    assert (played.returncode, played.stderr) == (0, "")
    assert "THE MODEL IS SCRIPTED" in played.stdout
    assert "kill -9" in played.stdout
    assert "All 11 promises were kept." in played.stdout
    assert "BROKEN" not in played.stdout
    assert "\x1b" not in played.stdout, "colours belong on a terminal"


def test_the_session_lived_in_two_servers_and_the_first_one_never_said_goodbye(
    played: subprocess.CompletedProcess[str], folder: Path
) -> None:
    workers = rows(folder, "SELECT pid FROM workers ORDER BY id")
    assert len(set(workers)) == 2
    assert all(f"pid {pid}" in played.stdout for (pid,) in workers)
    assert rows(folder, "SELECT count(*) FROM sessions") == [(1,)]
    assert rows(folder, "SELECT state, end_reason FROM turns") == [("completed", "answered")] * 2
    (thread,) = rows(folder, "SELECT public_id FROM sessions")[0]
    assert f"thread: {thread}" in played.stdout


def test_the_command_really_ran_and_ran_once(played: subprocess.CompletedProcess[str], folder: Path) -> None:
    assert played.returncode == 0
    assert (folder / "work" / "notes.txt").read_text() == "durable\n"
    assert rows(folder, "SELECT state, exit_code FROM tool_calls") == [("unknown", None), ("succeeded", 0)]


def test_its_folder_is_kept_and_closed_to_others(played: subprocess.CompletedProcess[str], folder: Path) -> None:
    assert str(folder) in played.stdout
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_program_gets_a_summary(tmp_path: Path) -> None:
    result = run_demo("--dir", str(tmp_path), "--json")
    assert result.returncode == 0
    summary = json.loads(result.stdout)
    assert summary["ok"] is True
    assert summary["promise_broken"] is None
    assert len(summary["promises_kept"]) == 11
    assert Path(summary["database"]).is_file()
    assert summary["rows"] == {"sessions": 1, "turns": 2, "transcript": 10, "calls": 2, "events": 15}
    assert summary["elapsed_ms"] < TIME_MAX_S * 1000


def test_a_broken_promise_is_named_and_fails_it(tmp_path: Path) -> None:
    """Without a shell on its way the server cannot run the command, whatever the scripted model says of it."""
    nowhere = tmp_path / "empty"
    nowhere.mkdir()
    told = run_demo("--dir", str(tmp_path / "told"), PATH=str(nowhere))
    assert told.returncode == 1
    assert "A promise was not kept: the command runs in the scratch folder" in told.stdout
    assert "notes.txt is not there" in told.stdout

    summed_up = run_demo("--dir", str(tmp_path / "json"), "--json", PATH=str(nowhere))
    assert summed_up.returncode == 1
    summary = json.loads(summed_up.stdout)
    assert summary["ok"] is False
    assert summary["promise_broken"] == "the command runs in the scratch folder"


def test_a_folder_with_something_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    result = run_demo("--dir", str(tmp_path))
    assert result.returncode == 2
    assert "is not empty" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
