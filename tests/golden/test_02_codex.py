"""`codex`: a new session and its first turn."""

from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import pytest

from codexdb.testing.model_script import Answer, say
from codexdb.testing.scripted_model import ScriptedModel
from codexdb.testing.server_process import Message, RequestId, StartServer, write_config
from tests.golden.differences import differs
from tests.golden.normalise import answer, configured, event, transcript, turn, usage


@pytest.mark.parametrize("wire_api", ["chat", "responses"])
def test_a_turn_is_told_from_its_start_to_its_result(server: StartServer, model: ScriptedModel, wire_api: str) -> None:
    model.add(say("Hello ", "world", usage=False))
    process = server(wire_api=wire_api)
    process.call_tool("codex", {"prompt": "greet me"}, id=1)
    told = [configured(1), *turn(1, "1", "Hello world"), answer(1, "Hello world")]
    assert transcript(process.messages) == told


@pytest.mark.parametrize("wire_api", ["chat", "responses"])
def test_usage_is_told_after_the_message(server: StartServer, model: ScriptedModel, wire_api: str) -> None:
    differs("chat-token-count")
    model.add(say("Hello ", "world"))
    process = server(wire_api=wire_api)
    process.call_tool("codex", {"prompt": "greet me"}, id="abc")
    told = [configured("abc"), *turn("abc", "abc", "Hello world", usage()), answer("abc", "Hello world")]
    assert transcript(process.messages) == told


@pytest.mark.parametrize("wire_api", ["chat", "responses"])
def test_text_streams_before_its_message_on_both_wires(
    server: StartServer, model: ScriptedModel, wire_api: str
) -> None:
    differs("chat-deltas", "transient-deltas")
    model.add(say("Hel", "lo ", "world", usage=False))
    process = server(wire_api=wire_api)
    process.call_tool("codex", {"prompt": "greet me"}, id=1)
    kinds = [params["msg"]["type"] for params in process.events(1)]
    first = kinds.index("agent_message_delta")
    assert kinds[first - 1] == "task_started"
    deltas = [params for params in process.events(1) if params["msg"]["type"] == "agent_message_delta"]
    assert kinds[first : first + len(deltas) + 1] == ["agent_message_delta"] * len(deltas) + ["agent_message"]
    assert "".join(params["msg"]["delta"] for params in deltas) == "Hello world"
    assert all(list(params["_meta"]) == ["requestId", "conversationId", "transient"] for params in deltas)


@pytest.mark.parametrize("wire_api", ["chat", "responses"])
def test_a_model_that_says_nothing_completes_with_null_and_an_empty_text(
    server: StartServer, model: ScriptedModel, wire_api: str
) -> None:
    model.add(Answer(usage=False))
    process = server(wire_api=wire_api)
    process.call_tool("codex", {"prompt": "greet me"}, id=1)
    assert transcript(process.messages) == [
        configured(1),
        event(1, "1", "task_started"),
        event(1, "1", "task_complete", last_agent_message=None),
        answer(1, ""),
    ]


def test_reasoning_of_a_chat_model_is_not_told(server: StartServer, model: ScriptedModel) -> None:
    model.add(Answer(reasoning=("thinking", " hard"), text=("Answer",), usage=False))
    process = server()
    process.call_tool("codex", {"prompt": "greet me"}, id=1)
    assert transcript(process.messages) == [configured(1), *turn(1, "1", "Answer"), answer(1, "Answer")]


def test_reasoning_of_a_responses_model_is_told_before_its_message(server: StartServer, model: ScriptedModel) -> None:
    model.add(Answer(reasoning=("thinking", " hard"), text=("Answer",)))
    process = server(wire_api="responses")
    process.call_tool("codex", {"prompt": "greet me"}, id=1)
    started, *rest = turn(1, "1", "Answer", usage())
    thought = event(1, "1", "agent_reasoning", text="thinking hard")
    assert transcript(process.messages) == [configured(1), started, thought, *rest, answer(1, "Answer")]
    deltas = [one["msg"]["delta"] for one in process.events(1) if one["msg"]["type"] == "agent_reasoning_delta"]
    assert "".join(deltas) == "thinking hard"


