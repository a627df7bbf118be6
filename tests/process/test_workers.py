"""Servers on one file: a living one's turns are its own, a dead one's are closed, and the session goes on."""

import os
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from codexdb.testing.model_script import Hang, call_tools
from codexdb.testing.scripted_model import ScriptedModel
from codexdb.testing.server_process import ServerProcess, StartServer
from tests.process import command
from tests.process.talking import read

NOTICED_S = 12  # two heartbeats and some; a dead worker is looked for with each


def query(database: Path, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=5)) as connection:
        return connection.execute(sql, parameters).fetchall()


def hanging_turn(server: ServerProcess, model: ScriptedModel) -> tuple[Any, str]:
    """A call whose turn waits for the model; its id and the session."""
    model.add(Hang())
    asked = len(model.requests)
    call = server.start_tool("codex", {"prompt": "hello"})
    session = server.wait_event("task_started", call)["_meta"]["conversationId"]
    model.wait_for_requests(asked + 1)
    return call, cast("str", session)


def assert_closed(server: ServerProcess, session: str) -> None:
    """The turn was ended for its dead worker, once, with an event that says so."""
    page = read(server, session)
    turn = page["last_turn"]
    assert (turn["state"], turn["end_reason"]) == ("interrupted", "server_stopped")
    assert page["status"] == "idle"
    kinds = [event["msg"]["type"] for event in page["events"]]
    assert kinds == ["session_configured", "task_started", "error"]
    assert page["events"][-1]["msg"]["message"] == " Turn interrupted"


def assert_goes_on(server: ServerProcess, session: str) -> None:
    result = server.call_tool("codex-reply", {"threadId": session, "prompt": "go on"})
    assert result["structuredContent"] == {"threadId": session, "content": "ok"}


def test_a_second_server_leaves_the_turns_of_a_living_one_alone(server: StartServer, model: ScriptedModel) -> None:
    first = server("--on-restart=interrupt")
    call, session = hanging_turn(first, model)
    second = server("--on-restart=interrupt")
    assert read(second, session)["last_turn"]["state"] == "running"  # its start has looked for the dead by now
    second.close_stdin()
    assert second.wait_exit() == 0
    model.release()
    assert first.wait_response(call)["result"]["structuredContent"]["content"] == "released"


@contextmanager
def stopped(server: ServerProcess) -> Generator[None]:
    server.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        server.signal(signal.SIGCONT)


def test_a_server_that_merely_stands_still_is_not_dead(server: StartServer, model: ScriptedModel) -> None:
    first = server("--on-restart=interrupt")
    call, session = hanging_turn(first, model)
    with stopped(first):
        second = server("--on-restart=interrupt")
        assert read(second, session)["last_turn"]["state"] == "running"
        busy = second.call_tool("codex-reply", {"threadId": session, "prompt": "now"})
        assert busy["structuredContent"]["kind"] == "busy"
    model.release()
    assert first.wait_response(call)["result"]["structuredContent"]["content"] == "released"


def test_the_next_server_closes_what_a_killed_one_left(
    server: StartServer, model: ScriptedModel, database: Path
) -> None:
    first = server("--on-restart=interrupt")
    sessions = [hanging_turn(first, model)[1] for _ in range(3)]
    first.kill()
    second = server("--on-restart=interrupt")
    for session in sessions:
        assert_closed(second, session)
        assert_goes_on(second, session)
    ((stopped_at_ms,),) = query(database, "SELECT stopped_at_ms FROM workers WHERE pid = ?", first.pid)
    assert stopped_at_ms is not None
    assert len(list(database.with_name(f"{database.name}.workers").iterdir())) == 1  # the living one's


def test_a_server_that_runs_already_finds_them_closed_by_a_third(server: StartServer, model: ScriptedModel) -> None:
    first, second = server("--on-restart=interrupt"), server("--on-restart=interrupt")
    second.call_tool("conversations_list", {})
    _, session = hanging_turn(first, model)
    first.kill()
    third = server("--on-restart=interrupt")
    third.call_tool("conversations_list", {})
    for process in (second, third):
        assert_closed(process, session)
    assert_goes_on(second, session)


@pytest.mark.slow
def test_a_server_that_runs_already_closes_them_itself(server: StartServer, model: ScriptedModel) -> None:
    first, second = server("--on-restart=interrupt"), server("--on-restart=interrupt")
    second.call_tool("conversations_list", {})
    _, session = hanging_turn(first, model)
    first.kill()
    page = read(second, session, after_seq=2, wait_ms=NOTICED_S * 1000)
    assert [event["msg"]["type"] for event in page["events"]] == ["error"]
    assert_closed(second, session)
    assert_goes_on(second, session)


def test_several_servers_that_start_at_once_close_a_turn_once(server: StartServer, model: ScriptedModel) -> None:
    first = server("--on-restart=interrupt")
    _, session = hanging_turn(first, model)
    first.kill()
    for process in [server("--on-restart=interrupt") for _ in range(4)]:
        assert_closed(process, session)


@pytest.mark.parametrize("way", ["end of input", "SIGTERM"])
def test_an_orderly_end_leaves_nothing_behind(
    server: StartServer, model: ScriptedModel, database: Path, way: str
) -> None:
    first = server("--on-restart=interrupt")
    call, session = hanging_turn(first, model)
    if way == "SIGTERM":
        first.signal(signal.SIGTERM)
    else:
        first.close_stdin()
    assert first.wait_exit() == 0
    assert "id" in first.wait_response(call)  # it got an answer all the same
    assert query(database, "SELECT state, end_reason FROM turns") == [("ready", None)]  # suspended, unharmed
    assert query(database, "SELECT count(*) FROM workers WHERE stopped_at_ms IS NULL") == [(0,)]
    assert list(database.with_name(f"{database.name}.workers").iterdir()) == []
    second = server()
    second.call_tool("conversation_stream", {"conversation_id": session})
    second.wait_event("task_complete")
    assert_goes_on(second, session)


