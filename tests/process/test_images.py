"""Images that calls give: on record with their outputs, behind all outputs of the response, and nobody's words."""

import base64
import json
import os
import sys
from itertools import pairwise
from pathlib import Path
from typing import cast

import pytest

from codexdb.domain.item import function_call
from codexdb.store.calls import UNKNOWN
from codexdb.testing.http1 import ReceivedRequest
from codexdb.testing.model_script import Answer, Json, Raw, Status, Step, call_tools, say
from codexdb.testing.scripted_model import ScriptedModel
from codexdb.testing.server_process import Message, StartServer, write_config
from tests.agent.test_view_image import PNG
from tests.process.asked import UNTRUSTED, decide, listed, question
from tests.process.talking import (
    ask,
    at_rest,
    begin,
    calls_and_outputs,
    is_summary,
    items,
    kinds,
    opened,
    prefix,
    read,
    reply,
    rows,
    said,
    seen,
    send,
    shell,
    text_of,
    until,
)

MCP_PROGRAM = Path(__file__).parents[1] / "agent" / "mcp_test_server.py"
WITH_TOOLS: dict[str, object] = {"mcp_servers": {"test": {"command": sys.executable, "args": [str(MCP_PROGRAM)]}}}
FOREVER = ("sleep", "600")
ANSWERED = "SELECT call_id FROM tool_calls WHERE state = 'succeeded' ORDER BY id"

both_wires = pytest.mark.parametrize("wire", ["chat", "responses"])


class Scene:
    """Calls of which the second gives an image; the first of them ends when all are on record, so that the record is
    the same every time.
    """

    def __init__(self, home: Path, database: Path) -> None:
        self._database = database
        self._gate = home / "gate"
        os.mkfifo(self._gate)
        self.picture = home / "picture.png"
        self.picture.write_bytes(PNG)
        self.url = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
        self.view = ("view", "view_image", json.dumps({"path": str(self.picture)}))

    def calls(self, *further: tuple[str, str, str], view: tuple[str, str, str] | None = None) -> Answer:
        return call_tools(shell("gate", "cat", str(self._gate)), view or self.view, *further)

    def open_gate(self, calls: int) -> None:
        until(lambda: rows(self._database, "SELECT count(*) FROM tool_calls") == [(calls,)], "the calls")
        self._gate.write_text("opened")

    def wait_shown(self) -> None:
        until(lambda: ("view",) in rows(self._database, ANSWERED), "the image")


@pytest.fixture
def scene(home: Path, database: Path) -> Scene:
    return Scene(home, database)


def outline(request: ReceivedRequest) -> list[str]:
    """What the model saw: calls, outputs by their calls, images as such; from the first call on, the user's words."""
    found: list[str] = []
    for each in seen(request):
        if each.get("tool_calls"):
            found += [f"call {call['id']}" for call in cast("list[Json]", each["tool_calls"])]
        elif each.get("type") == "function_call":
            found.append(f"call {each['call_id']}")
        elif "call_id" in each or "tool_call_id" in each:
            found.append(f"output {each.get('call_id', each.get('tool_call_id'))}")
        elif "image_url" in json.dumps(each):
            found.append("image")
        elif found and each["role"] == "user":
            found.append(text_of(each))
    return found


def output(request: ReceivedRequest, call_id: str) -> object:
    found = [each for each in seen(request) if call_id in (each.get("tool_call_id"), each.get("call_id"))]
    return found[-1].get("output", found[-1].get("content"))


CALLS = ["call gate", "call view", "call last"]
OUTPUTS = ["output gate", "output view", "output last"]


# -- killed, asked, interrupted ----------------------------------------------------------------------------------------


