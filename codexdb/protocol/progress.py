"""`notifications/progress` for callers who asked for them: at events, and as a heartbeat in between."""

import asyncio
from typing import cast

import anyio

from codexdb.domain.clock import Clock
from codexdb.domain.event import CommittedEvent
from codexdb.domain.json import JsonObject, decode_object
from codexdb.domain.limits import PROGRESS_HEARTBEAT_MS, PROGRESS_INTERVAL_MS
from codexdb.protocol.connection import Call


def progress_token(call: Call) -> str | int | None:
    """The caller's token, where it gave a usable one."""
    meta = call.params.get("_meta")
    token = cast("JsonObject", meta).get("progressToken") if isinstance(meta, dict) else None
    return token if isinstance(token, str) or type(token) is int else None


class Progress:
    """Tells a waiting caller that its turn goes on. Numbers only grow; the total is not known."""

    def __init__(self, call: Call, token: str | int, clock: Clock) -> None:
        self._call = call
        self._token = token
        self._clock = clock
        self._count = 0
        self._began_at_ms = clock.monotonic_ms()
        self._told_at_ms = self._began_at_ms - PROGRESS_HEARTBEAT_MS  # the first one is due at once
        self._news: str | None = None
        self._wake = anyio.Event()

    def on_event(self, event: CommittedEvent) -> None:
        """Note what happened; `run` tells it."""
        self._news = _sentence(event)
        self._wake.set()

    async def run(self, ended: "asyncio.Future[CommittedEvent | None]") -> CommittedEvent | None:
        """Wait for the turn's end, and tell about progress until then."""
        while not ended.done():
            waited_ms = self._clock.monotonic_ms() - self._told_at_ms
            due_ms = PROGRESS_INTERVAL_MS if self._news else PROGRESS_HEARTBEAT_MS
            if waited_ms >= due_ms:
                await self._tell()
                continue
            with anyio.move_on_after((due_ms - waited_ms) / 1000):
                await self._change(ended)
        return ended.result()

    async def _change(self, ended: "asyncio.Future[CommittedEvent | None]") -> None:
        self._wake = anyio.Event()
        ended.add_done_callback(lambda _: self._wake.set())
        if not ended.done():
            await self._wake.wait()

    async def _tell(self) -> None:
        self._told_at_ms = self._clock.monotonic_ms()
        self._count += 1
        seconds = (self._told_at_ms - self._began_at_ms) // 1000
        message = self._news or f"working for {seconds} s"
        self._news = None
        params: JsonObject = {"progressToken": self._token, "progress": self._count, "message": message}
        await self._call.notify("notifications/progress", params)


def _sentence(event: CommittedEvent) -> str:
    if event.type == "exec_command_begin":
        command = decode_object(event.msg).get("command")
        words = cast("list[str]", command) if isinstance(command, list) else []
        return f"running {' '.join(words)[:200]}"
    return event.type.replace("_", " ")
