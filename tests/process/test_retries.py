"""Every way in which a request to the model fails: whether it is sent again, after which wait, and what is told.

The waits are those of a manual clock, so that they are measured and take no time.
"""

import email.utils
import json
import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import cast

import pytest

from codexdb.testing.model_script import Drop, Hang, Json, Status, Step, Truncate, say
from codexdb.testing.scripted_model import ScriptedModel
from codexdb.testing.server_process import ServerProcess, StartServer
from tests.process.unreliable import BACKOFF_MS, CAP_MS, RETRIES, WIRES, Turn, Unreliable, assert_backoff

ASKED_CAP_MS = 300_000
SOON_S = 2.0
LOST = "stream disconnected before completion: "

both_wires = pytest.mark.parametrize("wire", WIRES)


def assert_announced(turn: Turn, why: str) -> None:
    """Every wait was told before it, with its true length."""
    assert turn.told("background_event") == [
        f"stream error: {why}; retrying {number}/{RETRIES} in {nap}ms…" for number, nap in enumerate(turn.naps, 1)
    ]


# -- sent again --------------------------------------------------------------------------------------------------------

CUT = say("partial")  # in the middle of its text: nothing of it is complete
PASSING: dict[str, tuple[Step, str]] = {
    "dropped before headers": (Drop("connect"), "error sending request for url ({url})"),
    "dropped after headers": (Drop("headers"), LOST + "Transport error: error decoding response body"),
    "dropped in the answer": (Drop("mid", CUT, 2), LOST + "Transport error: error decoding response body"),
    "ended in the answer": (Truncate(CUT, 2), LOST + "stream closed before response.completed"),
    "408": (Status(408, "b"), "unexpected status 408 Request Timeout: b"),
    "409": (Status(409, "b"), "unexpected status 409 Conflict: b"),
    "425": (Status(425, "b"), "unexpected status 425 Too Early: b"),
    "429": (Status(429, "b"), "unexpected status 429 Too Many Requests: b"),
    "500": (Status(500, "b"), "unexpected status 500 Internal Server Error: b"),
    "502": (Status(502, "b"), "unexpected status 502 Bad Gateway: b"),
    "503": (Status(503, "b"), "unexpected status 503 Service Unavailable: b"),
    "504": (Status(504, "b"), "unexpected status 504 Gateway Timeout: b"),
    **{str(code): (Status(code), f"unexpected status {code} <unknown status code>: ") for code in range(520, 530)},
}


@pytest.mark.parametrize(("step", "why"), PASSING.values(), ids=PASSING)
def test_what_may_pass_is_sent_again_as_it_was_after_longer_and_longer_waits(
    endpoint: Unreliable, step: Step, why: str
) -> None:
    turn = endpoint.turn(step, step, step, say("at last"))
    assert turn.text == "at last"
    assert len(turn.naps) == 3
    assert_backoff(turn.naps)
    assert_announced(turn, why.format(url=endpoint.url))
    assert [request.raw for request in turn.requests] == [turn.requests[0].raw] * 4


def test_an_endpoint_that_nobody_serves_is_tried_until_the_retries_are_used_up(endpoint: Unreliable) -> None:
    with ScriptedModel() as gone:
        url = gone.base_url
    endpoint.configure(base_url=url)
    turn = endpoint.turn()
    refused = f"error sending request for url ({url}/{endpoint.url.rpartition('v1/')[2]})"
    assert turn.told("error") == [refused]
    assert len(turn.naps) == RETRIES
    assert_backoff(turn.naps)
    assert turn.naps[-2:] == [CAP_MS, CAP_MS]
    assert any(nap != BACKOFF_MS * 2**number for number, nap in enumerate(turn.naps[:9])), "many must not come at once"
    assert_announced(turn, refused)


USED_UP: dict[str, tuple[Step, str]] = {
    "status": (Status(503, "b"), "exceeded retry limit, last status: 503 Service Unavailable"),
    "stream": (Truncate(), LOST + "stream closed before response.completed"),
}


@pytest.mark.parametrize(("requests_max", "streams_max"), [(2, 0), (0, 2), (2, 1), (0, 0)])
@pytest.mark.parametrize(("step", "told"), USED_UP.values(), ids=USED_UP)
def test_there_is_one_budget_for_all_failures_the_larger_of_both(
    endpoint: Unreliable, requests_max: int, streams_max: int, step: Step, told: str
) -> None:
    endpoint.configure(request_max_retries=requests_max, stream_max_retries=streams_max)
    allowed = max(requests_max, streams_max)
    other = Truncate() if isinstance(step, Status) else Status(500)
    turn = endpoint.turn(*[other] * allowed, step)
    assert (turn.failed, turn.told("error")) == (True, [told])
    assert (len(turn.requests), len(turn.naps)) == (allowed + 1, allowed)
    assert_backoff(turn.naps)


