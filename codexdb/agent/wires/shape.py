"""Reading foreign JSON: every function takes anything and gives the wanted type, empty where it was something else."""

import json
from typing import Protocol, cast

from codexdb.agent.model import ModelEvent, Usage
from codexdb.domain.json import JsonObject, decode, encode


class Decoder(Protocol):
    """Reads one response. `complete`: the answer is whole; `done`: nothing more is worth waiting for."""

    complete: bool
    done: bool

    def feed(self, event: str, data: str) -> list[ModelEvent]:
        """What one server-sent event adds.

        Raises:
            RequestFailed: the endpoint reports a failure.
        """
        ...

    def end(self) -> list[ModelEvent]:
        """What the end of the body adds; the last of it is `Finished`.

        Raises:
            RequestFailed: the response was not complete.
        """
        ...


def parse(data: str) -> JsonObject:
    """The object of a data line; empty where it is none, so that junk is skipped."""
    try:
        return obj(decode(data))
    except ValueError:
        return _parse_leniently(data)


def _parse_leniently(data: str) -> JsonObject:
    """Endpoints that escape each token by itself cut emoji into lone surrogates, which strict parsers refuse."""
    try:
        text = json.dumps(json.loads(data), ensure_ascii=False)
        return obj(decode(text.encode("utf-8", "replace")))
    except (ValueError, RecursionError):
        return {}


def obj(value: object) -> JsonObject:
    return cast("JsonObject", value) if isinstance(value, dict) else {}


def array(value: object) -> list[object]:
    return cast("list[object]", value) if isinstance(value, list) else []


def string(value: object) -> str:
    return value if isinstance(value, str) else ""


def integer(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def arguments(value: object) -> str:
    """Arguments of a call as text: some endpoints send the object itself."""
    if value is None or isinstance(value, str):
        return value or ""
    return encode(value)


def usage(counts: JsonObject, input_name: str, output_name: str) -> Usage | None:
    """Token counts; `input_name` and `output_name` are what this wire calls them ("input", "prompt", …)."""
    given = integer(counts.get(f"{input_name}_tokens"))
    made = integer(counts.get(f"{output_name}_tokens"))
    if given is None or made is None:
        return None
    cached = integer(obj(counts.get(f"{input_name}_tokens_details")).get("cached_tokens"))
    reasoning = integer(obj(counts.get(f"{output_name}_tokens_details")).get("reasoning_tokens"))
    total = integer(counts.get("total_tokens"))
    return Usage(given, cached, made, reasoning, given + made if total is None else total)
