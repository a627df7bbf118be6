"""How a session of many turns feels: `python -m tests.bench.long_session [--turns 1000] [--wire chat|responses]`.

A real server and a scripted model on loopback that answers at once. Prints how long the next turn's first model request
takes from the send to its arrival at the endpoint, in milliseconds, and by how much the server's memory has grown.
Linux only, for /proc.
"""

import argparse
import re
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import cast

from codexdb.testing.model_script import Answer, Json, call_tools, say
from codexdb.testing.scripted_model import ScriptedModel
from codexdb.testing.server_process import write_config
from tests.bench.wire import Pipe

TURNS = 1_000
SAMPLES = 30
SETTLED_AFTER = 50  # turns: by then everything is imported, connected and cached
WAIT_S = 10.0  # for one request
CALL_EVERY = 5  # turns: every so many have a command in them
QUESTION = "What does the parser do with a line that ends inside a string, and where is that decided? " * 2
ANSWER = "It keeps what it has and waits for the rest; the reader decides that when the line is taken apart. " * 5


class Endpoint:
    """Answers, and remembers when a turn's first request came; the requests themselves are let go."""

    def __init__(self) -> None:
        self.model = ScriptedModel(responder=self._respond)
        self.came = threading.Event()
        self.came_at = 0.0
        self.bytes = 0
        self._asked = 0

    def _respond(self, body: Json) -> Answer:
        if not self.came.is_set():
            self.came_at = time.perf_counter()
            self.came.set()
        self.bytes = len(self.model._requests[-1].raw)  # pyright: ignore[reportPrivateUsage] - on the model's own thread
        self.model._requests.clear()  # pyright: ignore[reportPrivateUsage] - else all of them are kept
        self._asked += 1
        last = cast("list[Json]", body.get("messages") or body["input"])[-1]
        is_output = last.get("role") == "tool" or last.get("type") == "function_call_output"
        if is_output or self._asked % CALL_EVERY:
            return say(ANSWER)
        return call_tools((f"c{self._asked}", "shell", '{"command": ["echo", "a line of output"]}'))


def resident_mb(pid: int) -> float:
    """VmRSS of a process."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


def work(pipe: Pipe, endpoint: Endpoint, turns: int) -> tuple[list[float], list[float]]:
    """One session with so many turns and then those that are measured; the gaps in seconds, and memory in MB: once
    settled, after the turns, and at the end.
    """
    created = pipe.call(1, "conversation_create", cwd=tempfile.gettempdir())
    session = created["structuredContent"]["conversation_id"]
    gaps: list[float] = []
    memory: list[float] = []
    for number in range(1, turns + SAMPLES + 1):
        content = [{"type": "text", "text": f"{number}: {QUESTION}"}]
        arguments = {"conversation_id": session, "content": content}
        params = {"name": "send-user-message", "arguments": arguments}
        endpoint.came.clear()
        began = time.perf_counter()
        pipe.send({"id": 1 + number, "method": "tools/call", "params": params})
        if number > turns:
            endpoint.came.wait(WAIT_S)
            gaps.append(endpoint.came_at - began)
        pipe.wait(lambda message: message.get("params", {}).get("msg", {}).get("type") == "task_complete")
        if number in (min(SETTLED_AFTER, turns // 2), turns, turns + SAMPLES):
            memory.append(resident_mb(pipe.process.pid))
    return gaps, memory


def main() -> None:
    """Make the session, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=TURNS)
    parser.add_argument("--wire", choices=("chat", "responses"), default="responses")
    options = parser.parse_args()
    endpoint = Endpoint()
    with tempfile.TemporaryDirectory() as folder, endpoint.model:
        home = Path(folder)
        write_config(home, endpoint.model.base_url, options.wire)
        pipe = Pipe([sys.executable, "-m", "codexdb", "serve"], home)
        pipe.initialize()
        began = time.perf_counter()
        gaps, memory = work(pipe, endpoint, options.turns)
        took = time.perf_counter() - began
        pipe.process.kill()
    ordered = sorted(gaps)
    settled, grown, end = memory
    tell = sys.stdout.write
    tell(f"{options.turns} turns on the {options.wire} wire, {endpoint.bytes / 1024:.0f} KiB a request, {took:.1f} s\n")
    middle = statistics.median(ordered) * 1000
    tell(f"send to request, ms: median {middle:.1f}, min {ordered[0] * 1000:.1f}, max {ordered[-1] * 1000:.1f}\n")
    tell(f"server's memory, MB: {settled:.1f} settled, {grown:.1f} after the turns, {end:.1f} at the end\n")


if __name__ == "__main__":
    main()
