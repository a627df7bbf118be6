"""Secrets are used and not kept: no file, no log line and no answer holds one."""

from pathlib import Path
from typing import Any, cast

import pytest

from codexdb.testing.model_script import Drop, Status, call_tools, say
from codexdb.testing.scripted_model import ScriptedModel
from codexdb.testing.server_process import Message, ServerProcess, StartServer, write_config
from tests.process.talking import until

WAIT_S = 15.0

KEY = "sk-from-the-environment-0001"
HEADER = "value-of-an-http-header-0002"
ENV_HEADER = "value-of-an-env-header-0003"
QUERY = "value-of-a-query-parameter-0004"
BEARER = "value-of-a-bearer-token-override-0005"
OVERRIDE_HEADER = "value-of-a-header-override-0006"
OVERRIDE_QUERY = "value-of-a-query-override-0007"
SET_VARIABLE = "value-of-a-set-variable-0008"
NOTIFY_OPTION = "value-of-an-option-of-notify-0009"
NOTIFY_ADDRESS = "value-in-an-address-of-notify-0010"
BASE_URL = "value-in-an-address-that-nobody-asks-0011"
UNKNOWN_KEY = "value-of-a-key-that-nobody-reads-0012"
ALL = (
    *(KEY, HEADER, ENV_HEADER, QUERY, BEARER, OVERRIDE_HEADER, OVERRIDE_QUERY, SET_VARIABLE),
    *(NOTIFY_OPTION, NOTIFY_ADDRESS, BASE_URL, UNKNOWN_KEY),
)

PROVIDER: Message = {
    "env_key": "SCRIPTED_KEY",
    "http_headers": {"X-Secret": HEADER},
    "env_http_headers": {"X-From-Env": "SCRIPTED_HEADER"},
    "query_params": {"api-version": QUERY},
}
ENVIRONMENT = {"SCRIPTED_KEY": KEY, "SCRIPTED_HEADER": ENV_HEADER}
OVERRIDES: Message = {
    "model_providers.scripted.http_headers": {"X-Secret": OVERRIDE_HEADER},
    "model_providers.scripted.query_params": {"api-version": OVERRIDE_QUERY},
    "shell_environment_policy.set": {"MY_TOKEN": SET_VARIABLE},
}
NEWER_OVERRIDES: Message = {
    "notify": ["sh", "-c", "exit 3", "notify", "--token", NOTIFY_OPTION, f"https://hooks.example/{NOTIFY_ADDRESS}"],
    "chatgpt_base_url": f"https://user:{BASE_URL}@host",
    "acces_token": UNKNOWN_KEY,
    "turn_budget": {"tokens": 1_000_000},
    "model_max_output_tokens": 1_000,
    "shell_timeout_ms": 1_000,
    "project_doc_fallback_filenames": ["KEYS.md"],
}


@pytest.fixture
def keyed(home: Path, model: ScriptedModel, server: StartServer) -> ServerProcess:
    """A server whose provider needs a secret of every kind."""
    write_config(home, model.base_url, "chat", model_providers={"scripted": PROVIDER})
    return server(env=ENVIRONMENT)


def leaks(home: Path, *servers: ServerProcess) -> set[str]:
    """Secrets found where they must not be, each with its place."""
    places: dict[str, bytes] = {
        str(path.relative_to(home)): path.read_bytes()
        for path in home.rglob("*")
        if path.is_file() and path.name != "config.toml"
    }
    assert any(place.endswith(".sqlite3") for place in places)
    for process in servers:
        places[f"stderr of {process.pid}"] = process.stderr.encode()
        places[f"wire of {process.pid}"] = "\n".join(text for way, text in process.lines if way == "out").encode()
    return {f"{secret} in {place}" for place, data in places.items() for secret in ALL if secret.encode() in data}


