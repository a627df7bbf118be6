"""`codexdb sessions send`, `interrupt`, `fork`, `archive` and `delete`: writes from the command line."""

import json
import os
import pty
import subprocess
from pathlib import Path

import pytest

from codexdb.testing.model_script import Hang, Json, call_tools, say
from codexdb.testing.scripted_model import ScriptedModel
from codexdb.testing.server_process import StartServer
from tests.process.command import in_home
from tests.process.scene import TIMEOUT_S, argv, sessions
from tests.process.talking import ask, at_rest, begin, kinds, opened, read, reply, rows, said, send, shell, until

NOBODY = "Nobody works on this database now."
TABLES_OF_SESSIONS = ("turns", "inputs", "items", "events", "deltas", "tool_calls", "approvals", "model_requests")


def told(result: subprocess.CompletedProcess[str]) -> Json:
    assert result.returncode == 0, result.stderr
    value: Json = json.loads(result.stdout)
    return value


def left(database: Path, session_key: object) -> list[tuple[object, ...]]:
    """How many rows of a session there are, by table."""
    found = [
        (name, rows(database, f"SELECT count(*) FROM {name} WHERE session_id = {session_key}")[0][0])  # noqa: S608 - ours
        for name in TABLES_OF_SESSIONS
    ]
    return [row for row in found if row[1]]


def keys(database: Path) -> dict[object, object]:
    """Session → its key in the database."""
    found = rows(database, "SELECT public_id, id FROM sessions")
    return {row[0]: row[1] for row in found}


# -- send --------------------------------------------------------------------------------------------------------------


def test_a_message_is_worked_on_by_the_server_that_is_there(
    server: StartServer, home: Path, model: ScriptedModel
) -> None:
    process = server()
    session = opened(process, "first")
    model.add(say("heard"))
    result = sessions(home, "send", session[:20], "-", "--json", given="from\nafar")
    sent = told(result)
    assert (sent["session_id"], sent["outcome"], result.stderr) == (session, "started", "")
    until(lambda: len(model.requests) == 2, "the turn")
    page = at_rest(process, session)
    assert page["last_turn"]["turn_id"] == sent["turn_id"]
    assert said(model.requests[-1])[-1] == "from\nafar"


def test_where_nobody_works_that_is_said_and_the_message_kept(
    server: StartServer, home: Path, database: Path, model: ScriptedModel
) -> None:
    process = server()
    session = opened(process, "first")
    process.close()
    result = sessions(home, "send", session, "for later", "--message-id", "m1")
    assert result.returncode == 0
    assert result.stdout.startswith("started: turn ")
    assert NOBODY in result.stderr
    assert rows(database, "SELECT state FROM turns ORDER BY id") == [("completed",), ("ready",)]
    again = sessions(home, "send", session, "for later", "--message-id", "m1")
    assert again.stdout == result.stdout
    other = sessions(home, "send", session, "another", "--message-id", "m1")
    assert (other.returncode, "conflict" in other.stderr) == (1, True)
    at_rest(server(), session)
    assert said(model.requests[-1])[-1] == "for later"
    assert rows(database, "SELECT count(*) FROM turns") == [(2,)]


def test_a_message_to_a_session_at_work_is_refused_queued_or_steered(
    server: StartServer, home: Path, model: ScriptedModel
) -> None:
    model.add(Hang(), say("next"))
    process = server()
    session = begin(process)
    model.wait_for_requests(1)
    refused = sessions(home, "send", session, "now?")
    assert refused.returncode == 1
    assert "Session is already running (busy). Nothing was written." in refused.stderr
    assert told(sessions(home, "send", session, "then", "--if-running", "queue", "--json"))["outcome"] == "queued"
    assert told(sessions(home, "send", session, "also", "--if-running", "steer", "--json"))["outcome"] == "steered"
    model.release()
    until(lambda: kinds(read(process, session)).count("task_complete") >= 2, "both turns")


@pytest.mark.parametrize("text", ["", "  \n"])
def test_an_empty_message_is_wrong_usage(home: Path, text: str) -> None:
    assert sessions(home, "send", "01a2", text).returncode == 2
    assert list(home.iterdir()) == []


# -- interrupt ---------------------------------------------------------------------------------------------------------


def test_a_turn_of_a_server_is_ended(server: StartServer, home: Path, model: ScriptedModel, database: Path) -> None:
    model.add(Hang())
    process = server()
    session = begin(process)
    model.wait_for_requests(1)
    result = told(sessions(home, "interrupt", session, "--json"))
    assert (result["session_id"], result["turn_id"] is not None) == (session, True)
    assert process.wait_response(1)["result"]["structuredContent"]["kind"] == "interrupted"
    assert rows(database, "SELECT state, end_reason FROM turns") == [("interrupted", "requested")]
    assert sessions(home, "interrupt", session).stdout == "no turn is open\n"


def test_a_turn_whose_server_was_killed_is_ended_at_once(
    server: StartServer, home: Path, model: ScriptedModel, database: Path
) -> None:
    model.add(Hang())
    process = server()
    session = begin(process)
    model.wait_for_requests(1)
    process.kill()
    assert sessions(home, "interrupt", session).returncode == 0
    assert rows(database, "SELECT state, end_reason FROM turns") == [("interrupted", "requested")]
    assert rows(database, "SELECT active_turn_id FROM sessions") == [(None,)]


# -- fork, archive -----------------------------------------------------------------------------------------------------


