"""What the two Python client programs share: lines of JSON-RPC on stdin say what to do, its outcome goes to stdout.

`list` answers the tools' names. `call` answers `{"result": …}` or `{"error": its text}` and, in both cases, the numbers
told by progress. `cancel` gives up the call in flight, as a user would. The end of stdin ends the client.
Standard library only: it runs in environments that have nothing but one SDK.
"""

import asyncio
import json
import sys
from collections.abc import Callable
from typing import Any, Protocol


class Client(Protocol):
    """One SDK's client, connected."""

    async def list_tools(self) -> list[str]:
        """The tools' names."""
        ...

    async def call(
        self, name: str, arguments: dict[str, Any], timeout_s: float | None, told: Callable[[float], None]
    ) -> dict[str, Any]:
        """The result as it is on the wire. Raises what the SDK raises."""
        ...


async def serve(client: Client) -> None:
    """Do what stdin says until it ends."""
    call: asyncio.Task[dict[str, Any]] | None = None
    answering: set[asyncio.Task[None]] = set()
    while line := await asyncio.to_thread(sys.stdin.readline):
        request: dict[str, Any] = json.loads(line)
        if request["method"] == "list":
            _answer(request, {"tools": await client.list_tools()})
        elif request["method"] == "cancel" and call is not None:
            call.cancel()
            _answer(request, {})
        else:
            call = asyncio.create_task(_call(client, request["params"]))
            task = asyncio.create_task(_finish(request, call))
            answering.add(task)
            task.add_done_callback(answering.discard)


async def _call(client: Client, params: dict[str, Any]) -> dict[str, Any]:
    progress: list[float] = []
    try:
        result = await client.call(params["name"], params["arguments"], params.get("timeout_s"), progress.append)
    except Exception as error:  # noqa: BLE001 - each SDK has errors of its own
        return {"error": str(error), "progress": progress}
    return {"result": result, "progress": progress}


async def _finish(request: dict[str, Any], call: asyncio.Task[dict[str, Any]]) -> None:
    await asyncio.wait([call])
    _answer(request, {"error": "cancelled"} if call.cancelled() else call.result())


def _answer(request: dict[str, Any], result: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": result}) + "\n")
    sys.stdout.flush()
