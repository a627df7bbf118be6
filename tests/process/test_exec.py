"""`codexdb exec`: one turn in its own process, for people and for pipes."""

import json
import os
import pty
import selectors
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import pytest

from codexdb.domain.limits import SUBSCRIPTION_EVENTS_MAX
from codexdb.testing.model_script import Answer, Call, Hang, Status, Step, call_tools, say
from codexdb.testing.scripted_model import ScriptedModel
from codexdb.testing.server_process import StartServer, write_config
from tests.process import command
from tests.process.command import in_home
from tests.process.talking import rows

TIMEOUT_S = 20
UNKNOWN = "0199a213-81c0-7800-8aa1-bbab2a035a53"


@pytest.fixture(autouse=True)
def _configured(home: Path, model: ScriptedModel) -> None:
    write_config(home, model.base_url, "chat")


def argv(*arguments: str) -> list[str]:
    return command.argv("exec", *arguments)


def execute(home: Path, *arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
    return command.run(argv(*arguments), in_home(home), cwd=home, given=given, timeout_s=TIMEOUT_S)


def shell(*command: str) -> Step:
    return call_tools(("c1", "shell", json.dumps({"command": list(command)})))


def told(model: ScriptedModel) -> list[object]:
    """What the last request held."""
    messages = cast("list[dict[str, object]]", (model.requests[-1].body or {})["messages"])
    return [message["content"] for message in messages]


def test_a_pipe_gets_the_answer_and_a_person_everything_else(home: Path, model: ScriptedModel) -> None:
    call = Call("c1", "shell", json.dumps({"command": ["sh", "-c", "echo hello; exit 3"]}))
    model.add(Answer(text=("Let me ", "look."), calls=(call,)), say("All ", "done."))
    result = execute(home, "What is here?")
    assert (result.returncode, result.stdout) == (0, "All done.\n")
    session, looking, command, output, ended, answer, end = result.stderr.splitlines()
    assert session.startswith("session ")
    assert (looking, command, output, answer) == ("Let me look.", "$ echo hello; exit 3", "hello", "All done.")
    assert ended.startswith("exit 3 in 0.")
    assert end.startswith("completed in ")
    assert "32 tokens" in end


def test_json_lines_are_the_committed_events(home: Path, model: ScriptedModel, database: Path) -> None:
    model.add(shell("true"), say("done"))
    result = execute(home, "--json", "Do nothing")
    shown = [json.loads(line) for line in result.stdout.splitlines()]
    assert result.returncode == 0
    assert [event["seq"] for event in shown] == list(range(1, len(shown) + 1))
    kept = rows(database, "SELECT seq, msg FROM events ORDER BY seq")
    assert [(event["seq"], event["msg"]) for event in shown] == [(seq, json.loads(str(msg))) for seq, msg in kept]
    assert shown[-1]["msg"] == {"type": "task_complete", "last_agent_message": "done"}
    assert {event["session_id"] for event in shown} == {*rows(database, "SELECT public_id FROM sessions")[0]}


def test_a_session_goes_on(home: Path, model: ScriptedModel, database: Path) -> None:
    model.add(say("four"), say("still four"))
    first = execute(home, "--json", "What is two and two?")
    session = json.loads(first.stdout.splitlines()[0])["session_id"]
    second = execute(home, "--session", session.upper(), "Are you sure?")
    assert (second.returncode, second.stdout) == (0, "still four\n")
    assert told(model)[-3:] == ["What is two and two?", "four", "Are you sure?"]
    assert rows(database, "SELECT number, state FROM turns ORDER BY number") == [(1, "completed"), (2, "completed")]


def test_a_prompt_comes_from_stdin(home: Path, model: ScriptedModel) -> None:
    result = execute(home, "-", given="two\nlines with ünïcode\n")
    assert result.returncode == 0
    assert told(model)[-1] == "two\nlines with ünïcode\n"


def test_a_reader_that_stalls_holds_up_neither_the_turn_nor_any_event(
    home: Path, model: ScriptedModel, database: Path
) -> None:
    """The pipe is full, and more comes than a follower keeps: what it missed is read back from the rows."""
    chatty = json.dumps({"command": ["sh", "-c", "yes | head -c 5000"]})
    model.add(
        call_tools(*((f"c{number}", "shell", chatty) for number in range(20))),
        Answer(text=("piece ",) * 3 * SUBSCRIPTION_EVENTS_MAX, calls=(Call("last", "shell", '{"command":["true"]}'),)),
        say("done"),
    )
    with subprocess.Popen(argv("--json", "Go"), cwd=home, env=in_home(home), stdout=subprocess.PIPE) as process:
        model.wait_for_requests(3, TIMEOUT_S)
        out, _ = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0
    shown = [json.loads(line)["seq"] for line in out.splitlines()]
    assert len(out) > 2 * 64 * 1024, "the pipe was never full"
    assert [(seq,) for seq in shown] == rows(database, "SELECT seq FROM events ORDER BY seq")


def test_the_options_of_codex_are_understood(home: Path, model: ScriptedModel, database: Path) -> None:
    """A typed option wins over a profile."""
    write_config(
        home, model.base_url, "chat", profiles={"mine": {"model": "of-the-profile", "sandbox_mode": "read-only"}}
    )
    model.add(shell("touch", "x"), say("could not"))
    result = execute(
        home, "-m", "of-the-option", "-p", "mine", "-a", "untrusted", "-c", "model_context_window=9000", "Hi"
    )
    assert result.returncode == 0
    found = rows(database, "SELECT model, sandbox_mode, approval_policy FROM sessions")
    assert found == [("of-the-option", "read-only", "untrusted")]
    assert "Nobody can be asked here" in result.stderr
    assert not (home / "x").exists()


@pytest.mark.parametrize("as_json", [[], ["--json"]])
def test_a_failed_turn_says_what_to_do(
    home: Path, model: ScriptedModel, database: Path, as_json: Sequence[str]
) -> None:
    model.add(Status(401, "no such key"))
    result = execute(home, *as_json, "Hi")
    assert result.returncode == 1
    assert "401 Unauthorized: no such key" in result.stderr
    assert "Check the provider's base_url, key and model" in result.stderr
    assert "Traceback" not in result.stderr
    assert rows(database, "SELECT state, error_kind FROM turns") == [("failed", "model_error")]


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        ([" "], 2, "it is empty"),
        (["--session", "nonsense", "Hi"], 2, "is not the id of a session"),
        (["--session", UNKNOWN, "-m", "x", "Hi"], 2, "leave out -m"),
        (["-c", "model", "Hi"], 2, "is not KEY=VALUE"),
        (["--session", UNKNOWN, "Hi"], 1, f"There is no session {UNKNOWN}"),
        (["-p", "nope", "Hi"], 1, "config profile `nope` not found"),
        (["-s", "some", "Hi"], 1, "unknown variant `some`"),
        (["-c", "model_provider=openai", "Hi"], 1, "Missing environment variable: `OPENAI_API_KEY`"),
        (["--db", "/dev/null/x", "Hi"], 1, "cannot be made"),
    ],
)
def test_what_cannot_be_done_is_told_plainly(home: Path, arguments: list[str], code: int, sentence: str) -> None:
    result = execute(home, *arguments)
    assert (result.returncode, result.stdout) == (code, "")
    assert sentence in result.stderr
    assert "Traceback" not in result.stderr


