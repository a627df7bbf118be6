"""The server is killed at each named place, and the next one brings the turn to its end as if nothing had happened."""

import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from codexdb.domain import crash
from codexdb.store.calls import UNKNOWN
from codexdb.testing.crashing import VARIABLE
from codexdb.testing.model_script import Json, Status, Step, call_tools, say
from codexdb.testing.scripted_model import ScriptedModel
from codexdb.testing.server_process import ServerProcess, ServerProcessError, write_config
from tests.process.talking import rows, runs, until

CRASHING = (sys.executable, "-m", "codexdb.testing.crashing", "serve")
ANSWER = "all is done"
SUMMARY = "so far, the command was run"
PROMPT = {"prompt": "work", "message_id": "m1"}
WAIT_S = 15.0

LEFT_BY_A_KILLED_SERVER = frozenset({"rescue.found", "rescue.taken"})  # passed only where there is something to rescue
ASKING = frozenset({"approval.asked", "approval.waiting", "approval.decided"})  # passed only where a person is asked
PATCHING = frozenset({"patch.staged", "patch.replaced"})  # passed only where a patch is applied
IN_ORDER = frozenset({"suspend.before"})  # passed only by a server that goes down in order
AGAIN = ("commit.before:2", "commit.before:3", "commit.before:6", "commit.after:2", "commit.after:3", "commit.after:4")
LATER = ("request.before:2", "stream.first_event:2", "item.taken:2", "response.ended:2")
CASES = (*crash.POINTS, *AGAIN, *LATER)

needs_proc = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc to see what still runs")


class Scene:
    """One turn: a command that notes its pid in a file, then a last word. With `held`, the command goes on for long;
    with `long`, the conversation is too long for the model once the command has run; with `asking`, a person has to
    approve the command first; with `patching`, a patch makes the file instead.
    """

    def __init__(
        self, home: Path, model: ScriptedModel, *, held: bool, long: bool, asking: bool, patching: bool
    ) -> None:
        self.home, self.model, self.long, self.asking = home, model, long, asking
        self.mark = home / "mark"
        rest = "; exec sleep 60" if held else ""
        self._call = ("c1", "shell", json.dumps({"command": ["bash", "-c", f"echo $$ >> {self.mark}{rest}"]}))
        if patching:
            patch = f"*** Begin Patch\n*** Add File: {self.mark}\n+1\n*** End Patch"
            self._call = ("c1", "apply_patch", json.dumps({"input": patch}))

    def respond(self, body: Json) -> Step:
        said = json.dumps(body["input"])
        if self.long and "tools" not in body:
            return say(SUMMARY)
        if self.long and SUMMARY not in said and "function_call_output" in said:
            return Status(400, '{"error": {"code": "context_length_exceeded", "message": "too long"}}')
        if SUMMARY in said:
            return say(ANSWER)
        return say(ANSWER) if "function_call_output" in said else call_tools(self._call)

    @property
    def pids(self) -> list[int]:
        return [int(line) for line in self.mark.read_text().split()] if self.mark.exists() else []

    def die(self, at: str, act: Callable[[ServerProcess], None]) -> ServerProcess:
        """A server that kills itself at that place, and proof that it did."""
        with ServerProcess(self.home, argv=CRASHING, env={VARIABLE: at}) as server:
            with contextlib.suppress(ServerProcessError):  # it may be gone at any line
                server.initialize()
                act(server)
            assert server.wait_exit(WAIT_S) == -signal.SIGKILL, server.stderr
        return server


@pytest.fixture
def scene(request: pytest.FixtureRequest, home: Path) -> Scene:
    name = request.getfixturevalue("at").partition(":")[0]
    model: ScriptedModel = request.getfixturevalue("model")
    held = name in LEFT_BY_A_KILLED_SERVER | IN_ORDER
    long, asking, patching = name.startswith("compaction."), name in ASKING, name in PATCHING
    scene = Scene(home, model, held=held, long=long, asking=asking, patching=patching)
    model._responder = scene.respond  # pyright: ignore[reportPrivateUsage] - the fixture knows no responder
    mode = {"sandbox_mode": "danger-full-access"} if patching else {}
    write_config(home, model.base_url, "responses", approval_policy="untrusted" if asking else "never", **mode)
    return scene


def start(server: ServerProcess) -> None:
    server.start_tool("codex", PROMPT, id=1)


def start_and_approve(server: ServerProcess) -> None:
    start(server)
    server.wait_request("elicitation/create", timeout=WAIT_S)
    approve(server)


def approve(server: ServerProcess) -> None:
    """Say yes to the question, if it waits for an answer, and no earlier than it is asked."""
    pending: list[Json] = []

    def asked() -> bool:
        found = server.call_tool("approvals_list", {"include_closed": True})["structuredContent"]["approvals"]
        pending[:] = [each for each in found if each["state"] == "pending"]
        return bool(found)

    until(asked, "the question")
    for each in pending:
        server.call_tool("approval_decide", {"approval_id": each["approval_id"], "decision": "approved"})


