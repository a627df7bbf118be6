"""As much of HTTP/1.1 as the scripted model needs: requests out of bytes, answers to bytes."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import cast

from codexdb.domain.clock import SystemClock
from codexdb.testing.model_script import Json, Status

REQUEST_BYTES_MAX = 256 * 1024 * 1024  # a longer one is a fault of the program under test


@dataclass(slots=True)
class ReceivedRequest:
    """One request as it arrived. `headers` have lower-case names; `body` is None where `raw` was not JSON."""

    path: str
    headers: dict[str, str]
    body: Json | None
    raw: bytes
    at_ms: int  # epoch milliseconds
    closed_early: bool = False  # the peer went away before its answer was complete


def take_request(buffer: bytearray) -> ReceivedRequest | None:
    """Cut the first complete request off the buffer."""
    end = buffer.find(b"\r\n\r\n")
    if end < 0:
        return None
    first, *lines = buffer[:end].decode("latin-1").split("\r\n")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    length = int(headers.get("content-length", 0))
    if len(buffer) < end + 4 + length:
        return None
    body = bytes(buffer[end + 4 : end + 4 + length])
    del buffer[: end + 4 + length]
    return ReceivedRequest(first.split(" ")[1], headers, _json(body), body, SystemClock().now_ms())


def _json(body: bytes) -> Json | None:
    try:
        value: object = json.loads(body)
    except ValueError:
        return None
    return cast("Json", value) if isinstance(value, dict) else None


def chunked(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def head(content_type: str) -> bytes:
    return f"HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\ntransfer-encoding: chunked\r\n\r\n".encode("latin-1")


HEAD = head("text/event-stream")
END = b"0\r\n\r\n"


def plain(status: Status) -> bytes:
    body = status.body.encode()
    phrase = HTTPStatus(status.code).phrase if status.code in set(HTTPStatus) else "Unassigned"
    headers: Mapping[str, str] = {"content-type": "text/plain", **status.headers, "content-length": str(len(body))}
    lines = [f"HTTP/1.1 {status.code} {phrase}", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body
