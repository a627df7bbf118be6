"""What does not go on by itself because nobody has thought of it for too long, or nobody wants it to; and what does."""

import json
import os
import sys
from pathlib import Path
from typing import cast

import pytest

from codexdb.testing.crashing import LEASE_VARIABLE
from codexdb.testing.model_script import Hang, Raw, call_tools, frames, say
from codexdb.testing.scripted_model import ScriptedModel
from codexdb.testing.server_process import Message, ServerProcess, StartServer
from tests.crash.stopping import stop
from tests.process.skewed_server import FILE_VARIABLE
from tests.process.talking import begin, rows, until

SKEWED = (sys.executable, "-m", "tests.process.skewed_server", "serve")
ROOT = Path(__file__).parents[2]
HOUR_MS = 3_600_000
WAIT_S = 15.0
LEASE_MS = 1_200  # its heartbeat is every 200 ms

NOT_TO_GO_ON = pytest.mark.parametrize("option", ["--on-restart=interrupt", "--resume-max-age=0"])
STOPPED = ("interrupted", "server_stopped")
# All of an answer but the mark behind it: its server has it on record, and the turn has not ended.
ANSWERED = Raw(
    "".join(f.data.decode() for f in frames(say("the answer"), chat=True, include_usage=False)[:-1]), ends=False
)


def ends(database: Path) -> list[tuple[object, ...]]:
    """State and reason of every turn."""
    return rows(database, "SELECT state, end_reason FROM turns ORDER BY id")


def send(server: ServerProcess, session: str, text: str, mode: str) -> None:
    arguments: Message = {"conversation_id": session, "content": [{"type": "text", "text": text}], "if_running": mode}
    assert server.call_tool("send-user-message", arguments)["structuredContent"]["status"] == "ok"


def idle(server: ServerProcess, session: str) -> None:
    """Wait until no turn holds the session."""
    arguments = {"conversation_id": session}
    until(
        lambda: server.call_tool("conversation_read", arguments)["structuredContent"]["status"] == "idle",
        "the last turn's end",
    )


def shell(script: str) -> tuple[str, str, str]:
    return "c1", "shell", json.dumps({"command": ["bash", "-c", script]})


@NOT_TO_GO_ON
@pytest.mark.parametrize("how", ["killed", "went in order"])
def test_what_waits_behind_a_turn_that_does_not_go_on_does_not_begin(
    how: str, option: str, server: StartServer, model: ScriptedModel, database: Path
) -> None:
    model.add(Hang())
    first = server()
    session = begin(first)
    model.wait_for_requests(1)
    send(first, session, "queued", "queue")
    send(first, session, "queued too", "queue")
    send(first, session, "steered", "steer")
    if how == "killed":
        first.kill()
    else:
        first.close_stdin()
        assert first.wait_exit() == 0
    second = server(option)
    idle(second, session)
    assert ends(database) == [STOPPED] * 3
    result = second.call_tool("codex-reply", {"threadId": session, "prompt": "somebody is back"})
    assert result["structuredContent"]["content"] == "ok"
    assert len(model.requests) == 2
    asked = json.dumps(model.requests[-1].body)
    assert ("queued" in asked, "steered" in asked, "somebody is back" in asked) == (False, False, True)


@NOT_TO_GO_ON
@pytest.mark.parametrize("how", ["killed", "went in order"])
def test_a_turn_whose_whole_answer_is_on_record_completes_and_what_waits_behind_it_does_not_begin(
    how: str, option: str, server: StartServer, model: ScriptedModel, database: Path
) -> None:
    model.add(ANSWERED)
    first = server()
    session = begin(first)
    until(lambda: rows(database, "SELECT last_agent_message FROM turns") == [("the answer",)], "the answer's record")
    send(first, session, "queued", "queue")
    send(first, session, "steered", "steer")
    if how == "killed":
        first.kill()
    else:
        first.close_stdin()
        assert first.wait_exit() == 0
    second = server(option)
    idle(second, session)
    assert ends(database) == [("completed", "answered"), STOPPED]
    assert rows(database, "SELECT last_agent_message FROM turns") == [("the answer",), (None,)]
    assert len(model.requests) == 1