def crash_at(scene: Scene, at: str) -> ServerProcess:
    """The server that the client talked to, after some server died at that place."""
    name = at.partition(":")[0]
    if name in IN_ORDER:

        def leave(server: ServerProcess) -> None:
            start(server)
            until(lambda: bool(scene.pids), "the command's first line")
            server.close_stdin()

        return scene.die(at, leave)
    if name not in LEFT_BY_A_KILLED_SERVER:
        return scene.die(at, start_and_approve if name == "approval.decided" else start)
    with ServerProcess(scene.home) as first:
        first.initialize()
        start(first)
        until(lambda: bool(scene.pids), "the command's first line")
        first.kill()
    scene.die(at, lambda server: server.notify("ready"))
    return first


def check_record(database: Path) -> None:
    """What holds of every database at rest in which each turn had its answer."""
    assert rows(database, "SELECT count(*), state, last_agent_message FROM turns") == [(1, "completed", ANSWER)]
    assert rows(database, "SELECT count(*), sum(delivered_at_ms IS NOT NULL) FROM inputs") == [(1, 1)]
    assert rows(database, "SELECT active_turn_id FROM sessions") == [(None,)]
    numbers = rows(database, "SELECT seq FROM events ORDER BY seq")
    assert numbers == [(n,) for n in range(1, len(numbers) + 1)]
    assert rows(database, "SELECT next_seq FROM sessions") == [(len(numbers) + 1,)]
    assert rows(database, "SELECT type FROM events WHERE type IN ('task_complete', 'error')") == [("task_complete",)]
    assert rows(database, "SELECT max(seq) FROM events WHERE type = 'task_complete'") == [(len(numbers),)]
    calls = rows(database, "SELECT payload ->> 'call_id' FROM items WHERE type = 'function_call'")
    outputs = rows(database, "SELECT payload ->> 'call_id' FROM items WHERE type = 'function_call_output'")
    assert calls == outputs == [("c1",)]
    assert rows(database, "SELECT count(*) FROM items WHERE role = 'user' AND turn_id IS NOT NULL") == [(1,)]
    # Between the commit of the last word and that of its account nobody can know that nothing was to follow: then the
    # model is asked once more, and says it again.
    assert rows(database, "SELECT count(*) FROM items WHERE role = 'assistant'") in ([(1,)], [(2,)])
    assert rows(database, "SELECT DISTINCT text FROM items WHERE role = 'assistant'") == [(ANSWER,)]
    assert rows(database, "SELECT count(*) FROM tool_calls WHERE ended_at_ms IS NULL") == [(0,)]
    assert rows(database, "SELECT count(*) FROM deltas") == [(0,)]
    assert rows(database, "SELECT DISTINCT state FROM approvals") in ([], [("approved",)])
    assert rows(database, "SELECT tool_call_id FROM approvals GROUP BY tool_call_id HAVING count(*) > 1") == []


@pytest.mark.parametrize("at", CASES)
def test_a_kill_at_any_point_loses_nothing_and_runs_nothing_twice(
    at: str, scene: Scene, home: Path, database: Path
) -> None:
    told = crash_at(scene, at).events(1)
    accepted = rows(database, "SELECT message_id FROM inputs")
    lost = rows(database, "SELECT call_id FROM tool_calls WHERE state = 'started'")
    assert accepted == [("m1",)] if told else len(accepted) <= 1
    if at == "accept.before":
        assert accepted == []
    if at.startswith(("call.intended", "call.spawned", "call.ran", "rescue.found", "patch.")):
        assert lost == [("c1",)]
    with ServerProcess(home) as server:
        server.initialize()
        if scene.asking:
            approve(server)
        if accepted:
            done = "SELECT count(*) FROM turns WHERE state = 'completed'"
            until(lambda: rows(database, done) == [(1,)], "the turn's end without anybody asking")
        answer = server.call_tool("codex", PROMPT)
        assert answer["structuredContent"]["content"] == ANSWER
    check_record(database)
    assert not list(home.glob(".codexdb-patch-*"))
    assert len(scene.pids) <= 1
    if lost:
        assert rows(database, "SELECT state FROM tool_calls") == [("unknown",)]
    if rows(database, "SELECT state FROM tool_calls") == [("unknown",)]:
        assert UNKNOWN in json.dumps(scene.model.requests[-1].body)
    else:
        assert len(scene.pids) == 1


@needs_proc
@pytest.mark.parametrize("at", ["call.spawned", "suspend.before", "rescue.found", "rescue.taken"])
def test_no_command_outlives_the_server(at: str, scene: Scene) -> None:
    crash_at(scene, at)
    until(lambda: not any(runs(pid) for pid in scene.pids), "the command's end")  # `until` is the assertion
    mine = str(scene.home).encode()
    until(lambda: not [pid for pid in _processes() if mine in _said(pid)], "the end of everything it started")


def _processes() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208 - names are wanted


def _said(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def test_an_unknown_point_is_refused(home: Path) -> None:
    with ServerProcess(home, argv=CRASHING, env={VARIABLE: "no.such"}) as server:
        assert server.wait_exit() == 1
    assert "no crash point 'no.such'" in server.stderr