def test_a_worker_can_be_recognised_later(server: StartServer, database: Path, home: Path) -> None:
    process = server("--on-restart=interrupt")
    process.call_tool("conversations_list", {})
    rows = query(database, "SELECT pid, pid_started_at <> '', uid, codex_home, stopped_at_ms FROM workers")
    assert rows == [(process.pid, 1, os.getuid(), str(home), None)]


def test_a_reply_that_waits_for_a_killed_servers_turn_gets_an_answer(server: StartServer, model: ScriptedModel) -> None:
    """A repeat that joined the turn in another process is told how it ended."""
    model.add(Hang())
    first, second = server("--on-restart=interrupt"), server("--on-restart=interrupt")
    arguments = {"prompt": "hello", "message_id": "m"}
    first.start_tool("codex", arguments)
    model.wait_for_requests(1)
    joined = second.start_tool("codex", arguments)
    second.call_tool("conversations_list", {})
    first.kill()
    server("--on-restart=interrupt").call_tool("conversations_list", {})  # its start closes the turn
    result = second.wait_response(joined)["result"]
    assert result["isError"] is True
    assert result["structuredContent"]["kind"] == "server_stopped"


def test_two_servers_work_on_different_sessions_of_one_file_at_once(server: StartServer, model: ScriptedModel) -> None:
    servers = [server("--on-restart=interrupt") for _ in range(2)]
    calls = [(process, *hanging_turn(process, model)) for process in servers for _ in range(3)]
    model.release()
    for process, call, session in calls:
        answer = process.wait_response(call)["result"]["structuredContent"]
        assert answer == {"threadId": session, "content": "released"}
    model.add(call_tools(("c", "shell", '{"command":["true"]}')))
    assert_goes_on(servers[0], calls[-1][2])


@pytest.mark.parametrize("how", ["copy", "link", "tidied up"])
def test_a_living_servers_turn_is_left_alone_however_its_file_is_reached(
    server: StartServer, model: ScriptedModel, database: Path, how: str
) -> None:
    """A copy has no lock files, a link has others, and lock files can be removed: none of it is a server's death."""
    first = server()
    _, session = hanging_turn(first, model)
    other = database
    if how == "copy":
        other = database.with_name("copy.sqlite3")
        with closing(sqlite3.connect(database)) as connection:
            connection.execute("VACUUM INTO ?", (str(other),))
    elif how == "link":
        other = database.with_name("link.sqlite3")
        other.symlink_to(database)
    else:
        shutil.rmtree(database.with_name(f"{database.name}.workers"))
    second = server("--db", str(other))
    read = second.call_tool("conversation_read", {"conversation_id": session})["structuredContent"]
    assert (read["status"], read["last_turn"]["state"]) == ("running", "running")
    model.release()
    first.wait_event("task_complete")


def until_idle(home: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """`codexdb worker --until-idle`, to its end."""
    return command.run(command.argv("worker", "--until-idle", *options), command.in_home(home), timeout_s=NOTICED_S)


def post(desk: ServerProcess, session: str, mode: str = "reject") -> None:
    content = [{"type": "text", "text": "for somebody"}]
    arguments = {"conversation_id": session, "content": content, "if_running": mode}
    assert desk.call_tool("send-user-message", arguments)["structuredContent"]["status"] == "ok"


def test_a_worker_until_idle_leaves_nothing(
    server: StartServer, model: ScriptedModel, home: Path, database: Path
) -> None:
    desk = server("--no-worker")
    session = desk.call_tool("conversation_create", {})["structuredContent"]["conversation_id"]
    for _ in range(3):
        post(desk, session, "queue")
    done = until_idle(home)
    assert (done.returncode, done.stderr) == (0, "")
    assert query(database, "SELECT state, count(*) FROM turns GROUP BY 1") == [("completed", 3)]
    assert len(model.requests) == 3


def test_a_worker_until_idle_says_that_turns_are_left_which_it_may_not_work_on(
    server: StartServer, model: ScriptedModel, home: Path, database: Path
) -> None:
    """A script that goes on after it must not take them for done."""
    desk = server("--no-worker", config={"model_providers": {"scripted": {"env_key": "SCRIPTED_MODEL_CREDENTIAL"}}})
    session = desk.call_tool("conversation_create", {})["structuredContent"]["conversation_id"]
    post(desk, session)
    done = until_idle(home)
    assert done.returncode == 1
    assert "here: 1" in done.stderr
    assert "codexdb doctor" in done.stderr
    assert query(database, "SELECT state FROM turns") == [("ready",)]
    assert model.requests == []


def test_a_worker_until_idle_also_works_on_what_waited_behind_a_turn_that_it_gave_up(
    server: StartServer, model: ScriptedModel, home: Path, database: Path
) -> None:
    first, desk = server(), server("--no-worker")
    _, session = hanging_turn(first, model)
    first.close_stdin()
    assert first.wait_exit() == 0
    post(desk, session, "queue")  # by a server that lives
    done = until_idle(home, "--on-restart=interrupt")
    assert (done.returncode, done.stderr) == (0, "")
    ends = query(database, "SELECT state, end_reason FROM turns ORDER BY id")
    assert ends == [("interrupted", "server_stopped"), ("completed", "answered")]
