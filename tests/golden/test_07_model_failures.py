"""The model endpoint fails: what is told, what is tried again, what is asked, and what comes afterwards."""

import re
import socket
from pathlib import Path
from typing import Any, cast

import pytest

from codexdb.testing.model_script import Drop, Hang, Raw, Status, Step, say
from codexdb.testing.scripted_model import ScriptedModel
from codexdb.testing.server_process import Message, RequestId, ServerProcess, StartServer, write_config
from tests.golden.differences import differs
from tests.golden.normalise import accepted, answer, configured, event, refusal, structured, transcript, turn, usage
from tests.golden.outbound import assistant, chat_request, environment, received, responses_request, user

LOST = "stream disconnected before completion: Transport error: error decoding response body"
IDLE = "stream disconnected before completion: idle timeout waiting for SSE"
CLOSED = "stream disconnected before completion: stream closed before response.completed"

WAIT = re.compile(r"(?<=; retrying )(\d/\d in )(\d+)ms…")
FIRST_WAIT_MS = range(180, 221)  # 200, a tenth more or less
SECOND_WAIT_MS = range(360, 441)


def failed(request_id: RequestId, message: str) -> list[str]:
    """The events and the result of a turn that ends with this error."""
    differs("error-results")
    started = event(request_id, str(request_id), "task_started")
    return [started, event(request_id, str(request_id), "error", message=message), refusal(request_id, message)]


def retrying(request_id: RequestId, why: str, attempt: str) -> str:
    """What is told of a retry, in the form that `told` gives it."""
    notice = f"stream error: {why}; retrying {attempt} in <n>ms…"
    return event(request_id, str(request_id), "background_event", message=notice)


def told(process: ServerProcess) -> list[str]:
    """The transcript without the lengths of waits."""
    return [WAIT.sub(r"\1<n>ms…", line) for line in transcript(process.messages)]


def waits(process: ServerProcess) -> list[int]:
    """How long it waited before each retry, as it says."""
    notices = [one["msg"]["message"] for one in process.events() if one["msg"]["type"] == "background_event"]
    return [int(found[2]) for notice in notices if (found := WAIT.search(notice))]


def ask(process: ServerProcess) -> str:
    """Call `codex`; the id of its session, whatever came of it."""
    return cast("str", process.call_tool("codex", {"prompt": "x"}, id=1)["structuredContent"]["threadId"])


def ask_again(process: ServerProcess, session: str) -> None:
    process.call_tool("codex-reply", {"sessionId": session, "prompt": "again"}, id=2)


def provider(**settings: object) -> dict[str, object]:
    return {"model_providers": {"scripted": settings}}


def failed_event(code: str, message: str) -> Raw:
    """A responses stream that reports its own failure."""
    error = f'{{"code":"{code}","message":"{message}"}}'
    response = f'{{"id":"resp_1","status":"failed","error":{error}}}'
    return Raw(f'event: response.failed\ndata: {{"type":"response.failed","response":{response}}}\n\n')


# -- failures that are final -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("step", "message"),
    [
        pytest.param(
            Status(400, "plain bad request"), "unexpected status 400 Bad Request: plain bad request", id="400"
        ),
        pytest.param(
            Status(401, '{"error": {"message": "bad key"}}', {"content-type": "application/json"}),
            'unexpected status 401 Unauthorized: {"error": {"message": "bad key"}}',
            id="401",
        ),
        pytest.param(Status(429), "exceeded retry limit, last status: 429 Too Many Requests", id="429"),
        pytest.param(Status(500), "exceeded retry limit, last status: 500 Internal Server Error", id="500"),
        pytest.param(Drop("headers"), LOST, id="after headers"),
        pytest.param(Drop("mid"), LOST, id="in the middle"),
    ],
)
def test_a_failure_ends_the_turn_in_the_recorded_words_and_the_next_reply_runs(
    server: StartServer, home: Path, model: ScriptedModel, step: Step, message: str
) -> None:
    differs("wedge-after-error", "reply-event-id")
    model.add(step, say("recovered", usage=False))
    process = server()
    ask_again(process, ask(process))
    recovered = [*turn(2, "2", "recovered"), answer(2, "recovered")]
    assert transcript(process.messages) == [configured(1), *failed(1, message), *recovered]
    asked = [environment(home), user("x")]
    assert received(model) == [chat_request(*asked), chat_request(*asked, user("again"))]


def test_a_connection_that_closes_before_its_answer_names_the_address(
    server: StartServer, home: Path, model: ScriptedModel
) -> None:
    differs("wedge-after-error", "reply-event-id")
    model.add(Drop("connect"), say("recovered", usage=False))
    process = server()
    ask_again(process, ask(process))
    message = f"error sending request for url ({model.base_url}/chat/completions)"
    recovered = [*turn(2, "2", "recovered"), answer(2, "recovered")]
    assert transcript(process.messages) == [configured(1), *failed(1, message), *recovered]
    asked = [environment(home), user("x")]
    assert received(model) == [chat_request(*asked), chat_request(*asked, user("again"))]


