"""Files of Codex: their lines, in one form, whichever version of Codex wrote them.

Until 2025 the first line is the session's own, and all others are items as the model sees them, without times. Since
then every line has a time, a type and a payload.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple, cast

from codexdb.cli.moving.lines import BadLineError, Fault, lines
from codexdb.domain.json import JsonObject
from codexdb.domain.limits import ROLLOUT_BYTES_MAX

_NO_TIME_MS = 0


class RolloutLine(NamedTuple):
    """A line: `payload` is what is said, `type` about what."""

    number: int
    at_ms: int
    type: str
    payload: JsonObject


@dataclass(frozen=True, slots=True)
class RolloutFile:
    """A file as it was read at one instant."""

    path: Path
    size: int
    digest: str
    meta: JsonObject
    started_at_ms: int
    lines: tuple[RolloutLine, ...]  # without the first
    faults: tuple[Fault, ...]


def read_rollout(path: Path) -> RolloutFile | Fault:
    """The sound lines of a rollout, and what is wrong with the others; a fault where its first line is not sound.

    Blocks. Raises `OSError` where it cannot be read.
    """
    size = path.stat().st_size
    if size > ROLLOUT_BYTES_MAX:
        return Fault(path, 0, f"the file is larger than {ROLLOUT_BYTES_MAX} bytes")
    digest, found, faults = hashlib.sha256(), list[RolloutLine](), list[Fault]()
    read, at_ms = 0, _NO_TIME_MS
    with path.open("rb") as file:
        for line in lines(file):
            try:
                told = _told(line.number, line.read(), at_ms)
                at_ms = told.at_ms
                found.append(told)
            except BadLineError as error:
                faults.append(Fault(path, line.number, str(error)))
                if not found:
                    return Fault(path, line.number, f"{error}; without its first line the session is not imported")
        read = file.tell()
    if not found:
        return Fault(path, 0, "the file is empty")
    if found[0].type != "session_meta":
        return Fault(path, found[0].number, "this is no export of codexdb, and no rollout of Codex")
    digest.update(_bytes(path, read))
    return RolloutFile(
        path, read, digest.hexdigest(), found[0].payload, found[0].at_ms, tuple(found[1:]), tuple(faults)
    )


def digest_of(path: Path) -> Callable[[int], str]:
    """The digests of beginnings of a file."""
    return lambda size: hashlib.sha256(_bytes(path, size)).hexdigest()


def _bytes(path: Path, size: int) -> bytes:
    with path.open("rb") as file:
        return file.read(size)


def _told(number: int, value: JsonObject, before_ms: int) -> RolloutLine:
    """A line in its one form. Where it tells no time, it is that of the line before."""
    at_ms = _time(value.get("timestamp"), before_ms)
    kind, payload = value.get("type"), value.get("payload")
    if isinstance(kind, str) and isinstance(payload, dict):
        return RolloutLine(number, at_ms, kind, cast("JsonObject", payload))
    if value.get("record_type") is not None:
        return RolloutLine(number, at_ms, "state", value)
    if kind is None and "id" in value:
        return RolloutLine(number, at_ms, "session_meta", value)
    if isinstance(kind, str):
        return RolloutLine(number, at_ms, "response_item", value)
    raise BadLineError("a line that says not what it is")


def _time(value: object, otherwise: int) -> int:
    """Milliseconds of an ISO time."""
    if not isinstance(value, str):
        return otherwise
    try:
        found = datetime.fromisoformat(value)
    except ValueError:
        return otherwise
    moment = found if found.tzinfo is not None else found.replace(tzinfo=UTC)
    return max(0, round(moment.timestamp() * 1000))
