"""Patches: applied, asked about and refused, and what is shown of them."""

from pathlib import Path

import pytest

from codexdb.testing.scripted_model import ScriptedModel
from codexdb.testing.server_process import Message, ServerProcess, StartServer
from tests.golden.calling import (
    DONE,
    PROMPT,
    calls,
    conversation,
    decide,
    fail_question,
    made,
    output,
    printed,
    question,
    shell,
    told,
    transient,
    whole,
)
from tests.golden.differences import differs
from tests.golden.normalise import transcript
from tests.golden.outbound import chat_request, environment, received, user

PATCH = "*** Begin Patch\n*** Add File: new.txt\n+hello\n*** Update File: old.txt\n@@\n-aaa\n+bbb\n*** End Patch\n"
HEREDOC = ["bash", "-lc", f"apply_patch <<'EOF'\n{PATCH}EOF"]
SUCCESS = "Success. Updated the following files:\nA new.txt\nM old.txt\n"
DIFF = (
    "diff --git a/new.txt b/new.txt\n"
    "new file mode 100644\n"
    "index 0000000000000000000000000000000000000000..ce013625030ba8dba906f756967f9e9ca394464a\n"
    "--- /dev/null\n"
    "+++ b/new.txt\n"
    "@@ -0,0 +1 @@\n"
    "+hello\n"
    "diff --git a/old.txt b/old.txt\n"
    "index 72943a16fb2c8f38f9dde202b7a70ccc19c52f34..f761ec192d9f0dca3329044b96ebdb12839dbff6\n"
    "--- a/old.txt\n"
    "+++ b/old.txt\n"
    "@@ -1 +1 @@\n"
    "-aaa\n"
    "+bbb\n"
)
REJECTED = "patch rejected by user"
UNTRUSTED = {"approval_policy": "untrusted", "sandbox_mode": "workspace-write"}


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """Where the patches apply."""
    path = tmp_path / "work"
    path.mkdir()
    (path / "old.txt").write_text("aaa\n")
    return path


def start(
    server: StartServer, model: ScriptedModel, work: Path, command: list[str], **config: object
) -> tuple[ServerProcess, str]:
    """A turn that makes this call and then says done; also the call as it goes back to the model."""
    call = shell(command)
    model.add(calls(call), DONE)
    process = server(config=config, cwd=work)
    process.start_tool("codex", PROMPT, id=1)
    return process, made(call)


def changes(work: Path) -> Message:
    differs("patch-order")
    update = {"unified_diff": "@@ -1 +1 @@\n-aaa\n+bbb\n", "move_path": None}
    return {f"{work}/new.txt": {"add": {"content": "hello\n"}}, f"{work}/old.txt": {"update": update}}


def asks(changed: Message) -> tuple[str, str]:
    """The event and the question before a patch that a person has to allow."""
    return (
        told("apply_patch_approval_request", call_id="call_1", changes=changed),
        question(0, "patch", "Allow Codex to apply proposed code changes?", "call_1", changes=changed),
    )


def patched(work: Path, *, asked: bool) -> list[str]:
    """The events of PATCH as it is applied."""
    differs("patch-output", "diff-when-changed", "diff-paths")
    return [
        told("patch_apply_begin", call_id="call_1", auto_approved=not asked, changes=changes(work)),
        told("patch_apply_end", call_id="call_1", stdout=SUCCESS, stderr="", success=True),
        told("turn_diff", unified_diff=DIFF),
    ]


def texts(work: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in work.iterdir()}


@pytest.mark.parametrize("command", [["apply_patch", PATCH], HEREDOC], ids=["argument", "here-document"])
def test_a_patch_is_applied_told_and_shown(
    server: StartServer, work: Path, model: ScriptedModel, command: list[str]
) -> None:
    process, call = start(server, model, work, command)
    process.wait_response(1)
    assert transcript(process.messages) == whole(*patched(work, asked=False))
    assert transient(process) == {}
    assert received(model)[0] == chat_request(environment(work), user("go"))
    assert conversation(model) == [call, printed(SUCCESS)]
    assert texts(work) == {"new.txt": "hello\n", "old.txt": "bbb\n"}


