"""What is asked, and when: the policies, several calls at once, patches, and where nobody is there."""

import json
from pathlib import Path

import pytest

from codexdb.agent.calls.command import REJECTED, RETRY_REASON
from codexdb.agent.calls.context import NOBODY_TO_ASK
from codexdb.agent.calls.patch import CHANGED, NUL
from codexdb.testing.model_script import Raw, call_tools, say
from codexdb.testing.scripted_model import ScriptedModel
from codexdb.testing.server_process import StartServer, write_config
from tests.process.asked import UNTRUSTED, outputs, question, questions, result, start, touch
from tests.process.talking import reply, rows, shell, until
from tests.process.test_exec import execute

OUTSIDE_TMP = {"exclude_slash_tmp": True, "exclude_tmpdir_env_var": True}
WORKSPACE: dict[str, object] = {"sandbox_mode": "workspace-write", "sandbox_workspace_write": OUTSIDE_TMP}
FAILING: dict[str, object] = {**WORKSPACE, "approval_policy": "on-failure"}
PATCH = "*** Begin Patch\n*** Add File: {path}\n+new\n*** End Patch"


def test_calls_behind_one_that_is_asked_about_wait_for_it(
    server: StartServer, model: ScriptedModel, database: Path, tmp_path: Path
) -> None:
    one = tmp_path / "one"
    model.add(call_tools(shell("c1", "touch", str(one)), shell("c2", "ls", str(tmp_path))), say("both"))
    client = server(config=UNTRUSTED)
    start(client)
    asked = question(client)
    until(lambda: rows(database, "SELECT state FROM turns") == [("waiting",)], "the wait")
    assert rows(database, "SELECT state FROM tool_calls ORDER BY id") == [("proposed",), ("proposed",)]
    client.respond(asked["id"], {"decision": "approved"})
    assert result(client)["content"] == "both"
    assert list(outputs(model)) == ["c1", "c2"]
    assert "one" in outputs(model)["c2"]


def test_each_call_of_an_answer_is_asked_about_in_its_turn(
    server: StartServer, model: ScriptedModel, tmp_path: Path
) -> None:
    model.add(touch(tmp_path / "one", tmp_path / "two"), say("both"))
    client = server(config=UNTRUSTED)
    start(client)
    first = question(client)
    asked = len(client.messages)
    assert len(questions(client)) == 1
    client.respond(first["id"], {"decision": "denied"})
    second = question(client, after=asked)
    assert second["params"]["codex_call_id"] == "c2"
    client.respond(second["id"], {"decision": "approved"})
    assert result(client)["content"] == "both"
    assert list(outputs(model)) == ["c1", "c2"]
    assert outputs(model)["c1"] == REJECTED
    assert ((tmp_path / "one").exists(), (tmp_path / "two").exists()) == (False, True)


def test_an_answer_counts_while_the_model_still_speaks(
    server: StartServer, model: ScriptedModel, database: Path, tmp_path: Path
) -> None:
    call = {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "shell"}
    call["arguments"] = json.dumps({"command": ["touch", str(tmp_path / "made")]})
    message = {"type": "message", "id": "m_1", "role": "assistant", "content": [{"type": "output_text", "text": "on"}]}
    stream = [
        {"type": "response.created", "response": {"id": "r_1"}},
        {"type": "response.output_item.done", "output_index": 0, "item": call},
        {"type": "response.output_text.delta", "item_id": "m_1", "delta": "o"},
        *({"type": "response.output_text.delta", "item_id": "m_1", "delta": ""} for _ in range(8)),
        {"type": "response.output_item.done", "output_index": 1, "item": message},
        {"type": "response.completed", "response": {"id": "r_1", "output": [call, message]}},
    ]
    body = "".join(f"event: {each['type']}\ndata: {json.dumps(each)}\n\n" for each in stream)
    model.add(Raw(body, delay_ms=100), say("done"))
    client = server(config=UNTRUSTED, wire_api="responses")
    start(client)
    asked = question(client)
    assert rows(database, "SELECT state FROM turns") == [("running",)]
    client.respond(asked["id"], {"decision": "approved"})
    assert result(client)["content"] == "done"
    assert (tmp_path / "made").exists()
    assert len(model.requests) == 2
    assert [event["msg"]["message"] for event in client.events(1) if event["msg"]["type"] == "agent_message"] == [
        "on",
        "done",
    ]


