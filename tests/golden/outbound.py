"""Brings what the model endpoint received into the form in which it is compared: one line of JSON per request.

What our requests add to the original's, or say otherwise (see `differences`), is checked here, at every request, and
then put as the original has it. What differs and should not is put right too: `test_10_outbound` has one test for each
such fault, so that a fault fails that test and no other.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

import codexdb
from codexdb.agent.prompts import base_instructions
from codexdb.testing.http1 import ReceivedRequest
from codexdb.testing.scripted_model import ScriptedModel
from codexdb.testing.server_process import Message
from tests.golden.differences import differs
from tests.golden.normalise import dumps

Said = tuple[str, str]
"""A role and its words."""

INSTRUCTIONS = "<instructions>"
RESPONSES_KEYS = [
    "model",
    "instructions",
    "input",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "reasoning",
    "store",
    "stream",
    "include",
]
BASICS = {"accept": "text/event-stream", "content-type": "application/json"}


# -- what is expected --------------------------------------------------------------------------------------------------


def environment(
    cwd: Path | str, approval: str = "never", sandbox: str = "danger-full-access", network: str = "enabled"
) -> Said:
    """What a session is told of where it works."""
    differs("environment-context")
    told = {"cwd": cwd, "approval_policy": approval, "sandbox_mode": sandbox, "network_access": network}
    lines = [f"  <{name}>{value}</{name}>" for name, value in told.items()]
    return "user", "\n".join(["<environment_context>", *lines, "</environment_context>"])


def user(text: str) -> Said:
    return "user", text


def assistant(text: str) -> Said:
    return "assistant", text


def chat_request(
    *said: Said,
    instructions: str = INSTRUCTIONS,
    query: str = "",
    headers: dict[str, str] | None = None,
    tools: tuple[str, ...] = ("shell",),
) -> str:
    """A request of the chat wire as the original makes it, its tools by their names."""
    messages = [{"role": role, "content": text} for role, text in (("system", instructions), *said)]
    body = {"model": "scripted-model", "messages": messages, "stream": True, "tools": list(tools)}
    return _line("/v1/chat/completions" + query, {**BASICS, **(headers or {})}, body)


def responses_request(session: str, *said: Said, instructions: str = INSTRUCTIONS) -> str:
    """The same on the other wire."""
    differs("null-ids")
    body: Message = {
        "model": "scripted-model",
        "instructions": instructions,
        "input": [_item(role, text) for role, text in said],
        "tools": ["shell"],
        "tool_choice": "auto",
        "parallel_tool_calls": False,
        "reasoning": None,
        "store": True,
        "stream": True,
        "include": [],
    }
    headers = {**BASICS, "originator": "codex_cli_rs", "session_id": session}
    return _line("/v1/responses", headers, body)


def _item(role: str, text: str) -> Message:
    if role == "assistant":
        part = {"type": "output_text", "text": text}
        return {"type": "message", "id": "msg_1", "role": role, "content": [part]}
    return {"type": "message", "role": role, "content": [{"type": "input_text", "text": text}]}


def _line(path: str, headers: dict[str, str], body: Message) -> str:
    return dumps({"path": path, "headers": dict(sorted(headers.items())), "body": body})


# -- what was received -------------------------------------------------------------------------------------------------


def body_of(model: ScriptedModel, number: int = 0) -> dict[str, Any]:
    """The body of a request as it came."""
    return cast("dict[str, Any]", model.requests[number].body)


def received(model: ScriptedModel) -> list[str]:
    """Every request so far, as the original would have made it."""
    return [_as_original(request) for request in model.requests]


def _as_original(request: ReceivedRequest) -> str:
    differs("client-name", "own-texts")
    headers = dict(request.headers)
    assert headers.pop("host").startswith("127.0.0.1:")
    assert int(headers.pop("content-length")) > 0
    assert headers.pop("user-agent") == f"codexdb/{codexdb.__version__}"
    headers.pop("accept-encoding", None)  # test_no_header_is_sent_that_nobody_asked_for
    body = cast("dict[str, Any]", request.body)
    if "/chat/completions" in request.path:
        return _line(request.path, headers, _chat(body))
    assert headers["originator"] == "codexdb"
    headers.pop("openai-beta", None)  # test_a_responses_request_names_the_version_of_its_wire
    body = _responses(body, headers["session_id"])
    return _line(request.path, {**headers, "originator": "codex_cli_rs"}, body)


def _chat(body: Message) -> Message:
    differs("chat-usage-request")
    body = dict(body)
    assert body.pop("stream_options") == {"include_usage": True}
    system, *said = body["messages"]
    system = {**system, "content": _shown(system["content"])}
    body["messages"] = [system, *said]
    body["tools"] = known_tools(tool["function"]["name"] for tool in body["tools"])
    return body


def _responses(body: Message, session: str) -> Message:
    differs("stored-responses", "parallel-calls", "prompt-cache-key")
    body = dict(body)
    assert body.pop("prompt_cache_key") == session
    assert (body["store"], body["parallel_tool_calls"]) == (False, True)
    body |= {"store": True, "parallel_tool_calls": False, "instructions": _shown(body["instructions"])}
    body["tools"] = known_tools(tool["name"] for tool in body["tools"])
    body["input"] = [_known_fields(item) for item in body["input"]]
    body = {"reasoning": None, "include": [], **body}  # test_a_responses_body_has_the_recorded_keys_in_their_order
    assert set(body) == set(RESPONSES_KEYS)
    return {key: body[key] for key in RESPONSES_KEYS}


def known_tools(names: Iterable[str]) -> list[str]:
    """Those that the original offers too."""
    differs("more-tools")
    found = list(names)
    assert {"apply_patch", "view_image"} <= set(found)
    return [name for name in found if name not in ("apply_patch", "view_image")]


def _known_fields(item: Message) -> Message:
    """Without what test_an_answer_goes_back_without_what_only_the_endpoint_needs holds."""
    content = [{key: value for key, value in part.items() if key != "annotations"} for part in item["content"]]
    return {key: value for key, value in {**item, "content": content}.items() if key != "status"}


def _shown(instructions: str) -> str:
    return INSTRUCTIONS if instructions == base_instructions() else instructions
