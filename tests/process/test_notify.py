"""The user's notify program: told of each completed turn, of no other, and waited for by nobody."""

import contextlib
import json
import os
import signal
import sqlite3
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from codexdb.testing.crashing import VARIABLE
from codexdb.testing.model_script import Hang, Raw, Status, call_tools, frames, say
from codexdb.testing.scripted_model import ScriptedModel
from codexdb.testing.server_process import Message, ServerProcess, StartServer
from codexdb.worker.notify import NOTIFICATION_BYTES_MAX, NOTIFY_PROCESSES_MAX, notification
from tests.golden.differences import differs
from tests.process.talking import until

CRASHING = (sys.executable, "-m", "codexdb.testing.crashing", "serve")
WAIT_S = 15.0
EXIT_S = 1.5  # what a server that goes down in order promises


class Bell:
    """A file to which a notify program appends a line for each time it is run."""

    def __init__(self, path: Path) -> None:
        self._path = path
        # In one write, so that programs which run at once do not mix their lines.
        self.told = ["sh", "-c", f'printf "%s\\n" "$1" >> {path}', "notify"]
        self.slow = ["sh", "-c", f"echo $$ >> {path}; exec sleep 60", "notify"]
        self.environment = ["sh", "-c", f"env >> {path}; echo end >> {path}", "notify"]

    def lines(self, n: int) -> list[str]:
        """Its lines, once there are at least `n`."""
        until(lambda: len(self._read()) >= n, f"line {n} of the notify program")
        return self._read()

    def rung(self, n: int) -> list[Message]:
        return [json.loads(line) for line in self.lines(n)]

    def _read(self) -> list[str]:
        return self._path.read_text(encoding="utf-8").splitlines() if self._path.exists() else []


@pytest.fixture
def bell(tmp_path: Path) -> Iterator[Bell]:
    bell = Bell(tmp_path / "bell")
    yield bell
    for line in bell.lines(0):
        if line.isdigit():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(int(line), signal.SIGKILL)


def start(server: ServerProcess, prompt: str = "hello", **arguments: object) -> str:
    result = server.call_tool("codex", {"prompt": prompt, **arguments})
    return cast("str", result["structuredContent"]["threadId"])


def turn_ids(database: Path) -> list[str]:
    with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        return [row[0] for row in connection.execute("SELECT public_id FROM turns ORDER BY id")]


def zombies(parent: int) -> list[int]:
    """Children of a process that have ended and that nobody has asked about."""
    found: list[int] = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, ppid, *_ = path.read_bytes().rpartition(b")")[2].split()
            if state == b"Z" and int(ppid) == parent:
                found.append(int(path.parent.name))
    return found


def test_a_completed_turn_is_told_with_what_was_asked_and_answered(
    server: StartServer, model: ScriptedModel, bell: Bell, database: Path
) -> None:
    differs("notify")
    model.add(say("Grüße"), say("second"))
    process = server(config={"notify": bell.told})
    session = start(process, "first")
    assert bell.rung(1) == [
        {
            "type": "agent-turn-complete",
            "turn-id": turn_ids(database)[0],
            "input-messages": ["first"],
            "last-assistant-message": "Grüße",
        }
    ]
    process.call_tool("codex-reply", {"threadId": session, "prompt": "next"})
    assert bell.rung(2)[1]["input-messages"] == ["next"]
    if sys.platform == "linux":
        until(lambda: not zombies(process.pid), "the end of all notify programs")
    assert process.stderr == ""


def test_steered_messages_of_the_turn_are_told_too(server: StartServer, model: ScriptedModel, bell: Bell) -> None:
    model.add(Hang(answer=call_tools(("c1", "shell", '{"command":["true"]}'))), say("done"))
    process = server(config={"notify": bell.told})
    process.start_tool("codex", {"prompt": "go"}, id=1)
    session = process.wait_event("task_started", 1)["_meta"]["conversationId"]
    model.wait_for_requests(1)
    content = [{"type": "text", "text": "two"}, {"type": "text", "text": "parts"}]
    arguments = {"conversation_id": session, "content": content, "if_running": "steer"}
    process.call_tool("send-user-message", arguments)
    model.release()
    assert bell.rung(1)[0]["input-messages"] == ["go", "two\nparts"]


def test_a_turn_that_failed_or_was_interrupted_is_not_told(
    server: StartServer, model: ScriptedModel, bell: Bell
) -> None:
    model.add(Status(400, "no"), Hang(), say("at last"))
    process = server(config={"notify": bell.told})
    assert process.call_tool("codex", {"prompt": "fails"})["isError"] is True
    process.start_tool("codex", {"prompt": "hangs"}, id="hangs")
    session = process.wait_event("task_started", "hangs")["_meta"]["conversationId"]
    model.wait_for_requests(2)
    process.call_tool("conversation_interrupt", {"conversation_id": session})
    process.wait_response("hangs")
    start(process, "works")
    assert [told["input-messages"] for told in bell.rung(1)] == [["works"]]
    process.close_stdin()
    assert process.wait_exit() == 0
    assert len(bell.lines(1)) == 1


