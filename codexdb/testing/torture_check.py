"""After the torture: the promises, checked against the file, the side effects, and what every client was told."""

import json
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from codexdb.testing.torture_client import SeenEvent, Sent
from codexdb.testing.torture_person import Told
from codexdb.testing.torture_script import final_text, is_final, is_patch, patched, question_of, work_of

Row = tuple[Any, ...]
Rows = list[Row]

_TERMINAL = ("completed", "failed", "interrupted")


@dataclass(slots=True)
class Findings:
    """What was found. `broken` names every session, turn or message for which a promise did not hold."""

    acknowledged: int = 0
    kept: int = 0
    lost: int = 0
    delivered_twice: int = 0
    commands: int = 0
    run_twice: int = 0
    unknown: int = 0  # commands and patches that a kill cut off; the model was told so
    patches: int = 0
    patches_cut_off: int = 0
    questions: int = 0
    open_at_kills: int = 0  # of them, those that a person had still to answer when a server was killed
    questions_lost: int = 0
    asked_twice: int = 0  # on one connection
    run_without_a_yes: int = 0
    turns: int = 0
    hit: int = 0  # turns that a kill took from their worker
    resumed: int = 0  # of them, those that ended completed with the text that was due
    events: int = 0
    events_seen: int = 0
    not_resumed: list[str] = field(default_factory=list[str])
    broken: list[str] = field(default_factory=list[str])

    @property
    def resumed_percent(self) -> float:
        return 100.0 * self.resumed / self.hit if self.hit else 100.0


