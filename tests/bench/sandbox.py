"""What a sandbox costs a command: `python -m tests.bench.sandbox [ROUNDS]`.

Runs `true` by turns: with `subprocess` alone, as the agent runs it without a sandbox, and under each backend that works
here. Prints the middle of each as a ratio to the first; milliseconds of two machines, or two hours, cannot be compared.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable

import anyio
import anyio.to_thread

from codexdb.agent.sandbox.choice import survey
from codexdb.agent.sandbox.confinement import Backend, Confinement
from codexdb.agent.tools.process import start

ROUNDS = 300


async def plain() -> None:
    await anyio.to_thread.run_sync(lambda: subprocess.run(["true"], check=True, stdin=subprocess.DEVNULL))


def confined(confinement: Confinement | None, backend: Backend, cwd: str) -> Callable[[], Awaitable[None]]:
    async def run() -> None:
        environment = dict(os.environ)
        async with start(
            ["true"], cwd=cwd, environment=environment, confinement=confinement, backend=backend
        ) as process:
            ending = await process.finish(lambda _stream, _chunk: None, timeout_ms=60_000)
        if ending.exit_code != 0:
            raise SystemExit(f"{backend}: {ending}")

    return run


async def main(rounds: int, cwd: str) -> None:
    confinement = Confinement((cwd,), shared_memory=True)
    ways = {"subprocess": plain, "no sandbox": confined(None, Backend.NONE, cwd)}
    ways |= {each.backend.value: confined(confinement, each.backend, cwd) for each in survey() if each.why_not is None}
    spans: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, way in ways.items():
            began = time.perf_counter()
            await way()
            if number:  # the first of each warms up
                spans[name].append(time.perf_counter() - began)
    base = statistics.median(spans["subprocess"])
    for name, each in spans.items():
        middle, least = statistics.median(each), min(each)
        sys.stdout.write(f"{name:<12}{middle / base:6.2f}   {middle * 1000:7.2f} ms, at best {least * 1000:.2f}\n")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        anyio.run(main, int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS, os.path.realpath(folder))
