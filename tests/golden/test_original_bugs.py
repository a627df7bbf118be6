"""What went wrong in the original does not go wrong here: one test per fault, named after it."""

import re
from typing import Any, cast

import pytest

from codexdb.testing.model_script import Drop, Hang, Raw, Status, Step, Truncate, say
from codexdb.testing.scripted_model import ScriptedModel
from codexdb.testing.server_process import Message, ServerProcess, StartServer
from tests.golden.differences import differs
from tests.golden.normalise import dumps

EXIT_S = 3.0  # a client kills two seconds after it closed our input; the rest is for a loaded machine


def message(session: str, content: str = "hello") -> Message:
    return {"conversation_id": session, "content": [{"type": "text", "text": content}]}


def conversation(server: ServerProcess) -> str:
    return cast("str", server.call_tool("conversation_create", {})["structuredContent"]["conversation_id"])


def reply(server: ServerProcess, result: Message, prompt: str = "go on") -> Message:
    arguments = {"sessionId": result["structuredContent"]["threadId"], "prompt": prompt}
    return server.call_tool("codex-reply", arguments)


def words(result: Message) -> str:
    return cast("str", result["content"][0]["text"])


def test_the_running_flag_is_cleared_however_a_turn_ends(server: StartServer, model: ScriptedModel) -> None:
    differs("running-flag")
    model.add(say("first"), Status(500), Hang(), say("fourth"))
    process = server()
    session = conversation(process)
    for number, end in enumerate(("task_complete", "error", "error", "task_complete"), 1):
        result = process.call_tool("send-user-message", message(session), id=f"send {number}")
        assert result["structuredContent"] == {"status": "ok"}
        if number == 3:
            model.wait_for_requests(3)
            process.call_tool("conversation_interrupt", {"conversation_id": session})
        process.wait_event(end, event_id=f"send {number}")


@pytest.mark.parametrize("failure", [Status(500), Status(401, "no"), Drop("connect"), Drop("headers"), Drop("mid")])
def test_a_session_is_not_wedged_after_an_error(server: StartServer, model: ScriptedModel, failure: Step) -> None:
    differs("wedge-after-error")
    model.add(failure, say("recovered"))
    process = server()
    failed = process.call_tool("codex", {"prompt": "start"})
    assert failed["isError"] is True
    assert words(reply(process, failed)) == "recovered"


def test_thirty_instant_sessions_all_answer_a_reply(server: StartServer) -> None:
    differs("fast-turn-race")
    process = server(wire_api="responses")
    for _ in range(30):
        first = process.call_tool("codex", {"prompt": "first"})
        assert words(reply(process, first)) == "ok"


def test_a_line_of_invalid_utf8_does_not_make_the_server_deaf(server: StartServer) -> None:
    differs("invalid-utf8")
    process = server()
    process.send_raw(b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"x":"\xff\xfe"}}\n\xc3\x28\n')
    assert process.wait_response(process.request("ping", id=2))["result"] == {}


def test_the_server_exits_when_its_input_ends(server: StartServer) -> None:
    differs("exit-at-end-of-input")
    process = server()
    process.close_stdin()
    assert process.wait_exit(EXIT_S) == 0


def test_the_server_exits_when_its_input_ends_in_the_middle_of_a_turn(
    server: StartServer, model: ScriptedModel
) -> None:
    differs("exit-at-end-of-input")
    model.add(Hang())
    process = server()
    request_id = process.start_tool("codex", {"prompt": "start"})
    model.wait_for_requests(1)
    process.close_stdin()
    result = process.wait_response(request_id)["result"]
    assert result["isError"] is True
    assert result["structuredContent"]["kind"] == "suspended"
    assert process.wait_exit(EXIT_S) == 0


def test_a_reply_returns_its_own_answer_and_no_stale_one(server: StartServer, model: ScriptedModel) -> None:
    differs("stale-answers")
    model.add(say("first"), say("second"), say("third"))
    process = server()
    first = process.call_tool("codex", {"prompt": "start"})
    send = process.start_tool("send-user-message", message(first["structuredContent"]["threadId"]))
    process.wait_event("task_complete", send)
    assert words(reply(process, first)) == "third"


def test_a_failed_turn_gives_a_valid_tool_result(server: StartServer, model: ScriptedModel) -> None:
    differs("error-results")
    model.add(Status(401, "bad key"))
    process = server()
    result = process.call_tool("codex", {"prompt": "start"}, id=1)
    failure = "unexpected status 401 Unauthorized: bad key"
    assert list(result) == ["content", "isError", "structuredContent"]
    assert result["content"] == [{"text": failure, "type": "text"}]
    assert result["isError"] is True
    assert list(result["structuredContent"])[:3] == ["threadId", "content", "kind"]
    assert [one["msg"]["type"] for one in process.events(1)] == ["session_configured", "task_started", "error"]
    assert process.events(1)[-1]["msg"] == {"type": "error", "message": failure}


