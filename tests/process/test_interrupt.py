"""Interrupting: by anybody, in any state, as often as one likes; what was said and done until then is kept."""

import json
import sys
from pathlib import Path
from typing import cast

import pytest

from codexdb.store.calls import ABORTED, NOT_STARTED, UNKNOWN
from codexdb.testing.model_script import Answer, Drop, Hang, Raw, call_tools, say
from codexdb.testing.scripted_model import ScriptedModel
from codexdb.testing.server_process import Message, ServerProcess, StartServer
from tests.process.talking import pids, rows, runs, until

WAIT_S = 15.0
SOON_S = 2.0  # from a request in one process to the turn's end in another

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc to see what still runs")


def shell(script: str, call_id: str = "c1") -> tuple[str, str, str]:
    return call_id, "shell", json.dumps({"command": ["bash", "-c", script]})


def begin(server: ServerProcess) -> str:
    """A session whose first turn runs: the call 1 waits for it."""
    server.start_tool("codex", {"prompt": "go"}, id=1)
    return cast("str", server.wait_event("task_started", 1)["_meta"]["conversationId"])


def interrupt(server: ServerProcess, session: str) -> Message:
    result = server.call_tool("conversation_interrupt", {"conversation_id": session})
    return cast("Message", result["structuredContent"])


def read(server: ServerProcess, session: str) -> Message:
    arguments = {"conversation_id": session, "include_items": True}
    return cast("Message", server.call_tool("conversation_read", arguments)["structuredContent"])


def idle(server: ServerProcess, session: str) -> bool:
    return read(server, session)["status"] == "idle"


def outputs(page: Message) -> dict[str, str]:
    items = [each["item"] for each in page["items"]]
    return {each["call_id"]: each["output"] for each in items if each["type"] == "function_call_output"}


def test_interrupting_twice_is_interrupting_once(server: StartServer, model: ScriptedModel) -> None:
    model.add(Hang())
    process = server()
    session = begin(process)
    model.wait_for_requests(1)
    asked = [process.start_tool("conversation_interrupt", {"conversation_id": session}) for _ in range(3)]
    answers = [process.wait_response(each)["result"]["structuredContent"]["interrupting"] for each in asked]
    assert answers[0] is True
    assert process.wait_response(1)["result"]["structuredContent"]["kind"] == "interrupted"
    assert interrupt(process, session) == {"conversation_id": session, "interrupting": False}
    kinds = [event["msg"]["type"] for event in read(process, session)["events"]]
    assert kinds.count("error") == 1
    assert kinds[-1] == "error"


@pytest.mark.parametrize("who", ["itself", "another process"])
def test_a_running_command_is_dead_afterwards_and_each_call_has_an_outcome(
    who: str, server: StartServer, model: ScriptedModel, home: Path, database: Path
) -> None:
    mark = home / "mark"
    running = f"echo so far; echo $$ >> {mark}; sleep 60 & echo $! >> {mark}; wait"
    model.add(call_tools(shell(running), shell(f"echo $$ >> {home / 'never'}", "c2")), say("next"))
    owner = server()
    asker = owner if who == "itself" else server()
    session = begin(owner)
    until(lambda: len(pids(mark)) == 2, "the command's lines")
    until(lambda: rows(database, "SELECT count(*) FROM tool_calls") == [(2,)], "the second call")
    assert interrupt(asker, session)["interrupting"] is True
    answer = owner.wait_response(1, SOON_S)["result"]["structuredContent"]
    assert answer["kind"] == "interrupted"
    until(lambda: idle(asker, session), "the end, as the asker sees it", SOON_S)
    if sys.platform == "linux":
        assert not any(runs(pid) for pid in pids(mark))
    assert rows(database, "SELECT state FROM tool_calls ORDER BY id") == [("aborted",), ("aborted",)]
    told = outputs(read(asker, session))
    assert "so far" in told["c1"]
    assert told["c2"] == NOT_STARTED
    assert ABORTED not in told.values()
    assert not (home / "never").exists()
    again = asker.call_tool("codex-reply", {"threadId": session, "prompt": "and now?"})
    assert again["structuredContent"]["content"] == "next"


def test_partial_text_is_kept_as_partial(server: StartServer, model: ScriptedModel) -> None:
    model.add(Hang(before=("I was ", "about to")), say("next"))
    process = server(wire_api="responses")
    session = begin(process)
    process.wait_event("agent_message_delta", 1)
    until(lambda: len([e for e in process.events(1) if e["_meta"].get("transient")]) == 2, "both pieces")
    interrupt(process, session)
    process.wait_response(1)
    last = read(process, session)["items"][-1]
    assert last["partial"] is True
    assert last["item"]["content"] == [{"type": "output_text", "text": "I was about to"}]
    assert "agent_message" not in [event["msg"]["type"] for event in read(process, session)["events"]]
    process.call_tool("codex-reply", {"threadId": session, "prompt": "go on"})
    assert "I was about to" in json.dumps(model.requests[-1].body)


