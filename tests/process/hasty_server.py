"""A codexdb that waits for no retry: `NAPS_FILE=f python -m tests.process.hasty_server serve …`.

Its clock is a `ManualClock`: it begins at `STARTED_AT_MS`, stands still, and jumps by the span of each sleep, which
ends at once. The file gets the milliseconds of every sleep, one a line, before the sleep ends.
"""

import os
from pathlib import Path

from codexdb.domain.clock import SystemClock
from codexdb.testing.clock import ManualClock

FILE_VARIABLE = "NAPS_FILE"
STARTED_AT_MS = ManualClock().now_ms()


def hasten(file: Path) -> None:
    """Let this process take a manual clock for the machine's."""
    clock = ManualClock(STARTED_AT_MS)

    # No time passes in it: that is what this server is for.
    async def sleep(self: SystemClock, span_ms: int) -> None:  # noqa: ARG001 - the name it is called by
        with file.open("a") as naps:
            naps.write(f"{span_ms}\n")
        await clock.sleep(span_ms)

    SystemClock.now_ms = lambda self: clock.now_ms()  # noqa: ARG005
    SystemClock.monotonic_ms = lambda self: clock.monotonic_ms()  # noqa: ARG005
    SystemClock.sleep = sleep


if __name__ == "__main__":
    hasten(Path(os.environ.pop(FILE_VARIABLE)))
    from codexdb.__main__ import main

    main()