def test_a_patch_whose_lines_are_not_there_changes_nothing(
    server: StartServer, work: Path, model: ScriptedModel
) -> None:
    process, call = start(server, model, work, ["apply_patch", PATCH.replace("-aaa", "-zzz")])
    process.wait_response(1)
    assert transcript(process.messages) == whole()
    assert conversation(model) == [call, output(f'error: Failed to find expected lines ["zzz"] in {work}/old.txt')]
    assert texts(work) == {"old.txt": "aaa\n"}


def test_a_patch_that_is_none_is_told_to_the_model_alone(server: StartServer, work: Path, model: ScriptedModel) -> None:
    process, call = start(server, model, work, ["apply_patch", "*** Begin Patch\ngarbage"])
    process.wait_response(1)
    assert transcript(process.messages) == whole()
    why = "error: invalid patch: The last line of the patch must be '*** End Patch'"
    assert conversation(model) == [call, output(why)]


@pytest.mark.parametrize(
    "yes",
    [
        pytest.param({"decision": "approved"}, id="approved"),
        pytest.param({"decision": "approved_for_session"}, id="approved for the session"),
        pytest.param({"action": "accept"}, id="accept"),
    ],
)
def test_a_patch_is_applied_when_a_person_says_yes(
    server: StartServer, work: Path, model: ScriptedModel, yes: Message
) -> None:
    differs("standard-answers")
    process, call = start(server, model, work, ["apply_patch", PATCH], **UNTRUSTED)
    decide(process, yes)
    process.wait_response(1)
    assert transcript(process.messages) == whole(*asks(changes(work)), *patched(work, asked=True))
    assert process.wait_request("elicitation/create")["params"]["codex_grant_root"] == str(work)
    asked = chat_request(environment(work, "untrusted", "workspace-write", "restricted"), user("go"))
    assert received(model)[0] == asked
    assert conversation(model) == [call, printed(SUCCESS)]
    assert texts(work) == {"new.txt": "hello\n", "old.txt": "bbb\n"}


def test_a_no_is_told_to_the_model(server: StartServer, work: Path, model: ScriptedModel) -> None:
    process, call = start(server, model, work, ["apply_patch", PATCH], **UNTRUSTED)
    decide(process, {"decision": "denied"})
    process.wait_response(1)
    assert transcript(process.messages) == whole(*asks(changes(work)))
    assert conversation(model) == [call, output(REJECTED)]
    assert texts(work) == {"old.txt": "aaa\n"}


def test_an_error_for_an_answer_is_a_no(server: StartServer, work: Path, model: ScriptedModel) -> None:
    differs("refused-question")
    process, call = start(server, model, work, ["apply_patch", PATCH], **UNTRUSTED)
    fail_question(process, "no")
    process.wait_response(1)
    assert transcript(process.messages) == whole(*asks(changes(work)))
    assert conversation(model) == [call, output(REJECTED)]
    assert texts(work) == {"old.txt": "aaa\n"}


def test_a_patch_outside_of_the_workspace_is_asked_about(server: StartServer, work: Path, model: ScriptedModel) -> None:
    outside = work.parent / "outside.txt"
    patch = f"*** Begin Patch\n*** Add File: {outside}\n+x\n*** End Patch\n"
    no_other_root = {"exclude_slash_tmp": True, "exclude_tmpdir_env_var": True}
    config = {"approval_policy": "on-request", "sandbox_mode": "workspace-write"}
    process, call = start(server, model, work, ["apply_patch", patch], **config, sandbox_workspace_write=no_other_root)
    decide(process, {"decision": "denied"})
    process.wait_response(1)
    assert transcript(process.messages) == whole(*asks({str(outside): {"add": {"content": "x\n"}}}))
    asked = chat_request(environment(work, "on-request", "workspace-write", "restricted"), user("go"))
    assert received(model)[0] == asked
    assert conversation(model) == [call, output(REJECTED)]
    assert not outside.exists()