# -- waits that the endpoint asks for ----------------------------------------------------------------------------------

ASKED: dict[str, tuple[dict[str, str], int | None]] = {
    "seconds": ({"retry-after": "7"}, 7_000),
    "part of a second": ({"retry-after": "1.5"}, 1_500),
    "none": ({"retry-after": "0"}, 0),
    "too long": ({"retry-after": "4000"}, ASKED_CAP_MS),
    "longer than one of ours": ({"retry-after": "61"}, 61_000),
    "milliseconds": ({"retry-after-ms": "1234"}, 1_234),
    "milliseconds first": ({"retry-after-ms": "250", "retry-after": "9"}, 250),
    "a date gone by": ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0),
    "a date far off": ({"retry-after": "Fri, 31 Dec 2099 23:59:59 GMT"}, ASKED_CAP_MS),
    "unreadable": ({"retry-after": "soon"}, None),
    "unreadable, but a reset": ({"retry-after": "soon", "x-ratelimit-reset-tokens": "2s"}, 2_000),
    "reset of requests": ({"x-ratelimit-reset-requests": "1s"}, 1_000),
    "reset in plain seconds": ({"x-ratelimit-reset-requests": "3"}, 3_000),
    "reset of tokens": ({"x-ratelimit-reset-tokens": "250ms"}, 250),
    "reset in parts": ({"x-ratelimit-reset-tokens": "2m3.5s"}, 123_500),
    "reset too far off": ({"x-ratelimit-reset-tokens": "6m0s"}, ASKED_CAP_MS),
    "reset, none remain": ({"x-ratelimit-reset-requests": "4s", "x-ratelimit-remaining-requests": "0"}, 4_000),
    "reset, some remain": ({"x-ratelimit-reset-requests": "4s", "x-ratelimit-remaining-requests": "12"}, None),
    "reset of what is used up": (
        {
            "x-ratelimit-reset-requests": "9s",
            "x-ratelimit-remaining-requests": "12",
            "x-ratelimit-reset-tokens": "2s",
            "x-ratelimit-remaining-tokens": "0",
        },
        2_000,
    ),
    "the later reset": ({"x-ratelimit-reset-requests": "5s", "x-ratelimit-reset-tokens": "6s"}, 6_000),
    "retry-after before resets": ({"retry-after": "1", "x-ratelimit-reset-tokens": "6s"}, 1_000),
}


@pytest.mark.parametrize("code", [429, 503])
@pytest.mark.parametrize(("headers", "wait_ms"), ASKED.values(), ids=ASKED)
def test_a_wait_that_the_endpoint_asks_for_is_kept_to_the_millisecond(
    endpoint: Unreliable, code: int, headers: dict[str, str], wait_ms: int | None
) -> None:
    turn = endpoint.turn(Status(code, "b", headers), say("at last"))
    assert turn.text == "at last"
    assert len(turn.requests) == 2
    if wait_ms is None:
        assert len(turn.naps) == 1
        assert_backoff(turn.naps)
    else:
        assert turn.naps == [wait_ms]
    assert len(turn.told("background_event")) == 1


def test_a_wait_until_a_date_ends_at_that_date(endpoint: Unreliable) -> None:
    until_s = endpoint.now_ms() // 1_000 + 42
    date = email.utils.formatdate(until_s, usegmt=True)
    began_ms = endpoint.now_ms()
    turn = endpoint.turn(Status(429, "", {"retry-after": date}), say("at last"))
    assert turn.naps == [until_s * 1_000 - began_ms]
    assert endpoint.now_ms() == until_s * 1_000


REPORTED = {
    "Please try again in 1.5s.": 1_500,
    "Rate limit reached. Please try again in 350ms. Visit …": 350,
    "Try again in 35 seconds": 35_000,
    "try again in 1 second": 1_000,
    "try again in 4000s": ASKED_CAP_MS,
    "Too many tokens, please try again in 2s": 2_000,
}


@pytest.mark.parametrize(("message", "wait_ms"), REPORTED.items())
def test_a_wait_that_is_asked_for_within_a_stream_is_kept(endpoint: Unreliable, message: str, wait_ms: int) -> None:
    turn = endpoint.turn(endpoint.reports(message, "rate_limit_exceeded"), say("at last"))
    assert turn.text == "at last"
    assert turn.naps == [wait_ms]
    assert_announced(turn, LOST + message)


