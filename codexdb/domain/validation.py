"""Why foreign data was refused, in the words that clients of the original server know.

Tool arguments and configuration share it. It owns wording and nothing else: the models live where their data arrives.
Enum fields of a strict model need `Field(strict=False)`, else pydantic asks for enum members where texts arrive.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import cast

from pydantic import ValidationError
from pydantic_core import ErrorDetails

Path = tuple[str | int, ...]

QUOTED_CHARS_MAX = 1_000  # of a refused text that is quoted back; what it was is clear from its beginning

_EXPECTED = {
    "string_type": "a string",
    "bool_type": "a boolean",
    "bool_parsing": "a boolean",
    "int_type": "an integer",
    "int_parsing": "an integer",
    "int_from_float": "an integer",
    "float_type": "a number",
    "float_parsing": "a number",
    "dict_type": "a map",
    "mapping_type": "a map",
    "model_type": "a map",
    "model_attributes_type": "a map",
    "list_type": "a sequence",
    "tuple_type": "a sequence",
    "set_type": "a sequence",
}
_BOUNDS = {
    "greater_than_equal": "a number of at least {ge}",
    "greater_than": "a number above {gt}",
    "less_than_equal": "a number of at most {le}",
    "less_than": "a number below {lt}",
    "string_too_short": "a length of at least {min_length}",
    "string_too_long": "a length of at most {max_length}",
    "too_short": "a length of at least {min_length}",
    "too_long": "a length of at most {max_length}",
}
_VARIANT = re.compile(r"'([^']*)'")
_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t", "\0": "\\0"}


def explain(error: ValidationError, *, quote: bool = True) -> str:
    """One sentence fragment about the first problem, such as ``missing field `prompt` ``.

    With `quote=False` it holds nothing of the refused value, for places where that may be a secret.
    """
    problem = first_problem(error)
    match problem["type"]:
        case "missing":
            return f"missing field `{problem['loc'][-1]}`"
        case "union_tag_not_found":
            return f"missing field `{_discriminator(problem)}`"
        case "extra_forbidden":
            return f"unknown field `{problem['loc'][-1]}`"
        case "value_error":
            return str(problem.get("ctx", {})["error"])
        case _:
            return _refused_value(problem, quote=quote)


def _refused_value(problem: ErrorDetails, *, quote: bool) -> str:
    kind, found, context = problem["type"], problem["input"], problem.get("ctx", {})
    name = _name(found, quote=quote)
    if kind == "union_tag_invalid":
        return unknown_variant(context["tag"], _VARIANT.findall(context["expected_tags"]), quote=quote)
    if kind in {"enum", "literal_error"}:
        if isinstance(found, str):
            return unknown_variant(found, _VARIANT.findall(context["expected"]), quote=quote)
        return f"invalid type: {name}, expected string or map"
    if kind in _EXPECTED:
        return f"invalid type: {name}, expected {_EXPECTED[kind]}"
    if kind in _BOUNDS:
        return f"invalid value: {name}, expected {_BOUNDS[kind].format(**context)}"
    return f"invalid value: {name}. {problem['msg']}"


def location(error: ValidationError, data: object = None) -> str:
    """The dotted path of the field that `explain` speaks of, such as `content[0].text`; empty for the whole.

    Pydantic's own path also names the member of a union that it tried. For models with unions pass `data`, the value
    that was validated: only there can such a name be told from a field.
    """
    problem = first_problem(error)
    path = problem["loc"]
    if data is not None:
        path = _fields_only(path, data, missing=problem["type"] == "missing")
    if problem["type"].startswith("union_tag_"):
        path = (*path, _discriminator(problem))
    return dotted(path)


def first_problem(error: ValidationError) -> ErrorDetails:
    """The problem to report: a missing field only once everything that its object does hold is sound."""
    problems = error.errors(include_url=False)
    chosen = problems[0]
    while chosen["type"] == "missing":
        parent = chosen["loc"][:-1]
        earlier = next((p for p in problems if p["loc"][: len(parent)] == parent and not _missing_in(p, parent)), None)
        if earlier is None:
            break
        chosen = earlier
    return chosen


def unknown_variant(found: str, expected: Sequence[str], *, quote: bool = True) -> str:
    """The refusal of a text that is none of the `expected` ones."""
    head = f"unknown variant `{_cut(found)}`" if quote else "unknown variant"
    names = [f"`{name}`" for name in expected]
    if len(names) > 2:
        return f"{head}, expected one of {', '.join(names)}"
    return f"{head}, expected {' or '.join(names)}"


def dotted(path: Iterable[str | int]) -> str:
    """`("content", 0, "text")` as `content[0].text`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{_cut(part)}" for part in path)
    return text.removeprefix(".")


def _missing_in(problem: ErrorDetails, parent: Path) -> bool:
    return problem["type"] == "missing" and problem["loc"][:-1] == parent


def _discriminator(problem: ErrorDetails) -> str:
    names = _VARIANT.findall(problem.get("ctx", {})["discriminator"])
    return names[0] if names else "type"


def _fields_only(path: Path, data: object, *, missing: bool) -> Path:
    fields: list[str | int] = []
    here = data
    for depth, part in enumerate(path):
        below = _child(here, part)
        if below is not None:
            fields.append(part)
            here = below[0]
        elif missing and depth == len(path) - 1:
            fields.append(part)
    return tuple(fields)


def _child(value: object, part: str | int) -> tuple[object] | None:
    """What lies at `part` of `value`, in a tuple because it may be None."""
    if isinstance(value, Mapping):
        table = cast("Mapping[object, object]", value)
        return (table[part],) if part in table else None
    if isinstance(value, list) and isinstance(part, int):
        items = cast("list[object]", value)
        return (items[part],) if part < len(items) else None
    return None


def _name(value: object, *, quote: bool) -> str:  # noqa: PLR0911 one line for each type of JSON
    match value:
        case None:
            return "null"
        case dict():
            return "map"
        case list() | tuple():
            return "sequence"
        case bool():
            return f"boolean `{str(value).lower()}`" if quote else "boolean"
        case int():
            return f"integer `{value}`" if quote else "integer"
        case float():
            return f"floating point `{_number(value)}`" if quote else "floating point"
        case str():
            return f"string {_quoted(value)}" if quote else "string"
        case _:
            return type(value).__name__


def _number(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    return repr(value)


def _quoted(text: str) -> str:
    """The text as the original shows it: escaped, so that the sentence stays one line of valid Unicode."""
    escaped = (_ESCAPES.get(c) or (c if c.isprintable() else f"\\u{{{ord(c):x}}}") for c in _cut(text))
    return f'"{"".join(escaped)}"'


def _cut(text: str) -> str:
    """Its beginning, as valid Unicode."""
    short = text if len(text) <= QUOTED_CHARS_MAX else text[:QUOTED_CHARS_MAX] + "…"
    return short.encode(errors="replace").decode()
