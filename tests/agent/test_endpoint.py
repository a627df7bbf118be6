"""The model client against a real server on loopback."""

import asyncio
import json
import logging
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import cast

import anyio
import pytest

from codexdb.agent import endpoint
from codexdb.agent.endpoint import HttpEndpoint
from codexdb.agent.model import Finished, ItemDone, ModelEvent, ModelRequest, RequestFailed, TextDelta, Usage
from codexdb.config.provider import WireApi
from codexdb.domain import limits
from codexdb.domain.errors import CredentialsMissingError
from codexdb.testing.model_script import Answer, Drop, Hang, Raw, Status, Step, Truncate, call_tools, say
from codexdb.testing.scripted_model import ScriptedModel

pytestmark = pytest.mark.anyio

Client = Callable[..., HttpEndpoint]
WIRES = pytest.mark.parametrize("wire", list(WireApi))
USAGE = Usage(11, 3, 5, 2, 16)


async def ask(client: HttpEndpoint, request: ModelRequest) -> list[ModelEvent]:
    with anyio.fail_after(20):
        return [event async for event in client.stream(request)]


async def failure(client: HttpEndpoint, request: ModelRequest) -> RequestFailed:
    with pytest.raises(RequestFailed) as caught:
        await ask(client, request)
    return caught.value


