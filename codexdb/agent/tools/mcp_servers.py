"""The tools of the MCP servers that the user configured, for one turn of one session.

Owns what is offered to the model and under which names, and what the user is told of a server that does not work.
Nothing that a server does or leaves undone fails a turn.
"""

import os
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self, cast

import anyio

from codexdb.agent.model import ToolSpec
from codexdb.agent.tools.mcp_client import MCP_TOOLS_MAX, Server, ToolLists, load_sdk
from codexdb.agent.tools.mcp_result import McpResult, McpTool, failure, hashed_name, tool_of
from codexdb.config.mcp_server import McpServer
from codexdb.domain.json import JsonObject, decode

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

MCP_SERVERS_MAX = 32  # processes of one turn; people configure a handful

NOT_INSTALLED = (
    "MCP servers are configured, but this installation cannot use them: it lacks the extra `mcp`. Install it with "
    "`pip install 'codexdb[mcp]'`. The turn goes on without them."
)


def parse(arguments: str) -> JsonObject | str:
    """The arguments that the model wrote, or what to tell it where they are no object. No text is no arguments."""
    try:
        given = decode(arguments) if arguments.strip() else cast("object", {})
    except ValueError as error:
        return f"err: {error}"
    return cast("JsonObject", given) if isinstance(given, dict) else "err: expected a JSON object"


class McpTools:
    """The tools of a turn's MCP servers: `async with McpTools(…) as tools`.

    Each server is a process of its own for this turn, never shared with another session. It is started when its tools
    have to be listed or one of them is called, started anew after its death, and ended when the block is left, however
    that comes about: within 0.6 seconds, all of them at the same time. An exception of the block passes unchanged.
    """

    def __init__(
        self,
        servers: Sequence[McpServer],
        session_id: str,
        cwd: str,
        *,
        environ: Mapping[str, str] | None = None,
        lists: ToolLists | None = None,
    ) -> None:
        """`environ`: this process's own, of which servers get a few harmless variables."""
        parent = os.environ if environ is None else environ
        lists = ToolLists() if lists is None else lists
        usable = [server for server in servers if _refusal(server) is None][:MCP_SERVERS_MAX]
        self._servers = {server.name: Server(server, session_id, cwd, parent, lists) for server in usable}
        self._notices = [_left_out(server.name, why) for server in servers if (why := _refusal(server)) is not None]
        if len(servers) - len(self._notices) > MCP_SERVERS_MAX:
            self._notices.append(f"Only the first {MCP_SERVERS_MAX} MCP servers are used.")
        self._tools: dict[str, McpTool] | None = None
        self._listing = anyio.Lock()
        self._group: TaskGroup = anyio.create_task_group()

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        for server in self._servers.values():
            server.stop()
        # Not told of the exception, which it would wrap; its tasks raise none of their own.
        await self._group.__aexit__(None, None, None)

    def notices(self) -> list[str]:
        """Sentences for the user, for a `background_event` each, that came up since the last call."""
        taken, self._notices = self._notices, []
        return taken

    async def specs(self) -> list[ToolSpec]:
        """What the model may call, by name; the same list whenever it is asked for.

        Servers whose tools are not known yet are started, all at once, which takes `startup_timeout_s` of the slowest
        at the most. One that fails is left out and told of in `notices`.
        """
        return [tool.spec for tool in (await self._listed()).values()]

    async def find(self, name: str) -> McpTool | None:
        """The tool that the model calls so. Lists the tools first where that was not done."""
        return (await self._listed()).get(name)

    async def call(self, name: str, arguments: JsonObject) -> McpResult:
        """Call a tool, which starts its server if need be. Every failure is a result that tells the model.

        Ends after `tool_timeout_s`, and with cancellation; the server is told that nobody waits any more.
        """
        tool = await self.find(name)
        if tool is None:
            return failure(f"unsupported call: {name}")
        return await self._servers[tool.server].call(self._group, tool.tool, arguments)

    async def _listed(self) -> dict[str, McpTool]:
        async with self._listing:
            if self._tools is None:
                self._tools = await self._list()
            return self._tools

    async def _list(self) -> dict[str, McpTool]:
        if self._servers and not await load_sdk():
            self._notices.append(NOT_INSTALLED)
            self._servers = {}
        listed: dict[str, Sequence[object] | str] = {}

        async def ask(name: str, server: Server) -> None:
            listed[name] = await server.listed(self._group)

        async with anyio.create_task_group() as asking:
            for name, server in self._servers.items():
                asking.start_soon(ask, name, server)
        found: list[McpTool] = []
        for name in sorted(listed):
            found += self._offered(self._servers[name].config, listed[name])
        if len(found) > MCP_TOOLS_MAX:
            self._notices.append(f"Only the first {MCP_TOOLS_MAX} of {len(found)} tools of MCP servers are offered.")
        return dict(sorted(_named(found[:MCP_TOOLS_MAX]).items()))

    def _offered(self, server: McpServer, listed: Sequence[object] | str) -> list[McpTool]:
        if isinstance(listed, str):
            self._notices.append(f"MCP client for `{server.name}` failed to start: {listed}")
            return []
        found: dict[str, McpTool] = {}
        for entry in listed:
            tool = tool_of(server.name, entry)
            if isinstance(tool, str):
                self._notices.append(f"A tool of MCP server `{server.name}` is left out: {tool}.")
            elif server.offers(tool.tool):
                found[tool.tool] = tool
        return [found[name] for name in sorted(found)]


def _refusal(server: McpServer) -> str | None:
    if server.command:
        return None
    return "servers with a `url` cannot be used yet" if server.url else "it has no `command`"


def _left_out(name: str, why: str) -> str:
    return f"MCP server `{name}` is left out: {why}."


def _named(tools: Sequence[McpTool]) -> dict[str, McpTool]:
    """By the model's name for them. `a` with `b__c` and `a__b` with `c` are told apart by a hash."""
    named: dict[str, McpTool] = {}
    for tool in tools:
        name = tool.spec.name
        if name in named:
            name = hashed_name(tool.server, tool.tool)
        named[name] = McpTool(
            ToolSpec(name, tool.spec.description, tool.spec.parameters), tool.server, tool.tool, tool.annotations
        )
    return named