def test_an_endpoint_that_nobody_serves_is_named(server: StartServer, home: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and not listening: whoever connects is refused
        base_url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        write_config(home, base_url, "chat")
        process = server()
        ask(process)
    message = f"error sending request for url ({base_url}/chat/completions)"
    assert transcript(process.messages) == [configured(1), *failed(1, message)]


def test_silence_of_a_chat_endpoint_ends_the_turn(server: StartServer, home: Path, model: ScriptedModel) -> None:
    differs("wedge-after-error", "reply-event-id")
    model.add(Hang(before=("p",)), say("recovered", usage=False))
    process = server(config=provider(stream_idle_timeout_ms=700))
    ask_again(process, ask(process))
    recovered = [*turn(2, "2", "recovered"), answer(2, "recovered")]
    assert transcript(process.messages) == [configured(1), *failed(1, IDLE), *recovered]
    asked = [environment(home), user("x")]
    assert received(model) == [chat_request(*asked), chat_request(*asked, user("again"))]


def test_silence_of_a_responses_endpoint_ends_the_turn_after_what_it_said(
    server: StartServer, home: Path, model: ScriptedModel
) -> None:
    differs("wedge-after-error", "reply-event-id", "transient-deltas")
    model.add(Hang(before=("p",)), say("recovered"))
    process = server(wire_api="responses", config=provider(stream_idle_timeout_ms=700))
    session = ask(process)
    kinds = [one["msg"]["type"] for one in process.events(1)]
    assert kinds == ["session_configured", "task_started", "agent_message_delta", "error"]
    assert process.events(1)[2]["msg"] == {"type": "agent_message_delta", "delta": "p"}
    ask_again(process, session)
    recovered = [*turn(2, "2", "recovered", usage()), answer(2, "recovered")]
    assert transcript(process.messages) == [configured(1), *failed(1, IDLE), *recovered]
    asked = [environment(home), user("x")]
    assert received(model) == [responses_request(session, *asked), responses_request(session, *asked, user("again"))]


def test_a_failure_that_the_endpoint_reports_is_told_in_its_words(
    server: StartServer, home: Path, model: ScriptedModel
) -> None:
    differs("wedge-after-error", "reply-event-id")
    model.add(failed_event("rate_limit_exceeded", "too fast"), say("recovered"))
    process = server(wire_api="responses")
    session = ask(process)
    ask_again(process, session)
    recovered = [*turn(2, "2", "recovered", usage()), answer(2, "recovered")]
    message = "stream disconnected before completion: too fast"
    assert transcript(process.messages) == [configured(1), *failed(1, message), *recovered]
    asked = [environment(home), user("x")]
    assert received(model) == [responses_request(session, *asked), responses_request(session, *asked, user("again"))]


def test_a_quota_that_is_used_up_ends_the_turn_and_tells_when_there_is_more(
    server: StartServer, home: Path, model: ScriptedModel
) -> None:
    differs("used-up-quota")
    body = '{"error":{"type":"insufficient_quota"}}'
    model.add(Status(429, body, {"retry-after": "3600"}))
    process = server(config=provider(request_max_retries=2))
    ask(process)
    message = f"unexpected status 429 Too Many Requests: {body}; try again in 3600 s"
    assert transcript(process.messages) == [configured(1), *failed(1, message)]
    assert received(model) == [chat_request(environment(home), user("x"))]


# -- answers that are none ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [Raw(""), Raw("data: {not json\n\n"), Raw("<html>maintenance</html>", content_type="text/html")],
    ids=["empty", "malformed", "no stream"],
)
def test_a_chat_answer_without_an_end_is_an_error_and_its_prompt_stays(
    server: StartServer, home: Path, model: ScriptedModel, body: Step
) -> None:
    differs("truncated-chat", "reply-event-id")
    model.add(body, say("recovered", usage=False))
    process = server()
    ask_again(process, ask(process))
    recovered = [*turn(2, "2", "recovered"), answer(2, "recovered")]
    assert transcript(process.messages) == [configured(1), *failed(1, CLOSED), *recovered]
    asked = [environment(home), user("x")]
    assert received(model) == [chat_request(*asked), chat_request(*asked, user("again"))]


# -- failures that pass ------------------------------------------------------------------------------------------------