def test_a_fork_shares_as_much_as_was_asked_for(server: StartServer, home: Path, model: ScriptedModel) -> None:
    process = server()
    session = opened(process, "first")
    reply(process, session, "second")
    made = sessions(home, "fork", session, "--after-turn", "1", "--title", "aside")
    fork = made.stdout.strip()
    assert made.returncode == 0
    reply(process, fork, "third")
    assert said(model.requests[-1]) == ["first", "third"]
    assert read(process, fork)["title"] == "aside"
    whole = str(told(sessions(home, "fork", session, "--json"))["session_id"])
    reply(process, whole, "third")
    assert said(model.requests[-1]) == ["first", "second", "third"]
    missing = sessions(home, "fork", session, "--after-turn", "9")
    assert (missing.returncode, "There is no turn 9" in missing.stderr) == (1, True)


def test_an_archived_session_takes_no_messages_until_that_is_undone(server: StartServer, home: Path) -> None:
    process = server()
    session = opened(process, "first")
    assert sessions(home, "archive", session).returncode == 0
    assert send(process, session, "hello")["kind"] == "archived"
    assert "archived" in sessions(home, "send", session, "hello").stderr
    assert sessions(home, "list").stderr == "No session.\n"
    assert told(sessions(home, "archive", session, "--undo", "--json"))["archived"] is False
    assert send(process, session, "hello")["status"] == "ok"


# -- delete ------------------------------------------------------------------------------------------------------------


def test_a_deleted_session_is_gone_with_all_its_rows_and_no_other(
    server: StartServer, home: Path, model: ScriptedModel, database: Path
) -> None:
    process = server()
    model.add(call_tools(shell("c1", "true")), say("one"))
    session = opened(process, "first", message_id="m1")
    other = opened(process, "another")
    key, other_key = keys(database)[session], keys(database)[other]
    before = left(database, other_key)
    assert len(left(database, key)) >= 5
    result = sessions(home, "delete", session, "--yes")
    assert (result.returncode, result.stdout) == (0, "deleted\n")
    assert left(database, key) == []
    assert left(database, other_key) == before
    assert rows(database, "SELECT public_id FROM sessions") == [(other,)]
    assert rows(database, "PRAGMA foreign_key_check") == []
    again = sessions(home, "delete", session, "--yes")
    assert (again.returncode, f"There is no session {session}" in again.stderr) == (1, True)
    assert ask(process, "conversation_read", session)["kind"] == "session_not_found"
    assert opened(process, "first", message_id="m1") != session, "its messages are forgotten"


def test_a_session_with_an_open_turn_is_not_deleted(server: StartServer, home: Path, model: ScriptedModel) -> None:
    model.add(Hang())
    process = server()
    session = begin(process)
    model.wait_for_requests(1)
    result = sessions(home, "delete", session, "--yes")
    assert result.returncode == 1
    assert "is open. Wait for its end, or interrupt it first. Nothing was written." in result.stderr
    model.release()
    assert kinds(at_rest(process, session))[-1] == "task_complete"


def test_forks_of_a_deleted_session_stay_and_do_not_take_up_turns_that_come_later(
    server: StartServer, home: Path, model: ScriptedModel, database: Path
) -> None:
    """Turns get the keys of deleted ones: what a fork has of those must not be taken for its own."""
    process = server()
    first = opened(process, "first")
    second = str(ask(process, "conversation_fork", first)["conversation_id"])
    third = str(ask(process, "conversation_fork", second)["conversation_id"])
    assert sessions(home, "delete", second, "--yes").returncode == 0
    now = keys(database)
    assert rows(database, "SELECT id, forked_from_id FROM sessions ORDER BY id DESC") == [
        (now[third], now[first]),
        (now[first], None),
    ]
    assert sessions(home, "delete", first, "--yes").returncode == 0
    assert rows(database, "SELECT public_id, forked_from_id FROM sessions") == [(third, None)]
    assert rows(database, "SELECT turn_id FROM items WHERE role = 'user' AND turn_id IS NOT NULL") == [(-1,)]
    reply(process, third, "fourth")
    assert rows(database, "SELECT id FROM turns") == [(1,)], "the key is given out again"
    assert said(model.requests[-1]) == ["first", "fourth"]
    lines = [json.loads(line) for line in sessions(home, "show", third, "--json").stdout.splitlines()]
    assert [(each["turn"], each["inherited"]) for each in lines if each["type"] == "turn"] == [(None, True), (1, False)]
    assert [each["text"] for each in lines if each["type"] == "message" and each["turn"] == 1] == ["fourth", "ok"]
    assert "its record is deleted" in sessions(home, "show", third).stdout


def test_a_person_is_asked_before_anything_is_deleted(server: StartServer, home: Path, database: Path) -> None:
    session = opened(server(), "first")
    nobody = sessions(home, "delete", session)
    assert (nobody.returncode, "nobody can be asked, --yes" in nobody.stderr) == (1, True)
    for answer, left_over in ((b"n\n", 1), (b"y\n", 0)):
        ours, theirs = pty.openpty()
        with subprocess.Popen(
            argv("delete", session), cwd=home, env=in_home(home), stdin=theirs, stdout=theirs, stderr=theirs
        ) as process:
            os.write(ours, answer)
            assert process.wait(TIMEOUT_S) == left_over
        os.close(theirs)
        os.close(ours)
        assert rows(database, "SELECT count(*) FROM sessions") == [(left_over,)]
