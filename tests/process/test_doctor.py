"""`codexdb doctor` says why nothing moves, and what to do."""

import contextlib
import json
import os
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from codexdb.testing.scripted_model import ScriptedModel
from codexdb.testing.server_process import ENVIRONMENT_KEPT, Message, StartServer, write_config

WAIT_S = 15.0
KEY = "SCRIPTED_MODEL_CREDENTIAL"


def examine(home: Path, *options: str, **env: str) -> tuple[int, dict[str, list[Message]]]:
    """Exit code, and the findings by what they are about."""
    kept = {name: os.environ[name] for name in ENVIRONMENT_KEPT if name in os.environ}
    argv = [sys.executable, "-m", "codexdb", "doctor", "--json", *options]
    done = subprocess.run(
        argv,
        env={**kept, "CODEX_HOME": str(home), **env},
        capture_output=True,
        check=False,
        cwd=home.parent,
        timeout=WAIT_S,
    )
    assert done.stderr == b""
    found: dict[str, list[Message]] = {}
    for line in done.stdout.splitlines():
        finding = json.loads(line)
        found.setdefault(finding["about"], []).append(finding)
    return done.returncode, found


def of_database(home: Path, *options: str) -> tuple[int, str, str]:
    """Exit code, verdict and what was found, of the one finding about the database."""
    code, found = examine(home, *options)
    (finding,) = found["database"]
    return code, finding["verdict"], f"{finding['found']} {finding['advice']}"


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


def test_a_codex_home_that_is_not_there_is_named_and_the_rest_is_told(
    home: Path, server: StartServer, database: Path
) -> None:
    desk = server("--no-worker")
    session = desk.call_tool("conversation_create", {})["structuredContent"]["conversation_id"]
    desk.call_tool("send-user-message", {"conversation_id": session, "content": [{"type": "text", "text": "go"}]})
    code, found = examine(home.with_name("nowhere"), "--db", str(database))
    assert code == 1
    assert found["configuration"][0]["verdict"] == "wrong"
    assert "nowhere" in found["configuration"][0]["found"]
    assert session in found["turn"][0]["found"]
    assert "nowhere" in found["turn"][0]["advice"]
    assert f"process {desk.pid}" in found["worker"][0]["found"]


@pytest.mark.parametrize("what", ["FIFO", "directory"])
def test_what_is_no_file_is_said_to_be_none(what: str, home: Path) -> None:
    path = home / "database"
    if what == "FIFO":
        os.mkfifo(path)
    else:
        path.mkdir()
    code, verdict, text = of_database(home, "--db", str(path))
    assert (code, verdict) == (1, "wrong")
    assert "is not a file" in text


def test_an_empty_file_is_in_order(home: Path) -> None:
    path = home / "empty.sqlite3"
    path.touch()
    code, verdict, text = of_database(home, "--db", str(path))
    assert (code, verdict) == (1, "note")  # 1 for the model's key, which is not there
    assert "is empty" in text
    assert path.stat().st_size == 0


def test_the_database_of_another_program_is_said_to_be_one(home: Path) -> None:
    path = home / "foreign.sqlite3"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE recipes (name TEXT)")
    before = path.read_bytes()
    code, verdict, text = of_database(home, "--db", str(path))
    assert (code, verdict) == (1, "wrong")
    assert "--db" in text
    assert path.read_bytes() == before


def test_a_second_name_of_a_database_is_refused(home: Path, server: StartServer, database: Path) -> None:
    server().call_tool("conversation_create", {})
    second = database.with_name("second.sqlite3")
    second.hardlink_to(database)
    for path in (database, second):
        code, verdict, text = of_database(home, "--db", str(path))
        assert (code, verdict) == (1, "wrong")
        assert "hard link" in text


def test_a_locked_database_is_said_to_be_locked(home: Path, server: StartServer, database: Path) -> None:
    """Nothing is wrong with the file: another one is no help."""
    process = server()
    process.call_tool("conversation_create", {})
    process.close_stdin()
    assert process.wait_exit() == 0
    with contextlib.closing(sqlite3.connect(database, isolation_level=None)) as holder:
        holder.execute("PRAGMA locking_mode = EXCLUSIVE").fetchall()
        holder.execute("BEGIN EXCLUSIVE")
        code, verdict, text = of_database(home)
    assert (code, verdict) == (1, "wrong")
    assert "locked" in text
    assert "--db" not in text
    assert of_database(home)[:2] == (0, "ok")
