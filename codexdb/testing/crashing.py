"""A codexdb that kills itself: `CODEXDB_CRASH_AT=NAME[:NTH] python -m codexdb.testing.crashing serve …`.

At the NTH passing (default: the first) of that point the process gets SIGKILL from itself: no cleanup, no farewell.
"""

import os
import signal
from collections import Counter

from codexdb.domain import crash

VARIABLE = "CODEXDB_CRASH_AT"


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


if __name__ == "__main__":
    arm(os.environ.pop(VARIABLE))
    from codexdb.__main__ import main

    main()
