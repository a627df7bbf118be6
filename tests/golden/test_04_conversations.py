"""The conversation tools: a session without a turn, and messages that are acknowledged at once."""

from pathlib import Path
from typing import Any, cast

import pytest

from codexdb.testing.model_script import Hang, Status, say
from codexdb.testing.scripted_model import ScriptedModel
from codexdb.testing.server_process import Message, RequestId, ServerProcess, StartServer
from tests.golden.differences import differs
from tests.golden.normalise import (
    accepted,
    answer,
    configured,
    dumps,
    event,
    refusal,
    refused,
    structured,
    transcript,
    turn,
)

UNKNOWN = "5f0c9a4e-0a5b-4a54-8a43-0d7be0a5a7c2"
RUNNING = "Session is already running"

CREATE_NAMES = ["conversationCreate", "conversation_create"]
SEND_NAMES = ["conversationSendMessage", "conversation_send_message", "send-user-message"]


def create(server: ServerProcess, request_id: RequestId = 1, **arguments: object) -> str:
    """A new conversation's id."""
    defaults = {"prompt": "", "model": "scripted-model", "cwd": "/"}
    result = server.call_tool("conversationCreate", {**defaults, **arguments}, id=request_id)
    return cast("str", result["structuredContent"]["conversation_id"])


def text(content: str) -> list[Message]:
    return [{"type": "text", "text": content}]


def send(server: ServerProcess, request_id: RequestId, session: str, content: str = "hello") -> Message:
    arguments = {"conversation_id": session, "content": text(content)}
    return server.call_tool("conversationSendMessage", arguments, id=request_id)


def created(request_id: RequestId, session: str = "<id-1>", model: str = "scripted-model") -> str:
    return structured(request_id, {"conversation_id": session, "model": model})


# -- the way it goes well ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wire_api", ["chat", "responses"])
def test_messages_are_acknowledged_and_their_turns_follow(
    server: StartServer, model: ScriptedModel, wire_api: str
) -> None:
    """Turns of a conversation are told under the id of the call that created it, as the original does."""
    differs("running-flag")
    model.add(say("first", usage=False), say("second", usage=False))
    process = server(wire_api=wire_api)
    session = create(process, prompt="never used")
    send(process, 2, session)
    process.wait_event("task_complete", event_id="2")
    send(process, "s4", session, "again")
    process.wait_event("task_complete", event_id="s4")
    assert transcript(process.messages) == [
        created(1),
        accepted(2),
        *turn(1, "2", "first"),
        accepted("s4"),
        *turn(1, "s4", "second"),
    ]


@pytest.mark.parametrize("name", SEND_NAMES)
def test_an_accepted_message_is_answered_to_the_letter(server: StartServer, name: str) -> None:
    differs("tool-names")
    process = server()
    result = process.call_tool(name, {"conversation_id": create(process), "content": text("hello")})
    assert dumps(result) == (
        '{"content":[{"text":"{\\"status\\":\\"ok\\"}","type":"text"}],"isError":false,'
        '"structuredContent":{"status":"ok"}}'
    )


def test_creating_asks_the_model_nothing_and_its_prompt_is_not_used(server: StartServer, model: ScriptedModel) -> None:
    process = server()
    session = create(process, prompt="never used")
    send(process, 2, session, "hello")
    process.wait_event("task_complete")
    bodies = [cast("dict[str, Any]", request.body) for request in model.requests]
    assert len(bodies) == 1
    assert "never used" not in dumps(bodies)
    assert bodies[0]["messages"][-1] == {"role": "user", "content": "hello"}


def test_codex_reply_continues_a_conversation_and_is_answered(server: StartServer, model: ScriptedModel) -> None:
    differs("reply-to-conversation", "reply-event-id")
    model.add(say("first", usage=False), say("second", usage=False))
    process = server()
    session = create(process)
    send(process, 2, session)
    process.wait_event("task_complete", event_id="2")
    process.call_tool("codex-reply", {"sessionId": session, "prompt": "via codex-reply"}, id=7)
    told = [created(1), accepted(2), *turn(1, "2", "first"), *turn(7, "7", "second"), answer(7, "second")]
    assert transcript(process.messages) == told