@dataclass(frozen=True, slots=True)
class Questions:
    """What was seen of questions to a person, from outside and at kills."""

    asked: Sequence[tuple[str, str]]  # connection and call, each time that a form was sent
    listed: Mapping[str, str]  # question → call
    told: Sequence[Told]
    open_at_kills: Collection[str]  # calls


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the run leaves to be judged."""

    database: Path
    marks: Path
    messages: Sequence[Sent]
    read: Sequence[tuple[str, Mapping[str, Sequence[SeenEvent]]]]  # client and what it read, by session
    pushed: Sequence[tuple[str, str, Sequence[SeenEvent]]]  # server, session and the events that it was sent
    questions: Questions


def check(evidence: Evidence) -> Findings:
    """Everything but what the run itself noticed. The servers may still be there, but must be idle."""
    findings = Findings()
    connection = sqlite3.connect(f"file:{evidence.database}?mode=ro", uri=True)
    try:
        connection.execute("BEGIN")
        _messages(connection, evidence.messages, findings)
        _commands(connection, evidence.marks, findings)
        _questions(connection, evidence.questions, findings)
        _yeses(connection, evidence.marks, findings)
        _turns(connection, findings)
        _endings(connection, findings)
        _events(connection, evidence, findings)
    finally:
        connection.close()
    return findings


# -- messages ----------------------------------------------------------------------------------------------------------


def _messages(connection: sqlite3.Connection, messages: Iterable[Sent], findings: Findings) -> None:
    accepted = Counter(name for (name,) in _rows(connection, "SELECT message_id FROM inputs"))
    delivered = Counter(name for name, _, _ in _delivered(connection))
    answers = dict(
        _rows(
            connection,
            "SELECT i.message_id, t.last_agent_message FROM inputs i JOIN turns t ON t.id = i.turn_id",
        )
    )
    for sent in messages:
        name, where = sent.name, f"message {sent.name} of session {sent.session_id}"
        if accepted[name] > 1 or delivered[name] > 1:
            findings.delivered_twice += 1
            findings.broken.append(f"{where}: accepted {accepted[name]} and delivered {delivered[name]} times")
        if sent.refused and accepted[name]:
            findings.broken.append(f"{where}: refused ({sent.refused}) and yet accepted")
        if sent.text is not None and sent.text != (answers.get(name) or ""):
            findings.broken.append(f"{where}: told {sent.text!r}, on record {answers.get(name)!r}")
        if sent.acknowledged is None:
            if not sent.refused:
                findings.broken.append(f"{where}: never settled in {sent.tries} tries")
            continue
        findings.acknowledged += 1
        if accepted[name] and delivered[name]:
            findings.kept += 1
        else:
            findings.lost += 1
            what = "never delivered" if accepted[name] else "not on record"
            findings.broken.append(f"{where}: acknowledged ({sent.acknowledged}) and {what}")


def _delivered(connection: sqlite3.Connection) -> list[tuple[str, int, int]]:
    """Name, session and turn of every message that the model was given."""
    rows = _rows(connection, "SELECT text, session_id, turn_id FROM items WHERE type = 'message' AND role = 'user'")
    found = ((work_of(text or ""), session, turn) for text, session, turn in rows)
    return [(work.name, session, turn) for work, session, turn in found if work is not None]


# -- commands ----------------------------------------------------------------------------------------------------------


def _commands(connection: sqlite3.Connection, marks: Path, findings: Findings) -> None:
    lines = _left(marks)
    calls = _rows(
        connection,
        "SELECT c.call_id, c.state, c.started_at_ms, c.ended_at_ms, t.public_id FROM tool_calls c "
        "JOIN turns t ON t.id = c.turn_id",
    )
    for call_id, state, started_at_ms, ended_at_ms, turn in calls:
        findings.commands += started_at_ms is not None
        findings.unknown += state == "unknown"
        findings.patches += is_patch(call_id)
        findings.patches_cut_off += is_patch(call_id) and state == "unknown"
        if ended_at_ms is None:
            findings.broken.append(f"turn {turn}: call {call_id} has no outcome ({state})")
        if state == "succeeded" and lines[call_id] != 1:
            findings.broken.append(f"turn {turn}: call {call_id} succeeded and left {lines[call_id]} marks")
        if started_at_ms is None and lines[call_id]:
            findings.broken.append(f"turn {turn}: call {call_id} ran without being put on record")
    findings.broken += [f"a patch has left {file} behind" for file in patched(marks).glob(".*")]
    for name, count in Counter(row[0] for row in calls).items():
        if count > 1:
            findings.broken.append(f"call {name} is {count} times on record")
    for name, count in lines.items():
        if count > 1:
            findings.run_twice += 1
            findings.broken.append(f"command {name} ran {count} times")
    _outputs(connection, findings)


def _outputs(connection: sqlite3.Connection, findings: Findings) -> None:
    rows = _rows(
        connection,
        "SELECT s.public_id, i.type, json_extract(i.payload, '$.call_id') FROM items i "
        "JOIN sessions s ON s.id = i.session_id WHERE i.type IN ('function_call', 'function_call_output')",
    )
    made = Counter((session, call) for session, kind, call in rows if kind == "function_call")
    answered = Counter((session, call) for session, kind, call in rows if kind != "function_call")
    for session, call in made.keys() | answered.keys():
        if (made[session, call], answered[session, call]) != (1, 1):
            counts = f"{made[session, call]} call items and {answered[session, call]} outputs"
            findings.broken.append(f"session {session}: {call} has {counts}")


# -- questions ---------------------------------------------------------------------------------------------------------

_ASKED = (
    "SELECT a.public_id, c.call_id, a.state, a.decided_at_ms, t.state FROM approvals a "
    "JOIN turns t ON t.id = a.turn_id LEFT JOIN tool_calls c ON c.id = a.tool_call_id"
)


def _questions(connection: sqlite3.Connection, questions: Questions, findings: Findings) -> None:
    rows = _rows(connection, _ASKED)
    findings.questions, findings.open_at_kills = len(rows), len(questions.open_at_kills)
    told = _rows(connection, "SELECT json_extract(msg, '$.call_id') FROM events WHERE type = 'exec_approval_request'")
    _on_record(rows, [call for (call,) in told], questions, findings)
    _answers(rows, questions.told, findings)
    for (where, call), count in Counter(questions.asked).items():
        if count > 1:
            findings.asked_twice += 1
            findings.broken.append(f"{where} asked {count} times about {call}")


def _on_record(rows: Rows, told: Sequence[str], questions: Questions, findings: Findings) -> None:
    """Every call that anybody saw asked about has one question, and the log tells of it once."""
    recorded, in_log = Counter(call for _, call, *_ in rows), Counter(told)
    seen = {call for _, call in questions.asked} | {*questions.listed.values(), *questions.open_at_kills}
    for call in seen | recorded.keys() | in_log.keys():
        findings.questions_lost += not recorded[call]
        if (recorded[call], in_log[call]) != (1, 1):
            counts = f"{recorded[call]} questions on record and {in_log[call]} in the log"
            findings.broken.append(f"call {call} has {counts}")
    for approval, call in questions.listed.items() - {(approval, call) for approval, call, *_ in rows}:
        findings.questions_lost += 1
        findings.broken.append(f"question {approval} about {call} was listed and is not on record")


def _answers(rows: Rows, told: Iterable[Told], findings: Findings) -> None:
    """Every question was answered as the call's name says, and what was acknowledged stands."""
    for approval, call, state, _, turn in rows:
        wanted = question_of(call)
        if state == "withdrawn" and turn in ("failed", "interrupted"):
            continue  # with its turn, whose end is judged by itself
        findings.questions_lost += state in ("pending", "withdrawn")
        if wanted is None or state != ("approved" if wanted.yes else "denied"):
            findings.broken.append(f"question {approval} about {call} is {state}")
    states = {approval: state for approval, _, state, *_ in rows}
    for each in told:
        if states.get(each.approval_id) != each.decision:
            found = states.get(each.approval_id)
            findings.broken.append(f"question {each.approval_id}: told {each.decision}, on record {found}")


