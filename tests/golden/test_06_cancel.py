"""Calls that are cancelled while they run, wait or are over, and what the session is told afterwards."""

from pathlib import Path
from typing import cast

import pytest

from codexdb.testing.model_script import Hang, say
from codexdb.testing.scripted_model import ScriptedModel
from codexdb.testing.server_process import RequestId, ServerProcess, StartServer
from tests.golden.calling import (
    asks_to_run,
    calls,
    cancel,
    conversation,
    decide,
    made,
    output,
    printed,
    question,
    shell,
)
from tests.golden.differences import differs
from tests.golden.normalise import DURATION, accepted, answer, configured, dumps, event, structured, transcript, turn
from tests.golden.outbound import chat_request, environment, received, user

NOT_RUN = "This call was not run: the turn ended before it began."
STOPPED = "The command was stopped while it ran. What it did until then stands. It had printed:\nhi"


def interrupted(request_id: RequestId, *between: str) -> list[str]:
    """The events of a turn that was cancelled. There is no answer."""
    differs("cancelled-answer", "reply-event-id")
    event_id = str(request_id)
    end = event(request_id, event_id, "error", message=" Turn interrupted")
    return [event(request_id, event_id, "task_started"), *between, end]


def replied(request_id: RequestId, text: str) -> list[str]:
    return [*turn(request_id, str(request_id), text), answer(request_id, text)]


def reply(process: ServerProcess, session: str, prompt: str, request_id: RequestId) -> None:
    process.call_tool("codex-reply", {"sessionId": session, "prompt": prompt}, id=request_id)


def wait_cancelled(process: ServerProcess, request_id: RequestId) -> str:
    """Wait for the end of its turn; its session's id."""
    return cast("str", process.wait_event("error", request_id)["_meta"]["conversationId"])


def said(text: str) -> str:
    return dumps({"role": "user", "content": text})


def create(process: ServerProcess, cwd: Path) -> str:
    """A conversation, made by call 1."""
    arguments = {"prompt": "", "model": "scripted-model", "cwd": str(cwd)}
    result = process.call_tool("conversationCreate", arguments, id=1)
    return cast("str", result["structuredContent"]["conversation_id"])


def send(process: ServerProcess, session: str, request_id: RequestId) -> None:
    content = [{"type": "text", "text": "x"}]
    process.call_tool("conversationSendMessage", {"conversation_id": session, "content": content}, id=request_id)


def created() -> str:
    return structured(1, {"conversation_id": "<id-1>", "model": "scripted-model"})


def test_a_cancelled_reply_leaves_its_session_usable(server: StartServer, home: Path, model: ScriptedModel) -> None:
    model.add(say("a", usage=False), Hang(), say("c", usage=False))
    process = server()
    session = process.call_tool("codex", {"prompt": "x"}, id=1)["structuredContent"]["threadId"]
    process.start_tool("codex-reply", {"sessionId": session, "prompt": "y"}, id=2)
    model.wait_for_requests(2)
    cancel(process, 2)
    wait_cancelled(process, 2)
    reply(process, session, "z", 3)
    assert transcript(process.messages) == [configured(1), *replied(1, "a"), *interrupted(2), *replied(3, "c")]
    assert received(model)[0] == chat_request(environment(home), user("x"))
    assert conversation(model) == ['{"role":"assistant","content":"a"}', said("y"), said("z")]


def test_a_cancelled_stream_is_closed_and_its_text_is_kept(server: StartServer, model: ScriptedModel) -> None:
    differs("partial-text", "abandoned-stream", "chat-deltas")
    model.add(Hang(before=("p1 ", "p2 ")), say("after", usage=False))
    process = server()
    process.start_tool("codex", {"prompt": "x"}, id=1)
    process.wait_message(lambda message: "p2" in dumps(message), "the second piece")
    cancel(process, 1, reason="user")
    session = wait_cancelled(process, 1)
    model.wait_for_early_closes(1)
    reply(process, session, "continue", 2)
    assert transcript(process.messages) == [configured(1), *interrupted(1), *replied(2, "after")]
    assert conversation(model) == ['{"role":"assistant","content":"p1 p2 "}', said("continue")]


@pytest.mark.parametrize("request_id", [1, "s-1"], ids=["number", "text"])
def test_a_call_is_cancelled_before_the_model_says_anything(
    server: StartServer, home: Path, model: ScriptedModel, request_id: RequestId
) -> None:
    differs("abandoned-stream")
    model.add(Hang())
    process = server()
    process.start_tool("codex", {"prompt": "x"}, id=request_id)
    model.wait_for_requests(1)
    cancel(process, request_id)
    wait_cancelled(process, request_id)
    model.wait_for_early_closes(1)
    assert transcript(process.messages) == [configured(request_id), *interrupted(request_id)]
    assert received(model) == [chat_request(environment(home), user("x"))]