def test_a_cancelled_call_gets_no_answer_and_leaves_the_session_usable(
    server: StartServer, model: ScriptedModel
) -> None:
    differs("cancelled-answer")
    model.add(Hang(), say("after"))
    process = server()
    request_id = process.start_tool("codex", {"prompt": "start"}, id=1)
    session = process.wait_event("session_configured", request_id)["msg"]["session_id"]
    model.wait_for_requests(1)
    process.notify("notifications/cancelled", {"requestId": request_id})
    assert process.wait_event("error", request_id)["msg"]["message"] == " Turn interrupted"
    result = process.call_tool("codex-reply", {"sessionId": session, "prompt": "go on"}, id=2)
    assert words(result) == "after"
    assert not [one for one in process.messages if one.get("id") == 1]


def test_a_reply_while_a_turn_runs_does_not_starve_the_first_caller(server: StartServer, model: ScriptedModel) -> None:
    differs("reply-while-running")
    model.add(Hang(answer=say("mine")))
    process = server()
    first = process.start_tool("codex", {"prompt": "start"}, id=1)
    session = process.wait_event("session_configured", first)["msg"]["session_id"]
    model.wait_for_requests(1)
    refused = process.call_tool("codex-reply", {"sessionId": session, "prompt": "me too"}, id=2)
    assert words(refused) == "Session is already running"
    model.release()
    assert words(process.wait_response(first)["result"]) == "mine"
    assert process.events(2) == []


@pytest.mark.parametrize("wire_api", ["chat", "responses"])
def test_texts_of_failed_attempts_do_not_enter_the_history(
    server: StartServer, model: ScriptedModel, wire_api: str
) -> None:
    differs("failed-attempt-text")
    broken = Drop("mid", answer=say("part"), events=1 if wire_api == "chat" else 2)
    model.add(broken, broken, say("recovered"), say("again"))
    retries = {"scripted": {"stream_max_retries": 2, "request_max_retries": 2}}
    process = server(wire_api=wire_api, config={"model_providers": retries})
    result = process.call_tool("codex", {"prompt": "start"}, id=1)
    assert words(result) == "recovered"
    notices = [one["msg"]["message"] for one in process.events(1) if one["msg"]["type"] == "background_event"]
    assert [re.search(r"retrying (\d/\d) in \d+ms…$", notice)[1] for notice in notices] == ["1/2", "2/2"]  # pyright: ignore[reportOptionalSubscript]
    reply(process, result)
    assert assistant_texts(cast("dict[str, Any]", model.requests[3].body)) == ["recovered"]


def assistant_texts(body: Message) -> list[str]:
    """What a request says that the assistant said, on either wire."""
    if "messages" in body:
        return [one["content"] for one in body["messages"] if one["role"] == "assistant"]
    said = [one["content"] for one in body["input"] if one.get("role") == "assistant"]
    return ["".join(part["text"] for part in content) for content in said]


@pytest.mark.parametrize(
    "body",
    [
        Truncate(answer=say("half an ans")),
        Truncate(events=0),
        Raw("<html>maintenance</html>", content_type="text/html"),
        Raw("data: {not json\n\n"),
        Raw(""),
    ],
    ids=["truncated", "empty stream", "html", "malformed", "empty"],
)
def test_a_chat_answer_that_breaks_off_is_no_success(server: StartServer, model: ScriptedModel, body: Step) -> None:
    differs("truncated-chat")
    model.add(body, say("recovered"))
    process = server()
    failed = process.call_tool("codex", {"prompt": "start"}, id=1)
    assert failed["isError"] is True
    assert words(failed).startswith("stream disconnected before completion")
    assert process.events(1)[-1]["msg"]["type"] == "error"
    assert words(reply(process, failed)) == "recovered"


def test_a_session_outlives_its_server(server: StartServer, model: ScriptedModel) -> None:
    differs("restart")
    model.add(say("ANSWER-1"), say("ANSWER-2"))
    process = server()
    first = process.call_tool("codex", {"prompt": "PROMPT-1"})
    process.kill()
    assert words(reply(server(), first)) == "ANSWER-2"
    said = dumps(cast("dict[str, Any]", model.requests[1].body)["messages"])
    assert said.index("PROMPT-1") < said.index("ANSWER-1") < said.index("go on")