@both_wires
@pytest.mark.parametrize("view", [None, ("view", "test__parts", "{}")], ids=["view_image", "server_tool"])
def test_an_image_outlives_a_kill_before_its_response_has_ended(
    server: StartServer, model: ScriptedModel, scene: Scene, wire: str, view: tuple[str, str, str] | None
) -> None:
    model.add(scene.calls(shell("last", *FOREVER), view=view), say("done"))
    first = server(wire_api=wire, config=WITH_TOOLS if view else None)
    session = begin(first)
    scene.open_gate(3)
    scene.wait_shown()
    first.wait_message(lambda message: begun(message, "last"), "the last call's beginning")
    first.kill()
    assert kinds(at_rest(server(), session))[-1] == "task_complete"
    asked, again = model.requests
    assert outline(asked) == []
    assert outline(again) == [*CALLS, *OUTPUTS, "image"]
    assert output(again, "last") == UNKNOWN


def begun(message: Message, call_id: str) -> bool:
    msg = message.get("params", {}).get("msg", {})
    return msg.get("type") == "exec_command_begin" and msg["call_id"] == call_id


def test_an_image_outlives_a_kill_while_the_model_is_still_speaking(
    server: StartServer, model: ScriptedModel, scene: Scene
) -> None:
    stream = {"type": "response.output_item.done", "output_index": 0, "item": function_call(*scene.view)}
    model.add(Raw(f"event: {stream['type']}\ndata: {json.dumps(stream)}\n\n", ends=False), say("done"))
    first = server(wire_api="responses")
    session = begin(first)
    scene.wait_shown()
    first.kill()
    assert kinds(at_rest(server(), session))[-1] == "task_complete"
    assert outline(model.requests[-1]) == ["call view", "output view", "image"]


@both_wires
def test_an_image_outlives_a_question_of_the_same_response_and_a_kill(
    server: StartServer, model: ScriptedModel, scene: Scene, home: Path, database: Path, wire: str
) -> None:
    model.add(scene.calls(shell("last", "touch", str(home / "made"))), say("done"))
    first = server(wire_api=wire, config=UNTRUSTED)
    session = begin(first)
    scene.open_gate(3)
    question(first)
    until(lambda: rows(database, "SELECT state FROM turns") == [("waiting",)], "the wait")
    first.kill()
    second = server()
    decide(second, listed(second)[0]["approval_id"], "approved")
    assert kinds(at_rest(second, session))[-1] == "task_complete"
    assert outline(model.requests[-1]) == [*CALLS, *OUTPUTS, "image"]
    assert (home / "made").exists()


@both_wires
def test_an_image_outlives_an_interrupt_and_stands_before_the_next_message(
    server: StartServer, model: ScriptedModel, scene: Scene, wire: str
) -> None:
    model.add(scene.calls(shell("last", *FOREVER)))
    process = server(wire_api=wire)
    session = begin(process)
    scene.open_gate(3)
    process.wait_message(lambda message: begun(message, "last"), "the last call's beginning")
    ask(process, "conversation_interrupt", session)
    process.wait_response(1)
    reply(process, session, "and now?")
    assert outline(model.requests[-1]) == [*CALLS, *OUTPUTS, "image", "and now?"]
    assert "was stopped while it ran" in str(output(model.requests[-1], "last"))


# -- in order ----------------------------------------------------------------------------------------------------------


@both_wires
def test_images_stand_behind_all_outputs_of_their_response_from_then_on(
    server: StartServer, model: ScriptedModel, scene: Scene, database: Path, wire: str
) -> None:
    """In the next request and the next turn, with what was said meanwhile behind them, and in a fork."""
    model.add(scene.calls(shell("last", "echo", "printed")), say("done"))
    process = server(wire_api=wire)
    session = begin(process)
    until(lambda: rows(database, "SELECT count(*) FROM tool_calls") == [(3,)], "the calls")
    assert send(process, session, "steered", if_running="steer")["outcome"] == "steered"
    scene.open_gate(3)
    process.wait_response(1)
    reply(process, session, "second")
    fork = str(ask(process, "conversation_fork", session)["conversation_id"])
    reply(process, fork, "third")
    expected = [*CALLS, *OUTPUTS, "image", "steered"]
    assert [outline(request) for request in model.requests[1:]] == [
        expected,
        [*expected, "second"],
        [*expected, "second", "third"],
    ]
    if wire == "responses":  # a fork is a session of its own, with the same conversation
        shown = [each for each in seen(model.requests[1]) if "input_image" in json.dumps(each)]
        text: Json = {"type": "input_text", "text": f"The image at {scene.picture}:"}
        image: Json = {"type": "input_image", "image_url": scene.url}
        assert shown == [{"type": "message", "role": "user", "content": [text, image]}]
    for earlier, later in pairwise(model.requests):
        assert prefix(later).startswith(prefix(earlier))


