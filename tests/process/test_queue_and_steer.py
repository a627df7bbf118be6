"""Messages to a session that is taken: behind the running turn, into it, or withdrawn. Each caller is answered."""

import contextlib
import json
import sqlite3
from pathlib import Path
from typing import cast

from codexdb.testing.model_script import Hang, call_tools, say
from codexdb.testing.scripted_model import ScriptedModel
from codexdb.testing.server_process import Message, RequestId, ServerProcess, StartServer, write_config
from tests.process.talking import begin, read, until

WAIT_S = 15.0


def reply(server: ServerProcess, session: str, prompt: str, mode: str, request_id: RequestId) -> RequestId:
    return server.start_tool("codex-reply", {"threadId": session, "prompt": prompt, "if_running": mode}, id=request_id)


def send(server: ServerProcess, session: str, text: str, mode: str) -> Message:
    arguments = {"conversation_id": session, "content": [{"type": "text", "text": text}], "if_running": mode}
    return cast("Message", server.call_tool("send-user-message", arguments)["structuredContent"])


def waiting(server: ServerProcess, session: str) -> list[str]:
    return [each["content"][0]["text"] for each in read(server, session).get("queued", [])]


def answer(server: ServerProcess, request_id: RequestId) -> Message:
    return cast("Message", server.wait_response(request_id)["result"]["structuredContent"])


def steered(database: Path, condition: str = "TRUE") -> int:
    """How many messages were accepted to be steered."""
    query = f"SELECT count(*) FROM inputs WHERE mode = 'steer' AND {condition}"  # noqa: S608 - ours
    with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        return cast("int", connection.execute(query).fetchone()[0])


def asked(model: ScriptedModel, number: int) -> list[Message]:
    """The messages of a request to the model, without what the session begins with."""
    body = model.requests[number].body or {}
    return [each for each in cast("list[Message]", body["messages"]) if each["role"] != "system"][1:]


def times_said(model: ScriptedModel, text: str) -> list[int]:
    return [json.dumps(request.body).count(text) for request in model.requests]


def test_queued_messages_become_turns_in_their_order(server: StartServer, model: ScriptedModel) -> None:
    model.add(Hang(answer=say("a0")), say("a1"), say("a2"), say("a3"))
    process = server()
    session = begin(process)
    model.wait_for_requests(1)
    for number in (1, 2, 3):
        reply(process, session, f"question {number}", "queue", number + 1)
        until(lambda count=number: len(waiting(process, session)) == count, "the message is listed")
    assert waiting(process, session) == ["question 1", "question 2", "question 3"]
    model.release()
    assert [answer(process, number)["content"] for number in (1, 2, 3, 4)] == ["a0", "a1", "a2", "a3"]
    assert [asked(model, number)[-1]["content"] for number in (1, 2, 3)] == ["question 1", "question 2", "question 3"]
    page = read(process, session)
    assert "queued" not in page
    kinds = [event["msg"]["type"] for event in page["events"]]
    assert [kind for kind in kinds if kind.startswith("task_")] == ["task_started", "task_complete"] * 4


def test_a_steered_message_is_said_once_before_the_next_request(
    server: StartServer, model: ScriptedModel, home: Path, database: Path
) -> None:
    mark, gate = home / "mark", home / "gate"
    script = f"echo x >> {mark}; until test -e {gate}; do sleep 0.02; done"
    model.add(call_tools(("c1", "shell", json.dumps({"command": ["bash", "-c", script]}))), say("as you wish"))
    process = server()
    session = begin(process)
    until(mark.exists, "the command's first line")
    assert send(process, session, "rather that way", "steer")["outcome"] == "steered"
    reply(process, session, "and so", "steer", 2)
    assert "queued" not in read(process, session)
    until(lambda: steered(database) == 2, "both messages are accepted")
    gate.touch()
    assert answer(process, 1)["content"] == "as you wish"
    assert answer(process, 2)["content"] == "as you wish"
    process.call_tool("codex-reply", {"threadId": session, "prompt": "later"})
    assert times_said(model, "rather that way") == [0] + [1] * (len(model.requests) - 1)
    roles = [each["role"] for each in asked(model, 1)]
    assert roles == ["user", "assistant", "tool", "user", "user"]
    assert [each["content"] for each in asked(model, 1)[3:]] == ["rather that way", "and so"]


