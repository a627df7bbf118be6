"""Turns of `codex` in which the model makes calls: the steps, and what is told and asked of them."""

import json
import re
import shlex
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from codexdb.testing.model_script import Answer, call_tools, say
from codexdb.testing.scripted_model import ScriptedModel
from codexdb.testing.server_process import Message, RequestId, ServerProcess
from tests.golden.normalise import DURATION, answer, configured, dumps, event
from tests.golden.outbound import body_of, received

Calling = tuple[str, str, str]

SECONDS = re.compile(r'(?<="duration_seconds":)\d+\.\d(?=\})')
DONE = say("done", usage=False)
PROMPT = {"prompt": "go"}


# -- what the model does -----------------------------------------------------------------------------------------------


def shell(command: list[str], call_id: str = "call_1", **more: object) -> Calling:
    return call_id, "shell", json.dumps({"command": command, **more})


def calls(*made: Calling) -> Answer:
    """An answer of calls alone that counts nothing, as those of the recordings."""
    return replace(call_tools(*made), usage=False)


# -- what the client is told and asked ---------------------------------------------------------------------------------


def told(kind: str, **fields: object) -> str:
    """An event of the first turn of `codex`, called under id 1."""
    return event(1, "1", kind, **fields)


def whole(*between: str) -> list[str]:
    """The transcript of that turn, if the model at last says done."""
    return [
        configured(1),
        told("task_started"),
        *between,
        told("agent_message", message="done"),
        told("task_complete", last_agent_message="done"),
        answer(1, "done"),
    ]


def ran(
    command: list[str], cwd: Path | str, stdout: str = "", stderr: str = "", exit_code: int = 0, call_id: str = "call_1"
) -> list[str]:
    """A command's begin and end."""
    end = {"call_id": call_id, "stdout": stdout, "stderr": stderr, "exit_code": exit_code, "duration": DURATION}
    return [
        told("exec_command_begin", call_id=call_id, command=command, cwd=str(cwd)),
        told("exec_command_end", **end),
    ]


def question(number: int, kind: str, message: str, call_id: str, event_id: str = "1", **about: object) -> str:
    """A question as the original puts it: `elicitation/create`, under the server's own number."""
    params: Message = {"message": message, "requestedSchema": {"properties": {}, "type": "object"}}
    params |= {"codex_elicitation": f"{kind}-approval", "codex_mcp_tool_call_id": "1", "codex_event_id": event_id}
    params |= {"codex_call_id": call_id, **{f"codex_{name}": value for name, value in about.items()}}
    return dumps({"id": number, "method": "elicitation/create", "params": params})


def asks_to_run(
    command: list[str], cwd: Path, call_id: str = "call_1", number: int = 0, **reason: str
) -> tuple[str, str]:
    """The event and the question before a command that a person has to allow."""
    message = f"Allow Codex to run `{shlex.join(command)}` in `{cwd}`?"
    return (
        told("exec_approval_request", call_id=call_id, command=command, cwd=str(cwd), **reason),
        question(number, "exec", message, call_id, command=command, cwd=str(cwd)),
    )


def transient(process: ServerProcess, call_id: str = "call_1") -> dict[str, bytes]:
    """What the deltas of a command's output carried, by stream."""
    streams: dict[str, bytes] = {}
    for params in process.events():
        if params["msg"]["type"] == "exec_command_output_delta" and params["msg"]["call_id"] == call_id:
            stream = params["msg"]["stream"]
            streams[stream] = streams.get(stream, b"") + bytes(params["msg"]["chunk"])
    return streams


# -- what the client does ----------------------------------------------------------------------------------------------


def decide(process: ServerProcess, result: Message, questions: int = 1) -> None:
    """Answer so many questions, one after another, with this."""
    after = 0
    for _ in range(questions):
        asked = process.wait_request("elicitation/create", after=after)
        after = process.messages.index(asked) + 1
        process.respond(asked["id"], result)


def fail_question(process: ServerProcess, message: str) -> None:
    """Answer the first question with an error."""
    asked = process.wait_request("elicitation/create")
    error = {"code": -32601, "message": message}
    process.send_raw(dumps({"jsonrpc": "2.0", "id": asked["id"], "error": error}).encode() + b"\n")


def cancel(process: ServerProcess, request_id: RequestId, **more: str) -> None:
    process.notify("notifications/cancelled", {"requestId": request_id, **more})


# -- what the model is told --------------------------------------------------------------------------------------------


def conversation(model: ScriptedModel) -> list[str]:
    """All that was said to and by the model after its first request. Lengths of time are left out."""
    assert received(model), "every request is checked there"
    bodies = [body_of(model, number)["messages"] for number in range(len(model.requests))]
    for earlier, later in pairwise(bodies):
        assert later[: len(earlier)] == earlier, "a request continues the one before it"
    return [dumps(_without_times(message)) for message in bodies[-1][len(bodies[0]) :]]


def _without_times(message: Message) -> Message:
    content = message["content"]
    return message if content is None else {**message, "content": SECONDS.sub("<n>", content)}


def made(*given: Calling) -> str:
    """The calls of an answer, as they go back to the model."""
    tool_calls = [
        {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}
        for call_id, name, arguments in given
    ]
    return dumps({"role": "assistant", "content": None, "tool_calls": tool_calls})


def output(text: str, call_id: str = "call_1") -> str:
    return dumps({"role": "tool", "tool_call_id": call_id, "content": text})


def printed(text: str, exit_code: int = 0, call_id: str = "call_1") -> str:
    """The output of a command or a patch that ran."""
    wrapped = dumps({"output": text, "metadata": {"exit_code": exit_code, "duration_seconds": "<n>"}})
    return output(wrapped.replace('"<n>"', "<n>"), call_id)