def test_the_secrets_reach_the_endpoint_and_nothing_else(
    home: Path, model: ScriptedModel, keyed: ServerProcess
) -> None:
    model.add(call_tools(("c1", "shell", '{"command":["sh","-c","echo $SCRIPTED_KEY"]}')), say("done"))
    session = keyed.call_tool("codex", {"prompt": "hello"})["structuredContent"]["threadId"]
    sent = model.requests[0]
    assert sent.headers["authorization"] == f"Bearer {KEY}"
    assert sent.headers["x-secret"] == HEADER
    assert sent.headers["x-from-env"] == ENV_HEADER
    assert QUERY in sent.path
    keyed.call_tool("conversation_read", {"conversation_id": session, "include_items": True})
    assert leaks(home, keyed) == set()
    keyed.close_stdin()
    assert keyed.wait_exit() == 0
    assert leaks(home, keyed) == set()


def test_commands_do_not_get_the_variables_that_hold_them(
    home: Path, model: ScriptedModel, keyed: ServerProcess
) -> None:
    """However they are named: config.toml says that they are secret."""
    model.add(call_tools(("c1", "shell", '{"command":["env"]}')), say("done"))
    keyed.call_tool("codex", {"prompt": "hello"})
    assert "SCRIPTED_HEADER" not in str(model.requests[1].body)
    assert leaks(home, keyed) == set()


@pytest.mark.parametrize(
    "failure",
    [
        Status(401, "no entry"),
        Status(404, "not here"),
        Status(500, "broken"),
        Drop("connect"),
        Drop("mid"),
    ],
    ids=lambda each: str(each)[:20],
)
def test_a_failure_does_not_tell_them(home: Path, model: ScriptedModel, keyed: ServerProcess, failure: Any) -> None:
    model.add(failure)
    assert keyed.call_tool("codex", {"prompt": "hello"})["isError"] is True
    assert leaks(home, keyed) == set()


def test_an_endpoint_that_nobody_answers_at_does_not_tell_them(home: Path, server: StartServer) -> None:
    write_config(home, "http://127.0.0.1:9/v1", "chat", model_providers={"scripted": PROVIDER})
    process = server(env=ENVIRONMENT)
    assert process.call_tool("codex", {"prompt": "hello"})["isError"] is True
    assert leaks(home, process) == set()


@pytest.mark.parametrize("secret", [KEY, HEADER, ENV_HEADER, QUERY])
def test_an_endpoint_that_quotes_a_secret_is_not_quoted(
    home: Path, model: ScriptedModel, keyed: ServerProcess, secret: str
) -> None:
    """Real endpoints answer "Incorrect API key provided: sk-…"."""
    model.add(Status(401, f'{{"error":{{"message":"Incorrect API key provided: {secret}."}}}}'))
    assert keyed.call_tool("codex", {"prompt": "hello"})["isError"] is True
    assert leaks(home, keyed) == set()


@pytest.mark.parametrize("tool", ["codex", "conversation_create"])
def test_secret_overrides_work_in_this_process_and_end_with_it(
    home: Path, model: ScriptedModel, keyed: ServerProcess, server: StartServer, tool: str
) -> None:
    if tool == "codex":
        session = keyed.call_tool("codex", {"prompt": "hello", "config": OVERRIDES})["structuredContent"]["threadId"]
    else:
        created = keyed.call_tool("conversation_create", {"config": OVERRIDES})
        session = cast("str", created["structuredContent"]["conversation_id"])
        keyed.call_tool("codex-reply", {"threadId": session, "prompt": "hello"})
    assert model.requests[0].headers["x-secret"] == OVERRIDE_HEADER
    assert OVERRIDE_QUERY in model.requests[0].path
    keyed.kill()
    later = server(env=ENVIRONMENT)
    refused = later.call_tool("codex-reply", {"threadId": session, "prompt": "go on"})
    assert refused["isError"] is True
    assert refused["structuredContent"]["kind"] == "credentials_missing"
    turn = later.call_tool("conversation_read", {"conversation_id": session})["structuredContent"]["last_turn"]
    assert (turn["state"], turn["error_kind"]) == ("failed", "credentials_missing")
    assert len(model.requests) == 1
    assert leaks(home, keyed, later) == set()


