"""What the model endpoint is asked: address, headers, and bodies down to the order of their keys."""

import socket
from pathlib import Path
from typing import Any

import pytest

from codexdb.testing.model_script import say
from codexdb.testing.scripted_model import ScriptedModel
from codexdb.testing.server_process import ServerProcess, StartServer, write_config
from tests.golden.differences import differs
from tests.golden.normalise import answer, configured, transcript, turn, usage
from tests.golden.outbound import (
    BASICS,
    RESPONSES_KEYS,
    assistant,
    body_of,
    chat_request,
    environment,
    known_tools,
    received,
    responses_request,
    user,
)

ACCEPT_S = 10.0  # a server takes a second to start on a loaded machine

ON_REQUEST = {"approval_policy": "on-request"}
BARE_SHELL: dict[str, Any] = {
    "type": "object",
    "properties": {
        "command": {"type": "array", "items": {"type": "string"}},
        "timeout": {"type": "number"},
        "workdir": {"type": "string"},
    },
    "required": ["command"],
    "additionalProperties": False,
}


def greet(process: ServerProcess, **arguments: object) -> str:
    """Call `codex`; the id of its session."""
    result = process.call_tool("codex", {"prompt": "hello", **arguments}, id=1)
    session: str = result["structuredContent"]["threadId"]
    return session


def functions(model: ScriptedModel) -> dict[str, dict[str, Any]]:
    """The tools of the first chat request, by name."""
    return {tool["function"]["name"]: tool["function"] for tool in body_of(model)["tools"]}


