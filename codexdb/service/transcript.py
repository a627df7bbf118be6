"""Builds the transcript of a session from its rows.

Items say what was said and asked for; calls, questions and events say what came of it. A fork's shared past has only
its items: there the outputs that the model was told are shown.
"""

from collections import defaultdict
from collections.abc import Sequence
from operator import attrgetter
from typing import cast

from codexdb.domain.item import is_context, texts
from codexdb.domain.json import JsonObject, decode, decode_object
from codexdb.domain.limits import TRANSCRIPT_OUTPUT_CHARS_MAX
from codexdb.domain.transcript import (
    Command,
    FileChange,
    Message,
    Notice,
    Output,
    Passage,
    Patch,
    Plan,
    Question,
    Reasoning,
    Summary,
    ToolCall,
    Transcript,
    Turn,
    Usage,
)
from codexdb.store.readers import Readers
from codexdb.store.transcripts import (
    CallFacts,
    InputFacts,
    ItemFacts,
    QuestionFacts,
    SessionRows,
    SpentFacts,
    TurnFacts,
    session_rows,
)

TITLE_CHARS = 80
SHELL_NAMES = frozenset({"shell", "container.exec"})

_NOTHING = Output("")


async def read_transcript(readers: Readers, session_id: str) -> Transcript | None:
    """The transcript of a session as of one instant; None where there is none of that id."""
    rows = await session_rows(readers, session_id)
    return None if rows is None else _transcript(rows)


def _transcript(rows: SessionRows) -> Transcript:
    passages = _Builder(rows).passages()
    known = {turn.key: turn for turn in rows.turns}
    spent = {each.turn_key: each for each in rows.spent}
    keys = list(dict.fromkeys([*passages, *known]))
    built = [_turn(rows, known.get(key), spent.get(key), passages.get(key, [])) for key in keys]
    session = rows.session
    return Transcript(
        session_id=session.session_id,
        title=session.title or _first_words(built),
        origin=session.origin,
        model=session.model,
        model_provider=session.model_provider,
        cwd=session.cwd,
        approval_policy=session.approval_policy,
        sandbox_mode=session.sandbox_mode,
        forked_from=session.forked_from,
        created_at_ms=session.created_at_ms,
        updated_at_ms=session.updated_at_ms,
        archived_at_ms=session.archived_at_ms,
        items_left_out=rows.left_out,
        turns=sorted(built, key=lambda turn: (not turn.inherited, turn.number or 0)),
    )


def _turn(rows: SessionRows, turn: TurnFacts | None, spent: SpentFacts | None, passages: Sequence[Passage]) -> Turn:
    usage = (
        Usage(
            spent.requests,
            spent.retries,
            spent.input_tokens,
            spent.cached_input_tokens,
            spent.output_tokens,
            spent.reasoning_output_tokens,
            spent.total_tokens,
        )
        if spent is not None
        else Usage()
    )
    if turn is None:  # of a session that is deleted
        return Turn(None, None, True, "", None, None, None, None, 0, 0, None, None, None, usage, passages)  # noqa: FBT003 - as columns
    return Turn(
        number=turn.number,
        turn_id=turn.turn_id,
        inherited=turn.session_key != rows.session.key,
        state=turn.state,
        end_reason=turn.end_reason,
        error_kind=turn.error_kind,
        error_message=turn.error_message,
        model=spent.model if spent is not None else None,
        attempts=turn.attempt,
        crashes=turn.crashes,
        created_at_ms=turn.created_at_ms,
        started_at_ms=turn.started_at_ms,
        ended_at_ms=turn.ended_at_ms,
        usage=usage,
        passages=passages,
    )


def _first_words(turns: Sequence[Turn]) -> str:
    for turn in turns:
        for passage in turn.passages:
            if isinstance(passage, Message) and passage.role == "user":
                return " ".join(passage.text[: 4 * TITLE_CHARS].split())[:TITLE_CHARS]
    return ""