def test_a_message_steered_too_late_is_the_next_turn(server: StartServer, model: ScriptedModel, database: Path) -> None:
    """The turn has asked the model for the last time already; the caller gets the answer to his own message."""
    model.add(Hang(answer=say("to the first")), say("to the late one"), say("to the queued one"))
    process = server()
    session = begin(process)
    model.wait_for_requests(1)
    assert send(process, session, "queued", "queue")["outcome"] == "queued"
    reply(process, session, "late", "steer", 2)
    until(lambda: steered(database) == 1, "the message is accepted")
    model.release()
    assert answer(process, 1)["content"] == "to the first"
    assert answer(process, 2)["content"] == "to the late one"
    model.wait_for_requests(3)
    assert [asked(model, number)[-1]["content"] for number in (1, 2)] == ["late", "queued"]
    until(lambda: read(process, session)["status"] == "idle", "the last turn's end")
    assert [event["msg"]["type"] for event in read(process, session)["events"]].count("task_complete") == 3


def test_a_queued_message_can_be_withdrawn(server: StartServer, model: ScriptedModel) -> None:
    model.add(Hang(answer=say("kept one")), say("kept two"))
    process = server()
    session = begin(process)
    model.wait_for_requests(1)
    reply(process, session, "withdrawn", "queue", 2)
    until(lambda: waiting(process, session) == ["withdrawn"], "the message is listed")
    reply(process, session, "stays", "queue", 3)
    until(lambda: len(waiting(process, session)) == 2, "the next one is listed")
    turn_id = read(process, session)["queued"][0]["turn_id"]
    arguments = {"conversation_id": session, "turn_id": turn_id}
    asked_for = process.call_tool("conversation_interrupt", arguments)["structuredContent"]
    assert asked_for == {"conversation_id": session, "interrupting": True, "turn_id": turn_id}
    assert answer(process, 2)["kind"] == "interrupted"
    assert waiting(process, session) == ["stays"]
    assert process.call_tool("conversation_interrupt", arguments)["structuredContent"]["interrupting"] is False
    model.release()
    assert answer(process, 1)["content"] == "kept one"
    assert answer(process, 3)["content"] == "kept two"
    assert sum(times_said(model, "withdrawn")) == 0


def test_a_cancelled_steered_message_is_taken_back(server: StartServer, model: ScriptedModel, database: Path) -> None:
    """The turn that it was for is somebody else's, and goes on."""
    model.add(Hang(answer=say("undisturbed")))
    process = server()
    session = begin(process)
    model.wait_for_requests(1)
    reply(process, session, "never mind", "steer", 2)
    until(lambda: steered(database) == 1, "the message is accepted")
    process.notify("notifications/cancelled", {"requestId": 2, "reason": "user"})
    process.call_tool("conversations_list", {})
    model.release()
    assert answer(process, 1)["content"] == "undisturbed"
    until(lambda: read(process, session)["status"] == "idle", "the turn's end")
    assert sum(times_said(model, "never mind")) == 0
    assert len(model.requests) == 1


def test_a_message_that_was_taken_back_is_not_said_to_be_accepted(
    server: StartServer, model: ScriptedModel, database: Path
) -> None:
    """A repeat of it would else be answered with a turn that was never told of it."""
    model.add(Hang(answer=say("undisturbed")))
    process = server()
    session = begin(process)
    model.wait_for_requests(1)
    message: Message = {"threadId": session, "prompt": "never mind", "if_running": "steer", "message_id": "m"}
    process.start_tool("codex-reply", message, id=2)
    until(lambda: steered(database) == 1, "the message is accepted")
    process.notify("notifications/cancelled", {"requestId": 2, "reason": "user"})
    until(lambda: steered(database, "withdrawn_at_ms IS NOT NULL") == 1, "the message is taken back")
    for repeat in (message, {**message, "if_running": "reject"}):
        refused = process.call_tool("codex-reply", repeat)
        assert refused["isError"] is True
        assert refused["structuredContent"]["kind"] == "withdrawn"
    content = [{"type": "text", "text": "never mind"}]
    again: Message = {"conversation_id": session, "content": content, "message_id": "m"}
    sent = process.call_tool("send-user-message", again)["structuredContent"]
    assert (sent["status"], sent["kind"]) == ("error", "withdrawn")
    model.release()
    assert answer(process, 1)["content"] == "undisturbed"
    anew = process.call_tool("codex-reply", {"threadId": session, "prompt": "never mind", "message_id": "m2"})
    assert anew["structuredContent"]["content"] == "ok"
    assert times_said(model, "never mind") == [0, 1]


