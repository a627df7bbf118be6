"""Sessions as the program would have written them, row by row: what the big database is filled with."""

import hashlib
import random
import sqlite3
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from codexdb.domain import event
from codexdb.domain.event import Event
from codexdb.domain.item import (
    Item,
    assistant_message,
    environment_context,
    function_call,
    function_call_output,
    input_text,
    user_message,
)
from codexdb.domain.json import encode
from tests.bench.vocabulary import Vocabulary

BEGAN_MS = 1_764_000_000_000  # 2025-11-24
DAY_MS = 86_400_000
ROWS_AT_ONCE = 40_000  # kept in memory
ROWS_IN_A_TRANSACTION = 1_000_000
DIRECTORIES = 40
PER_STEP, PER_TURN = 3.4, 4  # events

_COLUMNS = {
    "sessions": (
        "id public_id origin title model model_provider cwd approval_policy sandbox_mode settings forked_from_id "
        "turn_count next_seq next_item_seq active_turn_id created_at_ms updated_at_ms archived_at_ms"
    ),
    "turns": (
        "id public_id session_id number state attempt accepted_by_id submission_id end_reason error_kind error_message "
        "last_agent_message created_at_ms started_at_ms ended_at_ms"
    ),
    "inputs": (
        "public_id session_id turn_id opens_session mode outcome content content_hash created_at_ms delivered_at_ms"
    ),
    "items": "id session_id seq turn_id type role payload partial created_at_ms",
    "events": "session_id seq turn_id type msg created_at_ms",
    "tool_calls": (
        "id public_id session_id turn_id item_id output_item_id call_id name arguments state attempt exit_code output "
        "proposed_at_ms started_at_ms ended_at_ms"
    ),
    "approvals": (
        "public_id session_id turn_id tool_call_id kind state question fallback decision decided_by created_at_ms "
        "decided_at_ms"
    ),
    "model_requests": (
        "session_id turn_id attempt model model_provider started_at_ms first_event_at_ms ended_at_ms retries "
        "input_tokens cached_input_tokens output_tokens reasoning_output_tokens total_tokens error"
    ),
}
_PATCH = """\
*** Begin Patch
*** Update File: src/{0}.py
@@
-    return {1}
+    return {2}
*** End Patch
"""
_DIFF = "--- a/src/{0}.py\n+++ b/src/{0}.py\n@@ -1 +1 @@\n-    return {1}\n+    return {2}\n"
_STATUS = "unexpected status 503 Service Unavailable: try again later"


def _insert(table: str) -> str:
    names = _COLUMNS[table].split()
    return f"INSERT INTO {table} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"  # noqa: S608 - constants