def test_nobody_waits_for_it_and_no_more_than_a_few_run_at_once(
    server: StartServer, model: ScriptedModel, bell: Bell
) -> None:
    process = server(config={"notify": bell.slow})
    for n in range(NOTIFY_PROCESSES_MAX + 2):
        start(process, f"turn {n}")
    assert len(bell.lines(NOTIFY_PROCESSES_MAX)) == NOTIFY_PROCESSES_MAX
    pids = [int(line) for line in bell.lines(NOTIFY_PROCESSES_MAX)]
    assert all(os.getsid(pid) == pid for pid in pids)
    until(lambda: process.stderr.count("still run") == 2, "a line for each that was left out")
    os.kill(pids[0], signal.SIGKILL)
    until(lambda: "ended with code -9" in process.stderr, "the end of one")
    start(process, "room again")
    assert len(bell.lines(NOTIFY_PROCESSES_MAX + 1)) == NOTIFY_PROCESSES_MAX + 1
    began = time.monotonic()
    process.close_stdin()
    assert process.wait_exit() == 0
    assert time.monotonic() - began < EXIT_S
    os.kill(pids[1], 0)  # it outlives the server
    assert len(model.requests) == NOTIFY_PROCESSES_MAX + 3


def test_a_program_that_cannot_be_run_is_one_line_in_the_log(server: StartServer) -> None:
    process = server(config={"notify": ["/no/such/s3cr3t/program"]})
    start(process)
    until(lambda: "cannot be run: No such file or directory" in process.stderr, "the line")
    start(process, config={"notify": ["sh", "-c", "exit 3"]})
    until(lambda: "ended with code 3" in process.stderr, "the other line")
    assert process.stderr.count("\n") == 2
    assert "s3cr3t" not in process.stderr


def test_it_has_the_environment_of_commands(server: StartServer, bell: Bell) -> None:
    keyed = {"scripted": {"env_key": "SCRIPTED", "env_http_headers": {"X-A": "IN_A_HEADER"}}}
    process = server(
        config={
            "notify": bell.environment,
            "model_providers": keyed,
            "shell_environment_policy": {"set": {"MINE": "1"}},
        },
        env={"SCRIPTED": "s3cr3t", "IN_A_HEADER": "s3cr3t", "OTHER_API_KEY": "s3cr3t"},
    )
    start(process)
    until(lambda: "end" in bell.lines(1), "the last line")
    assert "MINE=1" in bell.lines(1)
    assert not any("s3cr3t" in line for line in bell.lines(1))


@pytest.mark.parametrize(("point", "times"), [("turn.ending", 1), ("turn.ended", 0)])
def test_a_turn_whose_server_was_killed_is_told_once_by_who_ends_it(
    server: StartServer, model: ScriptedModel, bell: Bell, point: str, times: int
) -> None:
    """Between the commit and the program nothing is on record, so nobody makes up for it."""
    model.add(say("answer"))
    first = server(argv=CRASHING, env={VARIABLE: point}, config={"notify": bell.told})
    first.start_tool("codex", {"prompt": "killed"}, id=1)
    assert first.wait_exit() == -signal.SIGKILL
    second, third = server(), server()
    start(second, "afterwards")
    until(lambda: [told["input-messages"] for told in bell.rung(1)].count(["afterwards"]) == 1, "the last one")
    rung = bell.rung(1 + times)
    assert sorted(told["input-messages"] for told in rung) == [["afterwards"], ["killed"]][: 1 + times]
    assert {told["last-assistant-message"] for told in rung} <= {"answer", "ok"}
    for process in (second, third):
        process.close_stdin()
        assert process.wait_exit() == 0
    assert len(bell.lines(1)) == 1 + times


def test_a_turn_that_was_summarised_tells_all_of_its_messages(
    server: StartServer, model: ScriptedModel, bell: Bell
) -> None:
    call = call_tools(("c1", "shell", json.dumps({"command": ["echo", "x" * 400]})))
    model.add(call, say("the summary"), say("done"))
    process = server(config={"notify": bell.told, "model_auto_compact_token_limit": 16})
    process.call_tool("codex", {"prompt": "go"})
    (told,) = bell.rung(1)
    assert (told["input-messages"], told["last-assistant-message"]) == (["go"], "done")
    assert len(model.requests) == 3


def test_a_turn_that_was_answered_when_its_server_was_killed_is_told(
    server: StartServer, model: ScriptedModel, bell: Bell
) -> None:
    """All of the answer is on record but the mark behind it: whoever takes the turn ends it, and so tells."""
    stream = frames(say("answer"), chat=True, include_usage=False)[:-1]
    model.add(Raw("".join(each.data.decode() for each in stream), ends=False))
    first = server(config={"notify": bell.told})
    first.start_tool("codex", {"prompt": "killed"}, id=1)
    first.wait_event("agent_message", 1)  # which is committed with the answer
    first.kill()
    server()
    assert bell.rung(1)[0]["last-assistant-message"] == "answer"
    assert len(model.requests) == 1


def test_the_last_turn_of_a_server_that_goes_is_told(server: StartServer, model: ScriptedModel, bell: Bell) -> None:
    model.add(Hang(answer=say("finished")))
    process = server("--on-eof=finish", config={"notify": bell.told})
    process.start_tool("codex", {"prompt": "go"}, id=1)
    model.wait_for_requests(1)
    process.close_stdin()
    model.release()
    assert process.wait_exit() == 0
    assert bell.rung(1)[0]["last-assistant-message"] == "finished"


@pytest.mark.parametrize("filling", ["x", "é", "\x01"])
def test_what_does_not_fit_into_one_argument_is_shortened(filling: str) -> None:
    texts = ["short", filling * 200_000, *[filling * 100] * 50]
    told = notification("id", texts, filling * 50_000)
    assert NOTIFICATION_BYTES_MAX // 4 < len(told.encode()) <= NOTIFICATION_BYTES_MAX
    parts = json.loads(told)
    assert (parts["turn-id"], parts["input-messages"][0]) == ("id", "short")
    assert parts["input-messages"][1].endswith(f"{filling}…")
    many = json.loads(notification("id", ["x" * 9] * 100_000, None))
    assert many["last-assistant-message"] is None
    assert many["input-messages"]