def _yeses(connection: sqlite3.Connection, marks: Path, findings: Findings) -> None:
    """What needs a yes began behind it, and never without; what had one began."""
    lines = _left(marks)
    answers = {call: (state, at_ms) for _, call, state, at_ms, _ in _rows(connection, _ASKED)}
    calls = _rows(
        connection,
        "SELECT c.call_id, c.state, c.started_at_ms, t.state FROM tool_calls c JOIN turns t ON t.id = c.turn_id",
    )
    for call, state, started_at_ms, turn_state in calls:
        if question_of(call) is None:
            continue
        answer, answered_at_ms = answers.get(call, (None, None))
        began = started_at_ms is not None or lines[call] > 0
        if began and (answer != "approved" or (started_at_ms or 0) < answered_at_ms):
            findings.run_without_a_yes += 1
            findings.broken.append(f"call {call} ran at {started_at_ms}; its question is {answer} at {answered_at_ms}")
        if turn_state == "completed" and began != (answer == "approved"):
            findings.broken.append(f"call {call} is {state}, began: {began}; its question is {answer}")
    for call in lines.keys() - {call for call, *_ in calls}:
        findings.broken.append(f"{call} ran and is no call on record")


# -- turns -------------------------------------------------------------------------------------------------------------


def _turns(connection: sqlite3.Connection, findings: Findings) -> None:
    for session, turn in _rows(connection, "SELECT public_id, active_turn_id FROM sessions"):
        if turn is not None:
            findings.broken.append(f"session {session} is stuck in turn {turn}")
    ended = Counter(
        turn for (turn,) in _rows(connection, "SELECT turn_id FROM events WHERE type IN ('task_complete', 'error')")
    )
    for key, turn, state, worker in _rows(connection, "SELECT id, public_id, state, worker_id FROM turns"):
        findings.turns += 1
        if state not in _TERMINAL or worker is not None:
            findings.broken.append(f"turn {turn} is {state}")
        if ended[key] != 1:
            findings.broken.append(f"turn {turn} has {ended[key]} terminal events")


def _endings(connection: sqlite3.Connection, findings: Findings) -> None:
    due = _due(connection)
    rows = _rows(connection, "SELECT id, public_id, state, end_reason, last_agent_message, crashes FROM turns")
    for key, turn, state, reason, text, crashes in rows:
        hit = crashes > 0
        findings.hit += hit
        if state == "completed" and text == due.get(key):
            findings.resumed += hit
        elif hit:
            findings.not_resumed.append(f"turn {turn} ({crashes} crashes): {state}, {reason}, said {text!r}")
        else:
            findings.broken.append(f"turn {turn}, which no kill hit: {state}, {reason}, said {text!r}")


def _due(connection: sqlite3.Connection) -> dict[int, str]:
    """The text that each turn has to end with: it names every message since the last such text of its session."""
    due: dict[int, str] = {}
    pending: dict[int, list[str]] = defaultdict(list)
    rows = _rows(
        connection,
        "SELECT session_id, turn_id, role, text FROM items WHERE type = 'message' AND NOT partial "
        "ORDER BY session_id, seq",
    )
    for session, turn, role, text in rows:
        work = work_of(text or "") if role == "user" else None
        if work is not None:
            pending[session].append(work.name)
        elif role == "assistant" and is_final(text):
            due[turn] = final_text(pending.pop(session, []))
    return due


# -- events ------------------------------------------------------------------------------------------------------------


def _events(connection: sqlite3.Connection, evidence: Evidence, findings: Findings) -> None:
    log: dict[str, list[SeenEvent]] = defaultdict(list)
    for session, seq, msg in _rows(
        connection,
        "SELECT s.public_id, e.seq, e.msg FROM events e JOIN sessions s ON s.id = e.session_id "
        "ORDER BY e.session_id, e.seq",
    ):
        log[session].append((seq, json.loads(msg)))
        findings.events += 1
    for session, next_seq in _rows(connection, "SELECT public_id, next_seq FROM sessions"):
        if [seq for seq, _ in log[session]] != list(range(1, next_seq)):
            findings.broken.append(f"session {session}: {len(log[session])} events, next_seq {next_seq}")
    for client, sessions in evidence.read:
        for session, seen in sessions.items():
            findings.events_seen += len(seen)
            if list(seen) != log[session]:
                findings.broken.append(f"client {client} read another log of session {session} than there is")
    for server, session, seen in evidence.pushed:
        findings.events_seen += len(seen)
        committed = dict(log[session])
        seqs = [seq for seq, _ in seen]
        if seqs != sorted(set(seqs)):
            findings.broken.append(f"{server} sent events of session {session} out of order: {seqs}")
        if any(committed.get(seq) != msg for seq, msg in seen):
            findings.broken.append(f"{server} sent events of session {session} that are not on record")


def _left(marks: Path) -> Counter[str]:
    """How often each command, and each patch, has left its mark."""
    lines = marks.read_text(encoding="utf-8").split() if marks.exists() else []
    for file in patched(marks).iterdir():
        if is_patch(file.name):
            lines += file.read_text(encoding="utf-8").split()[1:]
    return Counter(lines)


def _rows(connection: sqlite3.Connection, statement: str) -> Rows:
    return connection.execute(statement).fetchall()
