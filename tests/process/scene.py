"""A session with everything in it that a transcript can show, made by a real server; and the command that shows it."""

import contextlib
import json
import os
import pty
import subprocess
import termios
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from codexdb.testing.model_script import Answer, Call, Status, call_tools, say
from codexdb.testing.scripted_model import ScriptedModel
from codexdb.testing.server_process import ServerProcess, write_config
from tests.process import command
from tests.process.asked import question
from tests.process.command import in_home
from tests.process.talking import reply, shell

TIMEOUT_S = 20
PARSER = """\
def words(line):
    found = []
    for word in line.split(","):
        found.append(word)
    return found
"""
PATCH = """\
*** Begin Patch
*** Update File: parser.py
@@
 def words(line):
-    found = []
-    for word in line.split(","):
-        found.append(word)
-    return found
+    return [word.strip() for word in line.split(",")]
*** Add File: test_parser.py
+from parser import words
+
+
+def test_words_are_stripped():
+    assert words("one, two") == ["one", "two"]
*** End Patch
"""
PLAN = {
    "explanation": "Small enough for one change.",
    "plan": [
        {"step": "Find out why the test fails", "status": "completed"},
        {"step": "Strip what is split", "status": "in_progress"},
        {"step": "Run the tests", "status": "pending"},
    ],
}
TESTS = "python3 -c 'import test_parser' && echo 1 passed; seq 1 60; exit 3"
FIRST = "The words of our parser keep their blanks. Please mend it, and add a test."
SECOND = "Thank you. Does anything else split lines?"
ANSWER = "Each word is stripped now, and `test_parser.py` holds it. The test passes."


@contextmanager
def playing(root: Path) -> Generator["Scene"]:
    """A server of its own on `root/home` that works in `root/parser`, with the session ended."""
    home, folder = root / "home", root / "parser"
    home.mkdir()
    folder.mkdir()
    with ScriptedModel() as model:
        write_config(home, model.base_url, "responses", approval_policy="untrusted")
        with ServerProcess(home) as server:
            server.initialize()
            yield Scene(play(server, model, folder), server, model, home, folder)


@dataclass(frozen=True, slots=True)
class Scene:
    """A session that has ended; `server` can go on with it."""

    session: str
    server: ServerProcess
    model: ScriptedModel
    home: Path
    folder: Path

    def sessions(self, *arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
        """`codexdb sessions …`, with no terminal."""
        return sessions(self.home, *arguments, given=given)


def play(server: ServerProcess, model: ScriptedModel, folder: Path) -> str:
    """Two turns: one that reasons, plans, runs commands, asks and patches; one that fails. Returns the session."""
    (folder / "parser.py").write_text(PARSER)
    model.add(
        Answer(
            reasoning=("The split leaves blanks; ", "strip each word."),
            text=("I look at the parser first.",),
            calls=(Call("c1", "shell", json.dumps({"command": ["cat", "parser.py"]})),),
        ),
        call_tools(("c2", "update_plan", json.dumps(PLAN))),
        call_tools(("c3", "apply_patch", json.dumps({"input": PATCH}))),
        call_tools(shell("c4", "sh", "-c", TESTS)),
        say(ANSWER),
        Status(500, "the model is away"),
    )
    server.start_tool("codex", {"prompt": FIRST, "cwd": str(folder), "include-plan-tool": True}, id=1)
    session = str(server.wait_event("task_started", 1)["_meta"]["conversationId"])
    patch = question(server)
    server.respond(patch["id"], {"decision": "approved"})
    server.respond(question(server, after=server.messages.index(patch) + 1)["id"], {"decision": "approved"})
    server.wait_response(1)
    reply(server, session, SECOND)
    return session


# -- the command -------------------------------------------------------------------------------------------------------


def argv(*arguments: str) -> list[str]:
    return command.argv("sessions", *arguments)


def sessions(home: Path, *arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
    """`codexdb sessions …` on the database of this home, with no terminal."""
    return command.run(argv(*arguments), in_home(home), cwd=home, given=given, timeout_s=TIMEOUT_S)


def on_terminal(home: Path, *arguments: str, columns: int = 90, rows: int = 500, **more: str) -> str:
    """What `codexdb sessions …` shows on a terminal of that size; `more` joins its environment."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (rows, columns))
    env = in_home(home) | {"TERM": "xterm-256color"} | more
    seen = bytearray()
    with subprocess.Popen(argv(*arguments), cwd=home, env=env, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        with contextlib.suppress(OSError):  # EIO: the other end is closed
            while piece := os.read(ours, 65_536):
                seen += piece
        os.close(ours)
        assert process.wait(TIMEOUT_S) == 0, seen.decode()
    return seen.decode().replace("\r\n", "\n")
