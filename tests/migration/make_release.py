"""Make the database of a release as a fixture: `python -m tests.migration.make_release`.

Real servers work real turns against a scripted model: answered, failed, interrupted, killed, with tool calls of every
outcome. What they leave behind is written to `released/<revision>.sqlite3`, and has to open with every later version.
"""

import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from codexdb.store import revision
from codexdb.testing.model_script import Answer, Call, Hang, Status, call_tools, say
from codexdb.testing.scripted_model import ScriptedModel
from codexdb.testing.server_process import ServerProcess, write_config

RELEASED = Path(__file__).with_name("released")
PLAN = '{"explanation":"why","plan":[{"step":"look","status":"completed"},{"step":"act","status":"in_progress"}]}'


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="codexdb-") as folder, ScriptedModel() as model:
        home = Path(folder)
        write_config(home, model.base_url, "responses")
        for work in (answered, failed, interrupted, killed, followed):
            work(lambda: _start(home), model)
        target = RELEASED / f"{revision.HEAD}.sqlite3"
        target.unlink(missing_ok=True)
        _copy(home / "codexdb" / "codexdb.sqlite3", target)


Start = Callable[[], ServerProcess]


def answered(start: Start, model: ScriptedModel) -> None:
    """Two turns: a command that succeeds, one that fails, a plan, reasoning."""
    model.add(
        Answer(reasoning=("Let me ", "look."), text=("I will look.",), calls=_calls("echo found", "exit 3")),
        call_tools(("call-plan", "update_plan", PLAN)),
        say("It is ", "done."),
        say("You are welcome."),
    )
    with start() as server:
        arguments = {"prompt": "Look around", "include-plan-tool": True, "developer-instructions": "Be brief."}
        arguments |= {"message_id": "opening", "cwd": "/tmp"}  # noqa: S108 - a folder that every machine has
        session = server.call_tool("codex", arguments)["structuredContent"]["threadId"]
        server.call_tool("codex-reply", {"threadId": session, "prompt": "Thank you", "message_id": "thanks"})


def failed(start: Start, model: ScriptedModel) -> None:
    model.add(Status(400, '{"error":{"message":"no such model"}}'), say("Now it works."))
    with start() as server:
        result = server.call_tool("codex", {"prompt": "Fail once"})
        session = result["structuredContent"]["threadId"]
        server.call_tool("codex-reply", {"threadId": session, "prompt": "Again"})


def interrupted(start: Start, model: ScriptedModel) -> None:
    """By a request, in the middle of its text."""
    model.add(Hang(before=("Once upon ", "a time")))
    with start() as server:
        call = server.start_tool("codex", {"prompt": "Tell me a story"})
        event = server.wait_event("agent_message_delta", call)
        server.call_tool("conversation_interrupt", {"conversation_id": event["_meta"]["conversationId"]})
        server.wait_response(call)


def killed(start: Start, model: ScriptedModel) -> None:
    """While a command ran; the next server closes the turn."""
    model.add(call_tools(("call-1", "shell", '{"command":["sleep","600"]}'), ("call-2", "shell", '{"command":["ls"]}')))
    with start() as server:
        call = server.start_tool("codex", {"prompt": "Sleep"})
        server.wait_event("exec_command_begin", call)
        server.kill()


def followed(start: Start, model: ScriptedModel) -> None:
    """A conversation without a turn, and one whose turn was still running when its server was told to go."""
    with start() as server:
        server.call_tool("conversation_create", {"message_id": "empty"})
        created = server.call_tool("conversation_create", {})["structuredContent"]
        model.add(Hang())
        content = [{"type": "text", "text": "Wait"}, {"type": "image", "image_url": "data:image/png;base64,AAAA"}]
        asked = len(model.requests)
        server.call_tool("send-user-message", {"conversation_id": created["conversation_id"], "content": content})
        model.wait_for_requests(asked + 1)


def _calls(*commands: str) -> tuple[Call, ...]:
    arguments = [f'{{"command":["sh","-c","{command}"]}}' for command in commands]
    made = call_tools(*((f"call-{n}", "shell", each) for n, each in enumerate(arguments, 1)))
    return made.calls


def _start(home: Path) -> ServerProcess:
    server = ServerProcess(home, "--on-restart=interrupt")
    server.initialize()
    return server


def _copy(source: Path, target: Path) -> None:
    """One file without a write-ahead log."""
    with closing(sqlite3.connect(source)) as connection:
        connection.execute("VACUUM INTO ?", (str(target),))
    with closing(sqlite3.connect(target)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")  # as the program leaves it


if __name__ == "__main__":
    main()
