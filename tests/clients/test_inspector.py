"""The MCP inspector's command line: one server process for each thing it is asked."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import wire
from recording import Recording

from codexdb.testing.model_script import say
from codexdb.testing.scripted_model import ScriptedModel
from codexdb.testing.server_process import write_config

INSPECT_TIMEOUT_S = 30

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120, func_only=True)]  # installing it has bounds of its own


def test_the_inspector_lists_the_tools_and_holds_a_session(
    node_packages: tuple[Path, Path], tmp_path: Path, home: Path, model: ScriptedModel
) -> None:
    write_config(home, model.base_url, "chat")
    model.add(say("Hello ", "world"), say("again"))

    def inspect(step: str, *asked: str) -> dict[str, Any]:
        (tmp_path / step).mkdir()
        return _inspect(node_packages, Recording(tmp_path / step, home), asked)

    listed = inspect("list", "--method", "tools/list")
    assert {"codex", "codex-reply"} <= {tool["name"] for tool in listed["tools"]}

    call = ("--method", "tools/call", "--tool-name")
    first = inspect("first", *call, "codex", "--tool-arg", "prompt=greet me")
    thread_id = first["structuredContent"]["threadId"]
    assert first["structuredContent"] == {"threadId": thread_id, "content": "Hello world"}
    reply = ("codex-reply", "--tool-arg", f"threadId={thread_id}", "--tool-arg", "prompt=and again")
    second = inspect("second", *call, *reply)
    assert second["structuredContent"] == {"threadId": thread_id, "content": "again"}
    assert "Hello world" in json.dumps(model.requests[1].body)  # read back by another process


def _inspect(node_packages: tuple[Path, Path], recording: Recording, asked: tuple[str, ...]) -> dict[str, Any]:
    """What one run of the inspector printed; its server is gone, and kept to the protocol."""
    node, folder = node_packages
    inspector = folder / "node_modules" / ".bin" / "mcp-inspector"
    done = subprocess.run(
        [node, inspector, "--cli", *recording.command, *asked],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=INSPECT_TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    wire.check(recording.finished())
    return json.loads(done.stdout)