def test_cancelling_a_message_that_was_steered_too_late_ends_the_turn_of_its_own(
    server: StartServer, model: ScriptedModel, database: Path
) -> None:
    model.add(Hang(answer=say("to the first")), Hang(), say("to the next"))
    process = server()
    session = begin(process)
    model.wait_for_requests(1)
    reply(process, session, "late", "steer", 2)
    until(lambda: steered(database) == 1, "the message is accepted")
    model.release()
    assert answer(process, 1)["content"] == "to the first"
    model.wait_for_requests(2)
    process.notify("notifications/cancelled", {"requestId": 2, "reason": "user"})
    until(lambda: read(process, session)["status"] == "idle", "the end of the late message's turn")
    last = read(process, session)["last_turn"]
    assert (last["number"], last["state"], last["end_reason"]) == (2, "interrupted", "requested")
    process.call_tool("codex-reply", {"threadId": session, "prompt": "next"})
    assert len(model.requests) == 3


def test_a_late_turn_that_is_somebody_elses_too_is_not_ended_by_one_of_them(
    server: StartServer, model: ScriptedModel, database: Path
) -> None:
    model.add(Hang(answer=say("to the first")), Hang(answer=say("to both")))
    process = server()
    session = begin(process)
    model.wait_for_requests(1)
    reply(process, session, "late", "steer", 2)
    reply(process, session, "late too", "steer", 3)
    until(lambda: steered(database) == 2, "both messages are accepted")
    model.release()
    model.wait_for_requests(2)
    process.notify("notifications/cancelled", {"requestId": 2, "reason": "user"})
    for _ in range(5):  # commits behind whatever the cancellation writes
        process.call_tool("conversation_create", {})
    model.release()
    assert answer(process, 3)["content"] == "to both"


def test_a_queued_message_is_worked_under_the_codex_home_that_it_was_accepted_under(
    server: StartServer, model: ScriptedModel, tmp_path: Path, database: Path
) -> None:
    """Another one means another configuration and other keys: the next turn is not for any worker."""
    model.add(Hang(answer=say("to the first")))
    owner = server()
    session = begin(owner)
    model.wait_for_requests(1)
    (elsewhere := tmp_path / "elsewhere").mkdir()
    with ScriptedModel([say("from elsewhere")]) as their_model:
        write_config(elsewhere, their_model.base_url, "chat")
        with ServerProcess(elsewhere, "--db", str(database)) as other:
            other.initialize()
            reply(other, session, "for elsewhere", "queue", 2)
            until(lambda: waiting(owner, session) == ["for elsewhere"], "the message is listed")
            model.release()
            assert answer(owner, 1)["content"] == "to the first"
            assert answer(other, 2)["content"] == "from elsewhere"
        assert (len(model.requests), len(their_model.requests)) == (1, 1)


def test_what_waits_outlives_a_kill(server: StartServer, model: ScriptedModel) -> None:
    model.add(Hang(), say("to first and steered"), say("to queued"))
    first = server()
    session = begin(first)
    model.wait_for_requests(1)
    assert send(first, session, "queued", "queue")["position"] == 1
    assert send(first, session, "steered", "steer")["outcome"] == "steered"
    first.kill()
    second = server()
    until(lambda: read(second, session)["status"] == "idle", "the last turn's end")
    _, resumed, last = range(len(model.requests))
    assert [each["content"] for each in asked(model, resumed) if each["role"] == "user"] == ["first", "steered"]
    assert asked(model, last)[-1]["content"] == "queued"
    ended = [event for event in read(second, session)["events"] if event["msg"]["type"] == "task_complete"]
    assert [event["msg"]["last_agent_message"] for event in ended] == ["to first and steered", "to queued"]


def test_a_caller_in_another_process_is_answered_too(server: StartServer, model: ScriptedModel) -> None:
    model.add(Hang(answer=say("mine")), say("yours"))
    owner, other = server(), server()
    session = begin(owner)
    model.wait_for_requests(1)
    reply(other, session, "from elsewhere", "queue", 1)
    until(lambda: waiting(owner, session) == ["from elsewhere"], "the message is listed")
    model.release()
    assert answer(owner, 1)["content"] == "mine"
    assert answer(other, 1)["content"] == "yours"