def test_a_lost_stream_is_tried_again_with_the_same_request(
    server: StartServer, home: Path, model: ScriptedModel
) -> None:
    differs("reply-event-id")
    model.add(Drop("mid"), Drop("mid"), say("recovered", usage=False), say("recovered2", usage=False))
    process = server(config=provider(stream_max_retries=2))
    ask_again(process, ask(process))
    started, *rest = turn(1, "1", "recovered")
    notices = [retrying(1, LOST, "1/2"), retrying(1, LOST, "2/2")]
    first = [configured(1), started, *notices, *rest, answer(1, "recovered")]
    assert told(process) == [*first, *turn(2, "2", "recovered2"), answer(2, "recovered2")]
    first_ms, second_ms = waits(process)
    assert first_ms in FIRST_WAIT_MS
    assert second_ms in SECOND_WAIT_MS
    asked = [environment(home), user("x")]
    again = chat_request(*asked, assistant("recovered"), user("again"))
    assert received(model) == [*[chat_request(*asked)] * 3, again]


def test_an_overloaded_endpoint_is_tried_again_and_every_wait_is_told(
    server: StartServer, home: Path, model: ScriptedModel
) -> None:
    """The original waits in silence here, and tells only of streams that it lost."""
    differs("one-retry-budget", "reply-event-id")
    model.add(*[Status(500, "busy")] * 2, say("recovered", usage=False), say("recovered2", usage=False))
    process = server(config=provider(request_max_retries=2))
    ask_again(process, ask(process))
    why = "unexpected status 500 Internal Server Error: busy"
    started, *rest = turn(1, "1", "recovered")
    notices = [retrying(1, why, "1/2"), retrying(1, why, "2/2")]
    first = [configured(1), started, *notices, *rest, answer(1, "recovered")]
    assert told(process) == [*first, *turn(2, "2", "recovered2"), answer(2, "recovered2")]
    first_ms, second_ms = waits(process)
    assert first_ms in FIRST_WAIT_MS
    assert second_ms in SECOND_WAIT_MS
    asked = [environment(home), user("x")]
    again = chat_request(*asked, assistant("recovered"), user("again"))
    assert received(model) == [*[chat_request(*asked)] * 3, again]


def test_a_failure_that_the_endpoint_reports_is_tried_again(
    server: StartServer, home: Path, model: ScriptedModel
) -> None:
    differs("reply-event-id")
    model.add(failed_event("server_error", "oops"), say("recovered"), say("recovered2"))
    process = server(wire_api="responses", config=provider(stream_max_retries=1))
    session = ask(process)
    ask_again(process, session)
    started, *rest = turn(1, "1", "recovered", usage())
    notice = retrying(1, "stream disconnected before completion: oops", "1/1")
    first = [configured(1), started, notice, *rest, answer(1, "recovered")]
    assert told(process) == [*first, *turn(2, "2", "recovered2", usage()), answer(2, "recovered2")]
    assert waits(process)[0] in FIRST_WAIT_MS
    asked = [environment(home), user("x")]
    again = responses_request(session, *asked, assistant("recovered"), user("again"))
    assert received(model) == [*[responses_request(session, *asked)] * 2, again]


def test_the_last_failure_is_told_when_no_retry_is_left(server: StartServer, home: Path, model: ScriptedModel) -> None:
    model.add(Drop("mid"), Drop("mid"))
    process = server(config=provider(stream_max_retries=1))
    ask(process)
    started, *rest = failed(1, LOST)
    assert told(process) == [configured(1), started, retrying(1, LOST, "1/1"), *rest]
    assert waits(process)[0] in FIRST_WAIT_MS
    assert received(model) == [chat_request(environment(home), user("x"))] * 2


def test_the_two_budgets_of_retries_do_not_multiply(server: StartServer, model: ScriptedModel) -> None:
    differs("one-retry-budget")
    model.add(*[Status(500)] * 6)
    process = server(config=provider(request_max_retries=1, stream_max_retries=2))
    ask(process)
    assert len(model.requests) == 3


# -- conversations -----------------------------------------------------------------------------------------------------


def test_a_conversation_whose_turn_failed_takes_the_next_message(server: StartServer, model: ScriptedModel) -> None:
    differs("running-flag")
    model.add(Status(500), say("recovered", usage=False))
    process = server()
    fields = {"prompt": "", "model": "scripted-model", "cwd": "/"}
    created: Message = process.call_tool("conversationCreate", fields, id=1)["structuredContent"]
    send(process, 2, created["conversation_id"], "x")
    process.wait_event("error", event_id="2")
    send(process, 3, created["conversation_id"], "y")
    process.wait_event("task_complete", event_id="3")
    message = "exceeded retry limit, last status: 500 Internal Server Error"
    assert transcript(process.messages) == [
        structured(1, {"conversation_id": "<id-1>", "model": "scripted-model"}),
        accepted(2),
        event(1, "2", "task_started"),
        event(1, "2", "error", message=message),
        accepted(3),
        *turn(1, "3", "recovered"),
    ]
    asked = [environment("/"), user("x")]
    assert received(model) == [chat_request(*asked), chat_request(*asked, user("y"))]


def send(process: ServerProcess, request_id: RequestId, session: Any, text: str) -> None:
    arguments = {"conversation_id": session, "content": [{"type": "text", "text": text}]}
    process.call_tool("conversationSendMessage", arguments, id=request_id)