class _Builder:
    """Puts rows together by their keys; reads each once."""

    def __init__(self, rows: SessionRows) -> None:
        self._rows = rows
        self._calls = {call.item_key: call for call in rows.calls}
        self._questions = {question.call_key: question for question in rows.questions}  # the latest of each
        self._outputs: dict[tuple[int | None, str], str] = {}  # what the model was told of calls without a row
        self._begun: dict[tuple[int | None, str], list[tuple[int, JsonObject]]] = defaultdict(list)
        self._late: dict[int, list[Passage]] = defaultdict(list)  # turn → what is no item of it

    def passages(self) -> dict[int, list[Passage]]:
        """Turn → what happened in it, in order."""
        self._read_log()
        self._read_outputs()
        found: dict[int, list[Passage]] = defaultdict(list)
        for item in self._rows.items:
            passage = self._passage(item) if item.turn_key is not None else None
            if passage is not None and item.turn_key is not None:
                found[item.turn_key].append(passage)
        for turn_key, more in self._late.items():
            found[turn_key] = sorted([*found[turn_key], *more], key=attrgetter("at_ms"))
        return found

    def _read_log(self) -> None:
        for event in self._rows.events:
            msg = decode_object(event.msg)
            if event.type != "background_event":
                self._begun[event.turn_key, str(msg["call_id"])].append((event.created_at_ms, msg))
            elif event.turn_key is not None:
                self._late[event.turn_key].append(Notice(event.created_at_ms, str(msg["message"])))
        for waiting in self._rows.inputs:
            self._late[waiting.turn_key].append(_undelivered(waiting))

    def _read_outputs(self) -> None:
        if all(item.key in self._calls for item in self._rows.items if item.type == "function_call"):
            return
        for item in self._rows.items:
            if item.type == "function_call_output":
                payload = decode_object(item.payload)
                self._outputs[item.turn_key, str(payload.get("call_id"))] = _told(payload.get("output"))

    def _passage(self, item: ItemFacts) -> Passage | None:  # noqa: PLR0911 - one kind of item after another
        if item.type == "function_call_output":
            return None
        payload = decode_object(item.payload)
        match item.type:
            case "message":
                return _message(item, payload)
            case "reasoning":
                return _reasoning(item, payload)
            case "function_call":
                return self._call(item, payload)
            case "compaction":
                return Summary(item.created_at_ms, str(payload.get("summary", "")))
            case "compaction_request":
                return Notice(item.created_at_ms, "A summary was asked for.")
            case _:
                return Notice(item.created_at_ms, f"The model sent an item of type {item.type}.")

    def _call(self, item: ItemFacts, payload: JsonObject) -> Passage:
        at_ms, call_id, name = item.created_at_ms, str(payload.get("call_id")), str(payload.get("name"))
        call = self._calls.get(item.key)
        question = self._questions.get(call.key) if call is not None else None
        asked = decode_object(question.question) if question is not None else {}
        begun = self._began(call)
        state, took = (call.state, _took(call)) if call is not None else ("", None)
        output = _output(call) if call is not None else _cut(self._outputs.get((item.turn_key, call_id), ""))
        shown = _question(question, asked)
        arguments = str(payload.get("arguments", ""))
        given = _object(arguments)
        if "changes" in begun or "changes" in asked or name == "apply_patch":
            changes = cast("JsonObject", begun.get("changes") or asked.get("changes") or {})
            files = [_file_change(path, change) for path, change in changes.items()]
            text = "" if files else str(given.get("input", arguments))
            return Patch(at_ms, call_id, files, text, state, took, output, shown)
        command = given.get("command")
        if name in SHELL_NAMES and isinstance(command, list):
            argv = [str(part) for part in cast("list[object]", command)]
            workdir = str(given["workdir"]) if given.get("workdir") else None
            exit_code, output = (call.exit_code, output) if call is not None else _as_told(output)
            return Command(at_ms, call_id, argv, workdir, state, exit_code, took, output, shown)
        if name == "update_plan" and isinstance(given.get("plan"), list):
            return _plan(item, given)
        called = cast("JsonObject", begun.get("invocation") or asked)
        server = str(called["server"]) if called.get("server") else None
        return ToolCall(at_ms, call_id, server, str(called.get("tool") or name), arguments, state, took, output, shown)

    def _began(self, call: CallFacts | None) -> JsonObject:
        """What the log says of the call's beginning. Models repeat the names of calls, so its time decides."""
        if call is None:
            return {}
        until = call.ended_at_ms
        told = self._begun.get((call.turn_key, call.call_id), ())
        ours = [msg for at, msg in told if at >= call.proposed_at_ms and (until is None or at <= until)]
        return ours[-1] if ours else {}


