"""Owns JSON-RPC 2.0 as lines of bytes: what a client's line means, what is wrong with it, and how ours are written."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, cast

from pydantic_core import from_json, to_json

from codexdb.domain.json import JsonObject

PARSE_ERROR: Final = -32700
INVALID_REQUEST: Final = -32600
METHOD_NOT_FOUND: Final = -32601
INVALID_PARAMS: Final = -32602
INTERNAL_ERROR: Final = -32603
SERVER_ERROR: Final = -32000

RECOVERED_BYTES_MAX = 64 * 1024  # of an unreadable line, searched for its id; people put it first or after few params

RequestId = str | int


class JsonRpcError(Exception):
    """An error answer. Raised by a handler it reaches the client as it is, so its text must be fit for that."""

    def __init__(self, code: int, message: str, data: JsonObject | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.data = data


@dataclass(frozen=True, slots=True)
class Request:
    """Wants an answer with this very id: `5` and `"5"` are two ids."""

    id: RequestId
    method: str
    params: JsonObject


@dataclass(frozen=True, slots=True)
class Notification:
    """Never answered."""

    method: str
    params: JsonObject


@dataclass(frozen=True, slots=True)
class Response:
    """The client's answer to a request of ours; `error` is set where it is not a result."""

    id: object
    result: object
    error: object = None


@dataclass(frozen=True, slots=True)
class Fault:
    """A line that is none of these. `id` is what the error answer has to echo; None where no id could be read."""

    id: object
    code: int
    message: str


Message = Request | Notification | Response | Fault


# -- reading -----------------------------------------------------------------------------------------------------------


def decode(line: bytes) -> Message | None:
    """What `line` says; None where it needs no attention (blank, or a notification that makes no sense).

    Bytes that are not UTF-8 and halves of surrogate pairs become U+FFFD; everything returned can be encoded again.
    """
    try:
        value = from_json(line, allow_inf_nan=False)
    except ValueError:
        text = line.decode("utf-8", "replace").removeprefix("\ufeff")
        if not text.strip():
            return None
        try:
            value = scrub(json.loads(text, parse_constant=_refuse))
        except ValueError:
            return Fault(recover_id(line), PARSE_ERROR, "the line is not valid JSON")
        except RecursionError:
            return Fault(recover_id(line), PARSE_ERROR, "the line is nested too deeply")
    return _classify(value)


def scrub(value: object) -> object:
    """`value` with every lone half of a surrogate pair in its texts made U+FFFD; two halves that match become one.

    Models and clients send such halves when they cut a text inside a pair; neither UTF-8 nor SQLite takes them.
    """
    if isinstance(value, str):
        return _scrub_text(value)
    if isinstance(value, dict):
        members = cast("JsonObject", value)
        return {_scrub_text(name): scrub(member) for name, member in members.items()}
    if isinstance(value, list | tuple):
        return [scrub(element) for element in cast("list[object]", value)]
    return value


def recover_id(line: bytes) -> RequestId | None:
    """The id of a request whose line cannot be read as a whole: the value of the outermost object's own `id`."""
    pieces = _pieces(line[:RECOVERED_BYTES_MAX].decode("utf-8", "replace"))
    depth = 0
    before = ""
    for piece in pieces:
        if piece in "{[":
            depth += 1
        elif piece in "}]":
            depth -= 1
        elif depth == 1 and piece == '"id"' and before in "{," and next(pieces, "") == ":":
            return _as_id(next(pieces, ""))
        before = piece
    return None


def _pieces(text: str) -> Iterator[str]:
    import re  # what is needed for broken lines only should not delay the others

    # A string without an end takes all the rest, so that no text is gone through twice.
    for match in re.finditer(r'"(?:[^"\\]|\\.?)*(?:"|$)|[{}\[\]:,]|[^\s{}\[\]:,"]+', text):
        yield match.group()


def _as_id(text: str) -> RequestId | None:
    try:
        value: object = json.loads(text)
    except ValueError:
        return None
    if isinstance(value, str):
        return _scrub_text(value)
    return value if type(value) is int else None


def _refuse(constant: str) -> object:
    raise ValueError(f"{constant} is not JSON")


def _scrub_text(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _classify(value: object) -> Message | None:
    if not isinstance(value, dict):
        what = "batches are not supported" if isinstance(value, list) else "a message must be an object"
        return Fault(None, INVALID_REQUEST, what)
    message = cast("JsonObject", value)
    method = message.get("method")
    if isinstance(method, str):
        params = message.get("params")
        return _classify_call(message, method, {} if params is None else params)
    if "method" not in message and ("result" in message or "error" in message):
        return Response(message.get("id"), message.get("result"), message.get("error"))
    return Fault(_echo(message.get("id")), INVALID_REQUEST, "`method` must be a string")


def _classify_call(message: JsonObject, method: str, params: object) -> Message | None:
    if "id" not in message:
        return Notification(method, cast("JsonObject", params)) if isinstance(params, dict) else None
    request_id = message["id"]
    if type(request_id) is not int and not isinstance(request_id, str):
        return Fault(_echo(request_id), INVALID_REQUEST, "`id` must be a string or an integer")
    if method == "ping":
        return Request(request_id, method, {})  # whatever its params are, it only asks whether we are there
    if not isinstance(params, dict):
        return Fault(request_id, INVALID_PARAMS, "`params` must be an object")
    return Request(request_id, method, cast("JsonObject", params))


def _echo(request_id: object) -> object:
    """An id that we refuse, as far as an answer may carry it: whoever sent it still finds its answer."""
    return request_id if isinstance(request_id, str | int | float) else None


# -- writing -----------------------------------------------------------------------------------------------------------


def result(request_id: RequestId, value: object) -> bytes:
    """The line that answers a request.

    Raises:
        ValueError: this and all other encoders, where a value is not JSON, or nested too deeply.
    """
    return _encode({"id": request_id, "jsonrpc": "2.0", "result": value})


def error(request_id: object, code: int, message: str, data: JsonObject | None = None) -> bytes:
    """The line that refuses a request, or (id None) complains about a line without one."""
    body: JsonObject = {"code": code, "message": message}
    if data is not None:
        body["data"] = data
    return _encode({"error": body, "id": request_id, "jsonrpc": "2.0"})


def notification(method: str, params: object) -> bytes:
    """The line that tells the client something."""
    return _encode({"jsonrpc": "2.0", "method": method, "params": params})


def request(request_id: RequestId, method: str, params: object) -> bytes:
    """The line that asks the client something."""
    return _encode({"id": request_id, "jsonrpc": "2.0", "method": method, "params": params})


def _encode(message: JsonObject) -> bytes:
    try:
        return to_json(message, inf_nan_mode="null") + b"\n"
    except ValueError:
        return _encode_unusual(message)


def _encode_unusual(message: JsonObject) -> bytes:
    """Like `_encode`, for texts with halves of surrogate pairs and for what is nested deeper than pydantic goes."""
    try:
        text = json.dumps(scrub(message), separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    except (TypeError, RecursionError) as error:
        raise ValueError(f"cannot be written as JSON: {type(error).__name__}") from error
    return text.encode() + b"\n"
