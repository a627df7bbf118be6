"""What a command that prints a gigabyte costs the others: `python -m tests.bench.flood [ROUNDS]`.

One server, two sessions. Turns of the second are timed alone, and while a command of the first prints 10^9 bytes; pings
too. Prints the middle of both, their ratio, and by how much the server's memory grew.
"""

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from codexdb.testing.model_script import Step, call_tools, say
from codexdb.testing.scripted_model import ScriptedModel
from codexdb.testing.server_process import ServerProcess, write_config

ROUNDS = 3
TURNS = 60  # timed alone, before each flood
BYTES = 1_000_000_000
FLOOD = json.dumps({"command": ["sh", "-c", f"head -c {BYTES} /dev/zero | tr '\\0' x"], "timeout_ms": 120_000})


def memory_mb(pid: int) -> float:
    """The resident memory of a process."""
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(fields["VmRSS"].split()[0]) / 1024


def flood(body: dict[str, object]) -> Step:
    """A model that floods where it is asked to, once."""
    text = json.dumps(body)
    return call_tools(("flood", "shell", FLOOD)) if "Flood" in text and "call_id" not in text else say("ok")


def timed(work: Callable[[], object], spans: list[float]) -> None:
    began = time.perf_counter()
    work()
    spans.append(time.perf_counter() - began)


def main(rounds: int) -> None:
    alone: list[float] = []
    beside: list[float] = []
    pings: list[float] = []
    grown: list[float] = []
    with tempfile.TemporaryDirectory() as folder, ScriptedModel(responder=flood) as model:
        write_config(
            Path(folder), model.base_url, "responses", approval_policy="never", sandbox_mode="danger-full-access"
        )
        with ServerProcess(Path(folder)) as server:
            server.initialize()
            other = server.call_tool("codex", {"prompt": "hello"})["structuredContent"]["threadId"]

            def turn() -> None:
                server.call_tool("codex-reply", {"threadId": other, "prompt": "hello"})

            def ping() -> None:
                server.wait_response(server.request("ping"))

            for _ in range(rounds):
                for _ in range(TURNS):
                    timed(turn, alone)
                before = memory_mb(server.pid)
                call = server.start_tool("codex", {"prompt": "Flood"})
                server.wait_event("exec_command_begin", call)
                after = len(server.messages)
                while not any(each.get("id") == call for each in server.messages[after:]):
                    timed(turn, beside)
                    timed(ping, pings)
                    after = max(after, len(server.messages) - 2_000)
                grown.append(memory_mb(server.pid) - before)
    one, two = statistics.median(alone), statistics.median(beside)
    sys.stdout.write(
        f"a turn alone {one * 1000:.2f} ms, beside the flood {two * 1000:.2f} ms, {len(beside)} of them: "
        f"{two / one:.2f} times as long\n"
        f"pings meanwhile: middle {statistics.median(pings) * 1000:.2f} ms, worst {max(pings) * 1000:.1f} ms\n"
        f"memory grew by {max(grown):.1f} MB at most\n"
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS)
