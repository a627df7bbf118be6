"""Calls of `shell` and `update_plan` that nobody is asked about, and calls that cannot be made."""

import dataclasses
from pathlib import Path

import pytest

from codexdb.agent.sandbox.choice import survey
from codexdb.domain.limits import SHELL_TIMEOUT_MS
from codexdb.testing.model_script import Answer, call_tools
from codexdb.testing.scripted_model import ScriptedModel
from codexdb.testing.server_process import ServerProcess, StartServer
from tests.golden.calling import (
    DONE,
    PROMPT,
    Calling,
    calls,
    conversation,
    made,
    output,
    printed,
    ran,
    shell,
    told,
    transient,
    whole,
)
from tests.golden.differences import differs
from tests.golden.normalise import transcript, usage
from tests.golden.outbound import chat_request, environment, received, user

TIMED_OUT = "sandbox error: command timed out"
NOT_FOUND = "No such file or directory (os error 2)"


def play(server: StartServer, model: ScriptedModel, cwd: Path, step: Answer, **config: object) -> ServerProcess:
    """A turn that makes the calls of `step` and then says done."""
    model.add(step, DONE)
    process = server(config=config, cwd=cwd)
    process.call_tool("codex", PROMPT, id=1)
    return process


def test_a_command_runs_where_the_call_says(server: StartServer, home: Path, model: ScriptedModel) -> None:
    call = shell(["echo", "hi"], workdir="/tmp")  # noqa: S108 - nothing is written
    process = play(server, model, home, calls(call))
    assert transcript(process.messages) == whole(*ran(["echo", "hi"], "/tmp", "hi\n"))  # noqa: S108
    assert transient(process) == {"stdout": b"hi\n"}
    assert received(model)[0] == chat_request(environment(home), user("go"))
    assert conversation(model) == [made(call), printed("hi\n")]


def test_a_failed_command_is_told_with_all_that_it_wrote(server: StartServer, home: Path, model: ScriptedModel) -> None:
    differs("output-of-failures", "shell-timeout-name")
    command = ["bash", "-c", "echo out; echo err >&2; exit 3"]
    call = shell(command, timeout_ms=5000)
    process = play(server, model, home, calls(call))
    assert transcript(process.messages) == whole(*ran(command, home, "out\n", "err\n", 3))
    assert transient(process) == {"stdout": b"out\n", "stderr": b"err\n"}
    assert conversation(model) == [made(call), printed("out\nerr\n", 3)]


def test_a_program_that_does_not_exist(server: StartServer, home: Path, model: ScriptedModel) -> None:
    call = shell(["no_such_cmd_xyz"])
    process = play(server, model, home, calls(call))
    assert transcript(process.messages) == whole(*ran(["no_such_cmd_xyz"], home, "", NOT_FOUND, -1))
    assert conversation(model) == [made(call), output(f"execution error: {NOT_FOUND}")]


@pytest.mark.parametrize("name", ["timeout", "timeout_ms"])
def test_a_command_that_takes_too_long(server: StartServer, home: Path, model: ScriptedModel, name: str) -> None:
    differs("timed-out-command", "shell-timeout-name")
    call = ("call_1", "shell", f'{{"command": ["sleep", "30"], "{name}": 600}}')
    process = play(server, model, home, calls(call))
    assert transcript(process.messages) == whole(*ran(["sleep", "30"], home, "", TIMED_OUT, -1))
    assert conversation(model) == [made(call), printed("command timed out after 600 milliseconds\n", -1)]


def test_a_command_that_takes_too_long_ends_with_what_it_started(
    server: StartServer, home: Path, model: ScriptedModel
) -> None:
    differs("timed-out-command", "whole-group", "default-timeout")
    assert SHELL_TIMEOUT_MS == 120_000
    command = ["sh", "-c", "echo before; sleep 300 & sleep 300"]
    call = shell(command, timeout_ms=600)
    process = play(server, model, home, calls(call))
    assert transcript(process.messages) == whole(*ran(command, home, "before\n", TIMED_OUT, -1))
    assert conversation(model) == [made(call), printed("command timed out after 600 milliseconds\nbefore\n", -1)]


TWICE = '{"command": ["echo", "1"]}{"command": ["echo", "2"]}'


