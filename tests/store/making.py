"""Rows as the program makes them, for tests that work on the store itself."""

import hashlib
import os
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio

from codexdb.domain.clock import SystemClock
from codexdb.domain.event import session_configured, task_complete
from codexdb.domain.ids import new_id
from codexdb.domain.item import input_text, user_message
from codexdb.domain.outcome import SendOutcome, Started
from codexdb.domain.session import ApprovalPolicy, SandboxMode, SessionSettings
from codexdb.domain.transition import TurnState
from codexdb.domain.worker import Claim, WorkerIdentity
from codexdb.store import endings, turns, workers
from codexdb.store.database import Store, open_store
from codexdb.store.sessions import NewSession

CLOCK = SystemClock()

ANSWERED = endings.Ending(TurnState.COMPLETED, "answered", task_complete("done"), last_agent_message="done")


def identity() -> WorkerIdentity:
    return WorkerIdentity(new_id(), os.getpid(), "0", "boot", "namespace", os.getuid(), "/", "test")


def new_session(session_id: str) -> NewSession:
    settings = SessionSettings("model", "scripted", "/", ApprovalPolicy.NEVER, SandboxMode.READ_ONLY)
    return NewSession(session_id, "test", settings, [], [session_configured(session_id, "model")], CLOCK.now_ms())


def new_message(worker_key: int, text: str = "hello", message_id: str | None = None) -> turns.NewMessage:
    return turns.NewMessage(
        input_id=new_id(),
        turn_id=new_id(),
        message_id=message_id,
        content=[{"type": "text", "text": text}],
        content_hash=hashlib.sha256(text.encode()).hexdigest(),
        item=user_message([input_text(text)]),
        submission_id="1",
        trace_context=None,
        worker_key=worker_key,
        now_ms=CLOCK.now_ms(),
    )


async def register(store: Store) -> int:
    """A worker of ours; returns its key."""
    return await store.writer.submit(workers.register, identity(), CLOCK.now_ms(), CLOCK.monotonic_ms())


async def running_turn(store: Store, worker_key: int) -> Claim:
    """A new session whose first turn runs on that worker."""
    session_id = new_id()
    outcome: SendOutcome = await store.writer.submit(
        turns.open_and_start, new_session(session_id), new_message(worker_key)
    )
    assert isinstance(outcome, Started)
    return store.feed.claims.pop()


def with_store(path: Path, test: Callable[[Store], Awaitable[None]]) -> None:
    """Run `test` on an open store; everything is committed and closed afterwards."""

    async def run() -> None:
        async with open_store(path) as store:
            await test(store)

    anyio.run(run)


def query(path: Path, sql: str, *parameters: object) -> list[tuple[object, ...]]:
    """What a connection of somebody else sees."""
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5)
    try:
        return connection.execute(sql, parameters).fetchall()
    finally:
        connection.close()