def bare(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema without the words that are for the model, and with the shell's time-out named as the original does."""
    differs("own-texts", "shell-timeout-name")
    properties = {
        "timeout" if name == "timeout_ms" else name: {
            key: value for key, value in described.items() if key != "description"
        }
        for name, described in schema["properties"].items()
    }
    return {**schema, "properties": properties}


# -- whole requests ----------------------------------------------------------------------------------------------------


def test_a_provider_gives_query_headers_and_key_to_every_request(
    server: StartServer, home: Path, tmp_path: Path, model: ScriptedModel
) -> None:
    differs("reply-event-id")
    settings = {"env_key": "MOCK_KEY", "query_params": {"api-version": "7"}, "http_headers": {"X-Extra": "1"}}
    write_config(home, model.base_url, "chat", model_providers={"scripted": settings})
    model.add(say("a", usage=False), say("b", usage=False))
    process = server(cwd=tmp_path, env={"MOCK_KEY": "sk-mock"})
    arguments = {"include-plan-tool": True, "sandbox": "workspace-write", "approval-policy": "untrusted"}
    session = greet(process, **arguments)
    process.call_tool("codex-reply", {"sessionId": session, "prompt": "again"}, id=2)
    first = [configured(1), *turn(1, "1", "a"), answer(1, "a")]
    assert transcript(process.messages) == [*first, *turn(2, "2", "b"), answer(2, "b")]
    sent = {
        "query": "?api-version=7",
        "headers": {"authorization": "Bearer sk-mock", "x-extra": "1"},
        "tools": ("shell", "update_plan"),
    }
    asked = [environment(tmp_path, "untrusted", "workspace-write", "restricted"), user("hello")]
    again = [*asked, assistant("a"), user("again")]
    assert received(model) == [_chat(asked, sent), _chat(again, sent)]


def _chat(said: list[tuple[str, str]], sent: dict[str, Any]) -> str:
    return chat_request(*said, query=sent["query"], headers=sent["headers"], tools=sent["tools"])


def test_a_chat_request_without_options_has_the_recorded_form(
    server: StartServer, home: Path, model: ScriptedModel
) -> None:
    model.add(say("a", usage=False))
    process = server()
    greet(process, **{"base-instructions": "BASE"})
    assert transcript(process.messages) == [configured(1), *turn(1, "1", "a"), answer(1, "a")]
    assert received(model) == [chat_request(environment(home), user("hello"), instructions="BASE")]


def test_a_responses_request_without_options_has_the_recorded_form(
    server: StartServer, home: Path, model: ScriptedModel
) -> None:
    model.add(say("a"))
    process = server(wire_api="responses")
    session = greet(process, **{"base-instructions": "BASE"})
    assert transcript(process.messages) == [configured(1), *turn(1, "1", "a", usage()), answer(1, "a")]
    asked = [environment(home), user("hello")]
    assert received(model) == [responses_request(session, *asked, instructions="BASE")]


@pytest.mark.parametrize(("sandbox", "network"), [("danger-full-access", "enabled"), ("workspace-write", "restricted")])
def test_the_model_is_told_that_it_may_ask(
    server: StartServer, home: Path, model: ScriptedModel, sandbox: str, network: str
) -> None:
    model.add(say("a", usage=False))
    process = server(config={**ON_REQUEST, "sandbox_mode": sandbox})
    greet(process)
    assert transcript(process.messages) == [configured(1), *turn(1, "1", "a"), answer(1, "a")]
    asked = [environment(home, "on-request", sandbox, network), user("hello")]
    assert received(model) == [chat_request(*asked)]


@pytest.mark.parametrize(
    ("wire_api", "line"),
    [("chat", b"POST /v1/chat/completions HTTP/1.1\r\n"), ("responses", b"POST /v1/responses HTTP/1.1\r\n")],
)
def test_a_request_is_a_post(server: StartServer, home: Path, wire_api: str, line: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(ACCEPT_S)
        write_config(home, f"http://127.0.0.1:{listener.getsockname()[1]}/v1", wire_api)
        process = server()
        request_id = process.start_tool("codex", {"prompt": "hello"})
        connection, _ = listener.accept()
        with connection, connection.makefile("rb") as request:
            connection.settimeout(ACCEPT_S)
            assert request.readline() == line
    assert process.wait_response(request_id)["result"]["isError"] is True


# -- headers -----------------------------------------------------------------------------------------------------------


def test_a_responses_request_names_its_session(server: StartServer, model: ScriptedModel) -> None:
    session = greet(server(wire_api="responses"))
    assert model.requests[0].headers["session_id"] == session


@pytest.mark.parametrize(("wire_api", "more"), [("chat", ()), ("responses", ("originator", "session_id"))])
def test_no_header_is_sent_that_nobody_asked_for(
    server: StartServer, model: ScriptedModel, wire_api: str, more: tuple[str, ...]
) -> None:
    differs("client-name", "no-packing")
    greet(server(wire_api=wire_api))
    names = set(model.requests[0].headers) - {"openai-beta"}
    assert names == {"host", "content-length", "user-agent", "accept-encoding", *BASICS, *more}


def test_a_responses_request_names_the_version_of_its_wire(server: StartServer, model: ScriptedModel) -> None:
    greet(server(wire_api="responses"))
    assert model.requests[0].headers.get("openai-beta") == "responses=experimental"


# -- bodies ------------------------------------------------------------------------------------------------------------


def test_a_chat_body_has_the_recorded_keys_in_their_order(server: StartServer, model: ScriptedModel) -> None:
    differs("chat-usage-request")
    greet(server())
    assert list(body_of(model)) == ["model", "messages", "stream", "stream_options", "tools"]


def test_a_responses_body_has_the_recorded_keys_in_their_order(server: StartServer, model: ScriptedModel) -> None:
    differs("prompt-cache-key")
    greet(server(wire_api="responses"))
    body = body_of(model)
    assert [key for key in body if key != "prompt_cache_key"] == RESPONSES_KEYS
    assert (body["reasoning"], body["include"]) == (None, [])


def test_an_answer_goes_back_without_what_only_the_endpoint_needs(server: StartServer, model: ScriptedModel) -> None:
    model.add(say("a"), say("b"))
    process = server(wire_api="responses")
    session = greet(process)
    process.call_tool("codex-reply", {"sessionId": session, "prompt": "again"})
    said = [item for item in body_of(model, 1)["input"] if item["role"] == "assistant"]
    part = {"type": "output_text", "text": "a"}
    assert said == [{"type": "message", "id": "msg_1", "role": "assistant", "content": [part]}]


def test_the_rules_of_a_project_stand_before_the_prompt(
    server: StartServer, tmp_path: Path, model: ScriptedModel
) -> None:
    (tmp_path / "AGENTS.md").write_text("PROJECT RULES\n", encoding="utf-8")
    greet(server(cwd=tmp_path))
    *context, prompt = [(one["role"], one["content"]) for one in body_of(model)["messages"][1:]]
    rules = "<user_instructions>\n\nPROJECT RULES\n\n</user_instructions>"
    assert sorted(context) == sorted([environment(tmp_path), user(rules)])
    assert prompt == user("hello")


# -- tools -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [{}, ON_REQUEST], ids=["never asks", "may ask, without a sandbox"])
def test_the_shell_takes_what_the_original_takes(
    server: StartServer, model: ScriptedModel, config: dict[str, object]
) -> None:
    greet(server(config=config))
    assert bare(functions(model)["shell"]["parameters"]) == BARE_SHELL


def test_both_wires_offer_the_same_shell(server: StartServer, model: ScriptedModel) -> None:
    greet(server(wire_api="responses"))
    tool = body_of(model)["tools"][0]
    assert list(tool) == ["type", "name", "description", "strict", "parameters"]
    assert (tool["type"], tool["name"], tool["strict"]) == ("function", "shell", False)
    assert bare(tool["parameters"]) == BARE_SHELL


def test_a_chat_tool_has_the_recorded_keys_in_their_order(server: StartServer, model: ScriptedModel) -> None:
    greet(server())
    shell = functions(model)["shell"]
    assert list(shell) == ["parameters", "name", "description", "strict"]
    assert shell["strict"] is False


def test_a_sandboxed_shell_that_may_ask_takes_a_request_for_more_rights(
    server: StartServer, model: ScriptedModel
) -> None:
    greet(server(config={**ON_REQUEST, "sandbox_mode": "workspace-write"}))
    properties = bare(functions(model)["shell"]["parameters"])["properties"]
    more: dict[str, Any] = {"justification": {"type": "string"}, "with_escalated_permissions": {"type": "boolean"}}
    assert properties == {**BARE_SHELL["properties"], **more}


def test_a_plan_takes_steps_and_an_explanation(server: StartServer, model: ScriptedModel) -> None:
    greet(server(), **{"include-plan-tool": True})
    schema = bare(functions(model)["update_plan"]["parameters"])
    assert known_tools(functions(model)) == ["shell", "update_plan"]
    assert (schema["required"], schema["additionalProperties"]) == (["plan"], False)
    assert set(schema["properties"]) == {"explanation", "plan"}
    step = schema["properties"]["plan"]["items"]
    assert (set(step["properties"]), step["additionalProperties"]) == ({"step", "status"}, False)
    assert step["required"] == ["step", "status"]


def test_the_states_of_a_step_are_listed(server: StartServer, model: ScriptedModel) -> None:
    greet(server(), **{"include-plan-tool": True})
    plan = functions(model)["update_plan"]["parameters"]["properties"]["plan"]
    differs("plan-states")
    status = plan["items"]["properties"]["status"]
    assert status == {"type": "string", "enum": ["pending", "in_progress", "completed"]}