# -- policies ----------------------------------------------------------------------------------------------------------


def test_what_the_sandbox_stopped_runs_again_without_it_once_a_person_says_so(
    server: StartServer, model: ScriptedModel, database: Path, tmp_path: Path
) -> None:
    model.add(touch(tmp_path / "made"), say("made"))
    client = server(config=FAILING)
    start(client)
    asked = question(client)
    assert asked["params"]["codex_reason"] == RETRY_REASON
    until(lambda: rows(database, "SELECT state FROM turns") == [("waiting",)], "the wait")
    assert rows(database, "SELECT state FROM tool_calls") == [("started",)]
    client.respond(asked["id"], {"decision": "approved"})
    assert result(client)["content"] == "made"
    assert (tmp_path / "made").exists()
    told = [event["msg"] for event in client.events(1)]
    ran = [(msg["type"], msg["call_id"]) for msg in told if msg["type"] in ("exec_command_begin", "exec_command_end")]
    assert ran == [("exec_command_begin", "c1"), ("exec_command_end", "c1")] * 2
    assert [msg["exit_code"] for msg in told if msg["type"] == "exec_command_end"] == [-1, 0]
    assert list(outputs(model)) == ["c1"]
    assert rows(database, "SELECT state, exit_code FROM tool_calls") == [("succeeded", 0)]


def test_what_the_sandbox_stopped_stays_stopped_if_a_person_says_so(
    server: StartServer, model: ScriptedModel, database: Path, tmp_path: Path
) -> None:
    model.add(touch(tmp_path / "made"), say("not made"))
    client = server(config=FAILING)
    start(client)
    client.respond(question(client)["id"], {"decision": "denied"})
    assert result(client)["content"] == "not made"
    assert not (tmp_path / "made").exists()
    assert rows(database, "SELECT state FROM tool_calls") == [("failed",)]
    assert outputs(model) == {"c1": REJECTED}


def test_an_interrupt_ends_a_turn_whose_command_waits_to_be_tried_again(
    server: StartServer, model: ScriptedModel, database: Path, tmp_path: Path
) -> None:
    model.add(touch(tmp_path / "made"))
    client = server(config=FAILING)
    start(client)
    client.respond(question(client)["id"], {"decision": "abort"})
    assert result(client)["kind"] == "interrupted"
    assert rows(database, "SELECT state FROM tool_calls") == [("aborted",)]


def test_a_command_that_asks_to_leave_the_sandbox_says_why(
    server: StartServer, model: ScriptedModel, tmp_path: Path
) -> None:
    given = {"command": ["touch", str(tmp_path / "made")], "with_escalated_permissions": True}
    call = ("c1", "shell", json.dumps({**given, "justification": "it has to be there"}))
    model.add(call_tools(call), say("made"))
    client = server(config={**WORKSPACE, "approval_policy": "on-request"})
    start(client)
    asked = question(client)
    assert asked["params"]["codex_reason"] == "it has to be there"
    client.respond(asked["id"], {"decision": "approved"})
    assert result(client)["content"] == "made"
    assert (tmp_path / "made").exists()


@pytest.mark.parametrize("decision", ["approved", "denied"])
def test_a_patch_outside_the_workspace_is_asked_about(
    server: StartServer, model: ScriptedModel, home: Path, tmp_path: Path, decision: str
) -> None:
    inside, outside = home / "inside.txt", tmp_path / "outside.txt"
    for number, path in enumerate((inside, outside)):
        model.add(call_tools((f"p{number}", "apply_patch", json.dumps({"input": PATCH.format(path=path)}))))
    model.add(say("patched"))
    client = server(config={**WORKSPACE, "approval_policy": "on-request"})
    start(client)
    asked = question(client)
    assert inside.read_text() == "new\n"  # nobody was asked about that
    assert asked["params"]["codex_elicitation"] == "patch-approval"
    assert list(asked["params"]["codex_changes"]) == [str(outside)]
    assert asked["params"]["codex_grant_root"] == str(tmp_path)
    client.respond(asked["id"], {"decision": decision})
    assert result(client)["content"] == "patched"
    assert outside.exists() == (decision == "approved")
    assert len(questions(client)) == 1


