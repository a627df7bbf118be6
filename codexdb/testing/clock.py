"""A clock that stands still until somebody sleeps by it, and then jumps: waits take no time, and can be measured."""

import asyncio


class ManualClock:
    """Implements `domain.clock.Clock`. `naps` holds the milliseconds of every sleep, in order."""

    def __init__(self, now_ms: int = 1_700_000_000_000) -> None:
        self._now_ms = now_ms
        self._monotonic_ms = 1_000
        self.naps: list[int] = []

    def now_ms(self) -> int:
        return self._now_ms

    def monotonic_ms(self) -> int:
        return self._monotonic_ms

    def advance(self, span_ms: int) -> None:
        """Let time pass on both clocks."""
        self._now_ms += span_ms
        self._monotonic_ms += span_ms

    def set_wall(self, now_ms: int) -> None:
        """Set the wall clock alone, as a person does, backwards too."""
        self._now_ms = now_ms

    async def sleep(self, span_ms: int) -> None:
        self.naps.append(span_ms)
        self.advance(span_ms)
        await asyncio.sleep(0)
