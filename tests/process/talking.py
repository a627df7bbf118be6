"""What tests of sessions say to a server, and how they look at what the model was sent."""

import contextlib
import json
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import cast

from codexdb.testing.http1 import ReceivedRequest
from codexdb.testing.model_script import Json
from codexdb.testing.scripted_model import ScriptedModel
from codexdb.testing.server_process import Message, ServerProcess

WAIT_S = 15.0


def until(happened: Callable[[], bool], what: str, timeout: float = WAIT_S) -> None:
    """Wait for something that nobody tells of."""
    never, deadline = threading.Event(), time.monotonic() + timeout
    while not happened():
        assert time.monotonic() < deadline, f"{what} did not happen within {timeout} s"
        never.wait(0.01)


# -- the server --------------------------------------------------------------------------------------------------------


def ask(server: ServerProcess, tool: str, session: str, **arguments: object) -> Message:
    """What a conversation tool answers."""
    result = server.call_tool(tool, {"conversation_id": session, **arguments})
    return cast("Message", result["structuredContent"])


def opened(server: ServerProcess, prompt: str, **arguments: object) -> str:
    """A session whose first turn has ended."""
    answer = server.call_tool("codex", {"prompt": prompt, **arguments})
    assert "isError" not in answer, answer
    return cast("str", answer["structuredContent"]["threadId"])


def begin(server: ServerProcess, prompt: str = "first") -> str:
    """A session whose first turn runs: the call 1 waits for it."""
    server.start_tool("codex", {"prompt": prompt}, id=1)
    return cast("str", server.wait_event("task_started", 1)["_meta"]["conversationId"])


def reply(server: ServerProcess, session: str, prompt: str, **arguments: object) -> Message:
    """The next turn, to its end."""
    result = server.call_tool("codex-reply", {"threadId": session, "prompt": prompt, **arguments})
    return cast("Message", result["structuredContent"])


def send(server: ServerProcess, session: str, text: str, **arguments: object) -> Message:
    return ask(server, "send-user-message", session, content=[{"type": "text", "text": text}], **arguments)


def read(server: ServerProcess, session: str, **arguments: object) -> Message:
    return ask(server, "conversation_read", session, **arguments)


def at_rest(server: ServerProcess, session: str) -> Message:
    """The session, once nothing runs in it and nothing waits."""
    until(lambda: read(server, session)["status"] != "running", "the last turn's end")
    return read(server, session, include_items=True)


def compacted(server: ServerProcess, session: str, **arguments: object) -> Message:
    """The session after `conversation_compact` has come to its end."""
    assert ask(server, "conversation_compact", session, **arguments)["outcome"] == "started"
    return at_rest(server, session)


def items(page: Message) -> list[Json]:
    return [each["item"] for each in page["items"]]


def kinds(page: Message) -> list[str]:
    return [event["msg"]["type"] for event in page["events"]]


def rows(database: Path, query: str) -> list[tuple[object, ...]]:
    with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        return connection.execute(query).fetchall()


def stored(database: Path) -> bytes:
    """All bytes of the database, those that wait in its log included."""
    return b"".join(path.read_bytes() for path in database.parent.glob(f"{database.name}*") if path.is_file())


# -- commands ----------------------------------------------------------------------------------------------------------


def pids(mark: Path) -> list[int]:
    """What commands have noted of themselves, a line each."""
    return [int(line) for line in mark.read_text().split()] if mark.exists() else []


def runs(pid: int) -> bool:
    """Whether the process is there, and no mere remains."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except OSError:
        return False


# -- the model ---------------------------------------------------------------------------------------------------------


def seen(request: ReceivedRequest) -> list[Json]:
    """What the model saw, without its instructions: items or messages, as the wire has it."""
    body = request.body or {}
    if "input" in body:
        return cast("list[Json]", body["input"])
    return [each for each in cast("list[Json]", body["messages"]) if each["role"] != "system"]


def text_of(each: Json) -> str:
    """The text of an item or a message."""
    content = each.get("content") or ""
    parts = cast("list[Json]", content) if isinstance(content, list) else [{"text": content}]
    return "\n".join(str(part.get("text", "")) for part in parts)


def said(request: ReceivedRequest) -> list[str]:
    """The user's messages that the model saw, without the environment."""
    texts = [text_of(each) for each in seen(request) if each.get("role") == "user"]
    return [text for text in texts if not text.startswith("<environment_context>")]


def told(request: ReceivedRequest) -> list[str]:
    """The environments that the model was told."""
    texts = [text_of(each) for each in seen(request) if each.get("role") == "user"]
    return [text for text in texts if text.startswith("<environment_context>")]


def is_summary(request: ReceivedRequest) -> bool:
    """Whether the request asks for a summary: no tools are offered with it."""
    return "tools" not in (request.body or {})


def for_turns(model: ScriptedModel) -> list[ReceivedRequest]:
    """The requests that do not ask for summaries."""
    return [request for request in model.requests if not is_summary(request)]


def calls_and_outputs(request: ReceivedRequest) -> tuple[list[str], list[str]]:
    """The ids of the calls that the model saw, and of the outputs."""
    calls: list[str] = []
    outputs: list[str] = []
    for each in seen(request):
        calls += [str(call["id"]) for call in cast("list[Json]", each.get("tool_calls") or [])]
        if each.get("role") == "tool":
            outputs.append(str(each["tool_call_id"]))
        if each.get("type") == "function_call":
            calls.append(str(each["call_id"]))
        if each.get("type") == "function_call_output":
            outputs.append(str(each["call_id"]))
    return calls, outputs


def prefix(request: ReceivedRequest) -> bytes:
    """The bytes of a request up to the end of what the model saw."""
    end = b'],"tools":[' if b'"input":[' in request.raw else b'],"stream":true'
    before, found, _ = request.raw.rpartition(end)
    assert found, request.raw
    return before


def shell(call_id: str, *command: str) -> tuple[str, str, str]:
    """A call for `call_tools`."""
    return call_id, "shell", json.dumps({"command": command})
