"""Owns the first moment: takes the wire away from stdin and stdout, and answers `initialize` before anything is loaded.

Only what loads in a few milliseconds may be imported here; the rest of the program loads after the answer went out.
"""

import json
import os

from codexdb import __version__
from codexdb.domain.limits import LINE_BYTES_MAX, READ_CHUNK_BYTES

TYPE_CHECKING = False  # the constant of `typing`, whose import alone would cost a tenth of the time we have
if TYPE_CHECKING:
    from typing import Any, TypeGuard

VERSIONS = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")
VERSION_NEWEST = VERSIONS[-1]

INSTRUCTIONS = (
    "codexdb runs coding-agent sessions whose whole state is kept in a database, so they outlive this process. "
    "`codex` starts a session and waits for its first answer, `codex-reply` continues one, and `send-user-message` "
    "returns as soon as a message is safely accepted. Sessions can be listed, read, followed and interrupted by id at "
    "any later time, also from another process."
)

_BOM = b"\xef\xbb\xbf"


class InvalidInitializeError(ValueError):
    """A member of `initialize`'s params is missing or of the wrong type; the text names it."""


class Initialized:
    """What was agreed with the client. `elicitation`: it can show its user a form and send back the answer."""

    __slots__ = ("client_capabilities", "client_info", "elicitation", "protocol_version")

    def __init__(
        self, protocol_version: str, client_info: "dict[str, Any]", client_capabilities: "dict[str, Any]"
    ) -> None:
        self.protocol_version = protocol_version
        self.client_info = client_info
        self.client_capabilities = client_capabilities
        self.elicitation = _has_forms(client_capabilities.get("elicitation"))


class Opening:
    """The wire as `open_wire` leaves it. `unread`: bytes already taken from `in_fd`, for the next reader to start with.

    Both descriptors are ours alone: blocking, close-on-exec, and no longer 0 or 1.
    """

    __slots__ = ("in_fd", "initialized", "out_fd", "unread")

    def __init__(self, in_fd: int, out_fd: int, initialized: Initialized | None = None, unread: bytes = b"") -> None:
        self.in_fd = in_fd
        self.out_fd = out_fd
        self.initialized = initialized
        self.unread = unread


def take_stdio() -> tuple[int, int]:
    """Move stdin and stdout to descriptors of our own and return them, in that order.

    From then on fd 0 reads as empty and fd 1 is stderr, for this process and for its children: neither a stray print
    nor a command can read from the wire or write to it.
    """
    for fd in (0, 1, 2):  # one that is closed would be handed out by the next open, and then be taken for the wire
        try:
            os.fstat(fd)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # noqa: FBT003 - takes no keyword
    in_fd, out_fd = os.dup(0), os.dup(1)  # not inheritable, as everything that `os` opens
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)
    for fd in (in_fd, out_fd):  # some parents hand over descriptors in non-blocking mode; our threads want to wait
        os.set_blocking(fd, True)
    return in_fd, out_fd


def open_wire() -> Opening:
    """Take stdio and wait for the first line. If that is a valid `initialize`, its answer is written on return.

    Anything else is left in `unread` as it came, for the full protocol layer: another message, an invalid or unusual
    one, a line beyond the limit, the end of input.
    """
    in_fd, out_fd = take_stdio()
    opening = Opening(in_fd, out_fd)
    received = bytearray()
    end = -1
    while end < 0 and len(received) <= LINE_BYTES_MAX:
        chunk = os.read(in_fd, READ_CHUNK_BYTES)
        if not chunk:
            break
        start = len(received)
        received += chunk
        end = received.find(b"\n", start)
    answer = _answer_line(opening, bytes(received[:end])) if end >= 0 else None
    if answer is not None:
        del received[: end + 1]
        _write(out_fd, answer)
    opening.unread = bytes(received)
    return opening


def answer_initialize(params: "dict[str, Any]") -> "tuple[Initialized, dict[str, Any]]":
    """What is agreed, and the result that says so. A version that we do not know is answered with our newest.

    Raises:
        InvalidInitializeError: where a required member is missing or of the wrong type.
    """
    version = _member(params, "protocolVersion", str, "a string")
    capabilities = _member(params, "capabilities", dict, "an object")
    client = _member(params, "clientInfo", dict, "an object")
    for name in ("name", "version"):
        if not isinstance(client.get(name), str):
            raise InvalidInitializeError(f"initialize: `clientInfo.{name}` must be a string")
    agreed = Initialized(version if version in VERSIONS else VERSION_NEWEST, client, capabilities)
    return agreed, {
        "capabilities": {"tools": {"listChanged": True}},
        "protocolVersion": agreed.protocol_version,
        "serverInfo": {"name": "codexdb", "title": "codexdb", "version": __version__},
        "instructions": INSTRUCTIONS,
    }


def _answer_line(opening: Opening, line: bytes) -> bytes | None:
    """The answer to `line` if it is a valid initialize request, noted in `opening`; else None."""
    if b"\\ud" in line.lower():
        return None  # perhaps half a surrogate pair; only the full layer repairs those
    try:
        message = json.loads(line.removeprefix(_BOM).decode())
        if not _is_object(message) or message.get("method") != "initialize":
            return None
        request_id, params = message.get("id"), message.get("params")
        if type(request_id) not in (str, int) or not _is_object(params):
            return None
        opening.initialized, result = answer_initialize(params)
    except (ValueError, RecursionError):
        return None
    answer = {"id": request_id, "jsonrpc": "2.0", "result": result}
    return json.dumps(answer, separators=(",", ":")).encode() + b"\n"


def _is_object(value: "Any") -> "TypeGuard[dict[str, Any]]":
    return isinstance(value, dict)


def _write(fd: int, data: bytes) -> None:
    try:
        while data:
            data = data[os.write(fd, data) :]
    except OSError:
        pass  # a client that is gone already; whoever reads or writes next finds out, and ends the connection


def _member(params: "dict[str, Any]", name: str, kind: type, article: str) -> "Any":
    value = params.get(name)
    if not isinstance(value, kind):
        raise InvalidInitializeError(f"initialize: `{name}` must be {article}")
    return value


def _has_forms(elicitation: "Any") -> bool:
    """An empty object means forms; since 2025-11-25 a client may list what it shows, and forms need not be among it."""
    return _is_object(elicitation) and (not elicitation or "form" in elicitation)
