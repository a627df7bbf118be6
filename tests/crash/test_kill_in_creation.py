"""`kill -9` while the database is being made: the next start makes it, or finds it whole."""

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from codexdb.store import revision
from codexdb.testing.scripted_model import ScriptedModel
from codexdb.testing.server_process import ServerProcess, write_config
from tests.crash.invariants import broken, query
from tests.crash.raw_client import RawClient

KILLS = 20
CREATED_S_MAX = 10  # from the spawn to the file


def objects(path: Path) -> list[tuple[object, ...]]:
    return query(path, "SELECT type, name, sql FROM sqlite_schema ORDER BY type, name")


def test_a_kill_between_any_two_calls_into_sqlite_leaves_a_file_that_can_be_used(tmp_path: Path) -> None:
    whole = tmp_path / "whole.sqlite3"
    revision.prepare(whole)
    program = [sys.executable, str(Path(__file__).with_name("creating.py")), str(tmp_path)]
    killed = int(subprocess.run(program, stdout=subprocess.PIPE, check=True).stdout)
    assert killed > 20  # the statements of the schema are among them
    for number in range(1, killed + 1):
        path = tmp_path / str(number) / "codexdb.sqlite3"
        revision.prepare(path)
        assert objects(path) == objects(whole)
        assert query(path, "SELECT version_num FROM alembic_version") == [(revision.HEAD,)]
        assert broken(path) == {}


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_server_killed_at_its_first_start_is_followed_by_one_that_serves(
    tmp_path: Path, model: ScriptedModel
) -> None:
    """Killed at moments spread over the milliseconds after the file appeared."""

    def kill_and_start(number: int) -> None:
        home = tmp_path / str(number)
        home.mkdir()
        write_config(home, model.base_url, "chat")
        database = home / "codexdb" / "codexdb.sqlite3"
        kill_soon_after_creation(home, database, number * 700_000)
        with ServerProcess(home) as server:
            server.initialize()
            assert server.call_tool("conversation_create", {})["isError"] is False
        assert broken(database) == {}

    with ThreadPoolExecutor(2) as pool:
        assert len(list(pool.map(kill_and_start, range(KILLS)))) == KILLS


def kill_soon_after_creation(home: Path, database: Path, after_ns: int) -> None:
    with RawClient(home) as client:
        client.call("conversation_create", {})
        deadline = time.monotonic() + CREATED_S_MAX
        while not database.exists():
            assert time.monotonic() < deadline
        moment = time.monotonic_ns() + after_ns
        while time.monotonic_ns() < moment:
            pass
        client.kill()


def test_servers_that_start_together_make_one_database(home: Path, model: ScriptedModel, database: Path) -> None:
    write_config(home, model.base_url, "chat")
    for _ in range(2):
        servers = [ServerProcess(home) for _ in range(5)]
        try:
            for server in servers:
                server.initialize()
            calls = [(server, server.start_tool("conversation_create", {})) for server in servers]
            for server, call in calls:
                assert server.wait_response(call)["result"]["isError"] is False, server.stderr
            assert query(database, "SELECT count(*) FROM sessions") == [(5,)]
        finally:
            for server in servers:
                server.close()
        for path in database.parent.iterdir():
            if path.is_file():
                path.unlink()


_OPENER = """
import sys
from pathlib import Path
import anyio
from codexdb.store.database import open_store
async def main():
    print("ready", flush=True)
    for line in sys.stdin:
        try:
            async with open_store(Path(line.strip())):
                print("opened", flush=True)
        except Exception as error:
            print(error, flush=True)
anyio.run(main)
"""


def test_processes_that_open_a_new_file_at_once_all_get_it(tmp_path: Path) -> None:
    program = [sys.executable, "-c", _OPENER]
    with ExitStack() as stack:
        openers = [
            stack.enter_context(subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
            for _ in range(8)
        ]
        lines = [opener.stdout for opener in openers if opener.stdout is not None]
        assert [line.readline() for line in lines] == ["ready\n"] * 8
        for number in range(50):
            for opener in openers:
                assert opener.stdin is not None
                opener.stdin.write(f"{tmp_path / str(number) / 'codexdb.sqlite3'}\n")
                opener.stdin.flush()
            assert [line.readline() for line in lines] == ["opened\n"] * 8


def test_a_database_that_vanished_under_the_lock_files_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "codexdb.sqlite3"
    revision.prepare(path)
    before = objects(path)
    os.truncate(path, 0)
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    revision.prepare(path)
    assert objects(path) == before
