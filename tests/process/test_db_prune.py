"""`codexdb db prune`: old sessions go, whole, and nothing else does; then their space is returned."""

import json
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from codexdb.testing.model_script import say
from codexdb.testing.scripted_model import ScriptedModel
from codexdb.testing.server_process import StartServer
from tests.migration.filling import contents
from tests.process.kept import copied, db, fill, fill_large
from tests.process.talking import ask, at_rest, opened, reply, rows

DAY_MS = 86_400_000
SESSIONS = "SELECT id FROM sessions ORDER BY id"
TABLES = ("inputs", "turns", "items", "events", "deltas", "tool_calls", "approvals", "model_requests")


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sessions 1 (ended), 2 (a fork of it), 3 (archived), 4 (waits for an answer)."""
    return fill(tmp_path_factory.mktemp("home"))


@pytest.fixture
def kept(filled: Path, tmp_path: Path) -> Path:
    """The same, with each session a day older than the next one; the last one is ten days old."""
    path = copied(filled, tmp_path / "kept.sqlite3")
    with closing(sqlite3.connect(path)) as connection, connection:
        now_ms = int(time.time() * 1000)  # noqa: TID251 - the command compares with the system's clock
        connection.execute("UPDATE sessions SET updated_at_ms = ? - (14 - id) * ?", (now_ms, DAY_MS))
    return path


@pytest.fixture(scope="module")
def large_(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("large") / "large.sqlite3"
    fill_large(path, 3.0)
    return path


@pytest.fixture
def large(large_: Path, tmp_path: Path) -> Path:
    return copied(large_, tmp_path / "large.sqlite3")


def pruned(path: Path, *arguments: str) -> dict[str, object]:
    result = db(path, "prune", "--json", "--yes", *arguments)
    assert (result.returncode, result.stderr) == (0, "")
    told: dict[str, object] = json.loads(result.stdout)
    return told


def left(path: Path) -> list[object]:
    return [key for (key,) in rows(path, SESSIONS)]


def assert_sound(path: Path) -> None:
    result = db(path, "check")
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize(
    ("arguments", "stay"),
    [
        (("--keep", "0"), [1, 2, 4]),
        (("--keep", "1"), [1, 2, 3, 4]),
        (("--older-than", "1d"), [1, 2, 4]),
        (("--older-than", "2w"), [1, 2, 3, 4]),
        (("--all", "--keep", "0"), [4]),
        (("--all", "--keep", "1"), [3, 4]),
        (("--all", "--older-than", "300h"), [2, 3, 4]),
        (("--all", "--older-than", "300h", "--keep", "0"), [2, 3, 4]),
        (("--all", "--older-than", "1d", "--keep", "2"), [2, 3, 4]),
        (("--all", "--max-size", "1TB"), [1, 2, 3, 4]),
        (("--all", "--max-size", "1KB"), [4]),
    ],
    ids=lambda given: " ".join(map(str, given)),
)
def test_what_goes_is_what_was_said(kept: Path, arguments: tuple[str, ...], stay: list[int]) -> None:
    told = pruned(kept, *arguments)
    assert left(kept) == stay
    assert told["sessions"] == told["deleted"] == 4 - len(stay)
    for table in TABLES:
        assert {key for (key,) in rows(kept, f"SELECT DISTINCT session_id FROM {table}")} <= set(stay)  # noqa: S608
    assert_sound(kept)


def test_nothing_goes_before_somebody_said_yes(kept: Path) -> None:
    before = contents(kept)
    dry = db(kept, "prune", "--all", "--keep", "0", "--dry-run")
    assert dry.returncode == 0
    assert dry.stdout.startswith("To go: 3 sessions, last worked on from ")
    refused = db(kept, "prune", "--all", "--keep", "0", given="n\n")
    assert refused.returncode == 1
    assert refused.stdout == dry.stdout
    assert "Delete them?" in refused.stderr
    assert contents(kept) == before
    done = db(kept, "prune", "--all", "--keep", "0", given="y\n")
    assert done.returncode == 0
    assert "Deleted: 3 sessions.\n" in done.stdout
    assert left(kept) == [4]
    assert db(kept, "prune", "--keep", "0").stdout == "No archived sessions are to go.\n"


@pytest.mark.parametrize(
    "arguments",
    [(), ("--all",), ("--older-than", "30"), ("--max-size", "2"), ("--keep", "-1"), ("--keep", "1", "--json")],
    ids=lambda given: " ".join(map(str, given)),
)
def test_what_was_not_said_clearly_is_refused(kept: Path, arguments: tuple[str, ...]) -> None:
    before = contents(kept)
    assert db(kept, "prune", *arguments).returncode == 2
    assert contents(kept) == before


def test_a_fork_goes_on_without_its_source(server: StartServer, model: ScriptedModel, database: Path) -> None:
    process = server()
    model.add(say("one"), say("two"))
    source = opened(process, "first")
    fork = str(ask(process, "conversation_fork", source)["conversation_id"])
    ask(process, "conversation_archive", source)
    told = pruned(database, "--keep", "0")
    assert told["deleted"] == 1
    assert f"process {process.pid} has it open" in str(told["space_not_returned"])
    assert reply(process, fork, "second")["content"] == "two"
    page = at_rest(process, fork)
    assert page["last_turn"]["state"] == "completed"
    assert_sound(database)


def test_space_is_returned_and_about_as_much_stays_as_was_asked_for(large: Path) -> None:
    before = large.stat().st_size
    told = pruned(large, "--max-size", f"{before // 2000}KB")
    after = large.stat().st_size
    assert told["bytes_after"] == after
    assert 0.35 * before < after < 0.6 * before
    assert abs(before - after - int(str(told["bytes_estimated"]))) < 0.15 * before
    assert_sound(large)


def test_workers_that_nothing_refers_to_are_forgotten(kept: Path) -> None:
    with closing(sqlite3.connect(kept)) as connection, connection:
        connection.execute("UPDATE workers SET stopped_at_ms = 1")
        columns = "pid, pid_started_at, boot_id, pid_namespace, uid, codex_home, version, started_at_ms"
        for stopped in ("1", "NULL", "1"):
            connection.execute(
                f"INSERT INTO workers (public_id, {columns}, heartbeat_at_monotonic_ms, stopped_at_ms) "  # noqa: S608
                f"SELECT max(id) || 'x', {columns}, 1, {stopped} FROM workers"
            )
    found = [key for (key,) in rows(kept, "SELECT id FROM workers ORDER BY id")]
    assert found == [1, 2, 3, 4, 5]
    pruned(kept, "--keep", "0")
    assert [key for (key,) in rows(kept, "SELECT id FROM workers ORDER BY id")] == [1, 2, 4, 5]
    pruned(kept, "--all", "--keep", "0")
    assert [key for (key,) in rows(kept, "SELECT id FROM workers ORDER BY id")] == [2, 4, 5]
    assert_sound(kept)
