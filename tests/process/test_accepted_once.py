"""A message with a name of its own can be sent for ever, and is accepted once."""

from collections import Counter
from pathlib import Path
from typing import cast
from uuid import uuid4

import pytest

from codexdb.testing.model_script import Hang, say
from codexdb.testing.scripted_model import ScriptedModel
from codexdb.testing.server_process import Message, RequestId, ServerProcess, StartServer
from tests.process.talking import rows, until

WAIT_S = 15.0
IN_FLIGHT = 250  # sends of one process at a time


def call(server: ServerProcess, tool: str, **arguments: object) -> Message:
    return cast("Message", server.call_tool(tool, arguments)["structuredContent"])


def text(content: str) -> list[Message]:
    return [{"type": "text", "text": content}]


def test_repeats_of_codex_get_the_first_answer(server: StartServer, model: ScriptedModel, database: Path) -> None:
    model.add(say("only once"))
    first = server()
    answer = call(first, "codex", prompt="hi", message_id="m")
    assert call(first, "codex", prompt="hi", message_id="m") == answer
    assert call(first, "codex", prompt="something else", message_id="m")["kind"] == "conflict"
    first.kill()
    second = server()
    assert call(second, "codex", prompt="hi", message_id="m") == answer
    assert call(second, "codex", prompt="something else", message_id="m")["kind"] == "conflict"
    assert rows(database, "SELECT count(*) FROM sessions") == rows(database, "SELECT count(*) FROM turns") == [(1,)]
    assert len(model.requests) == 1


def test_repeats_of_codex_reply_get_the_first_answer(server: StartServer, model: ScriptedModel) -> None:
    model.add(say("opened"), say("only once"))
    first = server()
    thread = call(first, "codex", prompt="hi")["threadId"]
    answer = call(first, "codex-reply", threadId=thread, prompt="on", message_id="m")
    assert call(first, "codex-reply", threadId=thread, prompt="on", message_id="m") == answer
    first.kill()
    second = server()
    assert call(second, "codex-reply", threadId=thread, prompt="on", message_id="m") == answer
    assert call(second, "codex-reply", threadId=thread, prompt="off", message_id="m")["kind"] == "conflict"
    assert len(model.requests) == 2


def test_repeats_of_a_send_name_the_first_turn(server: StartServer, model: ScriptedModel, database: Path) -> None:
    first = server()
    session = call(first, "conversation_create")["conversation_id"]
    sent = {"conversation_id": session, "content": text("hi"), "message_id": "m"}
    accepted = call(first, "send-user-message", **sent)
    again = {"status": "ok", "outcome": "duplicate", "turn_id": accepted["turn_id"]}
    assert accepted["outcome"] == "started"
    assert call(first, "send-user-message", **sent) == again
    first.kill()
    second = server()
    assert call(second, "send-user-message", **sent) == again
    assert call(second, "send-user-message", **{**sent, "content": text("ho")})["kind"] == "conflict"
    until(lambda: rows(database, "SELECT state FROM turns") == [("completed",)], "the turn's end")
    assert len(model.requests) <= 2  # the kill may have hit the first one


def test_repeats_of_conversation_create_name_the_first_conversation(server: StartServer, database: Path) -> None:
    first = server()
    created = call(first, "conversation_create", message_id="m")
    assert call(first, "conversation_create", message_id="m") == created
    first.kill()
    second = server()
    assert call(second, "conversation_create", message_id="m") == created
    assert call(second, "conversation_create", message_id="m", model="other")["kind"] == "conflict"
    assert rows(database, "SELECT count(*) FROM sessions") == [(1,)]


def test_a_repeat_joins_the_turn_that_still_runs(server: StartServer, model: ScriptedModel) -> None:
    model.add(Hang(answer=say("for both")))
    first, second = server(), server()
    asked: list[tuple[ServerProcess, RequestId]] = []
    for process in (first, first, second):
        asked.append((process, process.start_tool("codex", {"prompt": "hi", "message_id": "m"})))
        model.wait_for_requests(1)
    assert call(second, "conversations_list")["conversations"][0]["status"] == "running"
    model.release()
    answers = [process.wait_response(each)["result"]["structuredContent"] for process, each in asked]
    assert [answer["content"] for answer in answers] == ["for both"] * 3
    assert len({answer["threadId"] for answer in answers}) == 1
    assert len(model.requests) == 1