def test_a_call_is_cancelled_while_a_person_is_asked(server: StartServer, home: Path, model: ScriptedModel) -> None:
    differs("withdrawn-question", "aborted-calls")
    call = shell(["touch", "x"])
    model.add(calls(call), say("after", usage=False))
    process = server(config={"approval_policy": "untrusted"})
    process.start_tool("codex", {"prompt": "x"}, id=1)
    process.wait_request("elicitation/create")
    cancel(process, 1)
    session = wait_cancelled(process, 1)
    process.wait_message(lambda message: message.get("method") == "notifications/cancelled", "the withdrawal")
    decide(process, {"decision": "approved"})  # too late
    reply(process, session, "continue", 2)
    lines = transcript(process.messages)
    lines.remove('{"method":"notifications/cancelled","params":{"requestId":0}}')
    asked = asks_to_run(["touch", "x"], home)
    assert lines == [configured(1), *interrupted(1, *asked), *replied(2, "after")]
    assert conversation(model) == [made(call), output(NOT_RUN), said("continue")]
    assert not (home / "x").exists()


def test_a_call_is_cancelled_while_a_command_runs(server: StartServer, home: Path, model: ScriptedModel) -> None:
    """Not in the recordings, but what is known of the original: there is no end of the command."""
    differs("aborted-calls")
    command = ["sh", "-c", "echo hi; sleep 300"]
    call = shell(command)
    model.add(calls(call), say("after", usage=False))
    process = server()
    process.start_tool("codex", {"prompt": "x"}, id=1)
    process.wait_event("exec_command_output_delta", 1)
    cancel(process, 1)
    session = wait_cancelled(process, 1)
    reply(process, session, "continue", 2)
    begin = event(1, "1", "exec_command_begin", call_id="call_1", command=command, cwd=str(home))
    assert transcript(process.messages) == [configured(1), *interrupted(1, begin), *replied(2, "after")]
    assert conversation(model) == [made(call), output(STOPPED), said("continue")]


def test_cancelling_what_is_not_there_or_over_does_nothing(server: StartServer, model: ScriptedModel) -> None:
    differs("reply-event-id")
    model.add(say("a", usage=False), say("b", usage=False))
    process = server()
    cancel(process, 99)
    cancel(process, "zz")
    process.notify("notifications/cancelled")
    process.notify("notifications/cancelled", {})
    session = process.call_tool("codex", {"prompt": "x"}, id=1)["structuredContent"]["threadId"]
    cancel(process, 1)
    reply(process, session, "y", 2)
    assert transcript(process.messages) == [configured(1), *replied(1, "a"), *replied(2, "b")]
    assert conversation(model) == ['{"role":"assistant","content":"a"}', said("y")]


def test_the_calls_of_a_conversation_are_over_before_its_turn(
    server: StartServer, home: Path, model: ScriptedModel
) -> None:
    model.add(Hang(answer=say("released", usage=False)))
    process = server()
    send(process, create(process, home), 2)
    process.wait_event("task_started", event_id="2")
    model.wait_for_requests(1)
    cancel(process, 2)
    cancel(process, 1)
    process.wait_response(process.request("ping", id=3))
    recorded = [created(), accepted(2), event(1, "2", "task_started")]
    assert transcript(process.messages) == [*recorded, '{"id":3,"result":{}}']
    model.release()
    process.wait_event("task_complete", event_id="2")
    assert transcript(process.messages)[4:] == turn(1, "2", "released")[1:]
    assert received(model) == [chat_request(environment(home), user("x"))]


def test_a_command_of_a_conversation_is_asked_about_under_the_call_that_created_it(
    server: StartServer, home: Path, model: ScriptedModel
) -> None:
    call = shell(["touch", "x"])
    model.add(calls(call), say("after", usage=False))
    process = server(config={"approval_policy": "untrusted"})
    send(process, create(process, home), "m2")
    decide(process, {"decision": "approved"})
    process.wait_event("task_complete", event_id="m2")
    command = {"call_id": "call_1", "command": ["touch", "x"], "cwd": str(home)}
    message = f"Allow Codex to run `touch x` in `{home}`?"
    ended = {"call_id": "call_1", "stdout": "", "stderr": "", "exit_code": 0, "duration": DURATION}
    started, *rest = turn(1, "m2", "after")
    assert transcript(process.messages) == [
        created(),
        accepted("m2"),
        started,
        event(1, "m2", "exec_approval_request", **command),
        question(0, "exec", message, "call_1", "m2", command=["touch", "x"], cwd=str(home)),
        event(1, "m2", "exec_command_begin", **command),
        event(1, "m2", "exec_command_end", **ended),
        *rest,
    ]
    assert received(model)[0] == chat_request(environment(home, "untrusted"), user("x"))
    assert conversation(model) == [made(call), printed("")]
    assert (home / "x").exists()
