"""Settings that a message changes: from its own turn on, for good, and told to the model once."""

import json
from pathlib import Path

import pytest

from codexdb.testing.http1 import ReceivedRequest
from codexdb.testing.model_script import Hang, Json, call_tools, say
from codexdb.testing.scripted_model import ScriptedModel
from codexdb.testing.server_process import ServerProcess, StartServer
from tests.golden.differences import differs
from tests.process.talking import ask, at_rest, opened, read, reply, rows, said, send, shell, stored, told

BEARER = "sk-a-very-secret-bearer"
OTHER_BEARER = "sk-another-very-secret-bearer"
WITHHELD = "model_providers.scripted.experimental_bearer_token"


def model_of(request: ReceivedRequest) -> object:
    return (request.body or {})["model"]


def test_settings_change_with_a_message_and_stay(
    server: StartServer, model: ScriptedModel, tmp_path: Path, database: Path
) -> None:
    differs("reply-settings")
    process = server()
    there = tmp_path / "there"
    there.mkdir()
    session = opened(process, "first")
    model.add(call_tools(shell("c1", "pwd")), say("two"))
    changes = {"model": "another-model", "cwd": str(there), "base-instructions": "Only rhyme."}
    reply(process, session, "second", **changes)
    reply(process, session, "third")
    *_, called, last = model.requests
    assert [model_of(request) for request in model.requests] == ["scripted-model"] + ["another-model"] * 3
    for request in (called, last):
        assert "Only rhyme." in request.raw.decode()
        assert [str(there) in text for text in told(request)] == [False, True]
        assert said(request)[:2] == ["first", "second"]
    assert called.raw.decode().count(str(there)) == 2  # in the environment, and printed by the command
    assert rows(database, "SELECT model FROM model_requests ORDER BY id") == [
        ("scripted-model",),
        ("another-model",),
        ("another-model",),
        ("another-model",),
    ]
    page = read(process, session)
    assert (page["model"], page["cwd"]) == ("another-model", str(there))


def test_they_outlive_the_server(server: StartServer, model: ScriptedModel) -> None:
    first = server()
    session = opened(first, "first")
    model.add(Hang())
    first.start_tool("codex-reply", {"threadId": session, "prompt": "second", "model": "another-model"})
    model.wait_for_requests(2)
    first.kill()
    second = server()
    assert at_rest(second, session)["last_turn"]["state"] == "completed"
    reply(second, session, "third")
    assert [model_of(request) for request in model.requests] == ["scripted-model"] + ["another-model"] * 3
    assert len(told(model.requests[-1])) == 1


def test_the_environment_is_told_once_and_only_where_it_is_another(server: StartServer, model: ScriptedModel) -> None:
    process = server()
    session = opened(process, "first")
    reply(process, session, "second", sandbox="read-only", **{"approval-policy": "on-request"})
    reply(process, session, "third", sandbox="read-only", **{"approval-policy": "on-request"})
    reply(process, session, "fourth", model="another-model")
    reply(process, session, "fifth", sandbox="danger-full-access")
    assert [len(told(request)) for request in model.requests] == [1, 2, 2, 2, 3]
    before, after = told(model.requests[-1])[1:]
    for line in ("<approval_policy>on-request<", "<sandbox_mode>read-only<", "<network_access>restricted<"):
        assert line in before
    for line in ("<approval_policy>on-request<", "<sandbox_mode>danger-full-access<", "<network_access>enabled<"):
        assert line in after


def test_a_message_without_changes_changes_nothing(server: StartServer, model: ScriptedModel, database: Path) -> None:
    process = server()
    session = opened(process, "first")
    before = rows(database, "SELECT settings, model, cwd FROM sessions")
    reply(process, session, "second")
    reply(process, session, "third", model="scripted-model", cwd=read(process, session)["cwd"], config={})
    assert rows(database, "SELECT settings, model, cwd FROM sessions") == before
    assert [len(told(request)) for request in model.requests] == [1, 1, 1]


def test_a_sandbox_that_a_message_opens_lets_its_commands_run(
    server: StartServer, model: ScriptedModel, tmp_path: Path
) -> None:
    paths = [tmp_path / name for name in ("first", "second", "third")]
    for number, path in enumerate(paths):
        model.add(call_tools(shell(f"c{number}", "touch", str(path))), say("done"))
    process = server(config={"sandbox_mode": "read-only", "approval_policy": "never"})
    session = opened(process, "first")
    assert send(process, session, "second", sandbox="danger-full-access")["status"] == "ok"
    at_rest(process, session)
    reply(process, session, "third", sandbox="read-only")
    assert [path.exists() for path in paths] == [False, True, False]


def test_queued_changes_begin_with_their_turn(server: StartServer, model: ScriptedModel, tmp_path: Path) -> None:
    process = server()
    model.add(Hang(answer=call_tools(shell("c1", "pwd"))), say("one"), say("two"), say("three"))
    process.start_tool("codex", {"prompt": "first"}, id=1)
    session = process.wait_event("task_started", 1)["_meta"]["conversationId"]
    model.wait_for_requests(1)
    cwd = str(tmp_path / "elsewhere")
    send(process, session, "second", if_running="queue", model="queued-model", cwd=cwd)
    send(process, session, "third", if_running="queue")
    assert read(process, session)["model"] == "scripted-model"
    model.release()
    model.wait_for_requests(4)
    at_rest(process, session)
    names = [model_of(request) for request in model.requests]
    assert names == ["scripted-model", "scripted-model", "queued-model", "queued-model"]
    assert [[cwd in text for text in told(request)] for request in model.requests] == [
        [False],
        [False],
        [False, True],
        [False, True],
    ]


