"""From a file of Codex to a session: what each kind of line means."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

from codexdb.cli.moving.check import SessionCheck
from codexdb.cli.moving.rollout_file import RolloutFile, RolloutLine, digest_of
from codexdb.cli.moving.rollout_session import Conversation, replacement_of
from codexdb.domain import event
from codexdb.domain.ids import derived_id, parse_id
from codexdb.domain.item import environment_context, user_instructions
from codexdb.domain.json import JsonObject, encode
from codexdb.domain.session import ApprovalPolicy, SandboxMode, SessionSettings
from codexdb.store.exchange import KINDS, SessionRow
from codexdb.store.imports import Rollout

ORIGIN = "import"

# Lines that say again what others say, or what only Codex itself can use.
_PASSED_OVER = frozenset(
    {"state", "turn_context", "token_usage_record", "world_state", "session_state", "ghost_snapshot"}
)
_SAID_ELSEWHERE = frozenset(
    {
        "agent_message",
        "agent_message_delta",
        "agent_reasoning",
        "agent_reasoning_delta",
        "agent_reasoning_raw_content",
        "agent_reasoning_section_break",
        "context_compacted",
        "item_completed",
        "item_started",
        "session_configured",
        "thread_settings_applied",
        "token_count",
        "user_message",
    }
)


@dataclass(frozen=True, slots=True)
class Converted:
    """A file as a session. `unseen`: how many of which types were kept that the model does not see."""

    rollout: Rollout
    size: int
    unseen: Counter[str]


def converted(file: RolloutFile, defaults: SessionSettings) -> Converted:
    """The session that a file tells of; `defaults` say what it does not. The same file gives the same session."""
    return _Conversion(file, defaults).run()


class _Conversion:
    def __init__(self, file: RolloutFile, defaults: SessionSettings) -> None:
        self._file = file
        meta = file.meta
        self._seed = f"{meta.get('id')}\0{file.path.name}"
        self._model = _text(meta.get("model")) or defaults.model
        self._provider = _text(meta.get("model_provider")) or defaults.model_provider
        self._cwd = _absolute(meta.get("cwd")) or defaults.cwd
        self._approval: str = defaults.approval_policy
        self._sandbox: str = defaults.sandbox_mode
        self._network = defaults.network_access
        self._said = Conversation(self._seed, [event.session_configured("", self._model)], file.started_at_ms)
        self._counts_requests = any(line.type == "token_usage_record" for line in file.lines)
        self._total: object = None  # tokens of all requests, as they were told last
        self._metas = 0

    def run(self) -> Converted:
        said = self._said
        instructions = _text(self._file.meta.get("instructions"))
        if instructions and not any(_is_instructions(line) for line in self._file.lines):
            said.context(user_instructions(instructions))
        for line in self._file.lines:
            said.at_ms = max(said.at_ms, line.at_ms)
            self._take(line)
        said.close()
        network = self._network or self._sandbox == SandboxMode.DANGER_FULL_ACCESS
        said.context(environment_context(self._cwd, self._approval, self._sandbox, network_access=network))
        if self._metas:
            said.unseen["session_meta"] += self._metas
        rollout = Rollout(
            name=self._file.path.name,
            session_id=self._session_id(),
            instead=derived_id(self._file.started_at_ms, self._seed),
            digest=self._file.digest,
            digest_of=digest_of(self._file.path),
            rows=self._rows,
        )
        _check(rollout)
        return Converted(rollout, self._file.size, said.unseen)

    # -- lines ---------------------------------------------------------------------------------------------------------

    def _take(self, line: RolloutLine) -> None:
        match line.type:
            case "response_item":
                self._said.item(line.payload, line.number)
            case "event_msg":
                self._event(line.payload)
            case "compacted":
                self._compacted(line.payload)
            case "turn_context":
                self._context(line.payload)
            case "token_usage_record":
                self._said.request(_object(line.payload.get("usage")), self._model, self._provider)
            case "session_meta":
                self._metas += 1  # of the session that it was forked from
            case kind if kind not in _PASSED_OVER:
                self._said.record({"type": kind, "payload": line.payload})
            case _:
                pass

    def _event(self, told: JsonObject) -> None:
        match _text(told.get("type")):
            case "task_started" | "turn_started":
                self._said.begin(_text(told.get("turn_id")) or "0")
            case "task_complete" | "turn_complete":
                self._said.complete(_text(told.get("last_agent_message")))
            case "turn_aborted":
                self._said.interrupt()
            case "error":
                self._said.fail(_text(told.get("message")) or "")
            case "thread_rolled_back":
                turns = told.get("num_turns")
                self._said.roll_back(turns if isinstance(turns, int) else 0)
            case "thread_name_updated":
                self._said.title = _text(told.get("thread_name")) or self._said.title
            case kind if kind not in _SAID_ELSEWHERE:
                self._said.record(told)
            case _:
                self._count(told)

    def _count(self, told: JsonObject) -> None:
        """A request, where nothing else tells of it. A count that is told again is none."""
        info = _object(told.get("info"))
        total = info.get("total_token_usage")
        if told.get("type") == "token_count" and not self._counts_requests and (total is None or total != self._total):
            self._total = total
            self._said.request(_object(info.get("last_token_usage")), self._model, self._provider)

    def _compacted(self, told: JsonObject) -> None:
        history = told.get("replacement_history")
        if not isinstance(history, list):
            self._said.summary(_text(told.get("message")) or "", None)
            return
        kept, left = replacement_of(cast("list[object]", history))
        self._said.summary(_text(told.get("message")) or "", kept)
        for each in left:
            self._said.record(each)

    def _context(self, told: JsonObject) -> None:
        """Settings of the turns from here on. What we do not know is taken for the strictest."""
        self._model = _text(told.get("model")) or self._model
        self._cwd = _absolute(told.get("cwd")) or self._cwd
        if "approval_policy" in told:
            approval = told["approval_policy"]
            self._approval = approval if approval in list(ApprovalPolicy) else ApprovalPolicy.UNTRUSTED.value  # pyright: ignore[reportAttributeAccessIssue]
        if "sandbox_policy" in told:
            policy = _object(told["sandbox_policy"])
            mode = policy.get("type", policy.get("mode"))
            known = isinstance(mode, str) and mode in list(SandboxMode)
            self._sandbox = cast("str", mode) if known else SandboxMode.READ_ONLY.value
            self._network = known and policy.get("network_access") is True

    # -- rows ----------------------------------------------------------------------------------------------------------

    def _session_id(self) -> str:
        try:
            return parse_id(_text(self._file.meta.get("id")) or "")
        except ValueError:
            return derived_id(self._file.started_at_ms, self._seed)

    def _rows(self, session_id: str) -> Iterable[SessionRow]:
        said = self._said
        configured = event.session_configured(session_id, self._model)
        events = [{**said.events[0], "msg": encode(configured.msg)}, *said.events[1:]]
        parts = {
            "session": [self._session(session_id)],
            "turn": said.turns,
            "input": [self._opening(), *said.inputs],
            "item": said.items,
            "tool_call": said.calls,
            "model_request": said.requests,
            "event": events,
        }
        for kind in KINDS:
            yield from (SessionRow(kind, fields) for fields in parts.get(kind, []))

    def _session(self, session_id: str) -> JsonObject:
        said = self._said
        return {
            "public_id": session_id,
            "origin": ORIGIN,
            "title": said.title,
            "model": self._model,
            "model_provider": self._provider,
            "cwd": self._cwd,
            "approval_policy": str(self._approval),
            "sandbox_mode": str(self._sandbox),
            "settings": encode({"network_access": True} if self._network else {}),
            "latest_plan": None,
            "forked_from": None,
            "epoch": said.epoch,
            "turn_count": len(said.turns),
            "next_seq": len(said.events) + 1,
            "next_item_seq": len(said.items) + 1,
            "created_at_ms": self._file.started_at_ms,
            "updated_at_ms": said.at_ms,
            "archived_at_ms": None,
        }

    def _opening(self) -> JsonObject:
        """The file as the message that made the session: by its name and its digest a repeat is recognised."""
        file, meta = self._file, self._file.meta
        told = ("id", "originator", "cli_version", "source", "git", "forked_from_id", "parent_thread_id")
        about: JsonObject = {"type": "rollout", "bytes": file.size, "turns": len(self._said.turns)}
        about |= {name: meta[name] for name in told if meta.get(name) is not None}
        return {
            "public_id": derived_id(file.started_at_ms, self._seed, "opening"),
            "turn": None,
            "message_id": file.path.name,
            "opens_session": 1,
            "mode": "create",
            "outcome": "created",
            "content": encode([about]),
            "content_hash": file.digest,
            "item": None,
            "created_at_ms": file.started_at_ms,
            "delivered_at_ms": None,
            "withdrawn_at_ms": None,
        }


def _check(rollout: Rollout) -> None:
    """Raises `BadLineError` where the rows are not such as codexdb writes: a number that no column holds, for one."""
    check = SessionCheck()
    for row in rollout.rows(rollout.session_id):
        check.take(row)
    check.end()


def _is_instructions(line: RolloutLine) -> bool:
    return line.type == "response_item" and "<user_instructions>" in encode(line.payload)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _absolute(value: object) -> str | None:
    return value if isinstance(value, str) and value.startswith("/") else None


def _object(value: object) -> JsonObject:
    return cast("JsonObject", value) if isinstance(value, dict) else {}
