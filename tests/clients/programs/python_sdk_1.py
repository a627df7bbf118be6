# pyright: basic, reportAttributeAccessIssue=false, reportCallIssue=false, reportArgumentType=false
# The types at hand are those of version 2, which this file must not be held to.
"""A client made with version 1 of the Python SDK. Arguments: the server's command."""

import asyncio
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import program
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client


class Sdk1:
    """The SDK as `program` wants it."""

    def __init__(self, session: ClientSession) -> None:
        self._session = session

    async def list_tools(self) -> list[str]:
        return [tool.name for tool in (await self._session.list_tools()).tools]

    async def call(
        self, name: str, arguments: dict[str, Any], timeout_s: float | None, told: Callable[[float], None]
    ) -> dict[str, Any]:
        async def on_progress(progress: float, total: float | None, message: str | None) -> None:  # noqa: ARG001
            told(progress)

        timeout = None if timeout_s is None else timedelta(seconds=timeout_s)
        result = await self._session.call_tool(name, arguments, timeout, on_progress)
        return result.model_dump(mode="json", by_alias=True, exclude_none=True)


async def _main() -> None:
    parameters = StdioServerParameters(command=sys.argv[1], args=sys.argv[2:])
    async with stdio_client(parameters) as (read, write), ClientSession(read, write) as session:
        await session.initialize()
        await program.serve(Sdk1(session))


asyncio.run(_main())
