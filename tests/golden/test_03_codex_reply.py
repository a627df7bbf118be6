"""`codex-reply`: the next turns of a session."""

from typing import Any, cast

import pytest

from codexdb.testing.model_script import Hang, say
from codexdb.testing.scripted_model import ScriptedModel
from codexdb.testing.server_process import Message, ServerProcess, StartServer
from tests.golden.differences import differs
from tests.golden.normalise import answer, configured, event, refusal, transcript, turn


def spoken(model: ScriptedModel, number: int) -> list[tuple[str, str]]:
    """Who said what in a chat request, without instructions and environment."""
    body = cast("dict[str, Any]", model.requests[number].body)
    said = [(message["role"], message["content"]) for message in body["messages"] if message["role"] != "system"]
    return [(role, text) for role, text in said if not text.startswith("<")]


def session_of(result: Message) -> str:
    return cast("str", result["structuredContent"]["threadId"])


# -- the way it goes well ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wire_api", ["chat", "responses"])
def test_replies_continue_a_session_in_whatever_spelling_of_its_id(
    server: StartServer, model: ScriptedModel, wire_api: str
) -> None:
    differs("reply-event-id")
    model.add(*(say(text, usage=False) for text in ("one", "two", "three")))
    process = server(wire_api=wire_api)
    session = session_of(process.call_tool("codex", {"prompt": "first"}, id=1))
    process.call_tool("codex-reply", {"sessionId": session, "prompt": "second"}, id=2)
    process.call_tool("codex-reply", {"sessionId": session.upper(), "prompt": "third"}, id="r3")
    assert transcript(process.messages) == [
        configured(1),
        *turn(1, "1", "one"),
        answer(1, "one"),
        *turn(2, "2", "two"),
        answer(2, "two"),
        *turn("r3", "r3", "three"),
        answer("r3", "three"),
    ]


def test_the_model_sees_everything_said_before(server: StartServer, model: ScriptedModel) -> None:
    model.add(*(say(text, usage=False) for text in ("one", "two", "three")))
    process = server()
    session = session_of(process.call_tool("codex", {"prompt": "first"}))
    for prompt in ("second", "third"):
        process.call_tool("codex-reply", {"sessionId": session, "prompt": prompt})
    assert spoken(model, 0) == [("user", "first")]
    assert spoken(model, 2) == [
        ("user", "first"),
        ("assistant", "one"),
        ("user", "second"),
        ("assistant", "two"),
        ("user", "third"),
    ]


@pytest.mark.parametrize("name", ["threadId", "conversationId", "sessionId"])
def test_a_session_may_be_named_as_any_generation_names_it(server: StartServer, name: str) -> None:
    differs("reply-arguments")
    process = server()
    session = session_of(process.call_tool("codex", {"prompt": "first"}))
    result = process.call_tool("codex-reply", {name: session, "prompt": "second"})
    assert session_of(result) == session


# -- while a turn runs -------------------------------------------------------------------------------------------------


def test_a_reply_to_a_running_session_is_refused_and_disturbs_nothing(
    server: StartServer, model: ScriptedModel
) -> None:
    differs("reply-while-running", "structured-content")
    model.add(Hang(answer=say("slow one", usage=False)), say("two", usage=False))
    process = server()
    first = process.start_tool("codex", {"prompt": "first"}, id=1)
    session = process.wait_event("session_configured", first)["msg"]["session_id"]
    process.wait_event("task_started", first)
    model.wait_for_requests(1)

    result = process.call_tool("codex-reply", {"sessionId": session, "prompt": "second while busy"}, id=2)
    details = result["structuredContent"]
    assert list(details)[:3] == ["threadId", "content", "kind"]
    assert details["threadId"] == session
    assert details["kind"] == "busy"
    assert {"turn_id", "since_at_ms", "retryable"} <= set(details)

    model.release()
    process.wait_response(first)
    process.call_tool("codex-reply", {"sessionId": session, "prompt": "third"}, id=3)
    assert transcript(process.messages) == [
        configured(1),
        event(1, "1", "task_started"),
        refusal(2, "Session is already running"),
        *turn(1, "1", "slow one")[1:],
        answer(1, "slow one"),
        *turn(3, "3", "two"),
        answer(3, "two"),
    ]
    assert spoken(model, 1) == [("user", "first"), ("assistant", "slow one"), ("user", "third")]


# -- calls that make no sense ------------------------------------------------------------------------------------------

UNPARSED = "Failed to parse configuration for Codex tool: "
MISSING = "Missing arguments for codex-reply tool-call; the `session_id` and `prompt` fields are required."
UNKNOWN = "0d6f4a57-8b53-4a39-9d3c-2d5d3f0c9a11"

REFUSED: dict[str, tuple[Message, str]] = {
    "unknown session": (
        {"arguments": {"sessionId": UNKNOWN, "prompt": "x"}},
        f"Session not found for session_id: {UNKNOWN}",
    ),
    "braces": (
        {"arguments": {"sessionId": f"{{{UNKNOWN}}}", "prompt": "x"}},
        f"Session not found for session_id: {UNKNOWN}",
    ),
    "no hyphens": (
        {"arguments": {"sessionId": UNKNOWN.replace("-", ""), "prompt": "x"}},
        f"Session not found for session_id: {UNKNOWN}",
    ),
    "not a uuid": (
        {"arguments": {"sessionId": "not-a-uuid", "prompt": "x"}},
        (
            "Failed to parse session_id: invalid character: expected an optional prefix of `urn:uuid:` followed by "
            "[0-9a-fA-F-], found `n` at 1"
        ),
    ),
    "empty id": (
        {"arguments": {"sessionId": "", "prompt": "x"}},
        "Failed to parse session_id: invalid length: expected length 32 for simple format, found 0",
    ),
    "no id": ({"arguments": {"prompt": "x"}}, f"{UNPARSED}missing field `sessionId`"),
    "misspelt id": ({"arguments": {"session_id": UNKNOWN, "prompt": "x"}}, f"{UNPARSED}missing field `sessionId`"),
    "no prompt": ({"arguments": {"sessionId": UNKNOWN}}, f"{UNPARSED}missing field `prompt`"),
    "empty": ({"arguments": {}}, f"{UNPARSED}missing field `sessionId`"),
    "null": ({"arguments": None}, MISSING),
    "absent": ({}, MISSING),
    "array": (
        {"arguments": []},
        f"{UNPARSED}invalid length 0, expected struct CodexToolCallReplyParam with 2 elements",
    ),
    "id type": (
        {"arguments": {"sessionId": 5, "prompt": "x"}},
        f"{UNPARSED}invalid type: integer `5`, expected a string",
    ),
    "prompt type": (
        {"arguments": {"sessionId": UNKNOWN, "prompt": 5}},
        f"{UNPARSED}invalid type: integer `5`, expected a string",
    ),
}


@pytest.mark.parametrize(("params", "text"), REFUSED.values(), ids=REFUSED)
def test_codex_reply_refuses_with_the_words_of_the_original(
    shared_server: ServerProcess, params: Message, text: str
) -> None:
    request_id = shared_server.request("tools/call", {"name": "codex-reply", **params})
    told = transcript([shared_server.wait_response(request_id)])
    assert told == [refusal(request_id, text).replace(UNKNOWN, "<id-1>")]