def test_every_argument_is_taken(server: StartServer, home: Path, tmp_path: Path, model: ScriptedModel) -> None:
    write_config(home, model.base_url, "chat", profiles={"p1": {"model": "profile-model"}})
    model.add(say("Hello world", usage=False))
    process = server(cwd=tmp_path)
    arguments = {
        "prompt": "hi",
        "model": "m2",
        "cwd": ".",
        "approval-policy": "untrusted",
        "sandbox": "read-only",
        "config": {"model_reasoning_effort": "high", "foo.bar": 1},
        "base-instructions": "ANSWER IN ONE WORD",
        "include-plan-tool": True,
        "profile": "p1",
    }
    process.call_tool("codex", arguments, id=1)
    told = [configured(1, model="m2"), *turn(1, "1", "Hello world"), answer(1, "Hello world")]
    assert transcript(process.messages) == told

    body = cast("dict[str, Any]", model.requests[0].body)
    system, environment, prompt = body["messages"]
    assert body["model"] == "m2"
    assert system["role"] == "system"
    assert system["content"].startswith("ANSWER IN ONE WORD")
    assert environment["role"] == "user"
    assert environment["content"].startswith("<environment_context>")
    assert all(word in environment["content"] for word in (str(tmp_path), "untrusted", "read-only"))
    assert prompt == {"role": "user", "content": "hi"}
    assert {"shell", "update_plan"} <= {tool["function"]["name"] for tool in body["tools"]}


def test_the_profile_gives_the_model_unless_an_argument_does(
    server: StartServer, home: Path, model: ScriptedModel
) -> None:
    write_config(home, model.base_url, "chat", profiles={"p1": {"model": "profile-model"}})
    process = server()
    process.call_tool("codex", {"prompt": "hi", "profile": "p1"}, id=1)
    assert process.wait_event("session_configured", 1)["msg"]["model"] == "profile-model"


@pytest.mark.parametrize("token", ["pt", 7])
def test_a_progress_token_changes_no_event(server: StartServer, model: ScriptedModel, token: RequestId) -> None:
    differs("progress")
    model.add(say("Hello ", "world", usage=False))
    process = server()
    process.call_tool("codex", {"prompt": "hi"}, id=1, meta={"progressToken": token})
    assert transcript(process.messages) == [configured(1), *turn(1, "1", "Hello world"), answer(1, "Hello world")]
    progress = [one["params"] for one in process.messages if one.get("method") == "notifications/progress"]
    assert progress
    assert {dict(one)["progressToken"] for one in progress} == {token}
    assert all(later["progress"] > earlier["progress"] for earlier, later in pairwise(progress))
    assert "result" in process.messages[-1], "nothing follows the result"


def test_two_sessions_run_side_by_side(server: StartServer, model: ScriptedModel) -> None:
    model.add(say("one", usage=False), say("one", usage=False))
    process = server()
    ids = [process.start_tool("codex", {"prompt": "hi"}, id=request_id) for request_id in (1, "two")]
    answers = [process.wait_response(request_id) for request_id in ids]
    for request_id, response in zip(ids, answers, strict=True):
        told = [*_events_of(process.messages, request_id), response]
        expected = [configured(request_id), *turn(request_id, str(request_id), "one"), answer(request_id, "one")]
        assert transcript(told) == expected


def _events_of(messages: list[Message], request_id: RequestId) -> list[Message]:
    return [one for one in messages if one.get("method") and one["params"]["_meta"]["requestId"] == request_id]


def test_every_event_is_sent_once(server: StartServer) -> None:
    differs("twin-notification")
    process = server()
    process.call_tool("codex", {"prompt": "hi"})
    assert {message["method"] for message in process.messages if "method" in message} == {"codex/event"}