# -- failures within a stream ------------------------------------------------------------------------------------------

AGAIN_CODES = ["server_error", "rate_limit_exceeded", "never_heard_of", None, "503", "429"]
FINAL_CODES = ["insufficient_quota", "invalid_prompt", "usage_not_included", "usage_limit_reached", "400", "403", "422"]


@pytest.mark.parametrize("code", AGAIN_CODES)
def test_a_failure_that_is_reported_under_an_unknown_code_is_tried_again(
    endpoint: Unreliable, code: str | None
) -> None:
    turn = endpoint.turn(*[endpoint.reports("oops", code)] * 2, say("at last"))
    assert turn.text == "at last"
    assert len(turn.naps) == 2
    assert_backoff(turn.naps)
    assert_announced(turn, LOST + "oops")


@pytest.mark.parametrize(
    ("code", "kind"),
    [*[(code, None) for code in FINAL_CODES], (None, "insufficient_quota"), ("429", "insufficient_quota")],
)
def test_a_failure_that_is_reported_under_a_final_code_ends_the_turn_at_once(
    endpoint: Unreliable, code: str | None, kind: str | None
) -> None:
    turn = endpoint.turn(endpoint.reports("Try again in 1s: no", code, kind))
    assert turn.told("error") == [LOST + "Try again in 1s: no"]
    assert (len(turn.requests), turn.naps) == (1, [])


# -- final statuses ----------------------------------------------------------------------------------------------------


def refused(kind: str, code: str | None = None) -> str:
    return json.dumps({"error": {"message": "no", "type": kind, "code": code}})


FINAL: dict[str, tuple[Status, str]] = {
    "400": (Status(400, "b"), "400 Bad Request: b"),
    "403": (Status(403, "b"), "403 Forbidden: b"),
    "404": (Status(404, "b"), "404 Not Found: b"),
    "405": (Status(405, "b"), "405 Method Not Allowed: b"),
    "413": (Status(413, "b"), "413 Payload Too Large: b"),
    "422": (Status(422, "b"), "422 Unprocessable Entity: b"),
    "asks for a wait": (Status(400, "b", {"retry-after": "1"}), "400 Bad Request: b"),
    **{
        f"{kind}, {code}": (Status(429, refused(kind, code)), f"429 Too Many Requests: {refused(kind, code)}")
        for kind in ("usage_limit_reached", "insufficient_quota")
        for code in (None, kind, "rate_limit_exceeded")
    },
    "says when it resets": (
        Status(429, refused("usage_limit_reached"), {"retry-after": "3600"}),
        f"429 Too Many Requests: {refused('usage_limit_reached')}; try again in 3600 s",
    ),
}


@pytest.mark.parametrize(("step", "told"), FINAL.values(), ids=FINAL)
def test_what_would_fail_again_ends_the_turn_at_once(endpoint: Unreliable, step: Status, told: str) -> None:
    turn = endpoint.turn(step)
    assert (turn.failed, turn.told("error")) == (True, [f"unexpected status {told}"])
    assert (len(turn.requests), turn.naps, turn.told("background_event")) == (1, [], [])


# -- too long ----------------------------------------------------------------------------------------------------------

TOO_LONG: dict[str, Callable[[Unreliable], Step]] = {
    "400 by code": lambda _: Status(400, refused("invalid_request_error", "context_length_exceeded")),
    "400 in words": lambda _: Status(400, "This model's maximum context length is 10 tokens."),
    "413 in words": lambda _: Status(413, "prompt is too long"),
    "within a stream": lambda endpoint: endpoint.reports("no", "context_length_exceeded"),
    "within a stream, in words": lambda endpoint: endpoint.reports("Your input exceeds the context window", "400"),
}


@pytest.mark.parametrize("failure", TOO_LONG.values(), ids=TOO_LONG)
def test_what_is_too_long_is_summarised_once_and_gone_on_with(
    endpoint: Unreliable, failure: Callable[[Unreliable], Step]
) -> None:
    turn = endpoint.turn(failure(endpoint), say("What was said so far."), say("went on"))
    assert (turn.text, turn.naps) == ("went on", [])
    first, summary, again = [cast("Json", request.body) for request in turn.requests]
    assert ["tools" in body for body in (first, summary, again)] == [True, False, True]
    assert "What was said so far." in json.dumps(again)
    assert [item["summary"] for item in turn.of("compaction")] == ["What was said so far."]
    assert len(turn.told("background_event")) == 1


