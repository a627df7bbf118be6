"""Every call of `codex` and `codex-reply` that Codex 0.153 takes is one that our advertised schemas take."""

from collections.abc import Callable
from itertools import combinations
from typing import Any, cast

import jsonschema
import pytest

from codexdb.testing.server_process import Message, ServerProcess

THREAD = "0199d2a4-6a5c-7c1e-8a65-6f1d2f4f3b10"
OTHER = "0199d2a4-6a5c-7c1e-8a65-6f1d2f4f3b11"

OPTIONS: list[Message] = [
    {"approval-policy": "on-request"},
    {"approval-policy": "never"},
    {"base-instructions": "be brief"},
    {"compact-prompt": "sum up"},
    {"config": {}},
    {"config": {"model_reasoning_effort": "high", "nested": {"deep": [1, None, True]}}},
    {"cwd": "."},
    {"developer-instructions": "use tabs"},
    {"model": "m"},
    {"sandbox": "read-only"},
    {"sandbox": "workspace-write"},
    {"sandbox": "danger-full-access"},
]

CODEX: list[Message] = [
    {"prompt": "hi"},
    {"prompt": ""},
    *({"prompt": "hi", **option} for option in OPTIONS),
    *({"prompt": "hi", **one, **other} for one, other in combinations(OPTIONS, 2)),
    {"prompt": "hi", **{name: value for option in OPTIONS for name, value in option.items()}},
]

REPLIES: list[Message] = [
    {"prompt": "hi", "threadId": THREAD},
    {"prompt": "hi", "conversationId": THREAD},
    {"prompt": "hi", "threadId": THREAD, "conversationId": THREAD},
    {"prompt": "hi", "threadId": THREAD, "conversationId": OTHER},
    {"prompt": "", "threadId": THREAD},
]

OLD_CODEX: list[Message] = [
    *({"prompt": "hi", "approval-policy": policy} for policy in ("untrusted", "on-failure", "never")),
    {"prompt": "hi", "include-plan-tool": True},
    {"prompt": "hi", "profile": "p"},
]


def validator(server: ServerProcess, tool: str) -> Callable[[Message], list[str]]:
    """What the advertised schema of a tool says against some arguments."""
    tools = server.wait_response(server.request("tools/list"))["result"]["tools"]
    schema = next(one["inputSchema"] for one in tools if one["name"] == tool)
    jsonschema.Draft202012Validator.check_schema(schema)
    checker: Any = jsonschema.Draft202012Validator(schema)
    return lambda arguments: [cast("str", error.message) for error in checker.iter_errors(arguments)]


def test_codex_takes_every_argument_of_0_153_alone_and_with_every_other(shared_server: ServerProcess) -> None:
    problems = validator(shared_server, "codex")
    assert {str(arguments): found for arguments in CODEX if (found := problems(arguments))} == {}


def test_codex_takes_what_only_0_20_knows(shared_server: ServerProcess) -> None:
    problems = validator(shared_server, "codex")
    assert {str(arguments): found for arguments in OLD_CODEX if (found := problems(arguments))} == {}


def test_codex_reply_takes_a_thread_by_any_of_its_names_or_several(shared_server: ServerProcess) -> None:
    problems = validator(shared_server, "codex-reply")
    known = [*REPLIES, {"prompt": "hi", "sessionId": THREAD}]
    assert {str(arguments): found for arguments in known if (found := problems(arguments))} == {}


@pytest.mark.parametrize("tool", ["codex", "codex-reply"])
def test_the_schemas_still_refuse_what_is_wrong(shared_server: ServerProcess, tool: str) -> None:
    problems = validator(shared_server, tool)
    assert problems({})
    assert problems({"prompt": 5})


@pytest.mark.parametrize("tool", ["codex", "codex-reply"])
def test_the_result_schemas_promise_thread_and_content(shared_server: ServerProcess, tool: str) -> None:
    tools = shared_server.wait_response(shared_server.request("tools/list"))["result"]["tools"]
    schema = next(one["outputSchema"] for one in tools if one["name"] == tool)
    assert schema["type"] == "object"
    checker: Any = jsonschema.Draft202012Validator(schema)
    assert checker.is_valid({"threadId": THREAD, "content": "hi"})
    assert checker.is_valid({"threadId": THREAD, "content": "no", "kind": "busy", "turn_id": OTHER, "retryable": True})


def test_the_newer_name_of_a_thread_wins(shared_server: ServerProcess) -> None:
    arguments = {"prompt": "hi", "threadId": THREAD, "conversationId": OTHER, "sessionId": OTHER}
    result = shared_server.call_tool("codex-reply", arguments)
    assert result["content"][0]["text"] == f"Session not found for session_id: {THREAD}"


@pytest.mark.parametrize("arguments", REPLIES)
def test_a_call_that_the_schema_takes_is_one_that_the_server_takes(
    shared_server: ServerProcess, arguments: Message
) -> None:
    result = shared_server.call_tool("codex-reply", arguments)
    assert result["content"][0]["text"] == f"Session not found for session_id: {THREAD}"


def test_a_session_answers_under_both_names_at_once(shared_server: ServerProcess) -> None:
    first = shared_server.call_tool("codex", {"prompt": "hi"})
    thread = first["structuredContent"]["threadId"]
    names = {"threadId": thread, "conversationId": thread}
    result = shared_server.call_tool("codex-reply", {"prompt": "go on", **names})
    assert result["structuredContent"] == {"threadId": thread, "content": "ok"}
