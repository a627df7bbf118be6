"""Reading questions and answering them, straight in the database: no server has to run for it."""

import json
import shlex
from collections.abc import Sequence
from typing import cast

import click

from codexdb.cli import screen, wording
from codexdb.cli.opening import run_with_store
from codexdb.domain.approval import Decision
from codexdb.domain.clock import SystemClock
from codexdb.domain.json import JsonObject, decode_object, encode
from codexdb.domain.limits import PAGE_ROWS_MAX
from codexdb.domain.outcome import Decided, DecideOutcome, TooLate
from codexdb.store import approvals, endings
from codexdb.store.approvals import ApprovalRow
from codexdb.store.database import Store

BY_COMMAND = "codexdb approvals"


def show(db: str | None, *, closed: bool, as_json: bool) -> int:
    """Print the questions that wait, or all of them; returns the exit code."""

    async def read(store: Store) -> Sequence[ApprovalRow]:
        return await approvals.listed(store.readers, None, pending_only=not closed, after_key=0, limit=PAGE_ROWS_MAX)

    rows = run_with_store(db, read)
    if as_json:
        screen.write("".join(f"{encode(_shown(row))}\n" for row in rows))
    elif not rows:
        screen.write("No question waits for an answer.\n")
    else:
        columns = ("approval", "kind", "state", "asked", "what")
        table = [
            (row.approval_id, row.kind, row.decision or row.state, wording.moment(row.created_at_ms), _what(row))
            for row in rows
        ]
        console = screen.console()
        console.print(screen.table(columns, table, ruled=console.is_terminal))
    return 0


def give(db: str | None, approval: str, decision: Decision, *, as_json: bool) -> int:
    """Answer a question; returns the exit code."""

    async def write(store: Store) -> DecideOutcome:
        return await store.writer.submit(endings.decide, approval, decision, BY_COMMAND, SystemClock().now_ms())

    outcome = run_with_store(db, write)
    if isinstance(outcome, Decided):
        told = {"approval_id": approval, "turn_id": outcome.turn_id, "decision": decision.value}
        text = f"{decision.value}: turn {outcome.turn_id} goes on by it\n"
        screen.write(f"{json.dumps(told)}\n" if as_json else text)
        return 0
    if isinstance(outcome, TooLate):
        raise click.ClickException(f"the question is {outcome.decision or outcome.state} already; nothing was changed")
    raise click.ClickException("there is no question of that id; `codexdb approvals list` shows those that wait")


def _shown(row: ApprovalRow) -> JsonObject:
    return {
        "approval_id": row.approval_id,
        "session_id": row.session_id,
        "turn_id": row.turn_id,
        "kind": row.kind,
        "state": row.state,
        "question": decode_object(row.question),
        "decision": row.decision,
        "decided_by": row.decided_by,
        "created_at_ms": row.created_at_ms,
    }


def _what(row: ApprovalRow) -> str:
    """The question in a line."""
    question = decode_object(row.question)
    match row.kind:
        case "exec":
            return f"{shlex.join(cast('list[str]', question['command']))}  in {question['cwd']}"
        case "patch":
            return ", ".join(cast("JsonObject", question["changes"]))
        case _:
            return f"{question.get('tool')} of {question.get('server')}"
