"""Whole turns against servers that others wrote, which read our requests and write streams in ways of their own."""

import os
import re
import shlex
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from codexdb.testing.server_process import ENVIRONMENT_KEPT, ServerProcess
from tests.providers.conftest import PORT, PROXY_PORT
from tests.providers.other_server import OtherServer, Ports, moved
from tests.providers.page import below, blocks

FAULTS = {"llmock": 3}  # requests that the server spoils on purpose
TIMEOUT_S = 30
FINAL_TEXT = "Both commands ran."

SETTINGS = below("## Try it without a model")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(90, func_only=True)]  # installing a server has bounds of its own

every_server = pytest.mark.parametrize("name", ["aimock", "llm-mock-api", "llmock"])
every_wire = pytest.mark.parametrize("wire_api", ["chat", "responses"])


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """Where the commands run."""
    path = tmp_path / "work"
    path.mkdir()
    return path


def configure(home: Path, wire_api: str, ports: Ports, *more: str) -> None:
    (text,) = blocks("toml", SETTINGS)
    assert 'wire_api = "chat"' in text
    text = moved(text.replace('wire_api = "chat"', f'wire_api = "{wire_api}"'), ports)
    (home / "config.toml").write_text("\n".join([text, *more, ""]), encoding="utf-8")


def run_on_the_command_line(home: Path, work: Path) -> None:
    (command,) = blocks("sh", SETTINGS)
    program, *arguments = shlex.split(command)
    environment = {name: os.environ[name] for name in ENVIRONMENT_KEPT if name in os.environ}
    done = subprocess.run(
        [sys.executable, "-m", program, *arguments],
        cwd=work,
        env=environment | {"CODEX_HOME": str(home)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, f"{FINAL_TEXT}\n"), done.stderr


def run_as_a_tool(home: Path, work: Path) -> None:
    with ServerProcess(home, cwd=work) as server:
        server.initialize()
        result = server.call_tool("codex", {"prompt": "Run both commands"}, timeout=TIMEOUT_S)
    assert not result.get("isError"), result
    assert result["structuredContent"]["content"] == FINAL_TEXT


def check(database: Path, work: Path, retries: int = 0) -> None:
    """Each command ran once, and the rows say so."""
    assert (work / "ran.txt").read_text(encoding="utf-8").splitlines() == ["one", "two"]
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        turns = connection.execute("SELECT state, end_reason, last_agent_message FROM turns").fetchall()
        calls = connection.execute("SELECT name, state, exit_code FROM tool_calls ORDER BY id").fetchall()
        requests = connection.execute("SELECT count(*), sum(retries) FROM model_requests WHERE error IS NULL")
        assert turns == [("completed", "answered", FINAL_TEXT)]
        assert calls == [("shell", "succeeded", 0)] * 2
        assert requests.fetchone() == (3, retries)


@every_server
@every_wire
def test_a_turn_on_the_command_line(
    name: str, wire_api: str, other: OtherServer, ports: Ports, home: Path, database: Path, work: Path
) -> None:
    configure(home, wire_api, ports)
    run_on_the_command_line(home, work)
    check(database, work, FAULTS.get(name, 0))
    other.after_turn()


@every_server
@every_wire
def test_a_turn_as_a_call_of_the_tool(
    name: str, wire_api: str, other: OtherServer, ports: Ports, home: Path, database: Path, work: Path
) -> None:
    configure(home, wire_api, ports)
    run_as_a_tool(home, work)
    check(database, work, FAULTS.get(name, 0))
    other.after_turn()


@every_wire
@pytest.mark.usefixtures("proxy")
def test_a_turn_through_a_proxy(wire_api: str, ports: Ports, home: Path, database: Path, work: Path) -> None:
    """On the command line; as a tool it would meet the same bytes."""
    (key,) = re.findall(r"`(experimental_bearer_token = [^`]+)`", below("### litellm"))
    configure(home, wire_api, {PORT: ports[PROXY_PORT]}, key)
    run_on_the_command_line(home, work)
    check(database, work)