def test_refusals_are_not_remembered(server: StartServer, model: ScriptedModel) -> None:
    model.add(Hang(answer=say("first")), say("second"))
    process = server()
    process.start_tool("codex", {"prompt": "hi"}, id=1)
    thread = process.wait_event("task_started", 1)["_meta"]["conversationId"]
    model.wait_for_requests(1)
    assert call(process, "codex-reply", threadId=thread, prompt="on", message_id="m")["kind"] == "busy"
    model.release()
    process.wait_response(1)
    assert call(process, "codex-reply", threadId=thread, prompt="on", message_id="m")["content"] == "second"


def test_a_message_may_state_what_it_follows(server: StartServer, database: Path) -> None:
    process = server()
    session = call(process, "conversation_create")["conversation_id"]
    one, two, three = (str(uuid4()) for _ in range(3))
    sent = {"conversation_id": session, "content": text("hi"), "if_running": "queue"}
    assert call(process, "send-user-message", **sent, message_id=one)["status"] == "ok"
    assert call(process, "send-user-message", **sent, message_id=two, parent_message_id=one)["status"] == "ok"
    refused = call(process, "send-user-message", **sent, message_id=three, parent_message_id=one)
    assert (refused["status"], refused["kind"]) == ("error", "outdated")
    assert call(process, "send-user-message", **sent, message_id=two, parent_message_id=one)["outcome"] == "duplicate"
    assert call(process, "send-user-message", **sent, message_id=three, parent_message_id=two)["status"] == "ok"
    assert rows(database, "SELECT message_id FROM inputs ORDER BY id") == [(one,), (two,), (three,)]


@pytest.mark.parametrize(
    ("sends", "sessions"),
    [(2_000, 20), pytest.param(10_000, 100, marks=[pytest.mark.slow, pytest.mark.timeout(300)])],
)
def test_two_processes_that_send_the_same_accept_each_message_once(
    sends: int, sessions: int, server: StartServer, database: Path
) -> None:
    """Each message is sent by both, at about the same time."""
    both = (server("--no-worker"), server("--no-worker"))
    names = [call(both[0], "conversation_create")["conversation_id"] for _ in range(sessions)]
    messages = [(names[number % sessions], f"m{number // sessions}") for number in range(sends // 2)]
    outcomes: Counter[tuple[str, str, str]] = Counter()
    for at in range(0, len(messages), IN_FLIGHT):
        asked = [(process, each, _send(process, *each)) for each in messages[at : at + IN_FLIGHT] for process in both]
        for process, each, request in asked:
            answer = process.wait_response(request)["result"]["structuredContent"]
            outcomes[*each, "duplicate" if answer["outcome"] == "duplicate" else "accepted"] += 1
    assert outcomes == Counter({(*each, kind): 1 for each in messages for kind in ("accepted", "duplicate")})
    assert rows(database, "SELECT count(*) FROM inputs") == rows(database, "SELECT count(*) FROM turns")
    kept = "SELECT s.public_id, i.message_id FROM inputs AS i JOIN sessions AS s ON s.id = i.session_id"
    assert sorted(cast("list[tuple[str, str]]", rows(database, kept))) == sorted(messages)
    in_order = "SELECT count(*) FROM turns AS a JOIN turns AS b ON a.session_id = b.session_id AND a.id < b.id"
    assert rows(database, f"{in_order} AND a.number >= b.number") == [(0,)]


def _send(server: ServerProcess, session: str, message_id: str) -> RequestId:
    content = text(f"message {message_id}")
    arguments = {"conversation_id": session, "content": content, "message_id": message_id, "if_running": "queue"}
    return server.start_tool("send-user-message", arguments)
