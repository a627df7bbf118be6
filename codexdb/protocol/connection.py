"""Owns one client: which of its requests are in flight, who answers each, and that each is answered once."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, cast

import anyio

from codexdb.domain.json import JsonObject
from codexdb.domain.limits import EOF_GRACE_MS, LINE_BYTES_MAX, REQUESTS_IN_FLIGHT_MAX, WRITER_DRAIN_MS
from codexdb.protocol import handshake, jsonrpc
from codexdb.protocol.jsonrpc import JsonRpcError
from codexdb.protocol.stdio import Line, Overlong, StdioTransport

METHOD_SHOWN_CHARS = 100  # of an unknown method's name: what a client sends is not sent back at length

_logger = logging.getLogger(__name__)


class AskFailedError(Exception):
    """The client refused a question, answered nonsense, or is gone."""


@dataclass(frozen=True, slots=True)
class Reply:
    """The result of a call, and what has to follow at once.

    `after` runs right after the result was queued for writing, before any other task gets to run. Where there was no
    one left to answer (a cancelled call, a client that is gone) it runs all the same. It must not raise or wait.
    """

    result: JsonObject
    after: Callable[[], None] | None = None


class Call:
    """A request in flight. `cancel_reason`: None until the client cancelled it; then what it said, "" for nothing."""

    __slots__ = ("cancel_reason", "connection", "id", "params", "scope")

    def __init__(self, request_id: jsonrpc.RequestId, params: JsonObject, connection: "Connection") -> None:
        self.id = request_id
        self.params = params
        self.connection = connection
        self.cancel_reason: str | None = None
        self.scope = anyio.CancelScope()

    async def notify(self, method: str, params: JsonObject) -> None:
        """Send a notification; it is written before this call's result. Waits while the client does not read."""
        await self.connection.send_event(jsonrpc.notification(method, params))


Handler = Callable[[Call], Awaitable[Reply]]


class Methods(Protocol):
    """What a connection serves besides `initialize` and `ping`."""

    def handlers(self) -> Mapping[str, Handler]:
        """One handler for each method; asked once.

        A handler may raise `JsonRpcError`; anything else becomes an internal error that tells the client nothing. When
        the client cancels, `cancel_reason` is set and the handler is cancelled; whatever it still returns is dropped.
        """
        ...


