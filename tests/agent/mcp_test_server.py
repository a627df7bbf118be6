"""An MCP server made with the SDK. Each of its tools shows one thing that servers do.

`--junk` has it print before it begins, `--tools N` adds as many tools.
"""

import base64
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import mcp_types as types
from mcp.server.lowlevel.server import Server
from mcp.server.stdio import stdio_server

PNG = base64.b64encode(
    base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==")
).decode()
LONG = "l" * 70
ODD: dict[str, Any] = {
    "type": "object",
    "properties": {"value": {"anyOf": [{"type": "string"}, {"type": ["integer", "null"]}]}, "any": {}},
    "required": ["value"],
    "x-extra": [1, {"deep": None}],
}
WIRE = 99  # stdout once more: the SDK keeps stray output off its own; so prints a server without it
cancelled = anyio.Event()

Arguments = dict[str, Any]
Result = types.CallToolResult


def text(value: str, *, is_error: bool = False) -> Result:
    return Result(content=[types.TextContent(type="text", text=value)], is_error=is_error)


async def echo(arguments: Arguments) -> Result:
    return text(repr(sorted(arguments.items())))


async def parts(_arguments: Arguments) -> Result:
    resource = types.TextResourceContents(uri="file:///a", text="from a resource")
    blob = types.BlobResourceContents(uri="file:///b", mime_type="x/y", blob="AA==")
    return Result(
        content=[
            types.TextContent(type="text", text="one"),
            types.ImageContent(type="image", data=PNG, mime_type="image/png"),
            types.ImageContent(type="image", data="AAAA", mime_type="image/tiff"),
            types.AudioContent(type="audio", data="AAAA", mime_type="audio/wav"),
            types.EmbeddedResource(type="resource", resource=resource),
            types.EmbeddedResource(type="resource", resource=blob),
            types.ResourceLink(type="resource_link", uri="file:///c", name="c"),
            types.TextContent(type="text", text="two"),
        ]
    )


async def structured(_arguments: Arguments) -> Result:
    image = types.ImageContent(type="image", data=PNG, mime_type="image/png")
    words = types.TextContent(type="text", text="in words")
    return Result(content=[words, image], structured_content={"n": [1, None, "ä"]})


async def wrong(_arguments: Arguments) -> Result:
    return text("no such table", is_error=True)


async def raises(_arguments: Arguments) -> Result:
    raise ValueError(f"broken, and the key is {os.environ.get('SERVER_KEY')}")


async def hang(_arguments: Arguments) -> Result:
    try:
        await anyio.sleep_forever()
    finally:
        cancelled.set()
    raise AssertionError


async def was_cancelled(_arguments: Arguments) -> Result:
    await cancelled.wait()
    return text("yes")


async def die(_arguments: Arguments) -> Result:
    os._exit(3)


async def pid(_arguments: Arguments) -> Result:
    return text(str(os.getpid()))


async def spawn(_arguments: Arguments) -> Result:
    return text(str(subprocess.Popen(["sleep", "600"], stdout=WIRE).pid))  # noqa: ASYNC220


async def environment(_arguments: Arguments) -> Result:
    return Result(content=[], structured_content={**os.environ, "cwd": os.getcwd()})  # noqa: PTH109


async def junk(_arguments: Arguments) -> Result:
    os.write(WIRE, b'print\n\n{"half": \n[1]\n{"jsonrpc":"2.0","id":"none","result":{}}\n\xff\xfe\n')
    return text("after the junk")


async def huge(_arguments: Arguments) -> Result:
    return text("x" * 300_000)


async def endless(_arguments: Arguments) -> Result:
    def flood() -> None:
        while True:
            os.write(WIRE, b"x" * 65_536)

    await anyio.to_thread.run_sync(flood)
    raise AssertionError


async def sample(_arguments: Arguments) -> Result:
    """What a server may ask of its client is refused, not left unanswered."""
    os.write(WIRE, b'{"jsonrpc":"2.0","id":"s1","method":"roots/list"}\n')
    return text("asked")


TOOLS: dict[str, Callable[[Arguments], Awaitable[Result]]] = {
    each.__name__: each
    for each in (
        *(echo, parts, structured, wrong, raises, hang, was_cancelled, die, pid, spawn, environment, junk, huge),
        *(endless, sample),
    )
}


def described(name: str) -> types.Tool:
    schema = ODD if name == "echo" else {"type": "object"}
    annotations = types.ToolAnnotations(read_only_hint=True) if name == "echo" else None
    return types.Tool(name=name, description=f"Does {name}.", input_schema=schema, annotations=annotations)


async def list_tools(_context: Any, params: types.PaginatedRequestParams | None) -> types.ListToolsResult:
    if params is None or params.cursor is None:
        return types.ListToolsResult(tools=[described(name) for name in TOOLS], next_cursor="more")
    more = [LONG, "with space", *(f"extra{n}" for n in range(int(option("--tools") or 0)))]
    return types.ListToolsResult(tools=[described(name) for name in more])


async def call_tool(_context: Any, params: types.CallToolRequestParams) -> Result:
    return await TOOLS.get(params.name, echo)(params.arguments or {})


def option(name: str) -> str | None:
    return sys.argv[sys.argv.index(name) + 1] if name in sys.argv else None


async def main() -> None:
    os.dup2(1, WIRE)
    if "--junk" in sys.argv:
        os.write(WIRE, b"Starting up ...\n{}\n\n" + b"x" * 200_000 + b"\n")
    server: Server[Any] = Server("test", on_list_tools=list_tools, on_call_tool=call_tool)
    async with stdio_server() as (read, write):
        await server.run(read, write, server.create_initialization_options())


if __name__ == "__main__":
    anyio.run(main)
