"""A model endpoint on loopback that follows a script: real HTTP, both wires, no dependency but the standard library.

Three ways to run it: `async with ScriptedModel(…)` in the caller's loop, `with ScriptedModel(…)` on its own thread, and
`python -m codexdb.testing.scripted_model --script FILE` as a process that prints `{"port": n}`.
"""

import argparse
import asyncio
import dataclasses
import json
import re
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Self, cast

from codexdb.testing.http1 import END, HEAD, REQUEST_BYTES_MAX, ReceivedRequest, chunked, head, plain, take_request
from codexdb.testing.model_script import (
    Answer,
    Drop,
    Frame,
    Hang,
    Json,
    Raw,
    Status,
    Step,
    Truncate,
    frames,
    say,
    step_from_json,
)

START_TIMEOUT_S = 10  # of the thread: binding a loopback port takes milliseconds

Responder = Callable[[Json], Step | None]


@dataclass(frozen=True, slots=True)
class _Wait:
    ms: int | None  # None: until released
    released: asyncio.Future[None] | None = None


class ScriptedModel:
    """Answers one step per request: what `responder` returns, else the next of `steps`, else `default`.

    `requests`, `add`, `release` and the waits may be used from any thread.
    """

    def __init__(
        self,
        steps: Iterable[Step] = (),
        *,
        default: Step | None = None,
        responder: Responder | None = None,
        log: Path | None = None,
    ) -> None:
        self.port = 0
        self.connections_made = 0
        self._steps = deque(steps)
        self._default = default or say("ok")
        self._responder = responder
        self._log_path = log
        self._log: IO[str] | None = None
        self._requests: list[ReceivedRequest] = []
        self._changed = threading.Condition()
        self._connections: set[_Connection] = set()
        self._hanging: list[asyncio.Future[None]] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._server: asyncio.Server | None = None
        self._thread: threading.Thread | None = None
        self._stop: asyncio.Event | None = None

    @property
    def base_url(self) -> str:
        """What a provider's `base_url` is set to."""
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def requests(self) -> list[ReceivedRequest]:
        """Everything received so far, in order of arrival."""
        with self._changed:
            return list(self._requests)

    def add(self, *steps: Step) -> None:
        """Append steps to the script."""
        self._steps.extend(steps)

    def release(self) -> None:
        """Let every request that hangs at this moment go on."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._release)

    def _release(self) -> None:
        hanging, self._hanging = self._hanging, []
        for released in hanging:
            if not released.done():
                released.set_result(None)

    def wait_for_requests(self, n: int, timeout: float = 10) -> list[ReceivedRequest]:
        """Block until `n` requests have arrived. Not for the thread that runs the model's own loop.

        Raises:
            TimeoutError: after `timeout` seconds.
        """
        return self._wait(lambda: len(self._requests) >= n, f"{n} requests", timeout)

    def wait_for_early_closes(self, n: int, timeout: float = 10) -> list[ReceivedRequest]:
        """Block until the peers of `n` requests went away before their answers were complete; else as above."""
        return self._wait(lambda: sum(r.closed_early for r in self._requests) >= n, f"{n} early closes", timeout)

    def _wait(self, happened: Callable[[], bool], what: str, timeout: float) -> list[ReceivedRequest]:
        with self._changed:
            if not self._changed.wait_for(happened, timeout):
                raise TimeoutError(f"no {what} within {timeout} s; {len(self._requests)} requests arrived")
            return list(self._requests)

    # -- running -----------------------------------------------------------------------------------------------------

    async def start(self, port: int = 0) -> None:
        """Listen on 127.0.0.1; `port` 0 takes a free one."""
        self._loop = asyncio.get_running_loop()
        if self._log_path is not None:
            self._log = self._log_path.open("a", encoding="utf-8")
        self._server = await self._loop.create_server(lambda: _Connection(self), "127.0.0.1", port, backlog=512)
        self.port = cast("int", self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Break every connection and stop listening."""
        if self._server is not None:
            self._server.close()
            for connection in list(self._connections):
                connection.abort()
            await self._server.wait_closed()
        if self._log is not None:
            self._log.close()
            self._log = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def start_thread(self) -> Self:
        """Serve from a thread of its own; returns once the port is known."""
        ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve(ready)), daemon=True)
        self._thread.start()
        if not ready.wait(START_TIMEOUT_S):
            raise TimeoutError("the scripted model did not start")
        return self

    async def _serve(self, ready: threading.Event) -> None:
        self._stop = asyncio.Event()
        async with self:
            ready.set()
            await self._stop.wait()

    def stop_thread(self) -> None:
        """End what `start_thread` began; returns once the thread is gone."""
        if self._thread is not None and self._loop is not None and self._stop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(START_TIMEOUT_S)

    def __enter__(self) -> Self:
        return self.start_thread()

    def __exit__(self, *_: object) -> None:
        self.stop_thread()

    # -- what connections ask ----------------------------------------------------------------------------------------

    def opened(self, connection: "_Connection") -> None:
        self._connections.add(connection)
        self.connections_made += 1

    def closed(self, connection: "_Connection") -> None:
        self._connections.discard(connection)

    def plan(self, request: ReceivedRequest) -> tuple[list[bytes | _Wait], bool]:
        """Record the request; what to write to its peer, and whether the connection ends afterwards."""
        with self._changed:
            self._requests.append(request)
            number = len(self._requests)
            self._changed.notify_all()
        if self._log is not None:  # a copy of a long request takes longer than all else that is done with it
            shown = dataclasses.asdict(request)
            del shown["raw"]  # bytes, which `body` tells in JSON
            self._write_log({"n": number, **shown})
        if not request.path.partition("?")[0].endswith(("/chat/completions", "/responses")):
            return [plain(Status(404, "no such path"))], False
        step = self._responder(request.body or {}) if self._responder else None
        if step is None:
            step = self._steps.popleft() if self._steps else self._default
        return self._plan(step, request)

    def note_early_close(self, request: ReceivedRequest) -> None:
        with self._changed:
            request.closed_early = True
            number = 1 + next(i for i, one in enumerate(self._requests) if one is request)
            self._changed.notify_all()
        self._write_log({"n": number, "closed_early": True})

    def _write_log(self, line: Json) -> None:
        if self._log is not None:
            self._log.write(json.dumps(line) + "\n")
            self._log.flush()

    def _plan(self, step: Step, request: ReceivedRequest) -> tuple[list[bytes | _Wait], bool]:
        plan: list[bytes | _Wait]
        match step:
            case Answer():
                plan = [HEAD, *_stream(step, request), END]
            case Status():
                plan = [plain(step)]
            case Raw():
                plan = [head(step.content_type), *_pieces(step)]
                plan += [] if step.breaks else [END] if step.ends else [_Wait(None, self._released()), END]
            case Truncate():
                plan = [HEAD, *_stream(step.answer, request, step.events), END]
            case Drop(when="mid"):
                plan = [HEAD, *_stream(step.answer, request, step.events)]
            case Drop():
                plan = [HEAD] if step.when == "headers" else []
            case Hang():
                plan = self._hang(step, request)
        return plan, isinstance(step, Drop) or (isinstance(step, Raw) and step.breaks)

    def _released(self) -> asyncio.Future[None]:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._hanging.append(future)
        return future

    def _hang(self, step: Hang, request: ReceivedRequest) -> list[bytes | _Wait]:
        answer = dataclasses.replace(step.answer, text=step.before + step.answer.text)
        events = _frames(answer, request)
        deltas = [position for position, frame in enumerate(events) if frame.delta]
        cut = deltas[len(step.before) - 1] + 1 if step.before else 0
        before, after = ([chunked(frame.data) for frame in part] for part in (events[:cut], events[cut:]))
        return [HEAD, *before, _Wait(step.ms, self._released()), *after, END]


