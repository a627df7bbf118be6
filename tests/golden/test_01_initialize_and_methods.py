"""The handshake, the methods without a session, and how calls that make no sense are answered."""

from pathlib import Path

import pytest

from codexdb.testing.model_script import say
from codexdb.testing.scripted_model import ScriptedModel
from codexdb.testing.server_process import Message, RequestId, ServerProcess, StartServer
from tests.golden.differences import differs
from tests.golden.normalise import answer, configured, dumps, refusal, transcript, turn

CLIENT = {"name": "client", "version": "1"}
POLICIES = ["untrusted", "on-failure", "on-request", "never"]
SANDBOXES = ["read-only", "workspace-write", "danger-full-access"]


def initialize(server: ServerProcess, params: object = None, request_id: RequestId = 1) -> Message:
    return server.wait_response(server.request("initialize", params, request_id))


def params_for(version: object) -> Message:
    return {"protocolVersion": version, "capabilities": {"elicitation": {}}, "clientInfo": CLIENT}


# -- initialize --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"])
def test_a_known_protocol_version_is_echoed(server: StartServer, version: str) -> None:
    differs("server-info", "capabilities")
    response = initialize(server(initialize=False), params_for(version))
    assert list(response["result"])[:3] == ["capabilities", "protocolVersion", "serverInfo"]
    assert response["result"]["protocolVersion"] == version
    assert response["result"]["capabilities"]["tools"] == {"listChanged": True}
    assert response["result"]["serverInfo"]["name"] == "codexdb"
    assert list(response["result"]["serverInfo"]) == ["name", "title", "version"]


@pytest.mark.parametrize("version", ["1999-01-01", "", "x"])
def test_an_unknown_protocol_version_is_answered_with_the_newest(server: StartServer, version: str) -> None:
    differs("protocol-version")
    response = initialize(server(initialize=False), params_for(version))
    assert response["result"]["protocolVersion"] == "2025-11-25"


def test_bad_initialize_params_are_refused_and_good_ones_still_accepted(server: StartServer) -> None:
    differs("unanswered-requests")
    process = server(initialize=False)
    bad: list[object] = [
        None,
        {},
        {"protocolVersion": "2025-06-18", "capabilities": {}},
        {"protocolVersion": 5, "capabilities": {}, "clientInfo": CLIENT},
    ]
    for request_id, params in enumerate(bad, 1):
        assert initialize(process, params, request_id)["error"]["code"] == -32602
    good = {
        "protocolVersion": "2025-06-18",
        "capabilities": {"sampling": {}, "roots": {"listChanged": True}, "zzz": 1},
        "clientInfo": {**CLIENT, "extra": 1},
    }
    assert initialize(process, good, "str")["result"]["protocolVersion"] == "2025-06-18"


def test_a_second_initialize_is_refused_and_harms_nothing(server: StartServer) -> None:
    process = server()
    response = initialize(process, params_for("2025-06-18"))
    assert dumps(response["error"]) == dumps({"code": -32600, "message": "initialize called more than once"})
    assert process.wait_response(process.request("ping"))["result"] == {}


def test_requests_before_initialize_are_served(server: StartServer, model: ScriptedModel) -> None:
    model.add(say("Done", usage=False))
    process = server(initialize=False)
    assert process.wait_response(process.request("ping", id=1))["result"] == {}
    assert process.wait_response(process.request("tools/list", id=2))["result"]["tools"]
    process.call_tool("codex", {"prompt": "hi"}, id=3)
    assert transcript(process.messages[2:]) == [configured(3), *turn(3, "3", "Done"), answer(3, "Done")]


# -- methods without a session -----------------------------------------------------------------------------------------


def test_answers_and_notifications_have_the_keys_of_the_original_in_its_order(
    server: StartServer, model: ScriptedModel
) -> None:
    model.add(say("Done", usage=False))
    process = server()
    process.call_tool("codex", {"prompt": "hi"})
    process.wait_response(process.request("tools/call"))
    shapes = {tuple(message) for message in process.messages}
    assert shapes == {("id", "jsonrpc", "result"), ("error", "id", "jsonrpc"), ("jsonrpc", "method", "params")}