@NOT_TO_GO_ON
def test_nothing_begins_behind_a_turn_that_was_to_be_interrupted_when_its_server_died(
    option: str, server: StartServer, model: ScriptedModel, database: Path
) -> None:
    model.add(Hang())
    first, desk = server(), server("--no-worker")
    session = begin(first)
    model.wait_for_requests(1)
    send(first, session, "queued", "queue")
    stop(first, database)  # it does not hear of the request
    asked = desk.call_tool("conversation_interrupt", {"conversation_id": session})["structuredContent"]
    assert asked["interrupting"] is True
    desk.kill()  # who asked is not there to see to the rest
    first.kill()
    second = server(option)
    idle(second, session)
    assert ends(database) == [("interrupted", "requested"), STOPPED]
    assert len(model.requests) == 1


def test_a_message_that_a_living_server_has_queued_runs_all_the_same(
    server: StartServer, model: ScriptedModel, database: Path
) -> None:
    """Its client waits for it, whatever becomes of the turn before."""
    model.add(Hang(), say("to the living"))
    first, living = server(), server("--on-restart=interrupt")
    session = begin(first)
    model.wait_for_requests(1)
    arguments = {"threadId": session, "prompt": "from the living", "if_running": "queue"}
    waits = living.start_tool("codex-reply", arguments)
    until(lambda: len(ends(database)) == 2, "the message is queued")
    first.kill()
    server("--on-restart=interrupt")  # its start finds the dead one
    assert living.wait_response(waits)["result"]["structuredContent"]["content"] == "to the living"
    assert ends(database) == [STOPPED, ("completed", "answered")]


def test_who_has_queued_a_message_counts_and_not_who_has_accepted_the_turn_before(
    server: StartServer, model: ScriptedModel, database: Path
) -> None:
    """A desk and its workers: the desk lives, and its client waits, while one worker goes and the next comes."""
    model.add(Hang(), say("to the living"))
    desk = server("--no-worker")
    waits = desk.start_tool("codex", {"prompt": "first"}, id=1)
    session = cast("str", desk.wait_event("task_started", waits)["_meta"]["conversationId"])
    worker = server()
    model.wait_for_requests(1)
    send(worker, session, "from the one that goes", "queue")
    queued = desk.start_tool("codex-reply", {"threadId": session, "prompt": "more", "if_running": "queue"}, id=2)
    until(lambda: len(ends(database)) == 3, "the messages are queued")
    worker.close_stdin()
    assert worker.wait_exit() == 0
    server("--on-restart=interrupt")
    assert desk.wait_response(waits)["result"]["structuredContent"]["kind"] == "server_stopped"
    assert desk.wait_response(queued)["result"]["structuredContent"]["content"] == "to the living"
    assert ends(database) == [STOPPED, STOPPED, ("completed", "answered")]


@NOT_TO_GO_ON
def test_what_was_accepted_and_never_begun_is_not_too_old_to_begin(
    option: str, server: StartServer, model: ScriptedModel, database: Path
) -> None:
    desk = server("--no-worker")
    session = desk.call_tool("conversation_create", {})["structuredContent"]["conversation_id"]
    send(desk, session, "whenever you can", "reject")
    assert rows(database, "SELECT state, attempt FROM turns") == [("ready", 0)]
    second = server(option)
    idle(second, session)
    assert ends(database) == [("completed", "answered")]
    assert len(model.requests) == 1


def test_a_turn_whose_server_was_alive_a_moment_ago_goes_on_however_silent_it_was(
    server: StartServer, model: ScriptedModel, home: Path, database: Path
) -> None:
    """A command may be silent for longer than a turn may be left alone: that it runs is what its server's life says.

    By its own clock all that the first server writes is an hour old; its signs of life are not.
    """
    mark, skew = home / "mark", home / "skew"
    skew.write_text(str(-HOUR_MS))
    model.add(call_tools(shell(f"echo $$ >> {mark}; exec sleep 60")), say("went on"))
    env = {FILE_VARIABLE: str(skew), LEASE_VARIABLE: str(LEASE_MS), "PYTHONPATH": str(ROOT)}
    first = server(argv=SKEWED, env=env)
    session = begin(first)
    until(mark.exists, "the command's first line")
    (lock,) = database.with_name(f"{database.name}.workers").iterdir()
    os.utime(lock, (0, 0))
    until(lambda: lock.stat().st_mtime > 0, "a sign of life")
    first.kill()
    second = server("--resume-max-age=60")
    idle(second, session)
    assert ends(database) == [("completed", "answered")]
    assert len(mark.read_text().split()) == 1