def test_a_message_to_a_session_of_codex_is_told_under_its_own_id(server: StartServer, model: ScriptedModel) -> None:
    differs("stale-answers", "running-flag")
    model.add(*(say(word, usage=False) for word in ("first", "second", "third", "fourth")))
    process = server()
    session = process.call_tool("codex", {"prompt": "start"}, id=1)["structuredContent"]["threadId"]
    send(process, 2, session, "hello")
    process.wait_event("task_complete", 2)
    send(process, 3, session, "hello2")
    process.wait_event("task_complete", 3)
    process.call_tool("codex-reply", {"sessionId": session, "prompt": "reply"}, id=4)
    assert transcript(process.messages) == [
        configured(1),
        *turn(1, "1", "first"),
        answer(1, "first"),
        accepted(2),
        *turn(2, "2", "second"),
        accepted(3),
        *turn(3, "3", "third"),
        *turn(4, "4", "fourth"),
        answer(4, "fourth"),
    ]


def test_streaming_and_listing_find_the_conversation(server: StartServer) -> None:
    differs("stream-and-list")
    process = server()
    session = create(process)
    send(process, 2, session)
    process.wait_event("task_complete")
    for name, arguments in (
        ("conversationStream", {"conversation_id": session}),
        ("conversationsList", {}),
        ("conversationsList", {"limit": 1}),
    ):
        result = process.call_tool(name, arguments)
        assert result["isError"] is False, name
        assert session in dumps(result["structuredContent"]), name


# -- while a turn runs -------------------------------------------------------------------------------------------------


def test_a_message_to_a_running_session_is_refused_and_the_next_one_is_not(
    server: StartServer, model: ScriptedModel
) -> None:
    differs("running-flag", "send-error-details")
    model.add(Hang(answer=say("slow done", usage=False)), say("three", usage=False))
    process = server()
    session = create(process)
    send(process, 2, session, "one")
    process.wait_event("task_started", event_id="2")
    model.wait_for_requests(1)
    details = send(process, 3, session, "two")["structuredContent"]
    assert list(details)[:2] == ["status", "message"]
    assert details["kind"] == "busy"
    model.release()
    process.wait_event("task_complete", event_id="2")
    send(process, 4, session, "three")
    process.wait_event("task_complete", event_id="4")
    assert transcript(process.messages) == [
        created(1),
        accepted(2),
        event(1, "2", "task_started"),
        refused(3, RUNNING),
        *turn(1, "2", "slow done")[1:],
        accepted(4),
        *turn(1, "4", "three"),
    ]


def test_a_failed_turn_ends_with_an_error_event_and_frees_the_session(
    server: StartServer, model: ScriptedModel
) -> None:
    differs("running-flag")
    model.add(Status(500, "no"), say("fine", usage=False))
    process = server()
    session = create(process)
    send(process, 2, session)
    process.wait_event("error", event_id="2")
    send(process, 3, session)
    process.wait_event("task_complete", event_id="3")
    failure = "exceeded retry limit, last status: 500 Internal Server Error"
    assert transcript(process.messages) == [
        created(1),
        accepted(2),
        event(1, "2", "task_started"),
        event(1, "2", "error", message=failure),
        accepted(3),
        *turn(1, "3", "fine"),
    ]


# -- creating ----------------------------------------------------------------------------------------------------------

CREATED: dict[str, tuple[Message, str]] = {
    "no cwd": ({"prompt": "a", "model": "m"}, "m"),
    "no model": ({"prompt": "a", "cwd": "/"}, "scripted-model"),
    "no prompt": ({"model": "m", "cwd": "/"}, "m"),
    "nothing": ({}, "scripted-model"),
    "cwd that is not there": ({"prompt": "a", "model": "m", "cwd": "/no/such"}, "m"),
    "relative cwd": ({"prompt": "a", "model": "m", "cwd": "rel"}, "m"),
    "config that is no object": ({"prompt": "a", "model": "m", "cwd": "/", "config": 5}, "m"),
    "policy": ({"prompt": "a", "model": "m", "cwd": "/", "approval_policy": "on-request"}, "m"),
    "everything": (
        {
            "prompt": "a",
            "model": "m",
            "cwd": "/",
            "sandbox": "read-only",
            "approval_policy": "untrusted",
            "base_instructions": "B",
            "bogus": 1,
        },
        "m",
    ),
}


