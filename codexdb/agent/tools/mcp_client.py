"""One MCP server as its client sees it: started when it is needed, asked, started anew when it died, and ended.

The SDK is imported when the first server is started, on a thread, since that takes as long as a second.
"""

import importlib
import logging
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import anyio
import anyio.to_thread

from codexdb import __version__
from codexdb.agent.tools.mcp_process import Pipes, connect, environment_of
from codexdb.agent.tools.mcp_result import McpResult, failure, result_of
from codexdb.agent.wires import shape
from codexdb.config.mcp_server import McpServer
from codexdb.domain.json import JsonObject

if TYPE_CHECKING:
    from anyio.abc import TaskGroup
    from mcp.shared.jsonrpc_dispatcher import JSONRPCDispatcher

MCP_TOOLS_MAX = 120  # offered in all; endpoints take 128, and some of them are ours
MCP_PAGES_MAX = 20  # of one server's list; a server with more of them counts without end
MCP_STARTS_MAX = 3  # of one server in one turn; one that dies more often dies of what it is asked
MCP_LISTS_MAX = 256  # lists of tools that are remembered
MCP_REASON_CHARS_MAX = 300  # of a server's own words about its failure
SECRET_CHARS_MIN = 4  # of a value in `env` that is taken out of texts; shorter ones are words like "on"


async def load_sdk() -> bool:
    """Import the SDK; whether it is there."""

    def load() -> bool:
        try:
            for name in ("mcp.client.session", "mcp.shared.jsonrpc_dispatcher"):
                importlib.import_module(name)
        except ImportError:
            return False
        for name in ("mcp", "client"):  # they log what servers print, which may be anything
            logging.getLogger(name).setLevel(logging.CRITICAL)
        return True

    return await anyio.to_thread.run_sync(load)


class ToolLists:
    """Remembers which tools servers offer, so that a turn starts a server only when one of them is called.

    One for a worker; it holds the lists of the `MCP_LISTS_MAX` servers that were asked last, by all that was configured
    of them. Lists are renewed whenever a server is started.
    """

    def __init__(self) -> None:
        self._lists: OrderedDict[object, Sequence[object]] = OrderedDict()

    def get(self, server: McpServer, cwd: str) -> Sequence[object] | None:
        return self._lists.get(_key(server, cwd))

    def put(self, server: McpServer, cwd: str, listed: Sequence[object]) -> None:
        key = _key(server, cwd)
        self._lists[key] = listed
        self._lists.move_to_end(key)
        while len(self._lists) > MCP_LISTS_MAX:
            self._lists.popitem(last=False)


def _key(server: McpServer, cwd: str) -> object:
    return server.name, server.command, server.args, tuple(sorted(server.env.items())), server.cwd, cwd


@dataclass(slots=True)
class _Start:
    """One start of a server. Once `settled`, it works, or `failed` says why it does not."""

    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    settled: anyio.Event = field(default_factory=anyio.Event)
    failed: str | None = None
    pipes: Pipes | None = None
    dispatcher: "JSONRPCDispatcher[Any] | None" = None
    listed: Sequence[object] = ()
    over: bool = False  # its process is gone, or about to go

    @property
    def works(self) -> bool:
        return not self.over and self.pipes is not None and not self.pipes.ended.is_set()


