"""What the torture's messages ask for, and a model that does it: every answer follows from the request alone.

A message carries its whole plan. So whichever server asks, and however often, the model says the same, and what a turn
has to end with can be worked out from the messages that it holds.
"""

import contextlib
import json
import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import cast

from codexdb.testing.model_script import Answer, Call, Json, Step, say

ASKING = 0.2  # the share of messages whose calls need a person's yes
PATCHING = 0.3  # the share of the other calls that are patches

_MARK = "torture:"
_DONE = "Done with "
_CHUNKS = re.compile(r"\S+\s*")
_PATCH = ".patch"
_ADDED_FILES = 150  # by each patch, so that it takes a while
_NEEDS_A_YES = "false && rm -rf nothing; "  # deletes nothing, and is asked about like everything that could

WAYS = ("form", "tool", "late")
"""How a question is answered: on the connection that asked, by `approval_decide`, or by a server that came after it."""


@dataclass(frozen=True, slots=True)
class Work:
    """What one message asks for: calls one after another, then a final text in pieces."""

    name: str  # unique in the whole run
    calls: Sequence[tuple[int, int, str]]  # ms that each command takes before and after its mark; its kind
    at_once: int  # calls in one answer of the model
    gap_ms: int  # before each piece of text


def some_work(rng: Random, name: str) -> Work:
    """Work of about half a second, and more where a person is needed for it."""
    asks = rng.random() < ASKING
    numbers = range(rng.choice((1, 1, 2) if asks else (0, 1, 1, 2, 2, 3)))
    calls = [
        (rng.randint(0, 150), rng.randint(0, 150), _some_question(rng) if asks else _PATCH * (rng.random() < PATCHING))
        for _ in numbers
    ]
    return Work(name, calls, rng.choice((1, 1, 2)), rng.choice((5, 15, 30, 60)))


def _some_question(rng: Random) -> str:
    return f".{rng.choice(('yes', 'yes', 'no'))}.{rng.choice(WAYS)}"


def prompt(work: Work) -> str:
    return _MARK + json.dumps(asdict(work))


def work_of(text: str) -> Work | None:
    """The plan in a user's message; None where it is not one of ours."""
    return Work(**json.loads(text.removeprefix(_MARK))) if text.startswith(_MARK) else None


def call_name(work: Work, number: int) -> str:
    """The call's id, and the line that it writes. It says what is to be answered, if a person is asked."""
    return f"{work.name}.{number}{work.calls[number][2]}"


@dataclass(frozen=True, slots=True)
class Question:
    """What a person is to say to a call, and how."""

    yes: bool
    way: str  # of `WAYS`


def question_of(name: str) -> Question | None:
    """What is asked before the call of this name is made; None: nothing."""
    _, _, asked = name.partition(".")[2].partition(".")
    answer, _, way = asked.partition(".")
    return Question(answer == "yes", way) if way else None


def is_patch(name: str) -> bool:
    """Whether the call of this name is a patch."""
    return name.endswith(_PATCH)


def patched(marks: Path) -> Path:
    """The folder of the files that patches change: one for each patch, which adds its line to it, and others."""
    return marks.with_name("patched")


def final_text(names: Iterable[str]) -> str:
    """What a turn ends with that was given these messages."""
    return f"{_DONE}{' '.join(names)} : every step that was asked for was taken, and each of them once."


def is_final(text: str) -> bool:
    return text.startswith(_DONE)


# -- the model ---------------------------------------------------------------------------------------------------------


class TortureModel:
    """Answers requests of either wire. `marks` is the file to which the commands append their lines. What a patch
    changes is there before it is asked for.
    """

    def __init__(self, marks: Path) -> None:
        self._marks = shlex.quote(str(marks))
        self._patched = patched(marks)
        self._patched.mkdir()

    def __call__(self, body: Json) -> Step:
        pending, made = _outstanding(body)
        for work in pending:
            missing = [number for number in range(len(work.calls)) if call_name(work, number) not in made]
            if missing:
                return Answer(calls=tuple(self._call(work, number) for number in missing[: work.at_once]))
        if not pending:
            return say("Nobody asked for anything.")
        text = final_text(work.name for work in pending)
        return say(*_CHUNKS.findall(text)[:6], _rest(text), delay_ms=max(work.gap_ms for work in pending))

    def _call(self, work: Work, number: int) -> Call:
        before_ms, after_ms, asked = work.calls[number]
        name = call_name(work, number)
        if is_patch(name):
            return Call(name, "apply_patch", json.dumps({"input": self._patch(name)}))
        script = f"sleep {before_ms / 1000}; echo {name} >> {self._marks}; sleep {after_ms / 1000}"
        script = _NEEDS_A_YES + script if asked else script
        return Call(name, "shell", json.dumps({"command": ["sh", "-c", script]}))

    def _patch(self, name: str) -> str:
        """Applied twice, it would leave two marks."""
        file = self._patched / name
        with contextlib.suppress(FileExistsError), file.open("x", encoding="utf-8") as fresh:
            fresh.write("first\n")
        added = "".join(f"*** Add File: {file}.{number}\n+added\n" for number in range(_ADDED_FILES))
        return f"*** Begin Patch\n{added}*** Update File: {file}\n@@\n first\n+{name}\n*** End Patch\n"


def _rest(text: str) -> str:
    return "".join(_CHUNKS.findall(text)[6:])


def _outstanding(body: Json) -> tuple[list[Work], set[str]]:
    """Messages behind the last final text, and the ids of all calls made so far."""
    said = _responses(body) if "input" in body else _chat(body)
    pending: list[Work] = []
    made: set[str] = set()
    for who, text in said:
        if who == "call":
            made.add(text)
        elif who == "user" and (work := work_of(text)) is not None:
            pending.append(work)
        elif who == "assistant" and is_final(text):
            pending.clear()
    return pending, made


def _responses(body: Json) -> Iterable[tuple[str, str]]:
    for item in cast("list[Json]", body["input"]):
        if item.get("type") == "function_call":
            yield "call", str(item["call_id"])
        elif item.get("type") == "message":
            yield str(item["role"]), _text(item.get("content"))


def _chat(body: Json) -> Iterable[tuple[str, str]]:
    for message in cast("list[Json]", body["messages"]):
        yield str(message["role"]), _text(message.get("content"))
        for call in cast("list[Json]", message.get("tool_calls") or []):
            yield "call", str(call["id"])


def _text(content: object) -> str:
    if isinstance(content, str):
        return content
    parts = cast("list[Json]", content) if isinstance(content, list) else []
    return "".join(str(part.get("text", "")) for part in parts)