def text_of(events: list[ModelEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


# -- request ---------------------------------------------------------------------------------------------------------


@WIRES
async def test_an_answer_arrives_as_deltas_items_usage_and_the_end(
    model: ScriptedModel, client: Client, request_: ModelRequest, wire: WireApi
) -> None:
    model.add(Answer(text=("Hel", "lo"), calls=call_tools(("c1", "shell", '{"x":1}'), ("c2", "shell", "{}")).calls))
    found = await ask(client(wire), request_)
    assert found[:2] == [TextDelta("Hel"), TextDelta("lo")]
    items = [event.item for event in found if isinstance(event, ItemDone)]
    assert [(item["type"], item.get("call_id"), item.get("arguments")) for item in items] == [
        ("message", None, None),
        ("function_call", "c1", '{"x":1}'),
        ("function_call", "c2", "{}"),
    ]
    assert found[-2:] == [USAGE, Finished()]


@WIRES
async def test_calls_in_many_deltas_and_text_in_one_chunk_are_read_alike(
    model: ScriptedModel, client: Client, request_: ModelRequest, wire: WireApi
) -> None:
    model.add(replace(call_tools(("c1", "shell", '{"x":1}')), one_delta_per_call=False))
    model.add(Answer(text=("one",), reasoning=("hm",), finish_in_one_chunk=True))
    asked = client(wire)
    calls = [event.item for event in await ask(asked, request_) if isinstance(event, ItemDone)]
    assert [call["arguments"] for call in calls] == ['{"x":1}']
    assert text_of(await ask(asked, request_)) == "one"


async def test_address_headers_and_body_are_those_of_the_provider(
    model: ScriptedModel, client: Client, request_: ModelRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOCK_KEY", "sk-secret-1")
    monkeypatch.setenv("MOCK_HEADER", "from env")
    monkeypatch.setenv("MOCK_BLANK", "  ")
    asked = client(
        WireApi.RESPONSES,
        env_key="MOCK_KEY",
        query_params={"api-version": "1 2", "b": "&"},
        http_headers={"X-One": "1", "Accept": "*/*"},
        env_http_headers={"X-Two": "MOCK_HEADER", "X-Three": "MOCK_BLANK", "X-Four": "MOCK_UNSET"},
    )
    await ask(asked, request_)
    (got,) = model.requests
    assert got.path == "/v1/responses?api-version=1+2&b=%26"
    expected = {
        "authorization": "Bearer sk-secret-1",
        "x-one": "1",
        "x-two": "from env",
        "accept": "*/*",
        "originator": "codexdb",
        "session_id": "session-1",
        "content-type": "application/json",
    }
    assert expected.items() <= got.headers.items()
    assert got.headers["user-agent"].startswith("codexdb/")
    assert not {"x-three", "x-four"} & got.headers.keys()
    assert got.body is not None
    assert got.body["prompt_cache_key"] == "session-1"


async def test_the_chat_wire_names_no_session(model: ScriptedModel, client: Client, request_: ModelRequest) -> None:
    await ask(client(), request_)
    (got,) = model.requests
    assert got.path == "/v1/chat/completions"
    assert got.headers["accept"] == "text/event-stream"
    assert not {"session_id", "originator", "authorization", "cookie"} & got.headers.keys()


@pytest.mark.parametrize("value", [None, "", "  "])
@pytest.mark.parametrize(("hint", "tail"), [(None, ""), ("Ask Ann.", " Ask Ann.")])
async def test_without_its_key_nothing_is_sent(
    *,
    model: ScriptedModel,
    client: Client,
    request_: ModelRequest,
    monkeypatch: pytest.MonkeyPatch,
    value: str | None,
    hint: str | None,
    tail: str,
) -> None:
    monkeypatch.delenv("MOCK_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("MOCK_KEY", value)
    asked = client(env_key="MOCK_KEY", env_key_instructions=hint)
    with pytest.raises(CredentialsMissingError) as caught:
        await ask(asked, request_)
    assert str(caught.value) == f"Missing environment variable: `MOCK_KEY`.{tail}"
    assert model.requests == []
    monkeypatch.setenv("MOCK_KEY", "k")  # looked up anew for every request
    await ask(asked, request_)
    assert model.requests[0].headers["authorization"] == "Bearer k"


async def test_usage_is_not_asked_for_again_once_it_was_refused(
    model: ScriptedModel, client: Client, request_: ModelRequest
) -> None:
    model.add(Status(400, '{"error":{"message":"Unknown parameter: stream_options"}}'), say("one"), say("two"))
    asked = client()
    assert text_of(await ask(asked, request_)) == "one"
    assert text_of(await ask(asked, request_)) == "two"
    assert ["stream_options" in (got.body or {}) for got in model.requests] == [True, False, False]


async def test_usage_refused_to_several_requests_at_once_fails_none(client: Client, request_: ModelRequest) -> None:
    def respond(body: dict[str, object]) -> Step | None:
        return Status(400, "stream_options?") if "stream_options" in body else None

    async with ScriptedModel(responder=respond) as model:
        asked = client(base_url=model.base_url)
        await endpoint.open_client()
        found = await asyncio.gather(*(ask(asked, request_) for _ in range(3)))
    assert [text_of(events) for events in found] == ["ok"] * 3


# -- failures --------------------------------------------------------------------------------------------------------

STATUSES = [
    (Status(400, "bad"), "400 Bad Request: bad", False),
    (Status(401, "no"), "401 Unauthorized: no", False),
    (Status(403, ""), "403 Forbidden: ", False),
    (Status(404, ""), "404 Not Found: ", False),
    (Status(413, ""), "413 Payload Too Large: ", False),
    (Status(422, ""), "422 Unprocessable Entity: ", False),
    (Status(302, "", {"location": "/v1/responses"}), "302 Found: ", False),
    (Status(408, ""), "408 Request Timeout: ", True),
    (Status(409, ""), "409 Conflict: ", True),
    (Status(425, ""), "425 Too Early: ", True),
    (Status(429, "slow"), "429 Too Many Requests: slow", True),
    (Status(500, "x"), "500 Internal Server Error: x", True),
    (Status(501, "x"), "501 Not Implemented: x", False),
    (Status(503, "x"), "503 Service Unavailable: x", True),
    (Status(529, "x"), "529 <unknown status code>: x", True),
]


@pytest.mark.parametrize(("step", "text", "again"), STATUSES, ids=[str(step.code) for step, _, _ in STATUSES])
async def test_a_status_is_told_as_clients_know_it_and_decides_about_a_retry(
    *, model: ScriptedModel, client: Client, request_: ModelRequest, step: Status, text: str, again: bool
) -> None:
    model.add(step)
    error = await failure(client(), request_)
    assert (str(error), error.again, error.status) == (f"unexpected status {text}", again, step.code)
    assert len(model.requests) == 1


@pytest.mark.parametrize("code", ["usage_limit_reached", "insufficient_quota"])
@pytest.mark.parametrize("field", ["type", "code"])
async def test_a_used_up_quota_is_final(
    model: ScriptedModel, client: Client, request_: ModelRequest, code: str, field: str
) -> None:
    model.add(Status(429, json.dumps({"error": {field: code}})))
    assert not (await failure(client(), request_)).again


@pytest.mark.parametrize(
    ("headers", "least", "most"),
    [
        ({"retry-after": "3"}, 3_000, 3_000),
        ({"retry-after": "1.5"}, 1_500, 1_500),
        ({"retry-after": "9", "retry-after-ms": "250"}, 250, 250),
        ({"retry-after": "Fri, 31 Dec 2099 23:59:59 GMT"}, 10**9, 10**13),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0, 0),
        ({"retry-after": "soon"}, None, None),
        ({}, None, None),
    ],
)
async def test_the_server_may_ask_for_a_wait(
    *,
    model: ScriptedModel,
    client: Client,
    request_: ModelRequest,
    headers: dict[str, str],
    least: int | None,
    most: int | None,
) -> None:
    model.add(Status(429, "", headers))
    wait = (await failure(client(), request_)).retry_after_ms
    assert wait is None if least is None or most is None else wait is not None and least <= wait <= most


async def test_nobody_listening_is_told_without_what_the_address_may_hide(
    client: Client, request_: ModelRequest, unused_port: int
) -> None:
    url = f"http://user:pass@127.0.0.1:{unused_port}/v1"
    error = await failure(client(base_url=url, query_params={"key": "hidden-value"}), request_)
    assert str(error) == f"error sending request for url (http://127.0.0.1:{unused_port}/v1/chat/completions)"
    assert error.again


@pytest.fixture
def unused_port() -> int:
    with ScriptedModel() as gone:
        return gone.port


@pytest.mark.parametrize("url", ["nowhere", "ftp://127.0.0.1/v1", "http://[::1/v1", "http://127.0.0.1:99999/v1"])
async def test_an_address_that_cannot_be_used_is_not_tried_again(
    client: Client, request_: ModelRequest, url: str
) -> None:
    error = await failure(client(base_url=url), request_)
    assert str(error).startswith("error sending request for url (")
    assert not error.again


LOST = "stream disconnected before completion: "
BROKEN: list[tuple[Step, str]] = [
    (Drop("connect"), "error sending request for url ({url})"),
    (Drop("headers"), LOST + "Transport error: error decoding response body"),
    (Drop("mid"), LOST + "Transport error: error decoding response body"),
    (Truncate(), LOST + "stream closed before response.completed"),
    (Raw(""), LOST + "stream closed before response.completed"),
    (Raw("<html>hello</html>", "text/html"), LOST + "stream closed before response.completed"),
    (Raw("data: {not json\n\n"), LOST + "stream closed before response.completed"),
]


@WIRES
@pytest.mark.parametrize(("step", "text"), BROKEN)
async def test_a_stream_that_breaks_is_a_failure_and_may_be_tried_again(
    *, model: ScriptedModel, client: Client, request_: ModelRequest, wire: WireApi, step: Step, text: str
) -> None:
    model.add(step)
    error = await failure(client(wire), request_)
    path = "chat/completions" if wire is WireApi.CHAT else "responses"
    assert str(error) == text.format(url=f"{model.base_url}/{path}")
    assert error.again


async def test_items_completed_before_the_stream_broke_are_given_first(
    model: ScriptedModel, client: Client, request_: ModelRequest
) -> None:
    body = 'data: {"type":"response.output_item.done","item":{"type":"message"}}\n\n'
    failed = 'data: {"type":"response.failed","response":{"error":{"message":"no","code":"x"}}}\n\n'
    model.add(Drop("mid", say("x")), Raw(body + failed))
    found: list[ModelEvent] = []

    async def collect() -> None:
        async for event in client(WireApi.RESPONSES).stream(request_):
            found.append(event)  # noqa: PERF401 - kept when the stream raises

    for _ in range(2):
        found.clear()
        with pytest.raises(RequestFailed):
            await collect()
        assert any(isinstance(event, ItemDone) for event in found)


@WIRES
@pytest.mark.parametrize("before", [(), ("part",)])
async def test_silence_ends_the_request(
    model: ScriptedModel, client: Client, request_: ModelRequest, wire: WireApi, before: tuple[str, ...]
) -> None:
    model.add(Hang(before=before))
    error = await failure(client(wire, stream_idle_timeout_ms=50), request_)
    assert str(error) == LOST + "idle timeout waiting for SSE"
    assert error.again
    await asyncio.to_thread(model.wait_for_early_closes, 1)


async def test_a_slow_stream_is_not_silent(model: ScriptedModel, client: Client, request_: ModelRequest) -> None:
    model.add(say(*"abcdefghij", delay_ms=60))
    assert text_of(await ask(client(stream_idle_timeout_ms=400), request_)) == "abcdefghij"


async def test_a_response_beyond_its_bound_is_refused(
    model: ScriptedModel, client: Client, request_: ModelRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "RESPONSE_BYTES_MAX", 1_000)
    model.add(Raw(": ping\n\n" * 1_000))
    error = await failure(client(), request_)
    assert "longer than 1000 bytes" in str(error)
    assert not error.again


async def test_secrets_that_an_endpoint_repeats_are_not_told(
    model: ScriptedModel, client: Client, request_: ModelRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOCK_KEY", "sk-secret-1")
    model.add(Status(401, "wrong key sk-secret-1 or hidden-header or hidden-query"))
    hidden = {"http_headers": {"X-Key": "hidden-header"}, "query_params": {"key": "hidden-query"}}
    error = await failure(client(env_key="MOCK_KEY", **hidden), request_)
    told = "wrong key [redacted] or [redacted] or [redacted]"
    assert str(error) == f"unexpected status 401 Unauthorized: {told}"
    assert error.__cause__ is None


async def test_nothing_of_the_address_is_logged(
    client: Client, request_: ModelRequest, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    await ask(client(query_params={"key": "hidden-query"}), request_)
    assert "hidden-query" not in caplog.text


# -- connections -----------------------------------------------------------------------------------------------------


@WIRES
async def test_requests_in_turn_share_one_connection(
    model: ScriptedModel, client: Client, request_: ModelRequest, wire: WireApi
) -> None:
    model.add(say("a"), Status(500, "x"), say("b"), Truncate(), say("c"))
    asked = client(wire)
    for fails in (False, True, False, True, False):
        if fails:
            await failure(asked, request_)
        else:
            await ask(asked, request_)
    assert model.connections_made == 1


async def test_a_hundred_requests_at_once_are_all_answered(
    model: ScriptedModel, client: Client, request_: ModelRequest
) -> None:
    model_steps = [say(str(number)) for number in range(100)]
    model.add(*model_steps)
    asked = client()
    found = await asyncio.gather(*(ask(asked, request_) for _ in model_steps))
    assert sorted(text_of(events) for events in found) == sorted(str(number) for number in range(100))


async def first_event(client: HttpEndpoint, request: ModelRequest) -> None:
    async with aclosing(cast("AsyncGenerator[ModelEvent]", client.stream(request))) as events:
        async for _ in events:
            return


async def test_closing_the_iterator_drops_the_connection(
    model: ScriptedModel, client: Client, request_: ModelRequest
) -> None:
    model.add(Hang(before=("part",)))
    await first_event(client(), request_)
    await asyncio.to_thread(model.wait_for_early_closes, 1)  # fails by itself if there is none


@pytest.mark.parametrize("before", [(), ("part",)])
async def test_cancelling_drops_the_connection(
    model: ScriptedModel, client: Client, request_: ModelRequest, before: tuple[str, ...]
) -> None:
    model.add(Hang(before=before))
    task = asyncio.create_task(ask(client(), request_))
    await asyncio.to_thread(model.wait_for_requests, 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.to_thread(model.wait_for_early_closes, 1)


async def test_a_whole_answer_is_not_held_back_by_an_open_connection(
    model: ScriptedModel, client: Client, request_: ModelRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint, "USAGE_WAIT_MS", 50)
    events = 'data: {"choices":[{"delta":{"content":"x"},"finish_reason":"stop"}]}\n\n'
    model.add(Raw(events, ends=False))
    found = await ask(client(), request_)
    assert found[-1] == Finished()
    assert text_of(found) == "x"


async def test_a_failure_within_the_stream_drops_the_connection_also_while_the_error_is_kept(
    model: ScriptedModel, client: Client, request_: ModelRequest
) -> None:
    model.add(Raw('data: {"error":{"message":"no"}}\n\n', ends=False))
    error = await failure(client(), request_)
    await asyncio.to_thread(model.wait_for_early_closes, 1)
    assert str(error) == LOST + "no"


def test_a_client_of_an_earlier_loop_is_not_used_again() -> None:
    assert asyncio.run(endpoint.open_client()) is not asyncio.run(endpoint.open_client())


async def test_unusable_proxy_settings_are_told(
    client: Client, request_: ModelRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://user:hidden@127.0.0.1:1")
    error = await failure(client(), request_)
    assert "proxy" in str(error)
    assert "hidden" not in str(error)
    assert not error.again


# -- the scripted model itself ---------------------------------------------------------------------------------------


async def test_the_scripted_model_answers_by_content_and_goes_on_when_released(
    client: Client, request_: ModelRequest
) -> None:
    def respond(body: dict[str, object]) -> Step | None:
        return Hang(answer=say("late")) if "hi" in json.dumps(body) else None

    async with ScriptedModel(responder=respond, default=say("other")) as model:
        asked = client(base_url=model.base_url)
        late = asyncio.create_task(ask(asked, request_))
        await asyncio.to_thread(model.wait_for_requests, 1)
        assert text_of(await ask(asked, replace(request_, items=[]))) == "other"
        model.release()
        assert text_of(await late) == "late"
        assert not model.requests[0].closed_early


async def test_the_scripted_model_runs_as_a_process(client: Client, request_: ModelRequest, tmp_path: Path) -> None:
    script, log = tmp_path / "script.json", tmp_path / "log.jsonl"
    steps = [{"kind": "answer", "text": "from a file"}, {"kind": "answer", "calls": [["c1", "shell", "{}"]]}]
    script.write_text(json.dumps({"steps": steps, "default": {"kind": "status", "code": 503}}))
    command = [sys.executable, "-m", "codexdb.testing.scripted_model", "--script", str(script), "--log", str(log)]
    async with await anyio.open_process(command, stderr=None) as process:
        assert process.stdout is not None
        with anyio.fail_after(20):
            port = json.loads(await process.stdout.receive())["port"]
        asked = client(base_url=f"http://127.0.0.1:{port}/v1")
        assert text_of(await ask(asked, request_)) == "from a file"
        assert any(isinstance(event, ItemDone) for event in await ask(asked, request_))
        assert (await failure(asked, request_)).status == 503
        process.terminate()
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [(line["n"], line["path"]) for line in lines] == [(n, "/v1/chat/completions") for n in (1, 2, 3)]
