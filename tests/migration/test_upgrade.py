"""Older databases: a server brings them up to date, with a backup, and all or nothing of it."""

import json
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from codexdb.store import revision
from codexdb.store.locks import FileLock, beside
from codexdb.testing.server_process import ServerProcess, StartServer
from tests.migration.filling import TABLES, contents
from tests.migration.make_release import RELEASED
from tests.migration.snapshot import migrated, schema
from tests.process import command
from tests.process.command import in_home

OLD = "0001"
LAST = f"{int(revision.HEAD) - 1:04}"  # the newest revision can be taken back to it
KEPT = tuple(table for table in TABLES if table != "workers")  # a server that starts adds itself
Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def old(database: Path) -> Path:
    """The populated database of the first release, where a server of `home` finds it."""
    database.parent.mkdir(mode=0o700)
    shutil.copyfile(RELEASED / f"{OLD}.sqlite3", database)
    return database


@pytest.fixture
def db(home: Path) -> Command:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return command.run(command.argv("db", *arguments), in_home(home), timeout_s=30)

    return run


@pytest.fixture
def lock(old: Path) -> Iterator[FileLock]:
    with closing(FileLock(beside(old, ".schema.lock"))) as held:
        yield held


def stamp(path: Path) -> str:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        return str(connection.execute("SELECT version_num FROM alembic_version").fetchone()[0])


def backups(path: Path) -> list[Path]:
    return sorted(path.parent.glob(f"{path.name}.*.backup"))


def whole(path: Path, number: str, scratch: Path) -> bool:
    """Whether the file has exactly the objects of this revision."""
    made = scratch / f"{number}.sqlite3"
    if not made.exists():
        migrated(made, number)
    return schema(path) == schema(made)


# -- a server ----------------------------------------------------------------------------------------------------------


def test_a_server_brings_an_older_database_up_to_date(server: StartServer, old: Path, tmp_path: Path) -> None:
    before = contents(old, KEPT)
    process = server("--no-worker")
    found = process.call_tool("conversations_list", {"search": "look around"})["structuredContent"]["conversations"]
    assert [each["snippet"] for each in found] == ["Look around"]
    process.close_stdin()
    assert process.wait_exit() == 0
    assert whole(old, revision.HEAD, tmp_path)
    (backup,) = backups(old)
    assert whole(backup, OLD, tmp_path)
    assert contents(backup, KEPT) == before
    assert backup.stat().st_mode & 0o077 == 0
    assert "upgrading the database" in process.stderr


def test_nothing_is_lost_by_an_upgrade_or_taken_with_it(old: Path, db: Command, tmp_path: Path) -> None:
    before = contents(old)
    assert db("upgrade").returncode == 0
    assert whole(old, revision.HEAD, tmp_path)
    assert contents(old) == before
    assert db("downgrade").returncode == 0
    assert whole(old, LAST, tmp_path)
    assert contents(old) == before
    assert db("upgrade").returncode == 0
    assert whole(old, revision.HEAD, tmp_path)
    assert contents(old) == before
    assert [stamp(path) for path in backups(old)] == [OLD, LAST, revision.HEAD]


def test_servers_that_start_together_upgrade_once(server: StartServer, old: Path) -> None:
    started = [server("--no-worker", initialize=False) for _ in range(3)]
    for process in started:
        process.initialize()
    for process in started:
        listed = process.call_tool("conversations_list", {})["structuredContent"]["conversations"]
        assert len(listed) == 6
    assert len(backups(old)) == 1


def test_a_server_that_finds_an_upgrade_under_way_says_so_and_serves_when_it_is_over(
    server: StartServer, lock: FileLock
) -> None:
    assert lock.try_lock()
    process = server("--no-worker")
    refused = process.call_tool("conversations_list", {})
    assert refused["isError"] is True
    assert refused["structuredContent"]["kind"] == "schema_busy"
    assert refused["structuredContent"]["retryable"] is True
    assert "being upgraded by another process" in refused["content"][0]["text"]
    lock.unlock()
    assert len(process.call_tool("conversations_list", {})["structuredContent"]["conversations"]) == 6


def test_a_client_that_goes_while_an_upgrade_is_waited_for_is_not_held(server: StartServer, lock: FileLock) -> None:
    assert lock.try_lock()
    process = server("--no-worker")
    call = process.start_tool("conversations_list", {})
    process.close_stdin()
    assert process.wait_exit() == 0  # the lock is still held
    assert process.wait_response(call)["error"]