def test_a_session_that_another_process_works_on_is_busy(home: Path, model: ScriptedModel, server: StartServer) -> None:
    model.add(Hang())
    holder = server()
    holder.start_tool("codex", {"prompt": "think"}, id=7)
    session = holder.wait_event("session_configured", 7)["msg"]["session_id"]
    model.wait_for_requests(1)
    result = execute(home, "--session", session, "Hi")
    model.release()
    assert result.returncode == 1
    assert "Session is already running" in result.stderr
    assert "Wait until its turn has ended" in result.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_the_turn_and_its_command(
    home: Path, model: ScriptedModel, database: Path, number: signal.Signals
) -> None:
    model.add(shell("sh", "-c", "echo $$; exec sleep 60"))
    with subprocess.Popen(
        argv("Sleep"), cwd=home, env=in_home(home), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        sleeper = next(int(line) for line in process.stderr if line.strip().isdigit())
        process.send_signal(number)
        out, err = process.communicate(timeout=TIMEOUT_S)
    assert (process.returncode, out) == (130, "")
    assert "interrupted in" in err
    assert "Traceback" not in err
    assert rows(database, "SELECT state, end_reason FROM turns") == [("interrupted", "requested")]
    assert rows(database, "SELECT state FROM tool_calls") == [("aborted",)]
    assert rows(database, "SELECT active_turn_id FROM sessions") == [(None,)]
    with pytest.raises(ProcessLookupError):
        os.kill(sleeper, 0)


def test_a_reader_that_leaves_early_is_no_error(home: Path, model: ScriptedModel, database: Path) -> None:
    model.add(Hang(), say("never read"))
    with subprocess.Popen(
        argv("--json", "Hi"), cwd=home, env=in_home(home), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        process.stdout.close()
        model.wait_for_requests(1)
        model.release()
        assert process.wait(TIMEOUT_S) == 0
        assert process.stderr is not None
        assert process.stderr.read() == b""
    assert rows(database, "SELECT state FROM turns") == [("completed",)]


def test_on_a_terminal_words_appear_as_they_come_and_once_and_cannot_steer_it(home: Path, model: ScriptedModel) -> None:
    model.add(Hang(before=("first ",), answer=say("\x1b[2Jsecond")))
    ours, theirs = pty.openpty()
    with subprocess.Popen(argv("Hi"), cwd=home, env=in_home(home), stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        seen = _read_until(ours, b"first ")
        model.release()
        seen += _read_until(ours, b"Go on:")
        assert process.wait(TIMEOUT_S) == 0
    os.close(ours)
    assert seen.count(b"first [2Jsecond\r\n") == 1
    assert seen.count(b"second") == 1
    assert b"\x1b[2J" not in seen


def _read_until(terminal: int, wanted: bytes) -> bytes:
    seen = b""
    deadline = time.monotonic() + TIMEOUT_S
    with selectors.DefaultSelector() as selector:
        selector.register(terminal, selectors.EVENT_READ)
        while wanted not in seen:
            assert selector.select(max(0.0, deadline - time.monotonic())), f"only came: {seen!r}"
            seen += os.read(terminal, 65_536)
    return seen
