"""A codexdb whose wall clock runs ahead or behind: `SKEW_FILE=f python -m tests.process.skewed_server serve …`.

The file holds milliseconds, and may be changed while the server runs. The monotonic clock is left alone, as it is by a
person who sets the clock, and by a laptop that sleeps.
"""

import os
from pathlib import Path

from codexdb.domain.clock import SystemClock
from codexdb.testing.crashing import LEASE_VARIABLE, shorten_lease

FILE_VARIABLE = "SKEW_FILE"


def skew(file: Path) -> None:
    """Shift what this process takes for the time."""
    true_now_ms = SystemClock.now_ms
    SystemClock.now_ms = lambda self: true_now_ms(self) + int(file.read_text() or 0)


if __name__ == "__main__":
    skew(Path(os.environ.pop(FILE_VARIABLE)))
    if (lease_ms := os.environ.pop(LEASE_VARIABLE, None)) is not None:
        shorten_lease(int(lease_ms))
    from codexdb.__main__ import main

    main()