@pytest.mark.parametrize("params", [None, {}, {"_meta": {"progressToken": 1}}, [], [1]])
def test_ping_is_answered_whatever_its_params(shared_server: ServerProcess, params: object) -> None:
    assert shared_server.wait_response(shared_server.request("ping", params))["result"] == {}


@pytest.mark.parametrize("request_id", [1_000, -7, "abc", "5", 9_223_372_036_854_775_807])
def test_ids_come_back_with_their_type(shared_server: ServerProcess, request_id: RequestId) -> None:
    assert shared_server.wait_response(shared_server.request("ping", id=request_id))["id"] == request_id


@pytest.mark.parametrize("params", [None, {}, {"cursor": "zzz"}])
def test_all_tools_are_listed_on_one_page_with_the_original_two_first(
    shared_server: ServerProcess, params: Message | None
) -> None:
    differs("tools-listed")
    result = shared_server.wait_response(shared_server.request("tools/list", params))["result"]
    names = [tool["name"] for tool in result["tools"]]
    assert names[:2] == ["codex", "codex-reply"]
    ours = {
        "send-user-message",
        "conversation_create",
        "conversation_read",
        "conversation_stream",
        "conversations_list",
    }
    assert ours <= set(names)
    assert len(set(names)) == len(names)
    assert "nextCursor" not in result


def test_codex_takes_the_arguments_of_both_generations(shared_server: ServerProcess) -> None:
    differs("codex-arguments", "on-request-argument")
    schema = _tool(shared_server, "codex")["inputSchema"]
    types = {name: value["type"] for name, value in schema["properties"].items()}
    strings = ["base-instructions", "compact-prompt", "cwd", "developer-instructions", "model", "profile", "prompt"]
    original = dict.fromkeys(strings, "string") | {"approval-policy": "string", "sandbox": "string"}
    assert types.items() >= (original | {"config": "object", "include-plan-tool": "boolean"}).items()
    assert schema["properties"]["approval-policy"]["enum"] == POLICIES
    assert schema["properties"]["sandbox"]["enum"] == SANDBOXES
    assert schema["properties"]["config"]["additionalProperties"] is True
    assert schema["required"] == ["prompt"]
    assert schema["type"] == "object"


def test_codex_reply_takes_any_of_the_three_names_of_a_session(shared_server: ServerProcess) -> None:
    differs("reply-arguments")
    schema = _tool(shared_server, "codex-reply")["inputSchema"]
    assert {"prompt", "sessionId", "threadId", "conversationId"} <= set(schema["properties"])
    assert schema["required"] == ["prompt"]


def _tool(server: ServerProcess, name: str) -> Message:
    tools = server.wait_response(server.request("tools/list"))["result"]["tools"]
    found: Message = next(tool for tool in tools if tool["name"] == name)
    return found


@pytest.mark.parametrize(
    ("method", "key"),
    [("resources/list", "resources"), ("resources/templates/list", "resourceTemplates"), ("prompts/list", "prompts")],
)
@pytest.mark.parametrize("params", [None, {}])
def test_lists_that_the_original_left_unanswered_are_answered(
    shared_server: ServerProcess, method: str, key: str, params: Message | None
) -> None:
    differs("unanswered-requests")
    response = shared_server.wait_response(shared_server.request(method, params))
    assert isinstance(response["result"][key], list)


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("resources/read", {"uri": "file:///x"}),
        ("resources/subscribe", {"uri": "file:///x"}),
        ("prompts/get", {"name": "x"}),
        ("logging/setLevel", {"level": "debug"}),
        ("logging/setLevel", {"level": "bogus"}),
        ("completion/complete", {"ref": {"type": "ref/prompt", "name": "x"}, "argument": {"name": "a", "value": "b"}}),
    ],
)
def test_methods_that_the_original_left_unanswered_are_answered(
    shared_server: ServerProcess, method: str, params: Message
) -> None:
    differs("unanswered-requests")
    response = shared_server.wait_response(shared_server.request(method, params))
    assert "result" in response or response["error"]["code"] in {-32601, -32602}


@pytest.mark.parametrize("method", ["no/such", "newConversation", "sendUserMessage", "server/discover"])
def test_an_unknown_method_is_refused(shared_server: ServerProcess, method: str) -> None:
    differs("unanswered-requests")
    assert shared_server.wait_response(shared_server.request(method, {}))["error"]["code"] == -32601


