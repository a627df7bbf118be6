"""A real server process, driven the way a client drives it: lines in, lines out, and a bound on every wait.

It knows JSON-RPC and the names of Codex's notifications and nothing of how the server works, so it can drive any server
that speaks the same wire. Standard library only, because the demo starts it before anything is loaded.
"""

import contextlib
import json
import os
import selectors
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, cast

Message = dict[str, Any]
"""Decoded JSON as the other side wrote it: whoever reads it says what it should be."""

RequestId = int | str

TIMEOUT_S = 20.0  # of one wait; a loaded two-core machine needs some of it, a healthy one none
CLOSE_GRACE_S = 3.0  # the server promises to be gone 1.5 s after the end of its input
TAIL_LINES = 20  # of the conversation, in an error message
TAIL_CHARS = 2_000  # of one line or of stderr, in an error message

# Commands need these; everything else of our own environment would make runs differ from machine to machine.
ENVIRONMENT_KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "PYTHONPATH", "VIRTUAL_ENV")

_DEFAULT_ARGV = (sys.executable, "-m", "codexdb", "serve")
_INITIALIZE_ID = 0


class ServerProcessError(Exception):
    """The server did not do in time what was waited for, or is gone. Shows the last lines and stderr."""


class ServerProcess:
    """One running server. Starting it is constructing it; leaving the `with` block ends it, whatever happened inside.

    Waits look at everything received since the start, so nothing is missed and order does not matter; where a test
    needs "after this point", it passes `after=len(server.messages)`. All timeouts are in seconds and raise
    `ServerProcessError`. Methods may be called from several threads.
    """

    def __init__(
        self,
        home: Path,
        *args: str,
        argv: Sequence[str] = _DEFAULT_ARGV,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        """Start `argv + args` with `CODEX_HOME=home` in `cwd` (default: `home`); `env` joins a clean environment."""
        environment = {key: os.environ[key] for key in ENVIRONMENT_KEPT if key in os.environ}
        environment |= {"CODEX_HOME": str(home), **(env or {})}
        self._process = subprocess.Popen(  # noqa: S603 - the caller names the program
            [*argv, *args],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=cwd or home,
            env=environment,
            start_new_session=True,  # an interrupt typed at the terminal is for the driver alone
        )
        self._changed = threading.Condition()
        self._sending = threading.Lock()
        self._lines: list[tuple[str, str]] = []
        self._messages: list[Message] = []
        self._stderr: list[str] = []
        self._ended = False
        self._sent_after: dict[tuple[type, RequestId], int] = {}
        self._next_id = _INITIALIZE_ID + 1
        stdin, stdout, stderr = self._process.stdin, self._process.stdout, self._process.stderr
        if stdin is None or stdout is None or stderr is None:
            raise AssertionError("all three were asked for")
        self._stdin = stdin
        os.set_blocking(stdin.fileno(), False)
        self._readers = (
            threading.Thread(target=self._read_stdout, args=(stdout,), daemon=True),
            threading.Thread(target=self._read_stderr, args=(stderr,), daemon=True),
        )
        for reader in self._readers:
            reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    # -- what was said -----------------------------------------------------------------------------------------------

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """Exit code, negative for a signal, None while it runs."""
        return self._process.poll()

    @property
    def messages(self) -> list[Message]:
        """Everything received so far, in order: a copy."""
        with self._changed:
            return list(self._messages)

    @property
    def lines(self) -> list[tuple[str, str]]:
        """Every line so far as `("in" | "out", text)`; "in" is what the server was sent."""
        with self._changed:
            return list(self._lines)

    @property
    def stderr(self) -> str:
        with self._changed:
            return "".join(self._stderr)

    def events(self, request_id: RequestId | None = None, *, transient: bool = True) -> list[Message]:
        """`params` of every `codex/event` so far, of one request if given; without deltas if not `transient`."""
        return [
            message["params"]
            for message in self.messages
            if message.get("method") == "codex/event"
            and (request_id is None or _same_id(message["params"]["_meta"].get("requestId"), request_id))
            and (transient or not message["params"]["_meta"].get("transient"))
        ]

    # -- sending -----------------------------------------------------------------------------------------------------

    def initialize(
        self, *, elicitation: bool = True, protocol_version: str = "2025-11-25", timeout: float = TIMEOUT_S
    ) -> Message:
        """Do the handshake and return the server's result."""
        params: Message = {
            "protocolVersion": protocol_version,
            "capabilities": {"elicitation": {}} if elicitation else {},
            "clientInfo": {"name": "codexdb-driver", "version": "1"},
        }
        response = self.wait_response(self.request("initialize", params, id=_INITIALIZE_ID), timeout)
        self.notify("notifications/initialized")
        result: Message = response["result"]
        return result

    def request(self, method: str, params: object = None, id: RequestId | None = None) -> RequestId:  # noqa: A002
        """Send a request and return its id at once: the given one, or the next free integer."""
        with self._changed:
            while (int, self._next_id) in self._sent_after:
                self._next_id += 1
            if id is None:
                id = self._next_id  # noqa: A001
            self._sent_after[type(id), id] = len(self._messages)
        message: Message = {"jsonrpc": "2.0", "id": id, "method": method}
        self._send(message if params is None else {**message, "params": params})
        return id

    def notify(self, method: str, params: object = None) -> None:
        message: Message = {"jsonrpc": "2.0", "method": method}
        self._send(message if params is None else {**message, "params": params})

    def respond(self, id: RequestId, result: object) -> None:  # noqa: A002
        """Answer a request of the server."""
        self._send({"jsonrpc": "2.0", "id": id, "result": result})

    def start_tool(
        self,
        name: str,
        arguments: object = None,
        id: RequestId | None = None,  # noqa: A002
        meta: Message | None = None,
    ) -> RequestId:
        """Send a `tools/call` without waiting for its end. `arguments=None` leaves them out."""
        params: Message = {"name": name}
        if arguments is not None:
            params["arguments"] = arguments
        if meta is not None:
            params["_meta"] = meta
        return self.request("tools/call", params, id)

    def call_tool(
        self,
        name: str,
        arguments: object = None,
        id: RequestId | None = None,  # noqa: A002
        meta: Message | None = None,
        timeout: float = TIMEOUT_S,
    ) -> Message:
        """Call a tool and return its result.

        Raises:
            ServerProcessError: also when the answer is a JSON-RPC error.
        """
        response = self.wait_response(self.start_tool(name, arguments, id, meta), timeout)
        if "result" not in response:
            raise ServerProcessError(self._explain(f"{name} was answered with an error: {response.get('error')}"))
        result: Message = response["result"]
        return result

    def send_raw(self, data: bytes, timeout: float = TIMEOUT_S) -> None:
        """Write bytes to the server's input as they are.

        Raises:
            ServerProcessError: the server has closed its input, or does not read it.
        """
        deadline = time.monotonic() + timeout
        with self._sending, selectors.DefaultSelector() as selector:
            with self._changed:
                self._lines.append(("in", data.decode("utf-8", "backslashreplace").rstrip("\n")))
            selector.register(self._stdin, selectors.EVENT_WRITE)
            view = memoryview(data)
            while view:
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise ServerProcessError(self._explain(f"the server does not read its input ({timeout} s)"))
                try:
                    view = view[os.write(self._stdin.fileno(), view) :]
                except BlockingIOError:
                    continue
                except BrokenPipeError:
                    raise ServerProcessError(self._explain("the server has closed its input")) from None

    def close_stdin(self) -> None:
        """End the server's input. Doing it twice is fine."""
        with self._sending:
            self._stdin.close()

    # -- waiting -----------------------------------------------------------------------------------------------------

    def wait_response(self, id: RequestId, timeout: float = TIMEOUT_S) -> Message:  # noqa: A002
        """The answer, result or error, to the latest request sent under this id (`5` and `"5"` are two ids)."""
        with self._changed:
            after = self._sent_after.get((type(id), id), 0)
        return self.wait_message(
            lambda message: "method" not in message and _same_id(message.get("id"), id),
            f"an answer to {id!r}",
            timeout,
            after=after,
        )

    def wait_event(
        self,
        kind: str,
        request_id: RequestId | None = None,
        *,
        event_id: str | None = None,
        after: int = 0,
        timeout: float = TIMEOUT_S,
    ) -> Message:
        """`params` of the first such `codex/event`: of that request, with that `id`, from message `after` on."""

        def wanted(message: Message) -> bool:
            if message.get("method") != "codex/event":
                return False
            params: Message = message["params"]
            return (
                params["msg"]["type"] == kind
                and (request_id is None or _same_id(params["_meta"].get("requestId"), request_id))
                and (event_id is None or params["id"] == event_id)
            )

        what = f"event {kind} of {request_id or event_id or 'any call'}"
        params: Message = self.wait_message(wanted, what, timeout, after=after)["params"]
        return params

    def wait_request(self, method: str, *, after: int = 0, timeout: float = TIMEOUT_S) -> Message:
        """The first request that the server made of us, whole; `respond` answers it."""

        def wanted(message: Message) -> bool:
            return message.get("method") == method and "id" in message

        return self.wait_message(wanted, f"request {method}", timeout, after=after)

    def wait_message(
        self, wanted: Callable[[Message], bool], what: str, timeout: float = TIMEOUT_S, *, after: int = 0
    ) -> Message:
        """The first message from number `after` on that is `wanted`; `what` names it in the error."""
        deadline = time.monotonic() + timeout
        with self._changed:
            while True:
                for message in self._messages[after:]:
                    if wanted(message):
                        return message
                after = max(after, len(self._messages))
                remaining = deadline - time.monotonic()
                if self._ended or remaining <= 0:
                    break
                self._changed.wait(remaining)
            reason = "the server closed its output" if self._ended else f"nothing came within {timeout} s"
        raise ServerProcessError(self._explain(f"waited for {what}, but {reason}"))

    def wait_exit(self, timeout: float = TIMEOUT_S) -> int:
        """The exit code (negative: the signal that killed it); all its output has been read by then."""
        try:
            code = self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise ServerProcessError(self._explain(f"the server still runs after {timeout} s")) from None
        for reader in self._readers:  # a surviving child may hold the pipes open, so this has a bound too
            reader.join(CLOSE_GRACE_S)
        return code

    # -- ending ------------------------------------------------------------------------------------------------------

    def signal(self, number: int) -> None:
        """Send a signal to the server alone. Nothing happens if it is gone."""
        self._process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL the server alone and wait until it is gone; what it started is left to itself."""
        self._process.kill()
        self._process.wait()
        for reader in self._readers:
            reader.join(CLOSE_GRACE_S)

    def close(self) -> None:
        """End the input, wait a moment, then kill. After it no server is left and the pipes are closed."""
        self.close_stdin()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(CLOSE_GRACE_S)
        self.kill()

    # -- inside ------------------------------------------------------------------------------------------------------

    def _send(self, message: Message) -> None:
        self.send_raw(json.dumps(message, separators=(",", ":")).encode() + b"\n")

    def _read_stdout(self, stdout: IO[bytes]) -> None:
        with stdout:
            for line in stdout:
                text = line.decode("utf-8", "backslashreplace").rstrip("\n")
                message: Any = None  # what is no JSON is kept among the lines, where a test of the framing finds it
                with contextlib.suppress(ValueError):
                    message = json.loads(text)
                with self._changed:
                    self._lines.append(("out", text))
                    if isinstance(message, dict):
                        self._messages.append(cast("Message", message))
                    self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _read_stderr(self, stderr: IO[bytes]) -> None:
        with stderr:
            for line in stderr:
                with self._changed:
                    self._stderr.append(line.decode("utf-8", "backslashreplace"))

    def _explain(self, problem: str) -> str:
        tail = [f"{'->' if way == 'in' else '<-'} {text[:TAIL_CHARS]}" for way, text in self.lines[-TAIL_LINES:]]
        said = [f"exit code: {self.returncode}", "last lines (-> to the server, <- from it):", *tail]
        return "\n".join([problem, *said, "stderr:", self.stderr[-TAIL_CHARS:]])


StartServer = Callable[..., ServerProcess]
"""What the tests' `server` fixture is."""


def write_config(home: Path, base_url: str, wire_api: str, **top_level: object) -> Path:
    """Write `home/config.toml` for a scripted endpoint and return its path; `top_level` keys win over the defaults.

    The defaults let every command run without asking, and fail at the first error of the model. Tables are given as
    mappings; `model_providers={"scripted": {…}}` adds to the provider's own table.
    """
    provider: Message = {"name": "scripted", "base_url": base_url, "wire_api": wire_api}
    provider |= {"request_max_retries": 0, "stream_max_retries": 0}
    config: Message = {
        "model": "scripted-model",
        "model_provider": "scripted",
        "approval_policy": "never",
        "sandbox_mode": "danger-full-access",
        "model_providers": {},
    }
    config |= top_level
    config["model_providers"] = {
        **config["model_providers"],
        "scripted": {**provider, **config["model_providers"].get("scripted", {})},
    }
    path = home / "config.toml"
    path.write_text("\n".join(_toml_lines(config)) + "\n", encoding="utf-8")
    return path


def _toml_lines(table: Mapping[str, Any], name: str = "") -> list[str]:
    lines = [f"[{name}]"] if name else []
    lines += [f"{_toml(key)} = {_toml(value)}" for key, value in table.items() if not isinstance(value, Mapping)]
    for key, value in table.items():
        if isinstance(value, Mapping):
            lines += _toml_lines(cast("Message", value), f"{name}.{_toml(key)}" if name else _toml(key))
    return lines


def _toml(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)  # JSON's strings, numbers, booleans and arrays are TOML's


def _same_id(one: object, other: object) -> bool:
    return type(one) is type(other) and one == other
