"""The methods of the MCP server. It answers before the database is open; calls of tools wait for that, or are told
why not.
"""

import asyncio
from collections.abc import Mapping
from typing import cast

from pydantic import ValidationError

from codexdb.domain.errors import CodexDBError
from codexdb.domain.json import JsonObject
from codexdb.protocol import jsonrpc
from codexdb.protocol.connection import Call, Handler, Reply
from codexdb.protocol.context import ToolContext
from codexdb.protocol.jsonrpc import JsonRpcError
from codexdb.protocol.render import plain_error
from codexdb.protocol.tools import BY_NAME, Tool, listed

LOG_LEVELS = frozenset({"debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"})


class McpServer:
    """Implements `connection.Methods`."""

    def __init__(self) -> None:
        self._context: asyncio.Future[ToolContext] = asyncio.get_running_loop().create_future()

    def open(self, context: ToolContext) -> None:
        """The database is open: tools may run."""
        self._context.set_result(context)

    def refuse(self, error: CodexDBError) -> None:
        """The database cannot be used: every call of a tool is told so."""
        self._context.set_exception(error)
        self._context.exception()  # looked at, in case no tool is ever called

    def hold_back(self, error: CodexDBError) -> None:
        """The database cannot be used yet: calls that wait are told so, later ones wait anew."""
        self.refuse(error)
        self._context = self._context.get_loop().create_future()

    def handlers(self) -> Mapping[str, Handler]:
        return {
            "tools/list": _list_tools,
            "tools/call": self._call_tool,
            "resources/list": _empty("resources"),
            "resources/templates/list": _empty("resourceTemplates"),
            "prompts/list": _empty("prompts"),
            "logging/setLevel": _set_level,
        }

    async def _call_tool(self, call: Call) -> Reply:
        name = call.params.get("name")
        if not isinstance(name, str):
            raise JsonRpcError(jsonrpc.INVALID_PARAMS, "name: expected the name of a tool")
        tool = BY_NAME.get(name)
        if tool is None:
            return Reply(plain_error(f"Unknown tool '{name}'"))
        arguments = _checked(tool, call.params.get("arguments"))
        if isinstance(arguments, dict):
            return Reply(cast("JsonObject", arguments))
        try:
            context = await asyncio.shield(self._context)
            return await tool.handler(context, call, arguments)
        except CodexDBError as error:
            return Reply(_failure(error))


def _checked(tool: Tool, given: object) -> object:
    """The arguments as the tool's model, or the result that refuses them."""
    if given is None and not tool.tells_missing_arguments:
        given = cast("object", {})
    if not isinstance(given, dict):
        return tool.refuse(given, None)
    try:
        return tool.arguments.model_validate(given)
    except ValidationError as error:
        return tool.refuse(cast("object", given), error)


def _failure(error: CodexDBError) -> JsonObject:
    """A failure that is not the tool's own: the store is busy, refused or broken."""
    value = {"status": "error", "message": error.message, "kind": error.kind, "retryable": error.retryable}
    return plain_error(error.message) | {"structuredContent": value}


async def _list_tools(call: Call) -> Reply:  # noqa: ARG001 - a handler's signature
    return Reply({"tools": listed()})


def _empty(name: str) -> Handler:
    async def answer(call: Call) -> Reply:  # noqa: ARG001
        return Reply({name: []})

    return answer


async def _set_level(call: Call) -> Reply:
    """Accepted and without effect: this server sends no log messages to its clients."""
    if call.params.get("level") not in LOG_LEVELS:
        raise JsonRpcError(jsonrpc.INVALID_PARAMS, f"level: expected one of {', '.join(sorted(LOG_LEVELS))}")
    return Reply({})