@pytest.mark.parametrize(
    ("call", "why"),
    [
        pytest.param(
            ("c1", "shell", "{not json"),
            "failed to parse function arguments: key must be a string at line 1 column 2",
            id="no JSON",
        ),
        pytest.param(
            ("c1", "shell", "{}"),
            "failed to parse function arguments: missing field `command` at line 1 column 2",
            id="no command",
        ),
        pytest.param(
            ("c1", "shell", TWICE),
            "failed to parse function arguments: trailing characters at line 1 column 27",
            id="two objects",
        ),
        pytest.param(("c1", "frobnicate", "{}"), "unsupported call: frobnicate", id="unknown tool"),
    ],
)
def test_a_call_that_cannot_be_made_is_told_to_the_model_alone(
    server: StartServer, home: Path, model: ScriptedModel, call: Calling, why: str
) -> None:
    process = play(server, model, home, calls(call))
    assert transcript(process.messages) == whole()
    assert conversation(model) == [made(call), output(why, "c1")]


@pytest.mark.parametrize("pieces", [False, True], ids=["one delta each", "in pieces"])
def test_every_call_of_a_chat_answer_runs(
    server: StartServer, home: Path, model: ScriptedModel, *, pieces: bool
) -> None:
    differs("several-calls")
    both = [shell(["echo", "1"], "c1"), shell(["echo", "2"], "c2")]
    process = play(server, model, home, dataclasses.replace(calls(*both), one_delta_per_call=not pieces))
    first = ran(["echo", "1"], home, "1\n", call_id="c1")
    assert transcript(process.messages) == whole(*first, *ran(["echo", "2"], home, "2\n", call_id="c2"))
    assert conversation(model) == [made(*both), printed("1\n", 0, "c1"), printed("2\n", 0, "c2")]


def test_text_is_told_and_kept_before_the_calls_that_come_with_it(
    server: StartServer, home: Path, model: ScriptedModel
) -> None:
    differs("text-before-calls")
    call = shell(["echo", "1"])
    process = play(server, model, home, call_tools(call, text="I look"))
    kind, counts = usage()
    said = told("agent_message", message="I look")
    assert transcript(process.messages) == whole(said, *ran(["echo", "1"], home, "1\n"), told(kind, **counts))
    assert conversation(model) == [made(call).replace('"content":null', '"content":"I look"'), printed("1\n")]


def test_a_plan_is_told_and_confirmed(server: StartServer, home: Path, model: ScriptedModel) -> None:
    plan = [{"step": "a", "status": "in_progress"}, {"step": "b", "status": "pending"}]
    arguments = (
        '{"explanation": "x", "plan": [{"step": "a", "status": "in_progress"}, {"step": "b", "status": "pending"}]}'
    )
    call = ("c1", "update_plan", arguments)
    model.add(calls(call), DONE)
    process = server(cwd=home)
    process.call_tool("codex", {**PROMPT, "include-plan-tool": True}, id=1)
    assert transcript(process.messages) == whole(told("plan_update", explanation="x", plan=plan))
    asked = chat_request(environment(home), user("go"), tools=("shell", "update_plan"))
    assert received(model)[0] == asked
    assert conversation(model) == [made(call), output("Plan updated", "c1")]


@pytest.mark.parametrize(("backend", "words"), [("landlock", "Permission denied"), ("bwrap", "Read-only file system")])
def test_what_the_sandbox_forbids_fails(
    server: StartServer, home: Path, model: ScriptedModel, backend: str, words: str
) -> None:
    differs("sandbox-words")
    needs(backend)
    call = shell(["touch", "g.txt"])
    process = play(server, model, home, calls(call), sandbox_mode="read-only", sandbox_backend=backend)
    said = f"touch: cannot touch 'g.txt': {words}\n"
    assert transcript(process.messages) == whole(*ran(["touch", "g.txt"], home, "", said, -1))
    assert transient(process) == {"stderr": said.encode()}
    assert received(model)[0] == chat_request(environment(home, "never", "read-only", "restricted"), user("go"))
    denied = f"sandbox denied exec error, exit code: 1, stdout: , stderr: {said}"
    assert conversation(model) == [made(call), output(f"failed in sandbox LinuxSeccomp with execution error: {denied}")]
    assert not (home / "g.txt").exists()


def test_a_command_that_only_reads_needs_no_asking(server: StartServer, tmp_path: Path, model: ScriptedModel) -> None:
    differs("trusted-in-sandbox")
    work = tmp_path / "work"
    work.mkdir()
    call = shell(["ls"])
    process = play(server, model, work, calls(call), sandbox_mode="read-only", approval_policy="untrusted")
    assert transcript(process.messages) == whole(*ran(["ls"], work))
    assert received(model)[0] == chat_request(environment(work, "untrusted", "read-only", "restricted"), user("go"))
    assert conversation(model) == [made(call), printed("")]


def needs(backend: str) -> None:
    for each in survey():
        if each.backend.value == backend and each.why_not is not None:
            pytest.skip(f"{backend}: {each.why_not}")