class _Connection(asyncio.Protocol):
    """One client: requests in turn, kept alive between them."""

    def __init__(self, model: ScriptedModel) -> None:
        self._model = model
        self._buffer = bytearray()
        self._gone = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._model.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._gone.set()
        self._model.closed(self)

    def abort(self) -> None:
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while self._task is None and (request := take_request(self._buffer)) is not None:
            plan, ends = self._model.plan(request)
            if any(isinstance(step, _Wait) for step in plan):
                self._task = asyncio.create_task(self._play(request, plan, ends=ends))
            else:
                self._write(b"".join(cast("list[bytes]", plan)), ends=ends)
        if len(self._buffer) > REQUEST_BYTES_MAX:
            self._transport.abort()

    async def _play(self, request: ReceivedRequest, plan: list[bytes | _Wait], *, ends: bool) -> None:
        for step in plan:
            if isinstance(step, bytes):
                self._write(step)
            elif not await self._pause(step):
                self._model.note_early_close(request)
                return
        self._write(b"", ends=ends)
        self._task = None
        self.data_received(b"")  # what came meanwhile

    async def _pause(self, wait: _Wait) -> bool:
        """Whether the peer is still there after the wait."""
        gone = asyncio.ensure_future(self._gone.wait())
        waits = {gone} if wait.released is None else {gone, wait.released}
        timeout = None if wait.ms is None else wait.ms / 1000
        try:
            await asyncio.wait(waits, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        finally:
            gone.cancel()
        return not self._gone.is_set()

    def _write(self, data: bytes, *, ends: bool = False) -> None:
        if self._transport.is_closing():
            return
        self._transport.write(data)
        if ends:
            self._transport.close()


# -- streams ---------------------------------------------------------------------------------------------------------


def _frames(answer: Answer, request: ReceivedRequest) -> list[Frame]:
    options = (request.body or {}).get("stream_options")
    wants_usage = isinstance(options, dict) and bool(cast("Json", options).get("include_usage"))
    return frames(answer, chat="/chat/completions" in request.path, include_usage=wants_usage)


def _stream(answer: Answer, request: ReceivedRequest, events: int | None = -1) -> list[bytes | _Wait]:
    """The first `events` events as HTTP chunks; None: all but what ends the response; -1: all."""
    plan: list[bytes | _Wait] = []
    for position, frame in enumerate(_frames(answer, request)):
        if position == events or (events is None and frame.final):
            break
        if frame.delta and answer.delay_ms:
            plan.append(_Wait(answer.delay_ms))
        plan.append(chunked(frame.data))
    return plan


def _pieces(step: Raw) -> list[bytes | _Wait]:
    if not step.delay_ms:
        return [chunked(step.body.encode())] if step.body else []
    events = re.findall(r".*?\n\n|.+", step.body, re.DOTALL)
    return [part for event in events for part in (_Wait(step.delay_ms), chunked(event.encode()))]


# -- process ---------------------------------------------------------------------------------------------------------


def main() -> None:
    """Serve a script until killed. The file holds a list of steps, or `{"steps": […], "default": {…}}`."""
    parser = argparse.ArgumentParser(description="A scripted model endpoint on loopback.")
    parser.add_argument("--script", type=Path, help="JSON file; without it every answer is the text ok")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--log", type=Path, help="file to which each request is appended as a line of JSON")
    options = parser.parse_args()
    script: object = json.loads(options.script.read_text(encoding="utf-8")) if options.script else []
    parts = cast("Json", script) if isinstance(script, dict) else {"steps": script}
    steps = [step_from_json(step) for step in cast("list[object]", parts.get("steps", []))]
    default = step_from_json(parts["default"]) if "default" in parts else None
    model = ScriptedModel(steps, default=default, log=options.log)
    try:
        asyncio.run(_serve_process(model, options.port))
    except KeyboardInterrupt:
        return


async def _serve_process(model: ScriptedModel, port: int) -> None:
    await model.start(port)
    sys.stdout.write(json.dumps({"port": model.port}) + "\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    main()