class Rows:
    """What is written, a good many rows at once."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._kept: dict[str, list[tuple[object, ...]]] = {table: [] for table in _COLUMNS}
        self._waiting = self._written = 0
        connection.execute("BEGIN")

    def add(self, table: str, *row: object) -> None:
        self._kept[table].append(row)
        self._waiting += 1

    def flush(self, *, at_least: int = ROWS_AT_ONCE) -> None:
        """Write them, if there are so many."""
        if self._waiting < at_least:
            return
        for table, rows in self._kept.items():
            self._connection.executemany(_insert(table), rows)
            rows.clear()
        self._written += self._waiting
        self._waiting = 0
        if self._written >= ROWS_IN_A_TRANSACTION or not at_least:
            self._connection.execute("COMMIT")
            self._connection.execute("BEGIN")
            self._written = 0


@dataclass(slots=True)
class Session:
    """One that is being written. `events_left`: until it has enough."""

    key: int
    public_id: str
    cwd: str
    created_at_ms: int
    events_left: int
    waits: bool
    turns: int = 0
    next_seq: int = 1
    next_item_seq: int = 1
    updated_at_ms: int = 0
    active_turn: int | None = None
    model: str = "gpt-5-codex"
    settings: str = field(default='{"network_access":false}')


class Builder:
    """Writes sessions, turn by turn."""

    def __init__(self, rows: Rows, seed: int = 7) -> None:
        self.chance = random.Random(seed)  # noqa: S311 - nobody's secret
        self.words = Vocabulary(self.chance)
        self.rows = rows
        self.now_ms = BEGAN_MS
        self.events = 0
        self._keys: Counter[str] = Counter()

    def id(self) -> str:
        """A UUIDv7 of this moment."""
        digits = f"{self.now_ms:012x}7{self.chance.getrandbits(12):03x}8{self.chance.getrandbits(60):015x}"
        return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"

    def key(self, of: str) -> int:
        self._keys[of] += 1
        return self._keys[of]

    def event(self, session: Session, turn: int | None, told: Event) -> None:
        self.rows.add("events", session.key, session.next_seq, turn, told.type, encode(told.msg), self.now_ms)
        session.next_seq += 1
        session.events_left -= 1
        self.events += 1

    def item(self, session: Session, turn: int | None, item: Item, *, partial: bool = False) -> int:
        key = self.key("item")
        role = item.get("role")
        seq, payload = session.next_item_seq, encode(item)
        self.rows.add("items", key, session.key, seq, turn, item["type"], role, payload, int(partial), self.now_ms)
        session.next_item_seq += 1
        return key

    # -- sessions ------------------------------------------------------------------------------------------------------

    def open(self, key: int, events: int, *, waits: bool) -> Session:
        cwd = f"/home/someone/projects/{self.chance.randrange(DIRECTORIES)}"
        session = Session(key, self.id(), cwd, self.now_ms, events, waits)
        self.item(session, None, environment_context(cwd, "on-request", "workspace-write", network_access=False))
        self.event(session, None, event.session_configured(session.public_id, session.model))
        return session

    def close(self, session: Session) -> None:
        """Its own row, now that all its numbers are known."""
        archived = not session.waits and self.chance.random() < 0.3
        title = self.words.text(1)[:60] if self.chance.random() < 0.05 else None
        source = self.chance.randrange(1, session.key) if session.key > 1 and self.chance.random() < 0.02 else None
        self.rows.add(
            "sessions", session.key, session.public_id, "codex", title, session.model, "openai", session.cwd,
            "on-request", "workspace-write", session.settings, source, session.turns, session.next_seq,
            session.next_item_seq, session.active_turn, session.created_at_ms, session.updated_at_ms,
            session.updated_at_ms + DAY_MS if archived else None,
        )  # fmt: skip

    # -- turns ---------------------------------------------------------------------------------------------------------

    def turn(self, session: Session) -> None:
        """One more turn, with as many commands as there is room for."""
        key, turn_id = self.key("turn"), self.id()
        session.turns += 1
        began_ms = self.now_ms
        self._message(session, key)
        self.event(session, key, event.task_started())
        room = int((session.events_left - PER_TURN + 1) / PER_STEP)
        for _ in range(max(0, min(room, int(self.chance.expovariate(1 / (3 + room / 100)))))):
            self._step(session, key)
        last = session.waits and session.events_left <= PER_TURN * 3
        draw = self.chance.random()
        ending = self._wait if last else self._fail if draw < 0.03 else self._stop if draw < 0.05 else self._answer
        state, reason, kind, message, answer = ending(session, key)
        ended_ms = None if state == "waiting" else self.now_ms
        session.active_turn = key if state == "waiting" else None
        session.updated_at_ms = self.now_ms
        session.events_left = 0 if last else session.events_left
        self.rows.add(
            "turns", key, turn_id, session.key, session.turns, state, 1, 1, str(session.turns), reason, kind, message,
            answer, began_ms, began_ms, ended_ms,
        )  # fmt: skip

    def _message(self, session: Session, turn: int) -> None:
        text = self.words.text(self.chance.randint(1, 4))
        content = encode([{"type": "text", "text": text}])
        digest = hashlib.sha256(content.encode()).hexdigest()
        self.rows.add(
            "inputs", self.id(), session.key, turn, int(session.turns == 1), "start", "started", content, digest,
            self.now_ms, self.now_ms,
        )  # fmt: skip
        self.item(session, turn, user_message([input_text(text)]))

    def _answer(self, session: Session, turn: int) -> tuple[str | None, ...]:
        text = self.words.text(self.chance.randint(1, 8))
        self.item(session, turn, assistant_message(text))
        self.event(session, turn, event.agent_message(text))
        self._request(session, turn)
        self.event(session, turn, event.task_complete(text))
        return "completed", "answered", None, None, text

    def _fail(self, session: Session, turn: int) -> tuple[str | None, ...]:
        self._request(session, turn, error=_STATUS)
        self.event(session, turn, event.error(_STATUS))
        return "failed", "model_error", "model_error", _STATUS, None

    def _stop(self, session: Session, turn: int) -> tuple[str | None, ...]:
        self.item(session, turn, assistant_message(self.words.text(1)), partial=True)
        self.event(session, turn, event.error(event.INTERRUPTED_MESSAGE))
        return "interrupted", "requested", None, None, None

    def _wait(self, session: Session, turn: int) -> tuple[str | None, ...]:
        call, call_id, command = self._proposed(session, turn)
        self.rows.add("tool_calls", *call, None, call_id, "shell", encode({"command": command}), "proposed", 1, None,
                      None, self.now_ms, None, None)  # fmt: skip
        self._request(session, turn)
        self._question(session, turn, call[0], command, ("pending", None, None, None))
        self.event(session, turn, event.exec_approval_request(call_id, command, session.cwd, None))
        return "waiting", None, None, None, None

    def _question(
        self, session: Session, turn: int, call: object, command: Sequence[str], how: Sequence[object]
    ) -> None:
        state, *decided = how
        question = encode({"command": list(command), "cwd": session.cwd, "reason": None})
        self.rows.add("approvals", self.id(), session.key, turn, call, "exec", state, question, "wait", *decided[:2],
                      self.now_ms, decided[2])  # fmt: skip

    # -- steps ---------------------------------------------------------------------------------------------------------

    def _proposed(self, session: Session, turn: int) -> tuple[tuple[object, ...], str, list[str]]:
        """A call of a command: the first columns of its row, its name, the command."""
        number = self.key("call")
        command = ["rg", "-n", self.words.word(), f"src/{self.words.word()}"]
        item = self.item(session, turn, function_call(f"call_{number}", "shell", encode({"command": command})))
        return (number, self.id(), session.key, turn, item), f"call_{number}", command

    def _step(self, session: Session, turn: int) -> None:
        """The model thinks, perhaps, has something done, and sees what came of it."""
        if self.chance.random() < 0.3:
            thought = self.words.text(1)
            summary = [{"type": "summary_text", "text": thought}]
            self.item(session, turn, {"type": "reasoning", "summary": summary, "encrypted_content": "sealed"})
            self.event(session, turn, event.agent_reasoning(thought))
        if self.chance.random() < 0.1:
            self._patch(session, turn)
        else:
            self._command(session, turn)
        self._request(session, turn)

    def _command(self, session: Session, turn: int) -> None:
        call, call_id, command = self._proposed(session, turn)
        began_ms = self.now_ms
        if self.chance.random() < 0.02:
            self.event(session, turn, event.exec_approval_request(call_id, command, session.cwd, None))
            self._question(session, turn, call[0], command, ("approved", "approved", "client", self.now_ms))
        self.event(session, turn, event.exec_command_begin(call_id, command, session.cwd))
        took_ms = int(self.chance.expovariate(1 / 300))
        self.now_ms += took_ms
        code = 0 if self.chance.random() < 0.9 else 1
        printed = self.words.text(self.chance.randint(0, 4))
        told = encode(
            {"output": printed, "metadata": {"exit_code": code, "duration_seconds": round(took_ms / 1000, 1)}}
        )
        output = self.item(session, turn, function_call_output(call_id, told))
        self.event(session, turn, event.exec_command_end(call_id, printed, "", code, took_ms * 1_000_000))
        self.rows.add(
            "tool_calls", *call, output, call_id, "shell", encode({"command": command}),
            "failed" if code else "succeeded", 1, code, printed, began_ms, began_ms, self.now_ms,
        )  # fmt: skip

    def _patch(self, session: Session, turn: int) -> None:
        number, names = self.key("call"), (self.words.word(), self.words.word(), self.words.word())
        call_id, said = f"call_{number}", f"Success. Updated the following files:\nM src/{names[0]}.py\n"
        arguments = encode({"command": ["apply_patch", _PATCH.format(*names)]})
        item = self.item(session, turn, function_call(call_id, "shell", arguments))
        changes: dict[str, object] = {f"src/{names[0]}.py": {"update": {"unified_diff": _DIFF.format(*names)}}}
        self.event(session, turn, event.patch_apply_begin(call_id, changes, auto_approved=True))
        told = encode({"output": said, "metadata": {"exit_code": 0, "duration_seconds": 0.0}})
        output = self.item(session, turn, function_call_output(call_id, told))
        self.event(session, turn, event.patch_apply_end(call_id, said, "", success=True))
        self.event(session, turn, event.turn_diff(_DIFF.format(*names)))
        self.rows.add(
            "tool_calls", number, self.id(), session.key, turn, item, output, call_id, "shell", arguments, "succeeded",
            1, 0, said, self.now_ms, self.now_ms, self.now_ms,
        )  # fmt: skip

    def _request(self, session: Session, turn: int, error: str | None = None) -> None:
        """What an answer has cost. It is on record behind what the answer led to."""
        began_ms = self.now_ms
        self.now_ms += int(self.chance.expovariate(1 / 4_000))
        about = (session.key, turn, 1, session.model, "openai", began_ms, began_ms, self.now_ms, 0)
        if error is not None:
            self.rows.add("model_requests", *about, *[None] * 5, error)
            return
        seen, said = 4_000 + 400 * session.next_item_seq % 200_000, self.chance.randint(20, 900)
        counts = (seen, seen * 3 // 4, said, said // 3, seen + said)
        self.rows.add("model_requests", *about, *counts, None)
        self.event(session, turn, event.token_count(*counts))