@pytest.mark.parametrize("params", [None, {}, {"name": 5}, {"arguments": {}}])
def test_a_tool_call_without_a_name_is_refused(shared_server: ServerProcess, params: Message | None) -> None:
    differs("unanswered-requests")
    assert shared_server.wait_response(shared_server.request("tools/call", params))["error"]["code"] == -32602


# -- calls of codex that fail before a session exists ------------------------------------------------------------------

UNPARSED = "Failed to parse configuration for Codex tool: "
UNLOADED = "Failed to load Codex configuration from overrides: "
WANTED_SANDBOX = "expected one of `read-only`, `workspace-write`, `danger-full-access`"
WANTED_POLICY = "expected one of `untrusted`, `on-failure`, `on-request`, `never`"
MISSING = "Missing arguments for codex tool-call; the `prompt` field is required."

REFUSED: dict[str, tuple[object, str]] = {
    "null arguments": ({"arguments": None}, MISSING),
    "no arguments": ({}, MISSING),
    "empty arguments": ({"arguments": {}}, f"{UNPARSED}missing field `prompt`"),
    "an array": ({"arguments": []}, f"{UNPARSED}invalid length 0, expected struct CodexToolCallParam with 9 elements"),
    "a string": ({"arguments": "x"}, f'{UNPARSED}invalid type: string "x", expected struct CodexToolCallParam'),
    "prompt type": ({"arguments": {"prompt": 5}}, f"{UNPARSED}invalid type: integer `5`, expected a string"),
    "sandbox": ({"arguments": {"prompt": "a", "sandbox": "no"}}, f"{UNPARSED}unknown variant `no`, {WANTED_SANDBOX}"),
    "policy": (
        {"arguments": {"prompt": "a", "approval-policy": "no"}},
        f"{UNPARSED}unknown variant `no`, {WANTED_POLICY}",
    ),
    "config type": (
        {"arguments": {"prompt": "a", "config": 5}},
        f"{UNPARSED}invalid type: integer `5`, expected a map",
    ),
    "plan tool type": (
        {"arguments": {"prompt": "a", "include-plan-tool": "x"}},
        f'{UNPARSED}invalid type: string "x", expected a boolean',
    ),
    "profile": ({"arguments": {"prompt": "a", "profile": "nope"}}, f"{UNLOADED}config profile `nope` not found"),
    "provider": (
        {"arguments": {"prompt": "a", "config": {"model_provider": "nope"}}},
        f"{UNLOADED}Model provider `nope` not found",
    ),
    "sandbox_mode": (
        {"arguments": {"prompt": "a", "config": {"sandbox_mode": "zzz"}}},
        f"{UNLOADED}unknown variant `zzz`, {WANTED_SANDBOX}\nin `sandbox_mode`\n",
    ),
}


@pytest.mark.parametrize(("params", "text"), REFUSED.values(), ids=REFUSED)
def test_codex_refuses_with_the_words_of_the_original(shared_server: ServerProcess, params: Message, text: str) -> None:
    differs("on-request-argument", "structured-content")
    request_id = shared_server.request("tools/call", {"name": "codex", **params})
    assert transcript([shared_server.wait_response(request_id)]) == [refusal(request_id, text)]


@pytest.mark.parametrize("extra", [{}, {"arguments": {}}])
def test_an_unknown_tool_is_refused_in_its_result(shared_server: ServerProcess, extra: Message) -> None:
    request_id = shared_server.request("tools/call", {"name": "nope", **extra})
    assert transcript([shared_server.wait_response(request_id)]) == [refusal(request_id, "Unknown tool 'nope'")]


@pytest.mark.parametrize(
    "arguments",
    [
        {"prompt": "a", "bogus": 1},
        {"prompt": ""},
        {"prompt": "a", "cwd": "/no/such/directory"},
        {"prompt": "a", "approval-policy": "on-request"},
    ],
)
def test_codex_accepts_what_looks_odd(
    server: StartServer, model: ScriptedModel, tmp_path: Path, arguments: Message
) -> None:
    differs("on-request-argument")
    model.add(say("Done", usage=False))
    process = server(cwd=tmp_path)
    process.call_tool("codex", arguments, id=31)
    assert transcript(process.messages) == [configured(31), *turn(31, "31", "Done"), answer(31, "Done")]
