"""Rollouts as Codex writes them, in both of its formats, for tests to change and to break."""

import json
import random
import uuid
from collections.abc import Sequence
from pathlib import Path

from codexdb.testing.model_script import Json

Lines = list[Json]


def session_id(number: int) -> str:
    return str(uuid.UUID(int=(number + 1) << 64 | 0x7 << 76 | 0x2 << 62 | number))


def name(number: int) -> str:
    return f"rollout-2026-11-{1 + number % 28:02}T10-00-00-{session_id(number)}.jsonl"


def written(folder: Path, number: int, lines: Sequence[Json], *, torn: bool = False) -> Path:
    """A file of these lines; `torn`: the last is cut off in its midst."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name(number)
    text = "".join(f"{json.dumps(line)}\n" for line in lines)
    path.write_text(text[:-9] if torn else text, encoding="utf-8")
    return path


# -- items -------------------------------------------------------------------------------------------------------------


def message(role: str, text: str) -> Json:
    kind = "output_text" if role == "assistant" else "input_text"
    return {"type": "message", "id": None, "role": role, "content": [{"type": kind, "text": text}]}


def call(call_id: str, tool: str, arguments: object) -> Json:
    return {"type": "function_call", "id": None, "name": tool, "arguments": json.dumps(arguments), "call_id": call_id}


def output(call_id: str, text: str, exit_code: int = 0) -> Json:
    told = {"output": text, "metadata": {"exit_code": exit_code, "duration_seconds": 0.1}}
    return {"type": "function_call_output", "call_id": call_id, "output": json.dumps(told)}


def reasoning(text: str, sealed: str | None = None) -> Json:
    summary = [{"type": "summary_text", "text": text}]
    return {"type": "reasoning", "id": "rs_1", "summary": summary, "encrypted_content": sealed}


# -- the format of 2025 ------------------------------------------------------------------------------------------------


def old(number: int, *items: Json, **meta: object) -> Lines:
    first: Json = {"id": session_id(number), "timestamp": "2026-11-01T10:00:00.000Z", "instructions": None, **meta}
    state: Json = {"record_type": "state"}
    return [first, *(line for item in items for line in (item, state))]


# -- today's format ----------------------------------------------------------------------------------------------------


class Today:
    """Lines with times that go on by a second each."""

    def __init__(self, number: int, **meta: object) -> None:
        self.lines: Lines = []
        told: Json = {"id": session_id(number), "cwd": "/home/dev/project", "originator": "codex_cli_rs"}
        self.add("session_meta", {**told, "cli_version": "0.153.4", "model_provider": "local", **meta})

    def add(self, kind: str, payload: Json) -> "Today":
        second = len(self.lines)
        at = f"2026-11-01T10:{second // 60 % 60:02}:{second % 60:02}.000Z"
        self.lines.append({"timestamp": at, "type": kind, "payload": payload})
        return self

    def event(self, kind: str, **fields: object) -> "Today":
        return self.add("event_msg", {"type": kind, **fields})

    def items(self, *items: Json) -> "Today":
        for item in items:
            self.add("response_item", item)
        return self

    def begin(self, turn: str, **context: object) -> "Today":
        self.event("task_started", turn_id=turn)
        settings: Json = {"cwd": "/home/dev/project", "approval_policy": "never", "model": "local-model"}
        return self.add("turn_context", {**settings, "sandbox_policy": {"type": "danger-full-access"}, **context})

    def user(self, text: str) -> "Today":
        self.items(message("user", text))
        return self.event("user_message", message=text, images=[])

    def agent(self, text: str) -> "Today":
        self.event("agent_message", message=text)
        return self.items(message("assistant", text))

    def tokens(self, total: int) -> "Today":
        last = {"input_tokens": 10, "cached_input_tokens": 0, "output_tokens": 5, "total_tokens": 15}
        info = {"total_token_usage": {"total_tokens": total}, "last_token_usage": last}
        return self.event("token_count", info=info, rate_limits=None)

    def end(self, turn: str, text: str | None) -> "Today":
        return self.event("task_complete", turn_id=turn, last_agent_message=text)


def made(number: int, chance: random.Random) -> Lines:
    """Some session or other."""
    turns = chance.randint(1, 4)
    if number % 2:
        items: list[Json] = []
        for turn in range(turns):
            items.append(message("user", f"question {turn} of {number}"))
            if chance.random() < 0.5:
                items += [call(f"c{turn}", "shell", {"command": ["ls"]}), output(f"c{turn}", "a\nb\n")]
            items.append(message("assistant", f"answer {turn} of {number} é😀"))
        return old(number, *items)
    told = Today(number)
    told.items(
        message("developer", "<permissions instructions>"),
        message("user", "<environment_context>\n</environment_context>"),
    )
    for turn in range(turns):
        told.begin(f"t{turn}").user(f"question {turn} of {number}")
        if chance.random() < 0.5:
            told.items(reasoning("I look"), call(f"c{turn}", "exec_command", {"cmd": "ls"}), output(f"c{turn}", "a\n"))
        told.agent(f"answer {turn} of {number} é😀").tokens(15 * (turn + 1)).end(
            f"t{turn}", f"answer {turn} of {number} é😀"
        )
    return told.lines
