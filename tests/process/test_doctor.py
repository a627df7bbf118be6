"""`codexdb doctor` says why nothing moves, and what to do."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

from codexdb.testing.scripted_model import ScriptedModel
from codexdb.testing.server_process import ENVIRONMENT_KEPT, Message, StartServer, write_config

WAIT_S = 15.0
KEY = "SCRIPTED_MODEL_CREDENTIAL"


def examine(home: Path, **env: str) -> tuple[int, dict[str, list[Message]]]:
    """Exit code, and the findings by what they are about."""
    kept = {name: os.environ[name] for name in ENVIRONMENT_KEPT if name in os.environ}
    argv = [sys.executable, "-m", "codexdb", "doctor", "--json"]
    done = subprocess.run(
        argv, env={**kept, "CODEX_HOME": str(home), **env}, capture_output=True, check=False, cwd=home
    )
    assert done.stderr == b""
    found: dict[str, list[Message]] = {}
    for line in done.stdout.splitlines():
        finding = json.loads(line)
        found.setdefault(finding["about"], []).append(finding)
    return done.returncode, found


def test_a_healthy_place_is_said_to_be_one(home: Path, model: ScriptedModel, server: StartServer) -> None:
    process = server()
    process.call_tool("codex", {"prompt": "hello"})
    code, found = examine(home)
    assert code == 0
    assert {finding["verdict"] for each in found.values() for finding in each} == {"ok"}
    assert f"process {process.pid}" in found["worker"][0]["found"]
    assert model.requests  # it was this place


def test_what_is_wrong_is_named_with_what_to_do(home: Path, database: Path) -> None:
    write_config(home, "http://127.0.0.1:9", "chat", model_providers={"scripted": {"env_key": KEY}}, modle="typo")
    database.parent.mkdir()
    database.write_bytes(b"no database at all, but long enough to be looked at" * 40)
    code, found = examine(home)
    assert code == 1
    assert found["database"][0]["verdict"] == "wrong"
    assert "file is not a database" in found["database"][0]["found"]
    assert (found["model"][0]["verdict"], KEY in found["model"][0]["advice"]) == ("wrong", True)
    assert "modle" in found["configuration"][0]["advice"]
    (home / "config.toml").write_text("model = 3")
    assert examine(home)[1]["configuration"][0]["verdict"] == "wrong"


def test_a_turn_that_waits_is_shown_with_the_reason(home: Path, server: StartServer, model: ScriptedModel) -> None:
    desk = server("--no-worker", config={"model_providers": {"scripted": {"env_key": KEY}}})
    session = desk.call_tool("conversation_create", {})["structuredContent"]["conversation_id"]
    desk.call_tool("send-user-message", {"conversation_id": session, "content": [{"type": "text", "text": "go"}]})
    deadline, never = time.monotonic() + WAIT_S, threading.Event()
    while "turn" not in (found := examine(home)[1]):
        assert time.monotonic() < deadline
        never.wait(0.05)
    assert KEY in found["turn"][0]["advice"]
    assert "codexdb worker" in examine(home, **{KEY: "sesame"})[1]["turn"][0]["advice"]
    assert model.requests == []
