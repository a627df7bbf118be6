"""Commands that a person is asked about: the question, the answers, and what the model is told of them."""

from pathlib import Path

import pytest

from codexdb.testing.model_script import Answer, call_tools
from codexdb.testing.scripted_model import ScriptedModel
from codexdb.testing.server_process import Message, ServerProcess, StartServer
from tests.golden.calling import (
    DONE,
    PROMPT,
    Calling,
    asks_to_run,
    calls,
    conversation,
    decide,
    fail_question,
    made,
    output,
    printed,
    ran,
    shell,
    told,
    transient,
    whole,
)
from tests.golden.differences import differs
from tests.golden.normalise import answer, configured, refusal, transcript, turn, usage
from tests.golden.outbound import chat_request, environment, received, user

COMMAND = ["bash", "-c", "echo ran > f.txt; echo ran"]
REJECTED = "exec command rejected by user"
NOBODY = (
    "The call was not made. It needs a person's approval, and nobody is connected who could be asked. Do not try the "
    "same again; say what you wanted to do and why, and go on with what needs no approval."
)
UNTRUSTED = {"approval_policy": "untrusted"}


def start(server: StartServer, model: ScriptedModel, *steps: Answer, **options: object) -> ServerProcess:
    """A turn that makes the calls of `steps`, one after another, and then says done."""
    model.add(*steps, DONE)
    process = server(**{"config": UNTRUSTED, **options})
    process.start_tool("codex", PROMPT, id=1)
    return process


def one(server: StartServer, model: ScriptedModel) -> tuple[ServerProcess, Calling]:
    """The same for one call of COMMAND."""
    call = shell(COMMAND)
    return start(server, model, calls(call)), call


def two(server: StartServer, model: ScriptedModel) -> tuple[ServerProcess, Calling, Calling]:
    """The same for COMMAND twice, in two answers."""
    first, second = shell(COMMAND), shell(COMMAND, "call_2")
    return start(server, model, calls(first), calls(second)), first, second


def test_a_yes_is_for_once(server: StartServer, home: Path, model: ScriptedModel) -> None:
    process, first, second = two(server, model)
    decide(process, {"decision": "approved"}, 2)
    process.wait_response(1)
    assert transcript(process.messages) == whole(
        *asks_to_run(COMMAND, home),
        *ran(COMMAND, home, "ran\n"),
        *asks_to_run(COMMAND, home, "call_2", 1),
        *ran(COMMAND, home, "ran\n", call_id="call_2"),
    )
    assert transient(process) == transient(process, "call_2") == {"stdout": b"ran\n"}
    assert received(model)[0] == chat_request(environment(home, "untrusted"), user("go"))
    assert conversation(model) == [made(first), printed("ran\n"), made(second), printed("ran\n", call_id="call_2")]
    assert (home / "f.txt").read_text() == "ran\n"


def test_a_yes_for_the_session_is_not_asked_for_again(server: StartServer, home: Path, model: ScriptedModel) -> None:
    process, first, second = two(server, model)
    decide(process, {"decision": "approved_for_session"})
    process.wait_response(1)
    assert transcript(process.messages) == whole(
        *asks_to_run(COMMAND, home),
        *ran(COMMAND, home, "ran\n"),
        *ran(COMMAND, home, "ran\n", call_id="call_2"),
    )
    assert conversation(model) == [made(first), printed("ran\n"), made(second), printed("ran\n", call_id="call_2")]


def test_a_no_is_told_to_the_model_and_is_for_once(server: StartServer, home: Path, model: ScriptedModel) -> None:
    process, first, second = two(server, model)
    decide(process, {"decision": "denied"}, 2)
    process.wait_response(1)
    both = (*asks_to_run(COMMAND, home), *asks_to_run(COMMAND, home, "call_2", 1))
    assert transcript(process.messages) == whole(*both)
    assert conversation(model) == [made(first), output(REJECTED), made(second), output(REJECTED, "call_2")]
    assert not (home / "f.txt").exists()


def test_a_decision_that_nobody_knows_is_a_no(server: StartServer, home: Path, model: ScriptedModel) -> None:
    process, call = one(server, model)
    decide(process, {"decision": "bogus"})
    process.wait_response(1)
    assert transcript(process.messages) == whole(*asks_to_run(COMMAND, home))
    assert conversation(model) == [made(call), output(REJECTED)]