def test_a_directory_that_was_granted_for_the_session_is_not_asked_about_again(
    server: StartServer, model: ScriptedModel, tmp_path: Path
) -> None:
    for name in ("one", "two"):
        patch = PATCH.format(path=tmp_path / name)
        model.add(call_tools((name, "apply_patch", json.dumps({"input": patch}))))
    model.add(say("patched"))
    client = server(config={**WORKSPACE, "approval_policy": "on-request"})
    start(client)
    client.respond(question(client)["id"], {"decision": "approved_for_session"})
    assert result(client)["content"] == "patched"
    assert (tmp_path / "two").read_text() == "new\n"
    assert len(questions(client)) == 1


def patch_of(call_id: str, path: Path | str) -> tuple[str, str, str]:
    """A call that makes a file."""
    return (call_id, "apply_patch", json.dumps({"input": PATCH.format(path=path)}))


@pytest.mark.parametrize("folder", [".git/hooks", ".codex", "below/.agents"])
def test_a_granted_folder_does_not_open_what_is_protected_in_it(
    server: StartServer, model: ScriptedModel, tmp_path: Path, folder: str
) -> None:
    model.add(call_tools(patch_of("one", tmp_path / "one")))
    model.add(call_tools(patch_of("two", tmp_path / folder / "two")), say("done"))
    client = server(config=UNTRUSTED)
    start(client)
    first = question(client)
    asked = len(client.messages)
    client.respond(first["id"], {"decision": "approved_for_session"})
    client.respond(question(client, after=asked)["id"], {"decision": "denied"})
    assert result(client)["content"] == "done"
    assert (tmp_path / "one").exists()
    assert not (tmp_path / folder).exists()


@pytest.mark.parametrize("policy", ["on-request", "on-failure"])
def test_without_a_sandbox_a_person_is_asked_before_what_is_protected_changes(
    server: StartServer, model: ScriptedModel, home: Path, policy: str
) -> None:
    hooks = home / ".git" / "hooks"
    model.add(call_tools(patch_of("p", hooks / "post-checkout")), say("done"))
    client = server(config={**WORKSPACE, "approval_policy": policy, "sandbox_backend": "none"})
    start(client)
    client.respond(question(client)["id"], {"decision": "denied"})
    assert result(client)["content"] == "done"
    assert not hooks.exists()


def test_a_yes_for_longer_opens_no_folder_that_the_paths_only_have_above_them(
    server: StartServer, model: ScriptedModel, tmp_path: Path
) -> None:
    added = "".join(f"*** Add File: {tmp_path / name / 'f'}\n+new\n" for name in ("one", "two"))
    both = json.dumps({"input": f"*** Begin Patch\n{added}*** End Patch"})
    model.add(call_tools(("both", "apply_patch", both)))
    model.add(call_tools(patch_of("more", tmp_path / "three")), say("done"))
    client = server(config={**WORKSPACE, "approval_policy": "on-request"})
    start(client)
    first = question(client)
    asked = len(client.messages)
    client.respond(first["id"], {"decision": "approved_for_session"})
    client.respond(question(client, after=asked)["id"], {"decision": "denied"})
    assert result(client)["content"] == "done"
    assert ((tmp_path / "two" / "f").exists(), (tmp_path / "three").exists()) == (True, False)


