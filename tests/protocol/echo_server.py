"""A server with nothing behind its wire. Each of its handlers shows one thing that a connection promises."""

import argparse
import asyncio
import logging
import os
import resource
import subprocess
import sys
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import anyio

from codexdb.protocol.connection import AskFailedError, Call, Connection, Handler, Reply
from codexdb.protocol.handshake import Opening, open_wire, take_stdio
from codexdb.protocol.jsonrpc import JsonRpcError, notification
from codexdb.testing.server_process import Message, ServerProcess

ARGV = (sys.executable, __file__)


def start(home: Path, *options: str) -> ServerProcess:
    """The echo server as a process; nothing has been sent to it yet."""
    return ServerProcess(home, *options, argv=ARGV)


def answers_to(server: ServerProcess, data: bytes) -> list[Message]:
    """What the server says to `data` at once: everything before the answer to a ping sent behind it."""
    before = len(server.messages)
    server.send_raw(data)
    server.wait_response(server.request("ping", id=f"behind {before}"))
    return server.messages[before:-1]


class Echo:
    def __init__(self) -> None:
        self.released: defaultdict[object, anyio.Event] = defaultdict(anyio.Event)
        self.reasons: list[object] = []

    def handlers(self) -> Mapping[str, Handler]:
        return {
            name: getattr(self, name)
            for name in (
                *("echo", "slow", "release", "reasons_so_far", "flood", "boom", "refuse", "stray", "children"),
                *("suspend", "ask", "ask_briefly", "followed", "touch", "stop", "unwritable", "agreed", "misawait"),
            )
        }

    async def echo(self, call: Call) -> Reply:
        return Reply(call.params)

    async def slow(self, call: Call) -> Reply:
        try:
            await self.released[call.params["until"]].wait()
        except anyio.get_cancelled_exc_class():
            self.reasons.append(call.cancel_reason)
            raise
        return Reply({"released": call.params["until"]})

    async def release(self, call: Call) -> Reply:
        self.released[call.params["name"]].set()
        return Reply({})

    async def reasons_so_far(self, call: Call) -> Reply:
        del call
        return Reply({"reasons": self.reasons})

    async def flood(self, call: Call) -> Reply:
        count, size = call.params["count"], call.params.get("size", 100)
        assert isinstance(count, int)
        assert isinstance(size, int)
        text = "x" * size
        for number in range(count):
            await call.notify("note", {"number": number, "text": text})
        return Reply({"sent": count})

    async def boom(self, call: Call) -> Reply:
        raise RuntimeError(f"the secret is {call.params['secret']}")

    async def refuse(self, call: Call) -> Reply:
        raise JsonRpcError(-32099, "not today", {"kind": "refused", "asked": call.params})

    async def stray(self, call: Call) -> Reply:
        del call
        print("stray print", flush=True)  # noqa: T201
        os.write(1, b"stray write\n")
        sys.stdout.write("stray text left in a buffer")
        return Reply({"read": os.read(0, 100).decode()})

    async def children(self, call: Call) -> Reply:
        del call
        subprocess.run(["sh", "-c", "echo stray child; cat"], check=True)  # noqa: ASYNC221
        script = "readlink /proc/$$/fd/* 1>&2 || true"
        listed = subprocess.run(["sh", "-c", script], stderr=subprocess.PIPE, check=True, close_fds=False)  # noqa: ASYNC221
        return Reply({"descriptors": listed.stderr.decode().split()})

    async def suspend(self, call: Call) -> Reply:
        await call.connection.eof.wait()
        return Reply({"kind": "suspended"})

    async def ask(self, call: Call) -> Reply:
        try:
            return Reply({"answer": await call.connection.ask("elicitation/create", call.params)})
        except AskFailedError as error:
            return Reply({"failed": str(error)})

    async def ask_briefly(self, call: Call) -> Reply:
        with anyio.move_on_after(0.01):
            await call.connection.ask("elicitation/create", call.params)
        return Reply({"answer": None})

    async def followed(self, call: Call) -> Reply:
        line = notification("followed", {"id": call.id})
        return Reply({"id": call.id}, after=lambda: call.connection.send_result(line))

    async def touch(self, call: Call) -> Reply:
        Path(str(call.params["path"])).write_text("touched")  # noqa: ASYNC240
        return Reply({})

    async def stop(self, call: Call) -> Reply:
        call.connection.stop()
        return Reply({"stopped": True})

    async def unwritable(self, call: Call) -> Reply:
        kind = str(call.params["kind"])
        if kind == "error":
            raise JsonRpcError(-32099, "not today", {"a": object()})
        results: dict[str, object] = {"object": object(), "number": float("inf"), "surrogate": "cut \ud83d"}
        line = notification("followed", {})
        return Reply({"a": results[kind]}, after=lambda: call.connection.send_result(line))

    async def agreed(self, call: Call) -> Reply:
        with_client = call.connection.initialized
        if with_client is None:
            return Reply({})
        return Reply({"version": with_client.protocol_version, "elicitation": with_client.elicitation})

    async def misawait(self, call: Call) -> Reply:
        del call
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        future.cancel()
        return await future


def main() -> None:
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    parser = argparse.ArgumentParser()
    parser.add_argument("--line-bytes-max", type=int, default=64 * 1024 * 1024)
    parser.add_argument("--eof-grace-ms", type=int, default=1_500)
    parser.add_argument("--slow-path", action="store_true", help="leave `initialize` to the connection")
    options = parser.parse_args()
    opening = Opening(*take_stdio()) if options.slow_path else open_wire()
    serve(opening, options.line_bytes_max, options.eof_grace_ms)


def serve(opening: Opening, line_bytes_max: int, eof_grace_ms: int) -> None:
    async def run() -> None:
        connection = Connection(opening, Echo(), eof_grace_ms=eof_grace_ms, line_bytes_max=line_bytes_max)
        await connection.run()

    anyio.run(run)
    print(f"peak {peak_memory_kib()} KiB", file=sys.stderr)  # noqa: T201


def peak_memory_kib() -> int:
    """Of this process since it was started as such; Linux counts its parent's memory into the usual number."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(status.read_text().partition("VmHWM:")[2].split()[0])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


if __name__ == "__main__":
    main()
