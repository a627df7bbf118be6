"""How a failed model request reads, and whether the same request may be sent again.

The texts are those that clients of the original server know; the decisions are ours.
"""

import re
from collections.abc import Collection, Mapping
from http import HTTPStatus
from math import ceil

from codexdb.agent.model import RequestFailed
from codexdb.domain.clock import Clock

_AGAIN_STATUSES = frozenset({408, 409, 425, 429, 500, 502, 503, 504, *range(520, 530)})
_FINAL_CODES = frozenset(
    {
        "context_length_exceeded",
        "insufficient_quota",
        "invalid_prompt",
        "usage_limit_reached",
        "usage_not_included",
    }
)
_RATE_CODE = "rate_limit_exceeded"  # its texts count tokens too
_TOO_LONG_CODES = frozenset({"context_length_exceeded", "string_above_max_length"})
_TOO_LONG = re.compile(
    r"context[ _]?(length|window|size)|maximum context|prompt is too long|input is too long|too many (input )?tokens",
    re.IGNORECASE,
)  # what endpoints say that have no code for it
_TOO_LONG_STATUSES = frozenset({400, 413})
_PHRASES = {413: "Payload Too Large", 416: "Range Not Satisfiable", 422: "Unprocessable Entity"}  # vary between Pythons
_SPAN_PART = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)(ms|s|m|h)")
_SPAN = re.compile(rf"(?:{_SPAN_PART.pattern})+")
_UNITS_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000}
_TRY_AGAIN_IN = re.compile(r"try again in (\d+(?:\.\d+)?)\s*(ms|s|seconds?)\b", re.IGNORECASE)


def status_line(status: int) -> str:
    """For instance `500 Internal Server Error`."""
    if status in _PHRASES:
        return f"{status} {_PHRASES[status]}"
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return f"{status} <unknown status code>"


def unexpected_status(status: int, body: str, codes: Collection[object], retry_after_ms: int | None) -> RequestFailed:
    """The endpoint answered with something else than a stream. `codes`: its own names for the error."""
    names = _names(codes)
    again = status in _AGAIN_STATUSES and names.isdisjoint(_FINAL_CODES)
    message = f"unexpected status {status_line(status)}: {body}"
    if status == 429 and not again and retry_after_ms is not None:
        message += f"; try again in {ceil(retry_after_ms / 1_000)} s"
    too_long = status in _TOO_LONG_STATUSES and _says_too_long(names, body)
    return RequestFailed(message, again=again, retry_after_ms=retry_after_ms, status=status, too_long=too_long)


def not_sent(url: str, *, again: bool = True) -> RequestFailed:
    """No answer at all. `url` must be fit to be shown."""
    return RequestFailed(f"error sending request for url ({url})", again=again)


def lost(why: str, *, again: bool = True, retry_after_ms: int | None = None, too_long: bool = False) -> RequestFailed:
    """The stream began and did not come to its end."""
    message = f"stream disconnected before completion: {why}"
    return RequestFailed(message, again=again, retry_after_ms=retry_after_ms, too_long=too_long)


def closed_early() -> RequestFailed:
    """The body ended before the response did; both wires use the sentence of one of them, which clients know."""
    return lost("stream closed before response.completed")


def reported(message: str, *codes: object) -> RequestFailed:
    """The endpoint said within the stream that it failed. Some put an HTTP status where others have a name."""
    names = _names(codes)
    status = next((int(name) for name in names if re.fullmatch(r"[1-5]\d\d", name)), None)
    again = names.isdisjoint(_FINAL_CODES) and (status is None or status in _AGAIN_STATUSES)
    wait = _wait_in_text(message) if again else None
    may_be_long = _RATE_CODE not in names and (status is None or status in _TOO_LONG_STATUSES)
    return lost(message, again=again, retry_after_ms=wait, too_long=may_be_long and _says_too_long(names, message))


def _names(codes: Collection[object]) -> set[str]:
    return {str(code) for code in codes if isinstance(code, int | str)}


def _says_too_long(names: set[str], text: str) -> bool:
    return not names.isdisjoint(_TOO_LONG_CODES) or bool(_TOO_LONG.search(text))


def _wait_in_text(message: str) -> int | None:
    found = _TRY_AGAIN_IN.search(message)
    if found is None:
        return None
    return round(float(found[1]) * (1 if found[2].lower() == "ms" else 1_000))


def asked_wait_ms(headers: Mapping[str, str], clock: Clock) -> int | None:
    """How long the endpoint asks us to wait: `retry-after-ms`, `retry-after` in seconds or as a date, else the later of
    the `x-ratelimit-reset-*` of what is used up. None where nothing says so in a form that can be read.
    """
    if (wait := _number(headers.get("retry-after-ms"))) is not None:
        return round(wait)
    given = headers.get("retry-after")
    if (wait := _number(given)) is not None:
        return round(wait * 1_000)
    wait = _until_date_ms(given, clock) if given else None
    return _until_reset_ms(headers) if wait is None else wait


def _until_date_ms(text: str, clock: Clock) -> int | None:
    from email.utils import parsedate_to_datetime

    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(0, round(date.timestamp() * 1_000) - clock.now_ms())


def _until_reset_ms(headers: Mapping[str, str]) -> int | None:
    waits = [
        wait
        for what in ("requests", "tokens")
        if (wait := _span_ms(headers.get(f"x-ratelimit-reset-{what}"))) is not None
        and headers.get(f"x-ratelimit-remaining-{what}", "0").strip() == "0"
    ]
    return max(waits, default=None)


def _span_ms(text: str | None) -> int | None:
    """`1m30s`, `250ms`, `6.5s`, or plain seconds."""
    if (seconds := _number(text)) is not None:
        return round(seconds * 1_000)
    if text is None or not _SPAN.fullmatch(text.strip()):
        return None
    return round(sum(float(count) * _UNITS_MS[unit] for count, unit in _SPAN_PART.findall(text)))


def _number(text: str | None) -> float | None:
    return float(text) if text is not None and re.fullmatch(r"\s*\d{1,9}(\.\d{1,9})?\s*", text) else None
