"""Time as an argument: everything that asks what time it is asks a `Clock`."""

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """Where times come from. Tests pass `testing.clock.ManualClock`."""

    def now_ms(self) -> int:
        """Wall clock, UTC epoch milliseconds. May step backwards; never used to measure a span."""
        ...

    def monotonic_ms(self) -> int:
        """Milliseconds that never step back, shared by all processes of one boot."""
        ...

    async def sleep(self, span_ms: int) -> None:
        """Return after that span. Cancelling it ends it at once."""
        ...


class SystemClock:
    """The machine's own clocks."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic_ms(self) -> int:
        return time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1_000_000

    async def sleep(self, span_ms: int) -> None:
        await asyncio.sleep(span_ms / 1000)