# -- nobody's words ----------------------------------------------------------------------------------------------------


@both_wires
def test_a_summary_in_a_turn_with_an_image_keeps_what_the_user_said(
    server: StartServer, model: ScriptedModel, scene: Scene, wire: str
) -> None:
    limit: dict[str, object] = {"model_auto_compact_token_limit": 16}  # what the scripted model counts for any request
    model.add(say("hello"), say("first summary"), call_tools(scene.view), say("looked at it"), say("done"))
    process = server(wire_api=wire, config=limit)
    session = opened(process, "the first wish")
    assert reply(process, session, "the second wish")["content"] == "done"
    assert [is_summary(request) for request in model.requests] == [False, True, False, True, False]
    assert outline(model.requests[3])[:3] == ["call view", "output view", "image"]
    *kept, summary = said(model.requests[4])
    assert [text for text in kept if not text.startswith("The conversation before")] == [
        "the first wish",
        "the second wish",
    ]
    assert summary.endswith("looked at it")
    assert scene.url not in model.requests[4].raw.decode()


def test_a_request_for_a_summary_that_is_shortened_keeps_the_words_and_whole_calls(
    server: StartServer, scene: Scene, home: Path
) -> None:
    with limited(9_000) as model:
        write_config(home, model.base_url, "responses")
        for number in range(9):
            _, name, arguments = scene.view
            model.add(call_tools(shell(f"c{number}", "printf", "%0400d", "1"), (f"d{number}", name, arguments)))
        session = opened(server(), "a long piece of work")
        tries = [request for request in model.requests if is_summary(request)]
    assert session
    assert len(tries) > 1
    for request in tries:
        calls, outputs = calls_and_outputs(request)
        assert calls == outputs
        assert said(request)[0] == "a long piece of work"
        oldest = int(calls[0][1:])
        left = range(oldest, oldest + len(calls) // 2)
        assert outline(request)[:-1] == [what for number in left for what in response(number)]  # then the question


def response(n: int) -> list[str]:
    return [f"call c{n}", f"call d{n}", f"output c{n}", f"output d{n}", "image"]


def limited(room: int) -> ScriptedModel:
    """A model that refuses what is longer than `room` bytes."""

    def respond(body: Json) -> Step | None:
        if len(json.dumps(body["input"])) > room:
            return Status(400, '{"error": {"code": "context_length_exceeded", "message": "too long"}}')
        return None if "tools" in body else say("the summary")

    return ScriptedModel(responder=respond)


def test_readers_and_the_notify_program_can_tell_an_image_from_what_the_user_said(
    server: StartServer, model: ScriptedModel, scene: Scene, home: Path
) -> None:
    bell = home / "bell"
    model.add(call_tools(scene.view), say("a dot"))
    process = server(config={"notify": ["sh", "-c", f'printf "%s\\n" "$1" > {bell}', "notify"]})
    session = opened(process, "what is it?")
    until(lambda: bell.exists() and bell.read_text().endswith("\n"), "the notify program")
    assert json.loads(bell.read_text())["input-messages"] == ["what is it?"]
    page = items(read(process, session, include_items=True))
    messages = [(each["role"], text_of(each).strip()) for each in page if each["type"] == "message"]
    assert messages[-3:] == [
        ("user", "what is it?"),
        ("tool", f"The image at {scene.picture}:"),
        ("assistant", "a dot"),
    ]
