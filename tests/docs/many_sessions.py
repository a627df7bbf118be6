"""A thousand sessions, made through the wire by a real server: what the queries of the documentation are tried on."""

from collections.abc import Iterable
from pathlib import Path
from typing import cast

from codexdb.testing.model_script import Json, Status, Step, call_tools, say
from codexdb.testing.server_process import Message, ServerProcess
from tests.process.talking import rows, shell, until

IN_FLIGHT = 40  # calls at a time
EMPTY, TALKS, LONG, COMMANDS, FAILURES, QUESTIONS = 710, 210, 30, 20, 20, 10
SESSIONS = EMPTY + TALKS + LONG + COMMANDS + FAILURES + QUESTIONS
LONG_TURNS = 4
TURNS = TALKS + LONG * LONG_TURNS + COMMANDS + FAILURES + QUESTIONS
ANSWERED_REQUESTS = TALKS + LONG * LONG_TURNS + 2 * COMMANDS + QUESTIONS
ARCHIVED = 50  # of those that talked
FAILED_WITH = '{"error":{"message":"no such model"}}'
PRINTED = "reproducible"
WAIT_S = 60.0


def answer(body: Json) -> Step:
    """By the first word of the last message."""
    last = cast("list[Json]", body["input"])[-1]
    if last["type"] == "function_call_output":
        return say("It ran.")
    first = cast("list[Json]", last["content"])[0]["text"]
    match str(first).split()[0]:
        case "run":
            return call_tools(shell("c1", "echo", PRINTED))
        case "fail":
            return Status(400, FAILED_WITH)
        case "ask":
            return call_tools(shell("c1", "touch", "asked"))
        case _:
            return say(f"You said: {first}")


def call_all(server: ServerProcess, tool: str, calls: Iterable[Message]) -> list[Message]:
    """The structured results, in the order of the calls."""
    results: list[Message] = []
    started: list[int | str] = []
    for arguments in calls:
        if len(started) - len(results) == IN_FLIGHT:
            results.append(_result(server, started[len(results)]))
        started.append(server.start_tool(tool, arguments))
    return results + [_result(server, each) for each in started[len(results) :]]


def _result(server: ServerProcess, number: int | str) -> Message:
    return cast("Message", server.wait_response(number, WAIT_S)["result"]["structuredContent"])


def make(server: ServerProcess, database: Path) -> str:
    """All of them; returns the id of one with several turns."""
    call_all(server, "conversation_create", ({"title": f"idle {number}"} for number in range(EMPTY)))
    prompts = [f"talk about subject{number}" for number in range(TALKS)]
    talked = call_all(server, "codex", ({"prompt": prompt} for prompt in prompts))
    call_all(server, "codex", ({"prompt": f"run number {number}"} for number in range(COMMANDS)))
    call_all(server, "codex", ({"prompt": f"fail number {number}"} for number in range(FAILURES)))
    long = [each["threadId"] for each in call_all(server, "codex", [{"prompt": "turn 1"}] * LONG)]
    for turn in range(2, LONG_TURNS + 1):
        call_all(server, "codex-reply", ({"threadId": each, "prompt": f"turn {turn}"} for each in long))
    archived = (each["threadId"] for each in talked[:ARCHIVED])
    call_all(server, "conversation_archive", ({"conversation_id": each} for each in archived))
    for number in range(QUESTIONS):
        server.start_tool("codex", {"prompt": f"ask number {number}", "approval-policy": "untrusted"})
    waiting = "SELECT count(*) FROM turns WHERE state = 'waiting'"
    until(lambda: rows(database, waiting) == [(QUESTIONS,)], "the last question", WAIT_S)
    return str(long[0])
