"""`codexdb sessions tail`, and the completion of ids at a shell."""

import json
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from codexdb.testing.model_script import Hang, call_tools, say
from codexdb.testing.scripted_model import ScriptedModel
from codexdb.testing.server_process import StartServer
from tests.process.command import in_home
from tests.process.scene import TIMEOUT_S, argv, sessions
from tests.process.talking import ask, begin, opened, read, reply, rows, shell


@contextmanager
def tailing(home: Path, *arguments: str) -> Generator[tuple[subprocess.Popen[bytes], IO[bytes]]]:
    """`codexdb sessions tail …` and what it writes; gone at the end, whatever happened."""
    with subprocess.Popen(
        argv("tail", *arguments), cwd=home, env=in_home(home), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as tail:
        assert tail.stdout is not None
        try:
            yield tail, tail.stdout
        finally:
            tail.kill()


def test_a_turn_of_another_process_is_followed_to_its_end(
    server: StartServer, home: Path, model: ScriptedModel, database: Path
) -> None:
    model.add(call_tools(shell("c1", "echo", "printed"), text="I look."), Hang(), say("unused"))
    process = server()
    session = begin(process, "follow me")
    model.wait_for_requests(2)
    with tailing(home, session, "--until-idle", "--json") as (tail, stdout):
        shown = [json.loads(stdout.readline())]
        model.release()
        shown += [json.loads(line) for line in stdout]
        assert tail.wait(TIMEOUT_S) == 0
    kept = rows(database, "SELECT seq, msg FROM events WHERE turn_id IS NOT NULL ORDER BY seq")
    assert [(each["seq"], each["msg"]) for each in shown] == [(seq, json.loads(str(msg))) for seq, msg in kept]
    assert shown[-1]["msg"]["type"] == "task_complete"


def test_a_person_sees_the_turn_as_exec_shows_it(server: StartServer, home: Path, model: ScriptedModel) -> None:
    model.add(call_tools(shell("c1", "sh", "-c", "exit 3"), text="I look."), say("done"))
    session = opened(server(), "follow me")
    result = sessions(home, "tail", session, "--until-idle")
    assert (result.returncode, result.stdout) == (0, "done\n")
    for piece in ("> follow me\n", "I look.\n", "$ exit 3\n", "exit 3 in 0.", "completed in "):
        assert piece in result.stderr


def test_every_turn_that_comes_is_shown_until_it_is_interrupted(
    server: StartServer, home: Path, model: ScriptedModel
) -> None:
    process = server()
    session = opened(process, "first")
    with tailing(home, session) as (tail, stdout):
        assert stdout.readline() == b"ok\n"
        for answer in ("two", "three"):
            model.add(say(answer))
            reply(process, session, "next")
            assert stdout.readline().decode() == f"{answer}\n"
        tail.send_signal(signal.SIGINT)
        assert tail.wait(TIMEOUT_S) == 0
    assert read(process, session)["status"] != "running"


def test_it_ends_when_nobody_reads_or_the_session_is_deleted(server: StartServer, home: Path) -> None:
    process = server()
    session = opened(process, "first")
    with tailing(home, session) as (tail, stdout):
        stdout.readline()
        stdout.close()
        assert tail.wait(TIMEOUT_S) == 0
    with tailing(home, session) as (tail, stdout):
        assert tail.stderr is not None
        stdout.readline()
        assert sessions(home, "delete", session, "--yes").returncode == 0
        assert tail.wait(TIMEOUT_S) == 1
        assert tail.stderr.read().decode().endswith(f"Error: Session {session} was deleted.\n")


# -- completion --------------------------------------------------------------------------------------------------------


def completed(home: Path, *words: str) -> list[str]:
    """What bash is told for the last word."""
    env = in_home(home) | {
        "_CODEXDB_COMPLETE": "bash_complete",
        "COMP_WORDS": " ".join(["codexdb", *words]),
        "COMP_CWORD": str(len(words)),
    }
    program = [sys.executable, "-m", "codexdb"]
    result = subprocess.run(program, cwd=home, env=env, capture_output=True, text=True, timeout=TIMEOUT_S, check=True)
    assert result.stderr == ""
    return [line.partition(",")[2] for line in result.stdout.split()]


def test_a_shell_completes_commands_and_ids(server: StartServer, home: Path) -> None:
    assert completed(home, "sessions", "show", "0") == [], "no database, no complaint"
    process = server()
    made = [opened(process, "one"), opened(process, "two")]
    ask(process, "conversation_archive", made[0])
    assert "sessions" in completed(home, "ses")
    assert completed(home, "sessions", "show", "") == made[::-1]
    assert completed(home, "sessions", "tail", made[0][:-4].upper()) == [made[0]]
    assert completed(home, "sessions", "show", "zz") == []
    (home / "codexdb" / "codexdb.sqlite3").write_bytes(b"no database at all" * 100)
    assert completed(home, "sessions", "show", "0") == []


def test_a_script_for_the_shell_is_printed(home: Path) -> None:
    env = in_home(home) | {"_CODEXDB_COMPLETE": "zsh_source"}
    program = [sys.executable, "-m", "codexdb"]
    result = subprocess.run(program, cwd=home, env=env, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert result.returncode == 0
    assert "#compdef codexdb" in result.stdout
