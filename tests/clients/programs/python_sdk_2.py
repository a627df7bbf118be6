"""A client made with version 2 of the Python SDK, with nothing but its defaults. Arguments: the server's command."""

import asyncio
import sys
from collections.abc import Callable
from typing import Any

import program
from mcp import Client, StdioServerParameters


class Sdk2:
    """The SDK as `program` wants it."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def list_tools(self) -> list[str]:
        return [tool.name for tool in (await self._client.list_tools()).tools]

    async def call(
        self, name: str, arguments: dict[str, Any], timeout_s: float | None, told: Callable[[float], None]
    ) -> dict[str, Any]:
        async def on_progress(progress: float, total: float | None, message: str | None) -> None:  # noqa: ARG001
            told(progress)

        result = await self._client.call_tool(
            name, arguments, read_timeout_seconds=timeout_s, progress_callback=on_progress
        )
        return result.model_dump(mode="json", by_alias=True, exclude_none=True)


async def _main() -> None:
    async with Client(StdioServerParameters(command=sys.argv[1], args=sys.argv[2:])) as client:
        await program.serve(Sdk2(client))


asyncio.run(_main())