class Server:
    """A configured server within one turn. Its processes are tasks of the group that is handed in."""

    def __init__(
        self, config: McpServer, session_id: str, cwd: str, environ: Mapping[str, str], lists: ToolLists
    ) -> None:
        self.config = config
        self._session_id = session_id
        self._cwd = cwd
        self._environ = environ
        self._lists = lists
        self._starts = 0
        self._start: _Start | None = None
        self._starting = anyio.Lock()

    def stop(self) -> None:
        """End its process, if there is one; the task that holds it takes care."""
        if self._start is not None:
            self._start.scope.cancel()

    async def listed(self, group: "TaskGroup") -> Sequence[object] | str:
        """The tools as it lists them, or why it does not."""
        known = self._lists.get(self.config, self._cwd)
        if known is not None:
            return known
        start = await self._working(group)
        return start if isinstance(start, str) else start.listed

    async def call(self, group: "TaskGroup", tool: str, arguments: JsonObject) -> McpResult:
        """See `McpTools.call`."""
        start = await self._working(group)
        began_ns = time.monotonic_ns()
        if isinstance(start, str) or start.dispatcher is None:
            return failure(f"The MCP server `{self.config.name}` could not be started: {start}")
        try:
            with anyio.fail_after(self.config.tool_timeout_s):
                raw = await start.dispatcher.send_raw_request("tools/call", {"name": tool, "arguments": arguments})
        except Exception as error:  # noqa: BLE001 - whatever the SDK makes of a foreign server
            return failure(self._call_failure(error), time.monotonic_ns() - began_ns)
        return result_of(raw, time.monotonic_ns() - began_ns)

    def _call_failure(self, error: Exception) -> str:
        name = self.config.name
        if isinstance(error, TimeoutError):
            return (
                f"The MCP server `{name}` did not answer within {self.config.tool_timeout_s:g} seconds. What it did "
                "until then stands."
            )
        if _is_closed(error):
            return f"The MCP server `{name}` ended during the call. What it did until then stands."
        return f"The MCP server `{name}` refused the call: {self._reason(error)}"

    async def _working(self, group: "TaskGroup") -> _Start | str:
        """A process that works, started if there is none; or why there is none."""
        async with self._starting:
            if self._start is None or not self._start.works:
                if self._starts >= MCP_STARTS_MAX:
                    return f"it ended {MCP_STARTS_MAX} times in this turn"
                self._starts += 1
                self._start = _Start()
                group.start_soon(self._serve, self._start, name=f"mcp {self.config.name} of {self._session_id}")
            await self._start.settled.wait()
            return self._start if self._start.failed is None else self._start.failed

    async def _serve(self, start: _Start) -> None:
        """Run the server until it ends or is stopped. Raises nothing."""
        try:
            with start.scope:
                await self._run(start)
        except Exception as error:  # noqa: BLE001 - a foreign program, and the SDK's words about it
            if not start.settled.is_set():
                start.failed = self._start_failure(error)
        finally:
            start.over = True
            if not start.settled.is_set():
                start.failed = start.failed or "the turn ended"
                start.settled.set()

    async def _run(self, start: _Start) -> None:
        config = self.config
        cwd = str(Path(self._cwd) / (config.cwd or ""))
        argv = (config.command or "", *config.args)
        deadline = anyio.current_time() + config.startup_timeout_s
        async with (
            connect(argv, cwd=cwd, environment=environment_of(self._environ, config.env)) as pipes,
            _conversation(pipes) as dispatcher,
        ):
            with anyio.fail_after(deadline - anyio.current_time()):
                await dispatcher.initialize()
                start.listed = await _list_tools(dispatcher.raw)
            start.pipes, start.dispatcher = pipes, dispatcher.raw
            self._lists.put(config, self._cwd, start.listed)
            start.settled.set()
            await pipes.ended.wait()

    def _start_failure(self, error: BaseException) -> str:
        cause = _first_cause(error)
        if isinstance(cause, TimeoutError):
            return f"it did not answer within {self.config.startup_timeout_s:g} seconds"
        if _is_closed(cause):
            return "it ended before it had answered"
        if isinstance(cause, OSError) and cause.strerror:
            return f"{cause.strerror} (os error {cause.errno})"
        return self._reason(cause)

    def _reason(self, error: BaseException) -> str:
        """What the server says, short and without its secrets; of everything else only the kind is told."""
        from mcp import MCPError

        if not isinstance(error, MCPError):
            return f"its answer cannot be used ({type(error).__name__})"
        text = error.message
        for value in self.config.env.values():
            if len(value) >= SECRET_CHARS_MIN:
                text = text.replace(value, "…")
        return text[:MCP_REASON_CHARS_MAX]


@dataclass(frozen=True, slots=True)
class _Conversation:
    raw: "JSONRPCDispatcher[Any]"
    initialize: Any


@asynccontextmanager
async def _conversation(pipes: Pipes) -> AsyncGenerator[_Conversation]:
    """The SDK's session, which answers what a server asks of its client. Requests go past its models: those would lose
    what they do not know, and refuse a whole list for one odd tool.
    """
    from mcp.client.session import ClientSession
    from mcp.shared.jsonrpc_dispatcher import JSONRPCDispatcher
    from mcp_types import Implementation

    dispatcher: JSONRPCDispatcher[Any] = JSONRPCDispatcher(pipes.incoming, pipes.outgoing)
    client = Implementation(name="codexdb", version=__version__)
    async with ClientSession(dispatcher=dispatcher, client_info=client) as session:
        yield _Conversation(dispatcher, session.initialize)


async def _list_tools(dispatcher: "JSONRPCDispatcher[Any]") -> Sequence[object]:
    listed: list[object] = []
    cursor = ""
    for _ in range(MCP_PAGES_MAX):
        page = await dispatcher.send_raw_request("tools/list", {"cursor": cursor} if cursor else {})
        listed += shape.array(page.get("tools"))
        cursor = shape.string(page.get("nextCursor"))
        if not cursor or len(listed) > MCP_TOOLS_MAX:
            break
    return listed


def _first_cause(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = cast("BaseExceptionGroup[BaseException]", error).exceptions[0]
    return error


def _is_closed(error: BaseException) -> bool:
    from mcp import MCPError
    from mcp_types import CONNECTION_CLOSED

    return isinstance(error, MCPError) and error.code == CONNECTION_CLOSED
