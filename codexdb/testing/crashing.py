"""A codexdb that kills itself: `CODEXDB_CRASH_AT=NAME[:NTH] python -m codexdb.testing.crashing serve …`.

At the NTH passing (default: the first) of that point the process gets SIGKILL from itself: no cleanup, no farewell.
`CODEXDB_LEASE_MS` shortens the lease of this process, and its heartbeat with it; normal processes do not read it.
"""

import os
import signal
from collections import Counter

from codexdb.domain import crash, limits

VARIABLE = "CODEXDB_CRASH_AT"
LEASE_VARIABLE = "CODEXDB_LEASE_MS"


def arm(at: str) -> None:
    """Kill this process at `NAME[:NTH]`.

    Raises:
        ValueError: there is no point of that name.
    """
    name, _, nth = at.partition(":")
    if name not in crash.POINTS:
        raise ValueError(f"no crash point {name!r}; there are {', '.join(crash.POINTS)}")
    passed: Counter[str] = Counter()

    def hook(point: str) -> None:
        passed[point] += 1
        if point == name and passed[point] == int(nth or 1):
            os.kill(os.getpid(), signal.SIGKILL)

    crash.hook = hook


def shorten_lease(lease_ms: int) -> None:
    """To be called before anything that reads the limits is imported: they are copied by name."""
    limits.HEARTBEAT_MS = lease_ms * limits.HEARTBEAT_MS // limits.LEASE_MS
    limits.LEASE_MS = lease_ms


if __name__ == "__main__":
    crash_at = os.environ.pop(VARIABLE, None)
    lease_ms = os.environ.pop(LEASE_VARIABLE, None)
    if crash_at is not None:
        arm(crash_at)
    if lease_ms is not None:
        shorten_lease(int(lease_ms))
    from codexdb.__main__ import main

    main()