@pytest.mark.parametrize("content", [{"content": {}}, {}], ids=["empty form", "no form"])
def test_the_yes_of_the_protocol_is_a_yes(
    server: StartServer, home: Path, model: ScriptedModel, content: Message
) -> None:
    differs("standard-answers")
    process, call = one(server, model)
    decide(process, {"action": "accept", **content})
    process.wait_response(1)
    assert transcript(process.messages) == whole(*asks_to_run(COMMAND, home), *ran(COMMAND, home, "ran\n"))
    assert conversation(model) == [made(call), printed("ran\n")]


def test_an_error_for_an_answer_is_a_no(server: StartServer, home: Path, model: ScriptedModel) -> None:
    differs("refused-question")
    process, call = one(server, model)
    fail_question(process, "no elicitation")
    process.wait_response(1)
    assert transcript(process.messages) == whole(*asks_to_run(COMMAND, home))
    assert conversation(model) == [made(call), output(REJECTED)]


def test_a_question_waits_for_as_long_as_it_takes(server: StartServer, home: Path, model: ScriptedModel) -> None:
    process, _ = one(server, model)
    process.wait_request("elicitation/create")
    process.wait_response(process.request("ping", id=2))
    recorded = [configured(1), told("task_started"), *asks_to_run(COMMAND, home)]
    assert transcript(process.messages) == [*recorded, '{"id":2,"result":{}}']
    assert len(model.requests) == 1


def test_a_client_that_cannot_be_asked_is_not_asked(server: StartServer, home: Path, model: ScriptedModel) -> None:
    differs("nobody-to-ask")
    call = shell(COMMAND)
    process = start(server, model, calls(call), elicitation=False)
    process.wait_response(1)
    notice = "A call was denied, because nobody is connected who could be asked."
    assert transcript(process.messages) == whole(told("background_event", message=notice))
    assert conversation(model) == [made(call), output(NOBODY)]
    assert not (home / "f.txt").exists()


def test_an_abort_ends_the_turn_and_the_next_reply_runs(server: StartServer, home: Path, model: ScriptedModel) -> None:
    differs("error-results", "aborted-calls", "reply-event-id")
    process, call = one(server, model)
    decide(process, {"decision": "abort"})
    session = process.wait_response(1)["result"]["structuredContent"]["threadId"]
    process.call_tool("codex-reply", {"sessionId": session, "prompt": "go on"}, id=2)
    assert transcript(process.messages) == [
        configured(1),
        told("task_started"),
        *asks_to_run(COMMAND, home),
        told("error", message=" Turn interrupted"),
        refusal(1, " Turn interrupted"),
        *turn(2, "2", "done"),
        answer(2, "done"),
    ]
    not_run = output("This call was not run: the turn ended before it began.")
    assert conversation(model) == [made(call), not_run, '{"role":"user","content":"go on"}']


def test_a_command_that_the_model_wants_out_of_the_sandbox(
    server: StartServer, home: Path, model: ScriptedModel
) -> None:
    call = shell(["touch", "g.txt"], with_escalated_permissions=True, justification="need it")
    config = {"approval_policy": "on-request", "sandbox_mode": "read-only"}
    process = start(server, model, calls(call), config=config)
    decide(process, {"decision": "approved"})
    process.wait_response(1)
    asked = asks_to_run(["touch", "g.txt"], home, reason="need it")
    assert transcript(process.messages) == whole(*asked, *ran(["touch", "g.txt"], home))
    question = process.wait_request("elicitation/create")["params"]
    assert question["codex_reason"] == "need it"
    assert received(model)[0] == chat_request(environment(home, "on-request", "read-only", "restricted"), user("go"))
    assert conversation(model) == [made(call), printed("")]
    assert (home / "g.txt").exists()


def test_the_answer_of_the_model_is_read_to_its_end_before_anybody_is_asked(
    server: StartServer, home: Path, model: ScriptedModel
) -> None:
    differs("tokens-before-waiting")
    process = start(server, model, call_tools(shell(COMMAND)))
    decide(process, {"decision": "approved"})
    process.wait_response(1)
    kind, counts = usage()
    shown, asked = asks_to_run(COMMAND, home)
    lines = transcript(process.messages)
    assert lines.index(shown) < lines.index(asked)
    lines.remove(asked)  # it and the count are sent at the same time
    assert lines == whole(shown, told(kind, **counts), *ran(COMMAND, home, "ran\n"))
