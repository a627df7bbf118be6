"""A server that waits for no retry, on an endpoint that does what a test wants: one for many turns, each by itself."""

import contextlib
import json
import sqlite3
import sys
from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from codexdb.testing.http1 import ReceivedRequest
from codexdb.testing.model_script import Json, Raw, Step, say
from codexdb.testing.scripted_model import ScriptedModel
from codexdb.testing.server_process import Message, RequestId, ServerProcess, write_config
from tests.process.hasty_server import FILE_VARIABLE, STARTED_AT_MS

HASTY = (sys.executable, "-m", "tests.process.hasty_server", "serve")
ROOT = Path(__file__).parents[2]
WIRES = ("chat", "responses")
BACKOFF_MS, JITTER, CAP_MS = 200, 0.1, 60_000
REQUEST_RETRIES, STREAM_RETRIES = 4, 11
RETRIES = max(REQUEST_RETRIES, STREAM_RETRIES)  # enough to see the cap of a wait

Answering = Step | Callable[[Json], Step]
"""A step, or what makes one of the request's body when it is there."""
_OK = say("ok")


@dataclass(frozen=True, slots=True)
class Turn:
    """A turn that has ended, and what was seen of it."""

    id: RequestId
    session: str
    result: Message
    requests: list[ReceivedRequest]
    naps: list[int]
    events: list[Message]
    items: list[Message]

    @property
    def text(self) -> str:
        """What the caller got for an answer."""
        return cast("str", self.result["content"][0]["text"])

    @property
    def failed(self) -> bool:
        return bool(self.result.get("isError"))

    def of(self, kind: str) -> list[Message]:
        """The items of that type on record."""
        return [item for item in self.items if item["type"] == kind]

    @property
    def said(self) -> list[str]:
        """The assistant's messages on record."""
        return [item["content"][0]["text"] for item in self.of("message") if item["role"] == "assistant"]

    def told(self, kind: str) -> list[str]:
        """The messages of the events of that type."""
        return [event["message"] for event in self.events if event["type"] == kind]


class Unreliable:
    """Endpoint, server and home. `turn` works one turn in a new session."""

    def __init__(self, wire: str, home: Path) -> None:
        self.wire = wire
        self.home = home
        self.model = ScriptedModel(responder=self._respond)
        self._naps = home / "naps"
        self._naps.touch()
        self._steps: deque[Answering] = deque()
        self._then: Answering = _OK
        self._server: ServerProcess | None = None

    @contextlib.contextmanager
    def running(self) -> Generator["Unreliable"]:
        environment = {FILE_VARIABLE: str(self._naps), "PYTHONPATH": str(ROOT)}
        with self.model:
            self.configure()
            with ServerProcess(self.home, argv=HASTY, env=environment) as self._server:
                self._server.initialize()
                yield self

    @property
    def server(self) -> ServerProcess:
        assert self._server is not None
        return self._server

    @property
    def is_chat(self) -> bool:
        return self.wire == "chat"

    @property
    def url(self) -> str:
        """Where requests go."""
        return f"{self.model.base_url}/{'chat/completions' if self.is_chat else 'responses'}"

    def configure(self, **provider: object) -> None:
        """Write config.toml, which every turn reads: these keys of the provider, and the defaults of these tests."""
        retries = {"request_max_retries": REQUEST_RETRIES, "stream_max_retries": STREAM_RETRIES}
        write_config(self.home, self.model.base_url, self.wire, model_providers={"scripted": {**retries, **provider}})

    def _respond(self, body: Json) -> Step:
        step = self._steps.popleft() if self._steps else self._then
        return step(body) if callable(step) else step

    # -- turns -------------------------------------------------------------------------------------------------------

    def turn(self, *steps: Answering, then: Answering = _OK) -> Turn:
        """Work a turn to its end. The endpoint does `steps`, one a request, and `then` with each further request."""
        requests, naps = len(self.model.requests), len(self.naps())
        self._steps, self._then = deque(steps), then
        call = self.server.start_tool("codex", {"prompt": "go"})
        result = self.server.wait_response(call)["result"]
        assert not self._steps, "the endpoint was asked less often than the test says"
        session: str = self.server.wait_event("task_started", call)["_meta"]["conversationId"]
        page = self.server.call_tool("conversation_read", {"conversation_id": session, "include_items": True})
        return Turn(
            id=call,
            session=session,
            result=result,
            requests=self.model.requests[requests:],
            naps=self.naps()[naps:],
            events=[event["msg"] for event in self.server.events(call)],
            items=[each["item"] for each in page["structuredContent"]["items"]],
        )

    def naps(self) -> list[int]:
        """The milliseconds of every wait so far."""
        return [int(line) for line in self._naps.read_text().split()]

    def now_ms(self) -> int:
        """The server's time."""
        return STARTED_AT_MS + sum(self.naps())

    def rows(self, query: str, *values: object) -> list[tuple[object, ...]]:
        database = self.home / "codexdb" / "codexdb.sqlite3"
        with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
            return connection.execute(query, values).fetchall()

    # -- what an endpoint says ---------------------------------------------------------------------------------------

    def reports(self, message: str, code: object = None, kind: str | None = None) -> Raw:
        """A stream in which the endpoint says that it failed."""
        error = {"message": message, "code": code, "type": kind}
        if self.is_chat:
            return Raw(events({"error": error}))
        return Raw(
            events({"type": "response.failed", "response": {"id": "resp_1", "status": "failed", "error": error}})
        )


def events(*bodies: object) -> str:
    """A body of server-sent events; strings are data as they stand."""
    data = (body if isinstance(body, str) else json.dumps(body) for body in bodies)
    return "".join(f"data: {line}\n\n" for line in data)


def shell(script: str, call_id: str) -> tuple[str, str, str]:
    return call_id, "shell", json.dumps({"command": ["bash", "-c", script]})


def entries(body: Json) -> list[Json]:
    """The conversation in a request, as its wire has it."""
    return cast("list[Json]", body.get("messages") or body.get("input"))


def outputs_seen(body: Json) -> list[str]:
    """The ids of the calls whose outputs a request carries, in their order."""
    return [
        str(entry.get("tool_call_id") or entry.get("call_id"))
        for entry in entries(body)
        if entry.get("role") == "tool" or entry.get("type") == "function_call_output"
    ]


def assert_backoff(naps: list[int]) -> None:
    """200 ms, doubled with each, a tenth more or less, a minute at most."""
    for number, nap in enumerate(naps):
        nominal = BACKOFF_MS * 2**number
        assert min(nominal * (1 - JITTER) - 1, CAP_MS) <= nap <= min(nominal * (1 + JITTER), CAP_MS), naps
