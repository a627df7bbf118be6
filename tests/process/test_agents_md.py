"""What AGENTS.md files say reaches the model: once, in its place, and with the same bytes in every request."""

import contextlib
import itertools
import sqlite3
from pathlib import Path
from typing import Any, cast

import pytest

from codexdb.testing.http1 import ReceivedRequest
from codexdb.testing.model_script import call_tools, say
from codexdb.testing.scripted_model import ScriptedModel
from codexdb.testing.server_process import ServerProcess, StartServer
from tests.golden.differences import differs

TOLD = "<user_instructions>\n\nfrom home\n\n--- project-doc ---\n\nfrom the root\n\nfrom below\n\n</user_instructions>"


@pytest.fixture
def below(home: Path, tmp_path: Path) -> Path:
    """A directory of a project, where everybody has left a note."""
    (home / "AGENTS.md").write_text("from home\n")
    directory = tmp_path / "project" / "below"
    directory.mkdir(parents=True)
    (tmp_path / "project" / ".git").mkdir()
    (tmp_path / "project" / "AGENTS.md").write_text("from the root\n")
    (directory / "AGENTS.md").write_text("from below\n")
    return directory


def texts(request: ReceivedRequest) -> list[tuple[str, str]]:
    """Role and text of each message, whichever wire."""
    body = cast("Any", request.body)
    messages = body.get("messages") or body["input"]
    return [
        (each["role"], each["content"] if isinstance(each["content"], str) else each["content"][0]["text"])
        for each in messages
        if each.get("content")
    ]


def history(request: ReceivedRequest) -> bytes:
    """The raw body up to the end of its messages; everything before them is in it, too."""
    end = request.raw.index(b'],"tools":' if b'"input":[' in request.raw else b'],"stream":')
    return request.raw[:end]


def start(server: ServerProcess, cwd: Path, **arguments: object) -> str:
    result = server.call_tool("codex", {"prompt": "hello", "cwd": str(cwd), **arguments})
    return cast("str", result["structuredContent"]["threadId"])


@pytest.mark.parametrize("wire_api", ["chat", "responses"])
def test_instructions_stand_between_the_developers_and_the_environment(
    server: StartServer, model: ScriptedModel, below: Path, wire_api: str
) -> None:
    differs("agents-md")
    process = server(wire_api=wire_api)
    start(process, below, **{"developer-instructions": "the developer"})
    said = [(role, text) for role, text in texts(model.requests[0]) if role == "user" or text == "the developer"]
    assert [text for _, text in said[:2]] == ["the developer", TOLD]
    assert said[1][0] == "user"
    assert said[2][1].startswith("<environment_context>")
    assert said[3] == ("user", "hello")


@pytest.mark.parametrize("wire_api", ["chat", "responses"])
def test_later_requests_begin_with_the_same_bytes_whatever_becomes_of_the_files(
    server: StartServer, model: ScriptedModel, home: Path, below: Path, wire_api: str
) -> None:
    model.add(call_tools(("c1", "shell", '{"command":["true"]}')), say("one"), say("two"), say("three"))
    first = server(wire_api=wire_api)
    session = start(first, below)
    (below / "AGENTS.md").write_text("changed")
    (home / "AGENTS.md").unlink()
    first.call_tool("codex-reply", {"threadId": session, "prompt": "again"})
    first.kill()
    server(wire_api=wire_api).call_tool("codex-reply", {"threadId": session, "prompt": "and again"})
    requests = model.requests
    assert len(requests) == 4
    for earlier, later in itertools.pairwise(requests):
        assert later.raw.startswith(history(earlier) + b",")
    assert [text for _, text in texts(requests[-1])].count(TOLD) == 1


def test_they_are_context_of_the_session_and_of_no_turn(server: StartServer, below: Path, database: Path) -> None:
    start(server(), below)
    with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        found = connection.execute("SELECT turn_id, role FROM items WHERE text = ?", (TOLD,)).fetchall()
    assert found == [(None, "user")]


def test_a_conversation_is_told_too_and_a_new_session_reads_the_files_again(
    server: StartServer, model: ScriptedModel, below: Path
) -> None:
    process = server()
    start(process, below)
    (below / "AGENTS.override.md").write_text("instead")
    created = process.call_tool("conversation_create", {"cwd": str(below)})["structuredContent"]["conversation_id"]
    process.call_tool("codex-reply", {"threadId": created, "prompt": "hello"})
    told = [text for _, text in texts(model.requests[1]) if text.startswith("<user_instructions>")]
    assert told == [TOLD.replace("from below", "instead")]


def test_without_files_nothing_is_said(server: StartServer, model: ScriptedModel, tmp_path: Path) -> None:
    process = server(config={"project_doc_max_bytes": 0})
    (tmp_path / "AGENTS.md").write_text("switched off")
    start(process, tmp_path)
    assert not any("user_instructions" in text for _, text in texts(model.requests[0]))
