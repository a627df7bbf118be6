"""One of two processes that commit to the same file as fast as they can: `hammer.py DATABASE COUNT`.

Starts when told on stdin; prints, as JSON, when each of its commits was acknowledged (monotonic nanoseconds).
"""

import json
import sys
import time
from pathlib import Path

import anyio
from making import identity

from codexdb.store import workers
from codexdb.store.database import open_store


async def main(path: Path, count: int) -> None:
    acknowledged: list[int] = []
    async with open_store(path) as store:
        await store.writer.submit(workers.register, identity(), 1, 1)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        sys.stdin.readline()
        for _ in range(count):
            await store.writer.submit(workers.register, identity(), 1, 1)
            acknowledged.append(time.monotonic_ns())
    sys.stdout.write(json.dumps(acknowledged) + "\n")


anyio.run(main, Path(sys.argv[1]), int(sys.argv[2]))
