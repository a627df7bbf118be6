"""Patches in a turn: where they may write, what is told when they are stopped, and what the turn's diff covers."""

import fcntl
import json
import os
import signal
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from codexdb.agent.calls.patch import OUTSIDE, REJECTED, STOPPED
from codexdb.agent.calls.server_tool import REJECTED as TOOL_REJECTED
from codexdb.agent.tools.patch import leftovers
from codexdb.domain.limits import TURN_FILES_BYTES_MAX
from codexdb.store.calls import UNKNOWN
from codexdb.testing.model_script import call_tools, say
from codexdb.testing.scripted_model import ScriptedModel
from codexdb.testing.server_process import Message, ServerProcess, StartServer
from tests.process.asked import UNTRUSTED, listed, outputs, question, questions, result, start
from tests.process.talking import ask, at_rest, read, reply, rows, send, shell, until
from tests.process.test_asking import WORKSPACE
from tests.process.test_images import WITH_TOOLS

STATES = "SELECT state FROM tool_calls ORDER BY id"


def patch(call_id: str, *lines: str) -> tuple[str, str, str]:
    """A call for `call_tools`."""
    return call_id, "apply_patch", json.dumps({"input": "\n".join(["*** Begin Patch", *lines, "*** End Patch"])})


def change(call_id: str, path: Path | str, old: str, new: str) -> tuple[str, str, str]:
    return patch(call_id, f"*** Update File: {path}", "@@", f"-{old}", f"+{new}")


def told(page: Message, kind: str) -> list[Message]:
    return [event["msg"] for event in page["events"] if event["msg"]["type"] == kind]


def last_diff(page: Message) -> str:
    return str(told(page, "turn_diff")[-1]["unified_diff"])


def staged(*folders: Path) -> list[str]:
    return [path.name for folder in folders for path in folder.iterdir() if path.name.startswith(".codexdb-patch-")]


def answer(client: ServerProcess, number: int, decision: str) -> None:
    """Answer the client's nth question, counted from 0, once it is there."""
    until(lambda: len(questions(client)) > number, "the question")
    client.respond(questions(client)[number]["id"], {"decision": decision})


# -- the diff of a turn ------------------------------------------------------------------------------------------------


def test_the_diff_of_a_turn_covers_what_was_patched_before_a_question(
    server: StartServer, model: ScriptedModel, tmp_path: Path
) -> None:
    work = tmp_path / "work"
    work.mkdir()
    (work / "a").write_text("one\n")
    model.add(call_tools(change("p1", "a", "one", "two")), call_tools(patch("p2", "*** Add File: b", "+new")))
    model.add(call_tools(change("p3", "a", "two", "three")), say("done"))
    client = server(config=UNTRUSTED)
    session = start(client, cwd=str(work))
    for number in range(3):
        answer(client, number, "approved")
    assert result(client)["content"] == "done"
    diff = last_diff(read(client, session))
    assert diff.count("diff --git") == 2
    assert "\n-one\n+three\n" in diff
    assert "+new" in diff


@pytest.mark.parametrize("how", ["kill", "going down"])
def test_the_diff_of_a_turn_covers_what_was_patched_by_a_server_that_is_gone(
    server: StartServer, model: ScriptedModel, tmp_path: Path, how: str
) -> None:
    work, fifo = tmp_path / "work", tmp_path / "fifo"
    work.mkdir()
    os.mkfifo(fifo)
    (work / "a").write_text("one\n")
    (work / "b").write_bytes(b"\xff\0")
    model.add(call_tools(change("p1", "a", "one", "two"), patch("p2", "*** Delete File: b")))
    model.add(call_tools(shell("c1", "sh", "-c", f"sed -i s/two/2/ a; cat {fifo}")))  # and there it stops
    model.add(call_tools(patch("p3", "*** Update File: a", "*** Move to: c", "@@", "-2", "+three")), say("done"))
    client = server(config={**WORKSPACE, "approval_policy": "never"})
    session = start(client, cwd=str(work))
    until(lambda: (work / "a").read_text() == "2\n", "the command's change")
    if how == "kill":
        client.kill()
    else:
        client.signal(signal.SIGTERM)
        assert client.wait_exit() == 0
    after = server()
    page = at_rest(after, session)
    assert page["last_turn"]["state"] == "completed"
    assert len(told(page, "turn_diff")) == 4  # also of what the command changed, when the turn goes on
    assert "\n-one\n+2\n" in str(told(page, "turn_diff")[-2]["unified_diff"])
    diff = last_diff(page)
    assert "rename from a\nrename to c\n" in diff
    assert "\n-one\n+three\n" in diff
    assert "Binary files a/b and /dev/null differ" in diff


