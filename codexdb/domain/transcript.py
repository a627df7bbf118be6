"""A session as people read it: turns, and in each what was said, run, changed, asked and noted, in order.

One neutral structure; who shows it decides how it looks. Texts are as they were: who shows them makes them harmless.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from codexdb.domain.json import JsonObject


@dataclass(frozen=True, slots=True)
class Output:
    """What a call printed or returned. `tail` is not empty where the middle is left out."""

    head: str
    tail: str = ""
    left_out_chars: int = 0


@dataclass(frozen=True, slots=True)
class Question:
    """What a person was asked about a call, and the answer."""

    approval_id: str
    state: str  # pending, approved, denied, withdrawn
    decision: str | None
    decided_by: str | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class FileChange:
    """What a patch does to one file. `diff`: lines as in a unified diff, without file headers."""

    path: str
    kind: str  # add, delete, update
    moved_to: str | None
    diff: str


@dataclass(frozen=True, slots=True)
class Message:
    """`note`: "cut short", "waiting", "taken back" or "" """

    kind: ClassVar = "message"
    at_ms: int
    role: str  # user, assistant
    text: str
    images: int = 0
    note: str = ""


@dataclass(frozen=True, slots=True)
class Reasoning:
    """What the model let us see of its thinking."""

    kind: ClassVar = "reasoning"
    at_ms: int
    text: str


@dataclass(frozen=True, slots=True)
class Command:
    """A program that the model had run, or wanted to. `state` as of `tool_calls`; "" where that is not on record."""

    kind: ClassVar = "command"
    at_ms: int
    call_id: str
    command: Sequence[str]
    workdir: str | None
    state: str
    exit_code: int | None
    duration_ms: int | None
    output: Output
    question: Question | None = None


@dataclass(frozen=True, slots=True)
class Patch:
    """Files that the model changed, or wanted to. `text`: the patch itself, where no record says what it comes to."""

    kind: ClassVar = "patch"
    at_ms: int
    call_id: str
    files: Sequence[FileChange]
    text: str
    state: str
    duration_ms: int | None
    output: Output
    question: Question | None = None


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of anything else. `server`: the MCP server whose tool it is."""

    kind: ClassVar = "tool_call"
    at_ms: int
    call_id: str
    server: str | None
    tool: str
    arguments: str  # as the model wrote them
    state: str
    duration_ms: int | None
    output: Output
    question: Question | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """The model's plan from here on: (step, pending | in_progress | completed) each."""

    kind: ClassVar = "plan"
    at_ms: int
    explanation: str | None
    steps: Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Summary:
    """What the model goes on from, instead of everything before."""

    kind: ClassVar = "summary"
    at_ms: int
    text: str


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that codexdb itself has to say."""

    kind: ClassVar = "notice"
    at_ms: int
    text: str


Passage = Message | Reasoning | Command | Patch | ToolCall | Plan | Summary | Notice


@dataclass(frozen=True, slots=True)
class Usage:
    """What model requests have used, as the endpoints counted it."""

    requests: int = 0
    retries: int = 0
    input_tokens: int = 0
    cached_input_tokens: int = 0
    output_tokens: int = 0
    reasoning_output_tokens: int = 0
    total_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Turn:
    """One message being worked to its end. `inherited`: of the session that this one is forked from; its calls, tokens
    and times are on record there. `number` None: that session is gone.
    """

    number: int | None
    turn_id: str | None
    inherited: bool
    state: str
    end_reason: str | None
    error_kind: str | None
    error_message: str | None
    model: str | None
    attempts: int
    crashes: int
    created_at_ms: int | None
    started_at_ms: int | None
    ended_at_ms: int | None
    usage: Usage = field(default_factory=Usage)
    passages: Sequence[Passage] = ()

    @property
    def duration_ms(self) -> int | None:
        """From its acceptance to its end."""
        if self.ended_at_ms is None or self.created_at_ms is None:
            return None
        return self.ended_at_ms - self.created_at_ms


@dataclass(frozen=True, slots=True)
class Transcript:
    """A session with its turns, oldest first. `items_left_out`: so many of its oldest items are beyond the bound."""

    session_id: str
    title: str  # given, else the first words of its first message; may be empty
    origin: str
    model: str
    model_provider: str
    cwd: str
    approval_policy: str
    sandbox_mode: str
    forked_from: str | None
    created_at_ms: int
    updated_at_ms: int
    archived_at_ms: int | None
    items_left_out: int
    turns: Sequence[Turn]

    @property
    def total_tokens(self) -> int:
        return sum(turn.usage.total_tokens for turn in self.turns)

    @property
    def worked_ms(self) -> int:
        """The time of its turns together."""
        return sum(turn.duration_ms or 0 for turn in self.turns)


def facts(transcript: Transcript) -> JsonObject:
    """What there is to know of the session itself, for programs."""
    names = [name for name in Transcript.__slots__ if name != "turns"]
    return {**{name: getattr(transcript, name) for name in names}, "total_tokens": transcript.total_tokens}
