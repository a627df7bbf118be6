"""How a failed model request reads, and whether the same request may be sent again.

The texts are those that clients of the original server know; the decisions are ours.
"""

import re
from http import HTTPStatus

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
_PHRASES = {413: "Payload Too Large", 416: "Range Not Satisfiable", 422: "Unprocessable Entity"}  # vary between Pythons
_TRY_AGAIN_IN = re.compile(r"try again in (\d+(?:\.\d+)?)\s*(ms|s|seconds?)\b", re.IGNORECASE)


def status_line(status: int) -> str:
    """For instance `500 Internal Server Error`."""
    if status in _PHRASES:
        return f"{status} {_PHRASES[status]}"
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return f"{status} <unknown status code>"


def unexpected_status(status: int, body: str, code: str | None, retry_after_ms: int | None) -> RequestFailed:
    """The endpoint answered with something else than a stream. `code`: its own name for the error."""
    again = status in _AGAIN_STATUSES and code not in _FINAL_CODES
    message = f"unexpected status {status_line(status)}: {body}"
    return RequestFailed(message, again=again, retry_after_ms=retry_after_ms, status=status)


def not_sent(url: str, *, again: bool = True) -> RequestFailed:
    """No answer at all. `url` must be fit to be shown."""
    return RequestFailed(f"error sending request for url ({url})", again=again)


def lost(why: str, *, again: bool = True, retry_after_ms: int | None = None) -> RequestFailed:
    """The stream began and did not come to its end."""
    return RequestFailed(f"stream disconnected before completion: {why}", again=again, retry_after_ms=retry_after_ms)


def closed_early() -> RequestFailed:
    """The body ended before the response did; both wires use the sentence of one of them, which clients know."""
    return lost("stream closed before response.completed")


def reported(message: str, code: object) -> RequestFailed:
    """The endpoint said within the stream that it failed. Some put an HTTP status where others have a name."""
    status = int(code) if isinstance(code, int | str) and re.fullmatch(r"[1-5]\d\d", str(code)) else None
    again = str(code) not in _FINAL_CODES if status is None else status in _AGAIN_STATUSES
    return lost(message, again=again, retry_after_ms=_wait_in_text(message) if again else None)


def _wait_in_text(message: str) -> int | None:
    found = _TRY_AGAIN_IN.search(message)
    if found is None:
        return None
    return round(float(found[1]) * (1 if found[2].lower() == "ms" else 1_000))


def retry_after_ms(milliseconds: str | None, seconds_or_date: str | None, clock: Clock) -> int | None:
    """What the headers `retry-after-ms` and `retry-after` ask for; None where they say nothing that can be read."""
    if (wait := _number(milliseconds)) is not None:
        return round(wait)
    if (wait := _number(seconds_or_date)) is not None:
        return round(wait * 1_000)
    from email.utils import parsedate_to_datetime

    try:
        date = parsedate_to_datetime(seconds_or_date or "")
    except ValueError:
        return None
    return max(0, round(date.timestamp() * 1_000) - clock.now_ms())


def _number(text: str | None) -> float | None:
    return float(text) if text is not None and re.fullmatch(r"\s*\d{1,9}(\.\d{1,9})?\s*", text) else None