def test_what_is_too_long_although_it_was_summarised_ends_the_turn(endpoint: Unreliable) -> None:
    step = Status(400, refused("x", "context_length_exceeded"))
    turn = endpoint.turn(step, say("Short."), step)
    assert turn.told("error") == [f"unexpected status 400 Bad Request: {step.body}"]
    assert (len(turn.requests), turn.naps) == (3, [])


# -- refused keys ------------------------------------------------------------------------------------------------------

OLD, NEW = "Bearer sk-of-yesterday", "Bearer sk-of-today"
CHANGES: dict[str, tuple[Json, Json]] = {
    "bearer token": (
        {"experimental_bearer_token": OLD.removeprefix("Bearer ")},
        {"experimental_bearer_token": NEW.removeprefix("Bearer ")},
    ),
    "header": ({"http_headers": {"Authorization": OLD}}, {"http_headers": {"Authorization": NEW}}),
}


@pytest.mark.parametrize(("before", "after"), CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("accepted", [True, False])
def test_a_refused_key_is_tried_once_more_when_config_toml_has_another_by_then(
    endpoint: Unreliable, before: Json, after: Json, accepted: bool
) -> None:
    def refuse(_: Json) -> Step:
        endpoint.configure(**after)  # while the server waits for its answer
        return Status(401, "b")

    endpoint.configure(**before)
    turn = endpoint.turn(refuse, say("welcome") if accepted else Status(401, "b"))
    assert [request.headers["authorization"] for request in turn.requests] == [OLD, NEW]
    assert turn.naps == []
    if accepted:
        assert turn.text == "welcome"
    else:
        assert turn.told("error") == ["unexpected status 401 Unauthorized: b"]


def test_a_refused_key_that_is_still_the_same_ends_the_turn_at_once(endpoint: Unreliable) -> None:
    endpoint.configure(experimental_bearer_token="sk-of-yesterday")  # noqa: S106 - of nobody
    turn = endpoint.turn(Status(401, "b"))
    assert turn.told("error") == ["unexpected status 401 Unauthorized: b"]
    assert (len(turn.requests), turn.naps) == (1, [])


# -- waits on record ---------------------------------------------------------------------------------------------------


def test_a_wait_is_on_record_until_the_endpoint_has_answered(endpoint: Unreliable) -> None:
    seen: list[object] = []

    def look(_: Json) -> Step:
        seen.extend([endpoint.now_ms(), *endpoint.rows("SELECT retry_at_ms FROM turns ORDER BY id DESC LIMIT 1")[0]])
        return say("at last")

    endpoint.turn(Status(503, "", {"retry-after": "20"}), look)
    assert seen[0] == seen[1]
    assert endpoint.rows("SELECT count(*) FROM turns WHERE retry_at_ms IS NOT NULL") == [(0,)]
    accounts = "SELECT retries, error FROM model_requests ORDER BY id DESC LIMIT 2"
    assert endpoint.rows(accounts) == [(1, None), (0, "unexpected status 503 Service Unavailable: ")]


@pytest.fixture
def waiting(server: StartServer, model: ScriptedModel, wire: str) -> tuple[ServerProcess, str]:
    """A server with the true clock whose call 1 waits five minutes for a retry, and its session."""
    model.add(Status(429, "", {"retry-after": "300"}), Hang())
    config: Json = {"model_providers": {"scripted": {"request_max_retries": 1}}}
    process = server(wire_api=wire, config=config)
    process.start_tool("codex", {"prompt": "go"}, id=1)
    event = process.wait_event("background_event", 1)
    assert re.search(r"; retrying 1/1 in 300000ms…$", event["msg"]["message"])
    return process, event["_meta"]["conversationId"]


@both_wires
def test_an_interrupt_ends_a_wait_at_once(
    waiting: tuple[ServerProcess, str], model: ScriptedModel, database: Path
) -> None:
    process, session = waiting
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        ((due_ms, began_ms),) = connection.execute("SELECT retry_at_ms, started_at_ms FROM turns").fetchall()
        assert due_ms >= began_ms + ASKED_CAP_MS
        process.call_tool("conversation_interrupt", {"conversation_id": session})
        answer = process.wait_response(1, SOON_S)["result"]["structuredContent"]
        assert answer["kind"] == "interrupted"
        assert connection.execute("SELECT retry_at_ms, state FROM turns").fetchall() == [(None, "interrupted")]
    assert len(model.requests) == 1