def test_overrides_of_several_waiting_messages_add_up(
    server: StartServer, model: ScriptedModel, database: Path
) -> None:
    """Each is accepted before the changes of those before it have begun."""
    process = server(wire_api="responses")
    model.add(Hang(answer=say("one")))
    process.start_tool("codex", {"prompt": "first", "config": {"model_max_output_tokens": 7}}, id=1)
    session = process.wait_event("task_started", 1)["_meta"]["conversationId"]
    model.wait_for_requests(1)
    send(process, session, "second", if_running="queue", config={"model_verbosity": "low", WITHHELD: BEARER})
    send(process, session, "third", if_running="queue", config={"model_max_output_tokens": 9, WITHHELD: OTHER_BEARER})
    send(process, session, "fourth", if_running="queue")
    model.release()
    model.wait_for_requests(4)
    at_rest(process, session)
    bodies = [request.body or {} for request in model.requests]
    assert [body.get("text") for body in bodies] == [None] + [{"verbosity": "low"}] * 3
    assert [body["max_output_tokens"] for body in bodies] == [7, 7, 9, 9]
    bearers = [None, f"Bearer {BEARER}", f"Bearer {OTHER_BEARER}", f"Bearer {OTHER_BEARER}"]
    assert [request.headers.get("authorization") for request in model.requests] == bearers
    assert BEARER.encode() not in stored(database)
    assert OTHER_BEARER.encode() not in stored(database)


def test_what_was_refused_changes_nothing_not_even_secrets(server: StartServer, model: ScriptedModel) -> None:
    process = server()
    session = opened(process, "first", config={WITHHELD: BEARER})
    model.add(Hang(answer=say("two")))
    process.start_tool("codex-reply", {"threadId": session, "prompt": "second"}, id="second")
    model.wait_for_requests(2)
    refused = send(process, session, "third", config={WITHHELD: OTHER_BEARER}, model="another-model")
    assert refused["kind"] == "busy"
    model.release()
    process.wait_response("second")
    reply(process, session, "third")
    assert model_of(model.requests[-1]) == "scripted-model"
    assert {request.headers["authorization"] for request in model.requests} == {f"Bearer {BEARER}"}


def test_a_secret_is_kept_in_memory_and_missed_elsewhere(
    server: StartServer, model: ScriptedModel, database: Path
) -> None:
    process = server()
    session = opened(process, "first")
    reply(process, session, "second", config={WITHHELD: BEARER})
    reply(process, session, "third")
    assert [request.headers.get("authorization") for request in model.requests] == [None] + [f"Bearer {BEARER}"] * 2
    assert BEARER.encode() not in stored(database)
    assert BEARER not in json.dumps(process.messages)
    missing = reply(server(), session, "fourth")
    assert missing["kind"] == "credentials_missing"
    assert WITHHELD in missing["content"]
    reply(process, session, "fifth", config={WITHHELD: OTHER_BEARER})
    assert model.requests[-1].headers["authorization"] == f"Bearer {OTHER_BEARER}"


def test_a_profile_counts_for_what_it_makes_different(server: StartServer, model: ScriptedModel) -> None:
    profiles = {"fast": {"model": "fast-model"}, "careful": {"approval_policy": "untrusted"}}
    process = server(config={"profiles": profiles})
    session = opened(process, "first", model="own-model")
    reply(process, session, "second", profile="careful")
    reply(process, session, "third", profile="fast")
    reply(process, session, "fourth", model="own-model")
    names = [model_of(request) for request in model.requests]
    assert names == ["own-model", "own-model", "fast-model", "own-model"]
    policies = [text.partition("<approval_policy>")[2].partition("<")[0] for text in told(model.requests[-1])]
    assert policies == ["never", "untrusted", "never"]


@pytest.mark.parametrize("tool", ["send-user-message", "codex-reply"])
@pytest.mark.parametrize(
    ("changes", "kind", "named"),
    [
        ({"sandbox": "open"}, "invalid_arguments", "open"),
        ({"profile": "nobody"}, "invalid_config", "nobody"),
        ({"config": {"model_provider": "nowhere"}}, "invalid_config", "nowhere"),
        ({"config": {"model_max_output_tokens": 0}}, "invalid_config", "model_max_output_tokens"),
        ({"config": "model=x"}, "invalid_arguments", "model=x"),
        ({"model": 5}, "invalid_arguments", "5"),
        ({"model": "another-model", "if_running": "steer"}, "invalid_arguments", "steer"),
    ],
)
def test_wrong_changes_are_named_and_refused(
    shared_server: ServerProcess, tool: str, changes: Json, kind: str, named: str
) -> None:
    session = opened(shared_server, "first")
    if tool == "codex-reply":
        refused = reply(shared_server, session, "second", **changes)
        assert refused["threadId"] == session or kind == "invalid_arguments"
        text = refused["content"]
    else:
        refused = send(shared_server, session, "second", **changes)
        assert refused["status"] == "error"
        text = refused["message"]
    assert refused["kind"] == kind
    assert named in text
    page = read(shared_server, session)
    assert (page["turns"], page["model"]) == (1, "scripted-model")
    assert ask(shared_server, "conversation_archive", session)["archived"] is True


def test_a_repeated_message_changes_settings_once(server: StartServer, model: ScriptedModel) -> None:
    process = server()
    session = opened(process, "first")
    reply(process, session, "second", model="another-model", message_id="m2")
    reply(process, session, "third", model="third-model")
    reply(process, session, "second", model="another-model", message_id="m2")
    reply(process, session, "fourth")
    names = ["scripted-model", "another-model", "third-model", "third-model"]
    assert [model_of(request) for request in model.requests] == names