class Connection:
    """One client, from its first bytes to the last answer.

    `initialized` is what was agreed with it, None before `initialize`. `eof` is set when no further request will be
    served: the client closed its end or reads no more, or `stop` was called. Calls in flight then have their grace.
    """

    def __init__(
        self,
        opening: handshake.Opening,
        methods: Methods,
        *,
        eof_grace_ms: int | None = EOF_GRACE_MS,
        line_bytes_max: int = LINE_BYTES_MAX,
    ) -> None:
        """`eof_grace_ms` None: calls in flight may take as long as they need."""
        self.initialized = opening.initialized
        self.eof = anyio.Event()
        self._handlers = methods.handlers()
        self._eof_grace_ms = eof_grace_ms
        self._line_bytes_max = line_bytes_max
        self._calls: dict[jsonrpc.RequestId, Call] = {}  # to be answered
        self._running = 0  # handlers, also those whose call was cancelled and that have not noticed yet
        self._idle = anyio.Event()  # set when `eof` is and nothing runs
        self._questions: dict[str, asyncio.Future[JsonObject]] = {}  # by the text of their ids: some clients send that
        self._next_question = 0
        self._transport = StdioTransport(
            opening.in_fd,
            opening.out_fd,
            on_lines=self._take,
            on_eof=self.stop,
            on_broken=self.stop,
            unread=opening.unread,
            line_bytes_max=line_bytes_max,
        )

    async def run(self) -> None:
        """Serve until `eof`, then until the calls in flight have ended or their grace has.

        Those that have not are cancelled, and answered with kind "shutting_down". Cancelling `run` does the same, but
        without any grace.
        """
        try:
            async with anyio.create_task_group() as group:
                self._group = group
                self._transport.start()
                await self.eof.wait()
                grace = None if self._eof_grace_ms is None else self._eof_grace_ms / 1000
                with anyio.move_on_after(grace):
                    if self._running:
                        await self._idle.wait()
                group.cancel_scope.cancel()
        finally:
            self.stop()
            with anyio.CancelScope(shield=True):
                await self._transport.drain(WRITER_DRAIN_MS)
            self._transport.stop()

    def stop(self) -> None:
        """Serve no further request, and let `run` come to its end. May be called again."""
        self.eof.set()
        for question in self._questions.values():
            if not question.done():
                question.set_exception(AskFailedError("the client is gone"))

    # -- sending -----------------------------------------------------------------------------------------------------

    async def send_event(self, line: bytes) -> None:
        """Queue a line. Waits while the client does not read; cancelled meanwhile, the line is not sent."""
        await self._transport.send(line)

    def send_result(self, line: bytes) -> None:
        """Queue a line without waiting."""
        self._transport.send_nowait(line)

    async def ask(self, method: str, params: JsonObject) -> JsonObject:
        """Put a question to the client and wait for its result, without limit. Cancelled, it tells the client so.

        Raises:
            AskFailedError: the client answered with an error or no object, or is gone.
        """
        if self.eof.is_set():
            raise AskFailedError("the client is gone")
        number = self._next_question
        self._next_question += 1
        await self.send_event(jsonrpc.request(number, method, params))
        question = self._questions[str(number)] = asyncio.get_running_loop().create_future()
        if self.eof.is_set():  # set while we waited to send, by a `stop` that knew nothing of this question
            self.stop()
        try:
            return await question
        finally:
            del self._questions[str(number)]
            if question.cancelled():
                self.send_result(jsonrpc.notification("notifications/cancelled", {"requestId": number}))

    # -- receiving ---------------------------------------------------------------------------------------------------

    def _take(self, lines: Sequence[Line]) -> None:
        for line in lines:
            message = self._overlong(line) if isinstance(line, Overlong) else jsonrpc.decode(line)
            if isinstance(message, jsonrpc.Request):
                self._serve(message)
            elif isinstance(message, jsonrpc.Fault):
                self.send_result(jsonrpc.error(message.id, message.code, message.message))
            elif isinstance(message, jsonrpc.Response):
                self._take_answer(message)
            elif message is not None and message.method == "notifications/cancelled":
                self._cancel(message.params)

    def _overlong(self, line: Overlong) -> jsonrpc.Fault:
        message = f"a line may have {self._line_bytes_max} bytes at most"
        return jsonrpc.Fault(jsonrpc.recover_id(line.prefix), jsonrpc.INVALID_REQUEST, message)

    def _serve(self, request: jsonrpc.Request) -> None:
        try:
            answer = self._answer_at_once(request)
        except JsonRpcError as refusal:
            answer = jsonrpc.error(request.id, refusal.code, refusal.message, refusal.data)
        if answer is not None:
            self.send_result(answer)
            return
        call = self._calls[request.id] = Call(request.id, request.params, self)
        self._running += 1
        self._group.start_soon(self._work, call, self._handlers[request.method])

    def _answer_at_once(self, request: jsonrpc.Request) -> bytes | None:
        """The answer, where no handler is needed for it, else None. Raises the refusal of one that is not served."""
        if request.id in self._calls:
            raise JsonRpcError(jsonrpc.INVALID_REQUEST, "a request with this id is still in flight")
        if self.eof.is_set():
            return self._shutting_down(request.id)
        if request.method == "initialize":
            return jsonrpc.result(request.id, self._initialize(request.params))
        if request.method == "ping":
            return jsonrpc.result(request.id, {})
        if request.method not in self._handlers:
            raise JsonRpcError(jsonrpc.METHOD_NOT_FOUND, f"method not found: {request.method[:METHOD_SHOWN_CHARS]}")
        if self._running >= REQUESTS_IN_FLIGHT_MAX:
            data: JsonObject = {"kind": "too_many_requests", "retryable": True}
            raise JsonRpcError(jsonrpc.SERVER_ERROR, f"{REQUESTS_IN_FLIGHT_MAX} requests are in flight", data)
        return None

    def _initialize(self, params: JsonObject) -> JsonObject:
        if self.initialized is not None:
            raise JsonRpcError(jsonrpc.INVALID_REQUEST, "initialize called more than once")
        try:
            self.initialized, result = handshake.answer_initialize(params)
        except handshake.InvalidInitializeError as error:
            raise JsonRpcError(jsonrpc.INVALID_PARAMS, str(error)) from None
        return result

    def _cancel(self, params: JsonObject) -> None:
        request_id, reason = params.get("requestId"), params.get("reason")
        if type(request_id) is not int and not isinstance(request_id, str):
            return
        call = self._calls.pop(request_id, None)  # nobody answers it from here on
        if call is not None:
            call.cancel_reason = reason if isinstance(reason, str) else ""
            call.scope.cancel()

    def _take_answer(self, response: jsonrpc.Response) -> None:
        question = self._questions.get(str(response.id)) if isinstance(response.id, int | str) else None
        if question is None or question.done():
            return
        result = response.result
        if isinstance(result, dict) and response.error is None:
            question.set_result(cast("JsonObject", result))
        else:
            question.set_exception(AskFailedError("the client answered with an error"))

    # -- one call ----------------------------------------------------------------------------------------------------

    async def _work(self, call: Call, handler: Handler) -> None:
        answer, after = None, None
        try:
            with call.scope:
                if call.cancel_reason is None:
                    answer, after = await self._handle(call, handler)
        finally:
            self._finish(call, answer or self._shutting_down(call.id))
            if after is not None:
                self._follow_up(after)
            self._running -= 1
            if not self._running and self.eof.is_set():
                self._idle.set()

    async def _handle(self, call: Call, handler: Handler) -> tuple[bytes, Callable[[], None] | None]:
        """The answer and what follows it. Raises nothing but our own cancellation."""
        after = None
        try:
            try:
                reply = await handler(call)
                after = reply.after
                return jsonrpc.result(call.id, reply.result), after
            except JsonRpcError as error:
                return jsonrpc.error(call.id, error.code, error.message, error.data), None
        except asyncio.CancelledError:
            if call.scope.cancel_called or self._group.cancel_scope.cancel_called:
                raise
            _logger.exception("a handler was cancelled by something that it waited for")
        except Exception:  # whatever it is, this client gets an answer and its other requests are served
            _logger.exception("a handler failed")
        return jsonrpc.error(call.id, jsonrpc.INTERNAL_ERROR, "internal error"), after

    def _finish(self, call: Call, answer: bytes) -> None:
        if self._calls.get(call.id) is call:
            del self._calls[call.id]
            self.send_result(answer)

    def _follow_up(self, after: Callable[[], None]) -> None:
        try:
            after()
        except Exception:  # the result is out, and the other requests must not suffer
            _logger.exception("what follows a result failed")

    @staticmethod
    def _shutting_down(request_id: jsonrpc.RequestId) -> bytes:
        data: JsonObject = {"kind": "shutting_down", "retryable": True}
        return jsonrpc.error(request_id, jsonrpc.SERVER_ERROR, "the server is shutting down", data)