def kept(server: ServerProcess, session: str) -> list[str]:
    """The texts of the items that are kept as partial."""
    items = read(server, session)["items"]
    return [each["item"]["content"][0]["text"] for each in items if each.get("partial")]


def deltas(database: Path) -> str:
    """What is stored of unfinished items."""
    query = "SELECT coalesce(group_concat(text, ''), '') FROM (SELECT text FROM deltas ORDER BY attempt, item, offset)"
    return cast("str", rows(database, query)[0][0])


def test_text_that_was_said_while_a_call_ran_is_kept_as_partial(
    server: StartServer, model: ScriptedModel, home: Path, database: Path
) -> None:
    """The call's output is put on record in between: it is no end of what is being said."""
    gate = home / "gate"
    call_id, name, arguments = shell(f"until test -e {gate}; do sleep 0.02; done")
    call = {"type": "function_call", "id": "f", "call_id": call_id, "name": name, "arguments": arguments}
    stream: list[Message] = [
        {"type": "response.created", "response": {"id": "r"}},
        {"type": "response.output_item.done", "output_index": 0, "item": call},
        {"type": "response.output_text.delta", "output_index": 1, "item_id": "m", "delta": "While that runs, "},
        {"type": "response.output_text.delta", "output_index": 1, "item_id": "m", "delta": "I think"},
    ]
    body = "".join(f"event: {each['type']}\ndata: {json.dumps(each)}\n\n" for each in stream)
    model.add(Raw(body, ends=False))
    process = server(wire_api="responses")
    session = begin(process)
    until(lambda: deltas(database) == "While that runs, I think", "the text")
    gate.touch()
    until(lambda: rows(database, "SELECT state FROM tool_calls") == [("succeeded",)], "the call's outcome")
    interrupt(process, session)
    assert process.wait_response(1)["result"]["structuredContent"]["kind"] == "interrupted"
    assert kept(process, session) == ["While that runs, I think"]
    assert rows(database, "SELECT count(*) FROM deltas") == [(0,)]


@pytest.mark.parametrize("wire_api", ["chat", "responses"])
def test_of_an_answer_that_was_asked_for_again_the_last_try_is_kept(
    wire_api: str, server: StartServer, model: ScriptedModel, database: Path
) -> None:
    """The first one broke off; its words and those of the second make no sense in a row."""
    model.add(Drop(answer=Answer(text=("said ", "at first "), delay_ms=120), events=3), Hang(before=("and ", "then")))
    retries = {"model_providers": {"scripted": {"request_max_retries": 2, "stream_max_retries": 2}}}
    process = server(wire_api=wire_api, config=retries)
    session = begin(process)
    until(lambda: "at first" in deltas(database), "the first try's text")
    until(lambda: deltas(database).endswith("and then"), "the second try's text")
    interrupt(process, session)
    process.wait_response(1)
    assert kept(process, session) == ["and then"]


def test_a_turn_without_a_worker_ends_at_once(server: StartServer, model: ScriptedModel, database: Path) -> None:
    desk = server("--no-worker")
    session = desk.call_tool("conversation_create", {})["structuredContent"]["conversation_id"]
    message = {"conversation_id": session, "content": [{"type": "text", "text": "hello"}]}
    desk.call_tool("send-user-message", message)
    until(lambda: rows(database, "SELECT state FROM turns") == [("ready",)], "the turn is given up")
    assert interrupt(desk, session)["interrupting"] is True
    page = read(desk, session)
    assert (page["status"], page["last_turn"]["state"]) == ("idle", "interrupted")
    assert page["events"][-1]["msg"] == {"type": "error", "message": " Turn interrupted"}
    assert model.requests == []


@on_linux
@pytest.mark.parametrize("when", ["desk was there before", "desk came after"])
def test_the_turn_of_a_killed_owner_can_be_interrupted(
    when: str, server: StartServer, model: ScriptedModel, home: Path, database: Path
) -> None:
    mark = home / "mark"
    model.add(call_tools(shell(f"echo $$ >> {mark}; exec sleep 60")))
    owner = server()
    session = begin(owner)
    until(lambda: bool(pids(mark)), "the command's first line")
    if when == "desk was there before":
        desk = server("--no-worker")
        assert not idle(desk, session)  # it is answered once the desk is open
        owner.kill()
    else:
        owner.kill()
        desk = server("--no-worker")
    assert interrupt(desk, session)["interrupting"] is True
    until(lambda: idle(desk, session), "the turn's end", SOON_S)
    page = read(desk, session)
    assert (page["last_turn"]["state"], page["last_turn"]["end_reason"]) == ("interrupted", "requested")
    assert outputs(page) == {"c1": UNKNOWN}
    assert rows(database, "SELECT state FROM tool_calls") == [("unknown",)]
    until(lambda: not runs(pids(mark)[0]), "the command's end")
    assert len(model.requests) == 1