def test_secrets_in_any_other_key_work_in_this_process_and_end_with_it(
    home: Path, keyed: ServerProcess, server: StartServer
) -> None:
    """Also that what is no secret, though it is called token or key, is no reason to forget it."""
    (home / "KEYS.md").write_text("what a project says")
    result = keyed.call_tool("codex", {"prompt": "hello", "config": NEWER_OVERRIDES})
    until(lambda: "ended with code 3" in keyed.stderr, "the notify program's end")
    assert "`acces_token`" in keyed.stderr
    assert next(home.rglob("*.sqlite3-wal")).stat().st_size
    assert leaks(home, keyed) == set()
    keyed.kill()
    assert leaks(home, keyed) == set()
    later = server(env=ENVIRONMENT)
    refused = later.call_tool("codex-reply", {"threadId": result["structuredContent"]["threadId"], "prompt": "go on"})
    assert refused["structuredContent"]["kind"] == "credentials_missing"
    text = refused["content"][0]["text"]
    assert all(f"`{key}`" in text for key in ("notify", "chatgpt_base_url", "acces_token"))
    assert not any(f"`{key}`" in text for key in ("turn_budget", "model_max_output_tokens", "shell_timeout_ms"))
    assert leaks(home, keyed, later) == set()


def test_secrets_of_the_file_work_in_every_process(home: Path, model: ScriptedModel, server: StartServer) -> None:
    keys = {key: NEWER_OVERRIDES[key] for key in ("notify", "chatgpt_base_url", "acces_token")}
    write_config(home, model.base_url, "chat", model_providers={"scripted": PROVIDER}, **keys)
    first, second = server(env=ENVIRONMENT), server(env=ENVIRONMENT)
    session = first.call_tool("codex", {"prompt": "hello"})["structuredContent"]["threadId"]
    assert "isError" not in second.call_tool("codex-reply", {"threadId": session, "prompt": "go on"})
    for process in (first, second):
        until(lambda process=process: "ended with code 3" in process.stderr, "the notify program's end")
    assert leaks(home, first, second) == set()


@pytest.mark.parametrize(
    "overrides",
    [
        {"notify": f"curl https://hooks.example/{NOTIFY_ADDRESS}"},
        {"notify": {"token": NOTIFY_OPTION}},
        {"chatgpt_base_url": [f"https://user:{BASE_URL}@host"]},
        {"turn_budget": {"tokens": UNKNOWN_KEY}},
        {"model_max_output_tokens": UNKNOWN_KEY},
    ],
)
def test_a_secret_at_a_wrong_place_is_refused_and_not_quoted(
    home: Path, keyed: ServerProcess, overrides: Message
) -> None:
    keyed.call_tool("codex", {"prompt": "hello"})  # so that there are rows to look through
    refused = keyed.call_tool("codex", {"prompt": "hello", "config": overrides})
    assert refused["structuredContent"]["kind"] == "invalid_config"
    assert leaks(home, keyed) == set()


def test_a_bearer_token_given_as_override_is_not_kept(home: Path, model: ScriptedModel, server: StartServer) -> None:
    process = server()
    override = {"model_providers.scripted.experimental_bearer_token": BEARER}
    session = process.call_tool("codex", {"prompt": "hello", "config": override})["structuredContent"]["threadId"]
    assert model.requests[0].headers["authorization"] == f"Bearer {BEARER}"
    process.kill()
    later = server()
    refused = later.call_tool("codex-reply", {"threadId": session, "prompt": "go on"})
    assert refused["structuredContent"]["kind"] == "credentials_missing"
    assert leaks(home, process, later) == set()


def test_a_missing_key_fails_the_turn_and_names_the_variable(
    home: Path, model: ScriptedModel, server: StartServer
) -> None:
    write_config(home, model.base_url, "chat", model_providers={"scripted": PROVIDER})
    process = server()
    result = process.call_tool("codex", {"prompt": "hello"})
    assert result["structuredContent"]["kind"] == "credentials_missing"
    assert "SCRIPTED_KEY" in result["content"][0]["text"]
    assert model.requests == []