@pytest.mark.parametrize(("arguments", "model_name"), CREATED.values(), ids=CREATED)
@pytest.mark.parametrize("name", CREATE_NAMES)
def test_a_conversation_is_created_from_whatever_is_given(
    shared_server: ServerProcess, name: str, arguments: Message, model_name: str
) -> None:
    differs("conversation-defaults", "tool-names")
    request_id = shared_server.start_tool(name, arguments)
    response = shared_server.wait_response(request_id)
    assert transcript([response]) == [created(request_id, model=model_name)]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ({"profile": "nope"}, "Failed to load config: config profile `nope` not found"),
        ({"config": {"model_provider": "nope"}}, "Failed to load config: Model provider `nope` not found"),
    ],
)
def test_a_conversation_is_refused_with_the_words_of_the_original(
    shared_server: ServerProcess, override: Message, message: str
) -> None:
    arguments = {"prompt": "a", "model": "m", "cwd": "/", **override}
    request_id = shared_server.start_tool("conversationCreate", arguments)
    response = shared_server.wait_response(request_id)
    assert transcript([response]) == [structured(request_id, {"message": message}, error=True)]


@pytest.mark.parametrize(
    ("field", "value"), [("sandbox", "bogus"), ("approval_policy", "unless-trusted"), ("model", 5)]
)
def test_a_bad_setting_of_a_new_conversation_is_named(shared_server: ServerProcess, field: str, value: object) -> None:
    differs("conversation-argument-errors")
    arguments = {"prompt": "a", "model": "m", "cwd": "/", field: value}
    result = shared_server.call_tool("conversationCreate", arguments)
    assert result["isError"] is True
    assert next(iter(result["structuredContent"])) == "message"
    assert field in result["structuredContent"]["message"]
    assert result["content"][0]["text"] == dumps(result["structuredContent"])


# -- sending -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def conversation(shared_server: ServerProcess) -> str:
    """A conversation in which nothing is ever accepted."""
    return create(shared_server, "made-for-refusals")


def refusal_of(server: ServerProcess, name: str, arguments: object) -> Message:
    """The structured half of a refusal, after looking at its shape."""
    request_id = server.start_tool(name, arguments)
    result = server.wait_response(request_id)["result"]
    assert list(result) == ["content", "isError", "structuredContent"]
    assert result["isError"] is True
    assert result["content"] == [{"text": dumps(result["structuredContent"]), "type": "text"}]
    assert list(result["structuredContent"])[:2] == ["status", "message"]
    assert result["structuredContent"]["status"] == "error"
    return cast("Message", result["structuredContent"])


def test_no_content_is_refused_before_the_session_is_looked_for(
    shared_server: ServerProcess, conversation: str
) -> None:
    for session in (UNKNOWN, conversation):
        arguments: Message = {"conversation_id": session, "content": []}
        details = refusal_of(shared_server, "conversationSendMessage", arguments)
        assert details["message"] == "No content items provided"


def test_an_unknown_session_is_refused(shared_server: ServerProcess) -> None:
    arguments = {"conversation_id": UNKNOWN, "content": text("x")}
    details = refusal_of(shared_server, "conversationSendMessage", arguments)
    assert details["message"] == "Session does not exist"


MALFORMED: dict[str, tuple[Message, str]] = {
    "bad id": ({"conversation_id": "bad"}, "conversation_id"),
    "id of another type": ({"conversation_id": 5}, "conversation_id"),
    "text without text": ({"content": [{"type": "text"}]}, "content[0].text"),
    "second item": ({"content": [*text("x"), {"type": "text", "text": 5}]}, "content[1].text"),
    "unknown item": ({"content": [{"type": "bogus", "text": "x"}]}, "content[0]"),
    "content that is no array": ({"content": "x"}, "content"),
    "item that is no object": ({"content": [5]}, "content[0]"),
    "image without address": ({"content": [{"type": "image"}]}, "content[0].image_url"),
    "file without path": ({"content": [{"type": "local_image"}]}, "content[0].path"),
    "bad parent": ({"parent_message_id": "bad"}, "parent_message_id"),
}


