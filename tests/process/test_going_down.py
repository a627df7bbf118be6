"""A server whose client leaves, or that is told to go: what was asked for before holds, and every call is answered."""

import json
import signal
import time
from pathlib import Path
from typing import cast

import pytest

from codexdb.testing.model_script import Hang, say
from codexdb.testing.scripted_model import ScriptedModel
from codexdb.testing.server_process import Message, RequestId, ServerProcess, StartServer
from tests.process.talking import rows, until

WAIT_S = 15.0
EXIT_S = 1.5  # what a server that goes down in order promises

ENDS = pytest.mark.parametrize("end", ["EOF", "SIGTERM"])


def begin(server: ServerProcess, model: ScriptedModel) -> str:
    """A session whose first turn waits for the model: the call 1 waits for it."""
    server.start_tool("codex", {"prompt": "first"}, id=1)
    session = cast("str", server.wait_event("task_started", 1)["_meta"]["conversationId"])
    model.wait_for_requests(1)
    return session


def leave(server: ServerProcess, end: str) -> None:
    """End it in order; it has to be gone in time."""
    began = time.monotonic()
    if end == "EOF":
        server.close_stdin()
    else:
        server.signal(signal.SIGTERM)
    assert server.wait_exit() == 0
    took = time.monotonic() - began
    assert took < EXIT_S, f"it took {took:.2f} s"


def answer(server: ServerProcess, request_id: RequestId) -> Message:
    response = server.wait_response(request_id)
    assert "result" in response, response
    return cast("Message", response["result"]["structuredContent"])


def reply(session: str, prompt: str, mode: str, **more: object) -> Message:
    return {"threadId": session, "prompt": prompt, "if_running": mode, **more}


def accepted(database: Path, count: int) -> None:
    until(lambda: rows(database, "SELECT count(*) FROM inputs") == [(count,)], f"message {count} is accepted")


def line(name: str, arguments: Message, request_id: int) -> bytes:
    params = {"name": name, "arguments": arguments}
    return json.dumps({"jsonrpc": "2.0", "id": request_id, "method": "tools/call", "params": params}).encode() + b"\n"


@ENDS
@pytest.mark.parametrize("how", ["conversation_interrupt", "cancelled"])
def test_a_turn_that_was_stopped_just_before_its_server_left_stays_stopped(
    how: str, end: str, server: StartServer, model: ScriptedModel, database: Path
) -> None:
    """Whoever stops a turn and quits does not want it to go on by itself with the next server."""
    model.add(Hang())
    first = server()
    session = begin(first, model)
    if how == "cancelled":
        first.notify("notifications/cancelled", {"requestId": 1, "reason": "user stopped"})
    else:
        first.start_tool("conversation_interrupt", {"conversation_id": session}, id=2)
    if end == "SIGTERM":  # which may overtake what is still in the pipe
        until(lambda: rows(database, "SELECT interrupt_requested_at_ms FROM turns") != [(None,)], "the request")
    leave(first, end)
    assert rows(database, "SELECT state, end_reason FROM turns") == [("interrupted", "requested")]
    second = server()
    result = second.call_tool("codex-reply", {"threadId": session, "prompt": "next"})
    assert result["structuredContent"]["content"] == "ok"
    assert rows(database, "SELECT state, attempt FROM turns") == [("interrupted", 1), ("completed", 1)]
    assert len(model.requests) == 2


@ENDS
@pytest.mark.parametrize("options", [(), ("--no-worker",)], ids=["works", "does not work"])
def test_every_accepted_message_is_answered_suspended(
    options: tuple[str, ...], end: str, server: StartServer, model: ScriptedModel, database: Path
) -> None:
    """Its own turn, one that waits behind, one that was steered, a repeat of that: none is to be sent anew."""
    model.add(Hang())
    leaving = server(*options)
    others = [server() for _ in options]  # somebody has to work
    session = begin(leaving, model)
    leaving.start_tool("codex-reply", reply(session, "steered", "steer", message_id="m"), id=2)
    accepted(database, 2)
    leaving.start_tool("codex-reply", reply(session, "queued", "queue"), id=3)
    accepted(database, 3)
    leaving.start_tool("codex-reply", reply(session, "steered", "steer", message_id="m"), id=4)
    leaving.call_tool("conversations_list", {})  # the calls before it wait by now
    turns = [turn for (turn,) in rows(database, "SELECT public_id FROM turns ORDER BY id")]
    leave(leaving, end)
    for request_id, turn in ((1, turns[0]), (2, turns[0]), (3, turns[1]), (4, turns[0])):
        said = answer(leaving, request_id)
        assert (said["kind"], said["turn_id"], said["retryable"]) == ("suspended", turn, True)
        assert said["threadId"] == session
    for other in others:
        assert other.returncode is None


def test_a_message_sent_with_the_last_breath_is_answered_suspended(
    server: StartServer, model: ScriptedModel, database: Path
) -> None:
    """The client closes its end right behind its calls, before any of them was accepted."""
    model.add(Hang())
    owner = server()
    session = begin(owner, model)
    leaving = server(initialize=False)
    leaving.request("initialize", {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {}})
    leaving.send_raw(line("codex-reply", reply(session, "queued", "queue", message_id="q"), 7))
    leaving.send_raw(line("codex-reply", reply(session, "queued", "queue", message_id="q"), 8))
    leaving.close_stdin()
    assert leaving.wait_exit() == 0
    assert [answer(leaving, number)["kind"] for number in (7, 8)] == ["suspended", "suspended"]
    assert rows(database, "SELECT count(*) FROM inputs") == [(2,)]


def test_on_eof_finish_gives_every_call_its_real_answer(
    server: StartServer, model: ScriptedModel, database: Path
) -> None:
    model.add(Hang(answer=say("to the first")), say("to the steered one"), say("to the queued one"))
    process = server("--on-eof=finish")
    session = begin(process, model)
    process.start_tool("codex-reply", reply(session, "steered", "steer", message_id="m"), id=2)
    accepted(database, 2)
    process.start_tool("codex-reply", reply(session, "queued", "queue"), id=3)
    accepted(database, 3)
    process.start_tool("codex-reply", reply(session, "steered", "steer", message_id="m"), id=4)
    process.call_tool("conversations_list", {})
    process.close_stdin()
    model.release()
    assert process.wait_exit() == 0
    expected = ["to the first", "to the steered one", "to the queued one", "to the steered one"]
    assert [answer(process, number).get("content") for number in (1, 2, 3, 4)] == expected


def test_on_eof_finish_holds_for_calls_that_were_not_accepted_yet(server: StartServer, model: ScriptedModel) -> None:
    process = server("--on-eof=finish", initialize=False)
    process.request("initialize", {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {}})
    for number in (7, 8):
        process.send_raw(line("codex", {"prompt": "once", "message_id": "m"}, number))
    process.close_stdin()
    assert process.wait_exit() == 0
    assert [answer(process, number).get("content") for number in (7, 8)] == ["ok", "ok"]
    assert len(model.requests) == 1


def test_on_eof_finish_does_not_wait_for_the_turn_of_another_server(server: StartServer, model: ScriptedModel) -> None:
    model.add(Hang())
    owner, process = server(), server("--on-eof=finish")
    session = begin(owner, model)
    waits = process.start_tool("codex-reply", reply(session, "behind", "queue"))
    process.call_tool("conversations_list", {})
    process.close_stdin()
    assert answer(process, waits)["kind"] == "suspended"
    assert process.wait_exit() == 0