def test_an_upgrade_waits_for_who_has_the_file_open_and_names_him(
    server: StartServer, old: Path, db: Command, lock: FileLock
) -> None:
    assert lock.try_lock(shared=True)  # as an older program holds it
    process = server("--no-worker")
    refused = process.call_tool("conversations_list", {})["structuredContent"]
    assert refused["kind"] == "schema_busy"
    assert "another program has it open" in refused["message"]
    by_hand = db("upgrade")
    assert by_hand.returncode == 1
    assert "another program has it open" in by_hand.stderr
    assert stamp(old) == OLD
    lock.unlock()
    assert not process.call_tool("conversations_list", {}).get("isError")
    assert stamp(old) == revision.HEAD


def test_a_server_that_wanted_to_upgrade_serves_beside_the_one_that_was_quicker(
    server: StartServer, old: Path, lock: FileLock
) -> None:
    assert lock.try_lock(shared=True)
    process = server("--no-worker")
    assert process.call_tool("conversations_list", {})["structuredContent"]["kind"] == "schema_busy"
    migrated(old)  # the lock is still held, as by a server that has upgraded the file and works on it
    assert len(process.call_tool("conversations_list", {})["structuredContent"]["conversations"]) == 6


# -- by hand -----------------------------------------------------------------------------------------------------------


def test_current_says_what_is_to_be_done(old: Path, db: Command) -> None:
    behind = db("current", "--json")
    assert behind.returncode == 1
    assert json.loads(behind.stdout) == {"database": str(old), "schema": OLD, "wanted": revision.HEAD}
    assert "db upgrade" in db("current").stdout
    done = db("upgrade", "--json")
    told = json.loads(done.stdout)
    assert (told["from"], told["to"], told["backup"]) == (OLD, revision.HEAD, str(backups(old)[0]))
    assert db("current").stdout == f"{revision.HEAD}: up to date\n"
    assert "nothing was changed" in db("upgrade").stdout


def test_commands_that_only_read_do_not_upgrade(old: Path, db: Command) -> None:
    assert db("sql", "SELECT count(*) FROM turns").returncode == 0
    listed = subprocess.run(
        [sys.executable, "-m", "codexdb", "approvals", "list", "--db", str(old)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert listed.returncode == 1
    assert "older than this codexdb" in listed.stderr
    assert "codexdb db upgrade" in listed.stderr
    assert stamp(old) == OLD


@pytest.mark.parametrize("command", ["upgrade", "downgrade", "current", "check"])
def test_a_database_that_has_lost_its_stamp_is_refused_with_what_to_do(old: Path, db: Command, command: str) -> None:
    with closing(sqlite3.connect(old)) as connection, connection:
        connection.execute("DELETE FROM alembic_version")
    refused = db(command)
    assert refused.returncode == 1
    assert "alembic_version has lost its row" in refused.stderr
    assert "codexdb db restore" in refused.stderr
    assert "newer version" not in refused.stderr
    assert backups(old) == []


@pytest.mark.parametrize("command", ["upgrade", "downgrade", "current"])
def test_a_newer_database_is_refused_with_what_to_do(old: Path, db: Command, command: str) -> None:
    with closing(sqlite3.connect(old)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    refused = db(command)
    assert refused.returncode == 1
    assert "newer version" in refused.stderr
    assert "Upgrade codexdb" in refused.stderr
    assert stamp(old) == "9999"
    assert backups(old) == []


def test_an_upgrade_that_fails_changes_nothing(old: Path, db: Command, tmp_path: Path) -> None:
    """A reference that points nowhere is found at its very end."""
    with closing(sqlite3.connect(old)) as connection, connection:
        connection.execute("INSERT INTO events VALUES (999, 1, NULL, 'x', '{}', 1)")  # foreign keys are off here
    before = contents(old)
    refused = db("upgrade")
    assert refused.returncode == 1
    assert "broken references" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert whole(old, OLD, tmp_path)
    assert contents(old) == before
    assert len(backups(old)) == 1  # made before, and kept


def test_an_upgrade_takes_no_file_that_another_program_writes_to(old: Path, db: Command) -> None:
    with closing(sqlite3.connect(old, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        refused = db("upgrade")
        assert refused.returncode == 1
        assert "Another program holds the database" in refused.stderr
    assert stamp(old) == OLD
    assert db("upgrade").returncode == 0


def test_a_server_process_of_the_same_version_is_in_the_way_of_a_downgrade(server: StartServer, db: Command) -> None:
    process: ServerProcess = server()
    process.call_tool("conversation_create", {})
    refused = db("downgrade")
    assert refused.returncode == 1
    assert f"process {process.pid}" in refused.stderr
    process.close_stdin()
    process.wait_exit()
    assert db("downgrade").returncode == 0
