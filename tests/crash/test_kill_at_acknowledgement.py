"""`kill -9` at the moment the client reads the acknowledgement: what was acknowledged is there."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from codexdb.domain.limits import LINE_BYTES_MAX
from codexdb.testing.model_script import Hang
from codexdb.testing.scripted_model import ScriptedModel
from codexdb.testing.server_process import ServerProcess, write_config
from tests.crash.invariants import broken, query
from tests.crash.raw_client import RawClient

KILLS = 50
HOMES = 2  # worked on at the same time, one for each core
START_S_MAX = 1.0  # from the spawn of a server, after a crash, to its first acknowledgement


def created(home: Path, model: ScriptedModel) -> str:
    home.mkdir()
    write_config(home, model.base_url, "chat")
    with ServerProcess(home) as server:
        server.initialize()
        return str(server.call_tool("conversation_create", {})["structuredContent"]["conversation_id"])


def kill_when_acknowledged(home: Path, session: str, text: str) -> float:
    """Send, read `ok`, kill. How long it took from the spawn to the `ok`."""
    arguments = {"conversation_id": session, "content": [{"type": "text", "text": text}]}
    begun = time.monotonic()
    with RawClient(home) as client:
        client.call("send-user-message", arguments)
        client.read_until(b'"id":1', b'"structuredContent":{"status":"ok"}')
        client.kill()
        return time.monotonic() - begun


def run_kills(home: Path, model: ScriptedModel) -> list[float]:
    session = created(home, model)
    database = home / "codexdb" / "codexdb.sqlite3"
    spans: list[float] = []
    for number in range(1, KILLS // HOMES + 1):
        text = f"message {number} " + "x" * 3_000
        spans.append(kill_when_acknowledged(home, session, text))
        inputs = query(database, "SELECT content, outcome FROM inputs ORDER BY id")
        assert len(inputs) == number
        assert json.loads(inputs[-1][0])[0]["text"] == text
        last = "SELECT text FROM items WHERE role = 'user' AND turn_id = (SELECT max(id) FROM turns)"
        assert query(database, last) == [(text,)]
        turns = query(database, "SELECT state FROM turns ORDER BY number")
        # The server before this one was killed, too: its turn was closed, or the session would have been busy.
        assert [state for (state,) in turns] == ["interrupted"] * (number - 1) + ["running"]
        assert broken(database) == {}
    return spans


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_what_was_acknowledged_survives_a_kill_fifty_times_of_fifty(tmp_path: Path) -> None:
    with ScriptedModel(default=Hang()) as model, ThreadPoolExecutor(HOMES) as pool:
        runs = [pool.submit(run_kills, tmp_path / f"home{n}", model) for n in range(HOMES)]
        spans = sorted(span for run in runs for span in run.result())
    assert len(spans) == KILLS
    assert spans[0] < START_S_MAX  # the quickest: a busy machine delays some, a wait built into the start delays all


@pytest.mark.parametrize("tool", ["codex", "conversation_create"])
def test_a_session_that_was_told_of_survives_a_kill(
    home: Path, model: ScriptedModel, tool: str, database: Path
) -> None:
    write_config(home, model.base_url, "chat")
    arguments = {"prompt": "hello"} if tool == "codex" else {}
    with RawClient(home) as client:
        client.call(tool, arguments)
        line = json.loads(client.read_until(b'"result"' if tool != "codex" else b'"session_configured"', b'"'))
        while line.get("id") == 0:  # the handshake
            line = json.loads(client.read_until(b'"result"'))
        client.kill()
    told = line["params"]["_meta"]["conversationId"] if tool == "codex" else None
    told = told or line["result"]["structuredContent"]["conversation_id"]
    assert query(database, "SELECT public_id FROM sessions") == [(told,)]
    with ServerProcess(home, "--on-restart=interrupt") as server:
        server.initialize()
        assert server.call_tool("codex-reply", {"threadId": told, "prompt": "go on"})["content"][0]["text"] == "ok"
    assert broken(database) == {}


def test_a_large_message_is_kept_whole(home: Path, database: Path) -> None:
    text = "x" * (LINE_BYTES_MAX // 8)
    with ScriptedModel(default=Hang()) as hanging:
        session = created_in(home, hanging)
        with ServerProcess(home, "--on-restart=interrupt") as server:
            server.initialize()
            content = [{"type": "text", "text": text}]
            result = server.call_tool("send-user-message", {"conversation_id": session, "content": content})
            server.kill()
    assert result["structuredContent"] == {"status": "ok"}
    assert query(database, "SELECT length(text) FROM items WHERE turn_id IS NOT NULL") == [(len(text),)]
    assert broken(database) == {}


def created_in(home: Path, model: ScriptedModel) -> str:
    home.rmdir()
    return created(home, model)
