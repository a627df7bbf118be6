"""A client without threads: it has read a line, and in the next instruction it can kill."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from codexdb.testing.server_process import ENVIRONMENT_KEPT

INITIALIZE: dict[str, Any] = {
    "jsonrpc": "2.0",
    "id": 0,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "raw", "version": "1"},
    },
}


class RawClient:
    """A server and its pipes. Reads block: the test's own time limit bounds them."""

    def __init__(self, home: Path) -> None:
        environment = {key: os.environ[key] for key in ENVIRONMENT_KEPT if key in os.environ}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "codexdb", "serve", "--on-restart=interrupt"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=home,
            env=environment | {"CODEX_HOME": str(home)},
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self._in = self.process.stdin.fileno()
        self._out = self.process.stdout.fileno()
        self._buffer = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.process.kill()
        self.process.communicate()

    def call(self, name: str, arguments: object, number: int = 1) -> None:
        """Shake hands and call a tool, in one write, without waiting for anything."""
        messages = (
            INITIALIZE,
            {"jsonrpc": "2.0", "method": "notifications/initialized"},
            {
                "jsonrpc": "2.0",
                "id": number,
                "method": "tools/call",
                "params": {"name": name, "arguments": arguments},
            },
        )
        os.write(self._in, b"".join(json.dumps(message).encode() + b"\n" for message in messages))

    def read_until(self, *wanted: bytes) -> bytes:
        """Read until all `wanted` stand in one line, which is returned."""
        while True:
            line, newline, rest = self._buffer.partition(b"\n")
            if newline:
                self._buffer = rest
                if all(each in line for each in wanted):
                    return line
                continue
            chunk = os.read(self._out, 65_536)
            assert chunk, "the server closed its output"
            self._buffer += chunk

    def read_lines(self, count: int) -> int:
        """Read so many lines, or to the end of output; how many there were."""
        for number in range(count):
            while b"\n" not in self._buffer:
                chunk = os.read(self._out, 65_536)
                if not chunk:
                    return number
                self._buffer += chunk
            self._buffer = self._buffer.partition(b"\n")[2]
        return count

    def kill(self) -> None:
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()