def test_a_patch_whose_paths_were_exchanged_while_it_was_asked_about_is_not_applied(
    server: StartServer, model: ScriptedModel, tmp_path: Path
) -> None:
    folder, secret = tmp_path / "folder", tmp_path / "secret"
    folder.mkdir()
    secret.mkdir()
    model.add(call_tools(patch_of("p", folder / "f")), say("done"))
    client = server(config=UNTRUSTED)
    start(client)
    asked = question(client)
    folder.rmdir()
    folder.symlink_to(secret)
    client.respond(asked["id"], {"decision": "approved"})
    assert result(client)["content"] == "done"
    assert list(secret.iterdir()) == []
    assert outputs(model)["p"] == CHANGED


def test_what_was_approved_for_the_session_does_not_hold_once_nobody_may_be_asked(
    server: StartServer, model: ScriptedModel, tmp_path: Path
) -> None:
    made = tmp_path / "made"
    model.add(touch(made), say("first"))
    client = server(config=UNTRUSTED)
    session = start(client)
    client.respond(question(client)["id"], {"decision": "approved_for_session"})
    assert result(client)["content"] == "first"
    made.unlink()
    model.add(touch(made), say("second"))
    assert reply(client, session, "again", sandbox="read-only", **{"approval-policy": "never"})["content"] == "second"
    assert not made.exists()


def test_a_command_that_was_approved_for_the_session_is_asked_about_in_another_directory(
    server: StartServer, model: ScriptedModel, tmp_path: Path
) -> None:
    for number, name in enumerate(("here", "there")):
        (tmp_path / name / "build").mkdir(parents=True)
        arguments = json.dumps({"command": ["rmdir", "build"], "workdir": str(tmp_path / name)})
        model.add(call_tools((f"c{number}", "shell", arguments)))
    model.add(say("done"))
    client = server(config=UNTRUSTED)
    start(client)
    first = question(client)
    asked = len(client.messages)
    client.respond(first["id"], {"decision": "approved_for_session"})
    client.respond(question(client, after=asked)["id"], {"decision": "denied"})
    assert result(client)["content"] == "done"
    assert ((tmp_path / "here" / "build").exists(), (tmp_path / "there" / "build").exists()) == (False, True)


def test_no_patch_removes_the_database_also_where_the_sandbox_would_let_it(
    server: StartServer, model: ScriptedModel, database: Path
) -> None:
    patch = json.dumps({"input": f"*** Begin Patch\n*** Delete File: {database}\n*** End Patch"})
    model.add(call_tools(("p", "apply_patch", patch)), say("kept"))
    client = server(config={"sandbox_mode": "workspace-write", "approval_policy": "never"})
    start(client, cwd=str(database.parent))
    assert result(client)["content"] == "kept"
    assert f"Failed to delete file {database}" in outputs(model)["p"]
    assert database.exists()


def test_a_patch_in_a_directory_with_a_nul_is_refused(server: StartServer, model: ScriptedModel) -> None:
    arguments = json.dumps({"command": ["apply_patch", PATCH.format(path="f")], "workdir": "a\0b"})
    model.add(call_tools(("p", "shell", arguments)), say("refused"))
    client = server(config=WORKSPACE)
    start(client)
    assert result(client)["content"] == "refused"
    assert outputs(model)["p"] == NUL


# -- nobody ------------------------------------------------------------------------------------------------------------


def test_at_the_command_line_nobody_can_be_asked(home: Path, model: ScriptedModel, tmp_path: Path) -> None:
    write_config(home, model.base_url, "chat", approval_policy="untrusted")
    model.add(touch(tmp_path / "made"), say("not made"))
    done = execute(home, "make it")
    assert done.returncode == 0, done.stderr
    assert "not made" in done.stdout
    assert outputs(model) == {"c1": NOBODY_TO_ASK}
    assert not (tmp_path / "made").exists()


def test_under_never_nobody_is_asked_even_where_somebody_could_be(
    server: StartServer, model: ScriptedModel, tmp_path: Path
) -> None:
    model.add(touch(tmp_path / "made"), say("not made"))
    client = server(config={**WORKSPACE, "approval_policy": "never"})
    start(client)
    assert result(client)["content"] == "not made"
    assert questions(client) == []
    assert not (tmp_path / "made").exists()