def test_what_is_kept_for_the_diff_has_a_bound_and_goes_with_the_turn(
    server: StartServer, model: ScriptedModel, tmp_path: Path, database: Path
) -> None:
    work = tmp_path / "work"
    work.mkdir()
    names = ["a", "b", "c"]
    for name in names:
        (work / name).write_bytes(b"x" * (TURN_FILES_BYTES_MAX // 2))
    model.add(*(call_tools(patch(name, f"*** Delete File: {name}")) for name in names))
    model.add(call_tools(patch("d", f"*** Add File: {tmp_path}/outside", "+x")), say("done"))
    client = server(config={**WORKSPACE, "approval_policy": "on-request"})
    session = start(client, cwd=str(work))
    asked = question(client)
    (size,) = rows(database, "SELECT sum(length(text)) FROM deltas")[0]
    assert isinstance(size, int)
    assert TURN_FILES_BYTES_MAX < size < TURN_FILES_BYTES_MAX * 3 // 2
    client.respond(asked["id"], {"decision": "approved"})
    assert result(client)["content"] == "done"
    diffs = told(read(client, session), "turn_diff")
    for diff in diffs[-2:]:
        notes = [line for line in diff["unified_diff"].splitlines() if line.startswith("(")]
        assert notes[-1] == "(what c held before was too large to be kept)"
        assert [note.rpartition(" ")[2] for note in notes[:-1]] == ["a)", "b)"]
    assert rows(database, "SELECT count(*) FROM deltas") == [(0,)]


# -- stopped -----------------------------------------------------------------------------------------------------------


@contextmanager
def held_up(folder: Path, call: str) -> Generator[None]:
    """The patch of that call does not get further than to its lock in that folder, and has changed nothing."""
    name = Path(leftovers.path(str(folder), leftovers.run_of(call), "lock"))
    descriptor = os.open(name, os.O_RDWR | os.O_CREAT)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        yield
    finally:
        name.unlink(missing_ok=True)
        os.close(descriptor)


def stop(client: ServerProcess, session: str, how: str) -> None:
    match how:
        case "interrupt":
            ask(client, "conversation_interrupt", session)
            assert result(client)["kind"] == "interrupted"
        case "kill":
            client.kill()
        case _:
            client.signal(signal.SIGTERM)
            assert client.wait_exit() == 0


@pytest.mark.parametrize(
    ("how", "state", "output"),
    [("interrupt", "aborted", STOPPED), ("going down", "aborted", STOPPED), ("kill", "unknown", UNKNOWN)],
)
def test_a_patch_that_was_stopped_in_the_sandbox_is_told_to_have_ended(
    server: StartServer, model: ScriptedModel, tmp_path: Path, database: Path, how: str, state: str, output: str
) -> None:
    work, fifo = tmp_path / "work", tmp_path / "fifo"
    work.mkdir()
    os.mkfifo(fifo)
    model.add(call_tools(shell("c1", "cat", str(fifo)), patch("p1", "*** Add File: a", "+new")), say("done"))
    client = server(config={**WORKSPACE, "approval_policy": "never"})
    session = start(client, cwd=str(work))
    until(lambda: len(rows(database, STATES)) == 2, "both calls")
    call = str(rows(database, "SELECT public_id FROM tool_calls WHERE call_id = 'p1'")[0][0])
    with held_up(work, call):
        fifo.write_text("go on\n")
        spawned = "SELECT pid IS NOT NULL FROM tool_calls WHERE call_id = 'p1'"
        until(lambda: rows(database, spawned) == [(1,)], "the patch")
        stop(client, session, how)
    after = client if how == "interrupt" else server()
    page = at_rest(after, session)
    assert rows(database, STATES) == [("succeeded",), (state,)]
    (end,) = told(page, "patch_apply_end")
    assert (end["call_id"], end["success"], end["stdout"]) == ("p1", False, "")
    assert output in end["stderr"]
    assert len(told(page, "patch_apply_begin")) == 1
    assert list(work.iterdir()) == []
    if how != "interrupt":
        assert output in outputs(model)["p1"]
        assert len(model.requests) == 2


def test_an_interrupt_does_not_hide_that_a_patch_was_applied(
    server: StartServer, model: ScriptedModel, tmp_path: Path, database: Path
) -> None:
    model.add(call_tools(patch("p1", f"*** Add File: {tmp_path}/a", "+new")))
    client = server(config=UNTRUSTED)
    session = start(client)
    asked = question(client)
    call = str(rows(database, "SELECT public_id FROM tool_calls")[0][0])
    with held_up(tmp_path, call):
        client.respond(asked["id"], {"decision": "approved"})
        until(lambda: rows(database, STATES) == [("started",)], "the patch")
        ask(client, "conversation_interrupt", session)
        flagged = "SELECT interrupt_requested_at_ms IS NOT NULL FROM turns"
        until(lambda: rows(database, flagged) == [(1,)], "the request")
    assert result(client)["kind"] == "interrupted"
    page = read(client, session)
    assert [end["success"] for end in told(page, "patch_apply_end")] == [True]
    assert "+new" in last_diff(page)
    assert rows(database, STATES) == [("succeeded",)]
    assert (tmp_path / "a").read_text() == "new\n"


# -- a yes for longer --------------------------------------------------------------------------------------------------


def test_what_was_granted_in_one_sandbox_mode_does_not_hold_in_a_stricter_one(
    server: StartServer, model: ScriptedModel, tmp_path: Path
) -> None:
    """For commands, and for folders that patches may write to."""
    one, two = tmp_path / "one", tmp_path / "two"
    calls = (shell("c1", "touch", str(one)), patch("p1", f"*** Add File: {two}", "+new"))
    client = server(config={**WORKSPACE, **UNTRUSTED})
    model.add(call_tools(*calls), say("first"))
    session = start(client)
    for number in range(2):
        answer(client, number, "approved_always")
    assert result(client)["content"] == "first"
    for mode, again in (("read-only", True), ("workspace-write", False), ("danger-full-access", False)):
        one.unlink(missing_ok=True)
        two.unlink(missing_ok=True)
        asked = len(questions(client))
        model.add(call_tools(*calls), say(mode))
        request = client.start_tool("codex-reply", {"threadId": session, "prompt": "again", "sandbox": mode})
        for number in range(2 if again else 0):
            answer(client, asked + number, "denied")
        assert result(client, request)["content"] == mode
        assert (one.exists(), two.exists()) == (not again, not again)
        assert len(questions(client)) == asked + (2 if again else 0)


def test_a_tool_that_was_granted_in_one_sandbox_mode_is_asked_about_in_a_stricter_one(
    server: StartServer, model: ScriptedModel
) -> None:
    client = server(config={**WORKSPACE, **UNTRUSTED, **WITH_TOOLS})
    model.add(call_tools(("c1", "test__parts", "{}")), say("first"))
    session = start(client)
    answer(client, 0, "approved_for_session")
    assert result(client)["content"] == "first"
    for mode, denied in (("workspace-write", False), ("read-only", True)):
        model.add(call_tools(("c2", "test__parts", "{}")), say(mode))
        request = client.start_tool("codex-reply", {"threadId": session, "prompt": "again", "sandbox": mode})
        if denied:
            answer(client, 1, "denied")
        assert result(client, request)["content"] == mode
        assert len(questions(client)) == 1 + denied
        assert (outputs(model)["c2"] == TOOL_REJECTED) == denied


def test_a_yes_counts_as_it_was_asked_whatever_the_next_message_changes(
    server: StartServer, model: ScriptedModel, tmp_path: Path
) -> None:
    """The turn that asked keeps its settings; what was granted with it does not hold in the stricter one behind it."""
    one = tmp_path / "one"
    client = server(config={**WORKSPACE, **UNTRUSTED})
    model.add(call_tools(shell("c1", "touch", str(one))), say("made"))
    model.add(call_tools(shell("c2", "touch", str(one))), say("not made"))
    session = start(client)
    asked = question(client)
    changed = {"sandbox": "read-only", "approval_policy": "never"}
    assert send(client, session, "and now?", if_running="queue", **changed)["outcome"] == "queued"
    assert send(client, session, "or so", if_running="steer", **changed)["kind"] == "invalid_arguments"
    client.respond(asked["id"], {"decision": "approved_for_session"})
    assert result(client)["content"] == "made"
    assert one.exists()
    one.unlink()
    assert at_rest(client, session)["last_turn"]["state"] == "completed"
    assert not one.exists()
    assert len(questions(client)) == 1


# -- where patches may write -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tool", ["shell", "apply_patch", "cd"])
def test_a_directory_that_is_not_there_is_named(
    server: StartServer, model: ScriptedModel, tmp_path: Path, tool: str
) -> None:
    gone = tmp_path / "gone"
    text = json.loads(patch("p1", "*** Add File: a", "+new")[2])["input"]
    given: dict[str, object] = {"command": ["apply_patch", text], "workdir": str(gone)}
    if tool == "cd":
        given = {"command": ["bash", "-lc", f"cd {gone} && apply_patch <<'EOF'\n{text}\nEOF"]}
    call = ("p1", "shell", json.dumps(given)) if tool != "apply_patch" else patch("p1", "*** Add File: a", "+new")
    if tool == "apply_patch":
        gone.mkdir()
    model.add(say("first"), call_tools(call), say("done"))
    client = server(config={"sandbox_mode": "danger-full-access", "approval_policy": "never"})
    session = start(client, cwd=str(gone if tool == "apply_patch" else tmp_path))
    assert result(client)["content"] == "first"
    if tool == "apply_patch":
        gone.rmdir()
    assert reply(client, session, "now")["content"] == "done"
    assert str(gone) in outputs(model)["p1"]
    assert "directory" in outputs(model)["p1"]
    assert not gone.exists()


@pytest.mark.parametrize("backend", ["auto", "none"])
@pytest.mark.parametrize("policy", ["untrusted", "on-failure", "on-request", "never"])
@pytest.mark.parametrize("way", ["out", "in"])
def test_no_patch_moves_a_file_across_the_border_of_the_workspace_without_a_question(
    server: StartServer, model: ScriptedModel, tmp_path: Path, way: str, policy: str, backend: str
) -> None:
    work, outside = tmp_path / "work", tmp_path / "outside"
    work.mkdir()
    outside.mkdir()
    source, target = (work / "a", outside / "b") if way == "out" else (outside / "a", work / "b")
    source.write_text("one\n")
    moved = patch("p1", f"*** Update File: {source}", f"*** Move to: {target}", "@@", "-one", "+two")
    model.add(call_tools(moved), say("done"))
    client = server(config={**WORKSPACE, "approval_policy": policy, "sandbox_backend": backend})
    session = start(client, cwd=str(work))
    if policy != "never":
        asked = question(client)
        assert (source.read_text(), target.exists()) == ("one\n", False)
        client.respond(asked["id"], {"decision": "denied"})
    assert result(client)["content"] == "done"
    assert (source.read_text(), target.exists()) == ("one\n", False)
    assert outputs(model)["p1"] == (OUTSIDE if policy == "never" else REJECTED)
    assert staged(work, outside) == []
    if policy == "never":
        assert questions(client) == []
        return
    source.write_text("one\n")
    model.add(call_tools(moved), say("moved"))
    request = client.start_tool("codex-reply", {"threadId": session, "prompt": "again"})
    answer(client, 1, "approved")
    assert result(client, request)["content"] == "moved"
    assert (source.exists(), target.read_text()) == (False, "two\n")
    assert listed(client) == []