def _message(item: ItemFacts, payload: JsonObject) -> Message | None:
    if is_context(payload):
        return None
    parts = cast("Sequence[object]", payload.get("content") or ())
    images = sum(isinstance(part, dict) and cast("JsonObject", part).get("type") == "input_image" for part in parts)
    note = "cut short" if item.partial else ""
    return Message(item.created_at_ms, str(payload.get("role")), "\n\n".join(texts(payload)), images, note)


def _undelivered(row: InputFacts) -> Message:
    parts = cast("list[JsonObject]", decode(row.content))
    said = "\n\n".join(str(part["text"]) for part in parts if part.get("type") == "text")
    images = sum(part.get("type") in {"image", "local_image"} for part in parts)
    return Message(row.created_at_ms, "user", said, images, "taken back" if row.withdrawn_at_ms else "waiting")


def _reasoning(item: ItemFacts, payload: JsonObject) -> Reasoning | None:
    for name in ("summary", "content"):
        parts = payload.get(name)
        if isinstance(parts, list):
            told = [str(part.get("text", "")) for part in cast("list[object]", parts) if isinstance(part, dict)]  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType] - JSON of a model's
            if any(told):
                return Reasoning(item.created_at_ms, "\n\n".join(told))
    return None  # encrypted


def _plan(item: ItemFacts, given: JsonObject) -> Plan:
    steps = [cast("JsonObject", step) for step in cast("list[object]", given["plan"]) if isinstance(step, dict)]
    why = given.get("explanation")
    return Plan(
        item.created_at_ms,
        str(why) if why else None,
        [(str(step.get("step", "")), str(step.get("status", ""))) for step in steps],
    )


def _file_change(path: str, change: object) -> FileChange:
    """See the events of patches: `"delete"`, `{"add": …}` or `{"update": …}`."""
    if isinstance(change, dict):
        for kind, about in cast("dict[str, JsonObject]", change).items():
            if kind == "add":
                added = str(about.get("content", ""))
                return FileChange(path, "add", None, "".join(f"+{line}\n" for line in added.splitlines()))
            moved_to = about.get("move_path")
            return FileChange(path, "update", str(moved_to) if moved_to else None, str(about.get("unified_diff", "")))
    return FileChange(path, "delete", None, "")


def _question(row: QuestionFacts | None, asked: JsonObject) -> Question | None:
    if row is None:
        return None
    reason = asked.get("reason")
    return Question(row.approval_id, row.state, row.decision, row.decided_by, str(reason) if reason else None)


def _output(call: CallFacts) -> Output:
    if call.output_chars < 0:
        return _cut(call.head)
    left_out = call.output_chars - len(call.head) - len(call.tail)
    return Output(call.head, call.tail, left_out) if call.output_chars else _NOTHING


def _cut(told: str) -> Output:
    if len(told) <= TRANSCRIPT_OUTPUT_CHARS_MAX:
        return Output(told)
    half = TRANSCRIPT_OUTPUT_CHARS_MAX // 2
    return Output(told[:half], told[-half:], len(told) - 2 * half)


def _took(call: CallFacts | None) -> int | None:
    if call is None or call.started_at_ms is None or call.ended_at_ms is None:
        return None
    return call.ended_at_ms - call.started_at_ms


def _object(text: str) -> JsonObject:
    """What a model wrote need not be JSON, nor an object."""
    try:
        value = decode(text)
    except ValueError:
        return {}
    return cast("JsonObject", value) if isinstance(value, dict) else {}


def _told(output: object) -> str:
    return output if isinstance(output, str) else ""


def _as_told(output: Output) -> tuple[int | None, Output]:
    """Exit code and output of a command, from what the model was told."""
    told = _object(output.head)
    metadata, printed = told.get("metadata"), told.get("output")
    code = cast("JsonObject", metadata).get("exit_code") if isinstance(metadata, dict) else None
    return code if isinstance(code, int) else None, Output(printed) if isinstance(printed, str) else output
