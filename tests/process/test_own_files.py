"""Our own database, named to us as an image or as instructions: it is not opened, since closing it drops our locks."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from codexdb.testing.model_script import call_tools, say
from codexdb.testing.scripted_model import ScriptedModel
from codexdb.testing.server_process import ServerProcess, StartServer
from tests.process.talking import opened, read, reply, send

Name = Callable[[ServerProcess, ScriptedModel, Path, str], None]


def view(client: ServerProcess, model: ScriptedModel, named: Path, session: str) -> None:
    model.add(call_tools(("v", "view_image", json.dumps({"path": str(named)}))), say("seen"))
    assert reply(client, session, "look")["content"] == "seen"
    assert "belongs to this server's database" in json.dumps(model.requests[-1].body)


def attach(client: ServerProcess, _model: ScriptedModel, named: Path, session: str) -> None:
    content = [{"type": "local_image", "path": str(named)}]
    result = client.call_tool("send-user-message", {"conversation_id": session, "content": content})
    assert "belongs to this server's database" in json.dumps(result)


def project_file(client: ServerProcess, _model: ScriptedModel, named: Path, _session: str) -> None:
    project = named.parent / "project"
    project.mkdir()
    (project / "AGENTS.md").symlink_to(named)
    opened(client, "in the project", cwd=str(project))


def instructions(client: ServerProcess, _model: ScriptedModel, named: Path, _session: str) -> None:
    override = {"experimental_instructions_file": str(named)}
    assert client.call_tool("codex", {"prompt": "x", "config": override})["isError"]


@pytest.mark.parametrize("name", [view, attach, project_file, instructions])
def test_what_names_our_database_does_not_cost_what_is_committed_after_it(
    server: StartServer, model: ScriptedModel, tmp_path: Path, database: Path, name: Name
) -> None:
    client = server()
    session = opened(client, "first")
    named = tmp_path / "named.png"
    named.symlink_to(database)
    name(client, model, named, session)
    with server() as other:  # which would remove the log, were it the last to have the database open
        read(other, session)
    assert reply(client, session, "acknowledged")["content"] == "ok"
    events = read(client, session, limit=1000)["events"]
    client.kill()
    assert read(server(), session, limit=1000)["events"] == events
    assert send(server(), session, "and on")["status"] == "ok"
