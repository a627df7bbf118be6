"""When a failed model request is tried again, after which wait, and what is said about it."""

import random
from http import HTTPStatus

from codexdb.agent.model import RequestFailed
from codexdb.domain.limits import RETRY_AFTER_MS_MAX, RETRY_WAIT_MS_MAX

BACKOFF_MS = 200  # before the first retry; doubles with each
JITTER = 0.1  # so that many sessions do not come back at the same instant


def delay_ms(failure: RequestFailed, retry: int) -> int:
    """How long to wait before retry number `retry` (from 1): what the server asked for, else exponential backoff."""
    if failure.retry_after_ms is not None:
        return min(failure.retry_after_ms, RETRY_AFTER_MS_MAX)
    spread = random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - spreads load, guards nothing
    return min(int(BACKOFF_MS * 2 ** (retry - 1) * spread), RETRY_WAIT_MS_MAX)


def retrying(failure: RequestFailed, retry: int, retries_max: int, wait_ms: int) -> str:
    """What clients see while we wait."""
    return f"stream error: {failure.message}; retrying {retry}/{retries_max} in {wait_ms}ms…"


def exhausted(failure: RequestFailed) -> str:
    """The message of a turn that ends because of this failure."""
    if not failure.again or failure.status is None:
        return failure.message
    try:
        phrase = f" {HTTPStatus(failure.status).phrase}"
    except ValueError:
        phrase = ""
    return f"exceeded retry limit, last status: {failure.status}{phrase}"
