"""A command of any length that the model makes up: refused in the kernel's words, and nobody else waits for that."""

import json
import time

import pytest

from codexdb.testing.model_script import call_tools, say
from codexdb.testing.scripted_model import ScriptedModel
from codexdb.testing.server_process import StartServer
from tests.process.asked import outputs, result
from tests.process.test_asking import WORKSPACE

PING_S_MAX = 0.5  # a loaded machine needs some of it; the loop stood still for ten seconds
LONG = {
    "options of a wrapper": ["env", *["-x"] * 200_000],
    "wrappers": [*["env"] * 200_000, "rm"],
    "a script": ["bash", "-c", "a;" * 500_000],
    "arguments": ["true", *["x"] * 500_000],
}


@pytest.mark.parametrize("command", LONG.values(), ids=LONG.keys())
def test_a_long_command_holds_nobody_up(server: StartServer, model: ScriptedModel, command: list[str]) -> None:
    model.add(call_tools(("c1", "shell", json.dumps({"command": command}))), say("done"))
    client = server(config={**WORKSPACE, "approval_policy": "never"})
    client.start_tool("codex", {"prompt": "go"}, id=1)
    slowest = 0.0
    while not any(message.get("id") == 1 for message in client.messages):
        asked = time.monotonic()
        client.wait_response(client.request("ping"))
        slowest = max(slowest, time.monotonic() - asked)
    assert result(client)["content"] == "done"
    assert outputs(model) == {"c1": "execution error: Argument list too long (os error 7)"}
    assert slowest < PING_S_MAX
