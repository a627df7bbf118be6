"""A command of any length that the model makes up: refused in the kernel's words, and nobody else waits for that."""

import json
import os
from pathlib import Path

import pytest

from codexdb.testing.model_script import call_tools, say
from codexdb.testing.scripted_model import ScriptedModel
from codexdb.testing.server_process import StartServer
from tests.process.asked import outputs, result
from tests.process.test_asking import WORKSPACE

PING_S_MAX = 0.5  # of the server's own work while a ping waits; the loop stood still for ten seconds
LONG = {
    "options of a wrapper": ["env", *["-x"] * 200_000],
    "wrappers": [*["env"] * 200_000, "rm"],
    "a script": ["bash", "-c", "a;" * 500_000],
    "arguments": ["true", *["x"] * 500_000],
}


def worked_s(pid: int) -> float:
    """Seconds of the processor that a process has had: what else runs on the machine does not count."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="no /proc tells how long a process has worked")
@pytest.mark.parametrize("command", LONG.values(), ids=LONG.keys())
def test_a_long_command_holds_nobody_up(server: StartServer, model: ScriptedModel, command: list[str]) -> None:
    model.add(call_tools(("c1", "shell", json.dumps({"command": command}))), say("done"))
    client = server(config={**WORKSPACE, "approval_policy": "never"})
    client.start_tool("codex", {"prompt": "go"}, id=1)
    slowest = 0.0
    while not any(message.get("id") == 1 for message in client.messages):
        before = worked_s(client.pid)
        client.wait_response(client.request("ping"))
        slowest = max(slowest, worked_s(client.pid) - before)
    assert result(client)["content"] == "done"
    assert outputs(model) == {"c1": "execution error: Argument list too long (os error 7)"}
    assert slowest < PING_S_MAX
