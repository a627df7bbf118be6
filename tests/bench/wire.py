"""How fast a server answers, measured from outside: `python -m tests.bench.wire [-- COMMAND…]`.

One client, one pipe, a scripted model on loopback that answers at once. Prints milliseconds: compare runs of one hour
on one machine, and quote ratios. Any server that knows the conversation tools can be named after `--`.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from codexdb.testing.model_script import say
from codexdb.testing.scripted_model import ScriptedModel
from codexdb.testing.server_process import write_config

CALLS = 200
Message = dict[str, Any]


class Pipe:
    """The thinnest possible client: no thread, no log, so that little but the server is measured."""

    def __init__(self, command: list[str], home: Path) -> None:
        environment = {**os.environ, "CODEX_HOME": str(home)}
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, env=environment, bufsize=0)
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self._in, self._out = self.process.stdin.fileno(), self.process.stdout.fileno()
        self._buffer = b""

    def send(self, message: Message) -> None:
        os.write(self._in, json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")

    def wait(self, wanted: Callable[[Message], bool]) -> Message:
        while True:
            while b"\n" not in self._buffer:
                chunk = os.read(self._out, 65536)
                if not chunk:
                    raise SystemExit("the server closed its output")
                self._buffer += chunk
            line, _, self._buffer = self._buffer.partition(b"\n")
            message = cast("Message", json.loads(line))
            if wanted(message):
                return message

    def call(self, number: int, tool: str, **arguments: object) -> Message:
        self.send({"id": number, "method": "tools/call", "params": {"name": tool, "arguments": arguments}})
        return self.wait(lambda message: message.get("id") == number)["result"]

    def ping(self, number: int) -> None:
        self.send({"id": 9000 + number, "method": "ping"})
        self.wait(lambda message: message.get("id") == 9000 + number)

    def initialize(self) -> None:
        client = {"name": "bench", "version": "1"}
        params = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": client}
        self.send({"id": 0, "method": "initialize", "params": params})
        self.wait(lambda message: message.get("id") == 0)
        self.send({"method": "notifications/initialized"})


def report(name: str, seconds: list[float]) -> None:
    ordered = sorted(seconds)
    p95 = ordered[int(len(ordered) * 0.95)]
    cells = (statistics.median(ordered), ordered[0], p95)
    sys.stdout.write(f"{name:36}" + "".join(f"{cell * 1000:10.3f}" for cell in cells) + "\n")


def timed(work: Callable[[int], object], calls: int = CALLS) -> list[float]:
    found: list[float] = []
    for number in range(calls):
        began = time.perf_counter()
        work(number)
        found.append(time.perf_counter() - began)
    return found


def start_up(command: list[str], home: Path) -> None:
    def once(_: int) -> None:
        pipe = Pipe(command, home)
        pipe.initialize()
        pipe.process.kill()
        pipe.process.wait()

    def acknowledged(_: int) -> None:
        pipe = Pipe(command, home)
        pipe.initialize()
        pipe.call(1, "conversationCreate", prompt="", model="scripted-model", cwd=tempfile.gettempdir())
        pipe.process.kill()
        pipe.process.wait()

    report("spawn to initialize", timed(once, 20))
    report("spawn to the first acknowledgement", timed(acknowledged, 20))
    imports = [sys.executable, "-c", "import asyncio"]
    report("  python -c 'import asyncio'", timed(lambda _: subprocess.run(imports, check=True), 20))


def conversation(pipe: Pipe) -> None:
    arguments = {"prompt": "", "model": "scripted-model", "cwd": tempfile.gettempdir()}
    created: list[str] = []

    def create(number: int) -> None:
        result = pipe.call(1000 + number, "conversationCreate", **arguments)
        created.append(result["structuredContent"]["conversation_id"])

    report("conversation_create", timed(create))
    content = [{"type": "text", "text": "hi"}]
    acknowledged: list[float] = []

    def send(number: int) -> None:
        began = time.perf_counter()
        pipe.call(2000 + number, "conversationSendMessage", conversation_id=created[number], content=content)
        acknowledged.append(time.perf_counter() - began)
        pipe.wait(lambda message: message.get("params", {}).get("msg", {}).get("type") == "task_complete")

    whole = timed(send)
    report("send acknowledged", acknowledged)
    report("send to the end of its turn", whole)


def turns(pipe: Pipe) -> None:
    report("codex, a new session's turn", timed(lambda n: pipe.call(3000 + n, "codex", prompt="hi"), 50))
    pipe.send({"id": 4000, "method": "tools/call", "params": {"name": "codex", "arguments": {"prompt": "hi"}}})
    configured = pipe.wait(lambda m: m.get("params", {}).get("msg", {}).get("type") == "session_configured")
    session = configured["params"]["msg"]["session_id"]
    pipe.wait(lambda message: message.get("id") == 4000)
    replies = timed(lambda n: pipe.call(5000 + n, "codex-reply", sessionId=session, prompt="hi"), 50)
    report("codex-reply, the next turn", replies)


def main() -> None:
    """Run everything against one server."""
    command = sys.argv[sys.argv.index("--") + 1 :] if "--" in sys.argv else [sys.executable, "-m", "codexdb", "serve"]
    # A model that takes no time at all wedges the original server; see docs/compatibility.md.
    with tempfile.TemporaryDirectory() as folder, ScriptedModel(default=say("Done", usage=False)) as model:
        home = Path(folder)
        write_config(home, model.base_url, "chat")
        sys.stdout.write(f"{'ms':36}{'median':>10}{'min':>10}{'p95':>10}\n")
        start_up(command, home)
        pipe = Pipe(command, home)
        pipe.initialize()
        report("ping", timed(pipe.ping))
        conversation(pipe)
        turns(pipe)
        pipe.process.kill()


if __name__ == "__main__":
    main()
