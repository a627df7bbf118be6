"""A client program of somebody else's making, and what a test asks of it."""

from pathlib import Path
from typing import Any, Self

from recording import Line, Recording

from codexdb.testing.server_process import Message, RequestId, ServerProcess

CALL_TIMEOUT_S = 20


class ForeignClient:
    """One running client program on a server of its own. Leaving the `with` block ends both."""

    def __init__(self, command: list[str], folder: Path, home: Path) -> None:
        self._recording = Recording(folder, home)
        self._program = ServerProcess(home, argv=[*command, *self._recording.command])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._program.close()

    def list_tools(self) -> list[str]:
        return self.wait(self._program.request("list"))["tools"]

    def call(self, name: str, arguments: Message) -> Message:
        """Call a tool and return `{"result", "progress"}`."""
        outcome = self.wait(self.start(name, arguments))
        assert "error" not in outcome, outcome
        return outcome

    def start(self, name: str, arguments: Message, **options: Any) -> RequestId:
        """Call a tool without waiting. Options: `timeout_s`, `reset_timeout_on_progress`."""
        return self._program.request("call", {"name": name, "arguments": arguments, **options})

    def give_up(self) -> None:
        """Cancel the call in flight, as a user would."""
        self.wait(self._program.request("cancel"))

    def wait(self, request_id: RequestId) -> Message:
        """The outcome of what was started."""
        result: Message = self._program.wait_response(request_id, CALL_TIMEOUT_S)["result"]
        return result

    def finish(self) -> list[Line]:
        """End the program and return what was said between it and its server, which is gone as well."""
        self._program.close()
        return self._recording.finished()
