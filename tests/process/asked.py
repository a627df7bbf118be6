"""How the tests of approvals have a model ask for something, and a person answer."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from codexdb.testing.model_script import Answer, call_tools
from codexdb.testing.scripted_model import ScriptedModel
from codexdb.testing.server_process import Message, RequestId, ServerProcess
from tests.process.command import in_home
from tests.process.talking import shell

UNTRUSTED: dict[str, object] = {"approval_policy": "untrusted"}


def touch(*paths: Path) -> Answer:
    """An answer with a call for each path, which makes that file: nothing that is trusted."""
    return call_tools(*(shell(f"c{number}", "touch", str(path)) for number, path in enumerate(paths, 1)))


def start(server: ServerProcess, **arguments: object) -> str:
    """Begin a turn in a new session, as request 1; returns the session."""
    server.start_tool("codex", {"prompt": "work", **arguments}, id=1)
    return cast("str", server.wait_event("task_started", 1)["_meta"]["conversationId"])


def question(server: ServerProcess, *, after: int = 0) -> Message:
    """What the client is asked, first or from message `after` on."""
    return server.wait_request("elicitation/create", after=after)


def questions(server: ServerProcess) -> list[Message]:
    return [message for message in server.messages if message.get("method") == "elicitation/create"]


def refuse(server: ServerProcess, asked: Message) -> None:
    """Answer with an error, as clients do that cannot ask their user after all."""
    error = {"code": -32603, "message": "no window to show it in"}
    server.send_raw(json.dumps({"jsonrpc": "2.0", "id": asked["id"], "error": error}).encode() + b"\n")


def wait_taken_back(server: ServerProcess, asked: Message) -> None:
    """Until the client was told that nobody needs its answer any more."""

    def wanted(message: Message) -> bool:
        taken_back: bool = message.get("params", {}).get("requestId") == asked["id"]
        return message.get("method") == "notifications/cancelled" and taken_back

    server.wait_message(wanted, "the question to be taken back")


def result(server: ServerProcess, request_id: RequestId = 1) -> Message:
    """The structured result of a call."""
    return cast("Message", server.wait_response(request_id)["result"]["structuredContent"])


def listed(server: ServerProcess, **arguments: object) -> list[Message]:
    found = server.call_tool("approvals_list", arguments)["structuredContent"]["approvals"]
    return cast("list[Message]", found)


def decide(server: ServerProcess, approval: str, decision: str) -> Message:
    given = {"approval_id": approval, "decision": decision}
    return cast("Message", server.call_tool("approval_decide", given)["structuredContent"])


def approvals(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`codexdb approvals …` on the database of this home."""
    argv = [sys.executable, "-m", "codexdb", "approvals", *arguments]
    env = in_home(home)
    return subprocess.run(argv, cwd=home, env=env, capture_output=True, text=True, timeout=20, check=False)


def outputs(model: ScriptedModel, number: int = -1) -> dict[str, str]:
    """What the model was told of its calls, by their ids and in that order, on the wire `chat`."""
    messages = cast("list[Mapping[str, str]]", (model.requests[number].body or {})["messages"])
    return {each["tool_call_id"]: each["content"] for each in messages if each["role"] == "tool"}