@pytest.mark.parametrize(("override", "field"), MALFORMED.values(), ids=MALFORMED)
@pytest.mark.parametrize("name", SEND_NAMES)
def test_a_malformed_message_is_refused_by_the_name_of_its_field(
    shared_server: ServerProcess, conversation: str, name: str, override: Message, field: str
) -> None:
    differs("conversation-argument-errors")
    arguments = {"conversation_id": conversation, "content": text("x"), **override}
    assert field in refusal_of(shared_server, name, arguments)["message"]


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"conversation_id": UNKNOWN}, "content"),
        ({"content": [{"type": "text", "text": "x"}]}, "conversation_id"),
        ({"conversationId": UNKNOWN, "content": [{"type": "text", "text": "x"}]}, "conversation_id"),
        ({}, "conversation_id"),
        (None, "conversation_id"),
        ("x", "arguments"),
        ([], "arguments"),
    ],
)
def test_a_message_without_what_it_needs_is_refused_by_the_name_of_what_is_missing(
    shared_server: ServerProcess, arguments: object, field: str
) -> None:
    differs("conversation-argument-errors")
    assert field in refusal_of(shared_server, "conversationSendMessage", arguments)["message"]


def test_null_arguments_are_no_arguments(shared_server: ServerProcess) -> None:
    params = {"name": "conversationSendMessage", "arguments": None}
    result = shared_server.wait_response(shared_server.request("tools/call", params))["result"]
    assert "conversation_id" in result["structuredContent"]["message"]


def test_a_message_with_a_picture_is_accepted(server: StartServer, model: ScriptedModel, tmp_path: Path) -> None:
    picture = tmp_path / "dot.png"
    picture.write_bytes(b"\x89PNG\r\n\x1a\n")
    process = server(wire_api="responses")
    content = [*text("look"), {"type": "local_image", "path": str(picture)}]
    content.append({"type": "image", "image_url": "data:image/png;base64,AA=="})
    process.call_tool("conversationSendMessage", {"conversation_id": create(process), "content": content}, id=2)
    process.wait_event("task_complete")
    body = cast("dict[str, Any]", model.requests[0].body)
    assert body["input"][-1]["content"] == [
        {"type": "input_text", "text": "look"},
        {"type": "input_image", "image_url": "data:image/png;base64,iVBORw0KGgo="},
        {"type": "input_image", "image_url": "data:image/png;base64,AA=="},
    ]


# -- names -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "send_user_message",
        "sendUserMessage",
        "newConversation",
        "conversationConnect",
        "ConversationSendMessage",
        "codex_reply",
    ],
)
@pytest.mark.parametrize("arguments", [None, {}])
def test_a_name_that_nobody_promised_is_unknown(
    shared_server: ServerProcess, name: str, arguments: Message | None
) -> None:
    request_id = shared_server.start_tool(name, arguments)
    response = shared_server.wait_response(request_id)
    assert transcript([response]) == [refusal(request_id, f"Unknown tool '{name}'")]


@pytest.mark.parametrize("name", [*CREATE_NAMES, "conversationsList", "conversations_list"])
@pytest.mark.parametrize("arguments", [None, {}])
def test_creating_and_listing_need_no_arguments(
    shared_server: ServerProcess, name: str, arguments: Message | None
) -> None:
    differs("tool-names", "conversation-defaults", "stream-and-list")
    assert shared_server.call_tool(name, arguments)["isError"] is False


@pytest.mark.parametrize("name", ["conversationStream", "conversation_stream", "conversation_connect"])
@pytest.mark.parametrize("arguments", [None, {}, {"conversation_id": "bad"}])
def test_streaming_needs_the_id_of_a_conversation(
    shared_server: ServerProcess, name: str, arguments: Message | None
) -> None:
    differs("tool-names", "stream-and-list")
    result = shared_server.call_tool(name, arguments)
    assert result["isError"] is True
    assert "conversation_id" in result["content"][0]["text"]
