"""Doing something to a session from the command line: each is one write that says whether it won."""

from collections.abc import Awaitable, Callable
from typing import NoReturn, TypeVar

import anyio
import click

from codexdb.app import Options, open_application
from codexdb.cli import screen
from codexdb.cli.finding import find_id
from codexdb.cli.given import message_text, utf8
from codexdb.cli.opening import run_with_store
from codexdb.config.database import database_path
from codexdb.domain.errors import CodexDBError
from codexdb.domain.ids import new_id
from codexdb.domain.json import JsonObject, encode
from codexdb.domain.outcome import (
    Busy,
    Created,
    Deleted,
    Done,
    Duplicate,
    ForkOutcome,
    IfRunning,
    NotFound,
    Queued,
    Started,
    Steered,
)
from codexdb.protocol.turn_tools import refusal
from codexdb.service.sessions import Message, SessionService
from codexdb.store.diagnosis import open_workers
from codexdb.store.transcripts import turn_id_of

SUBMISSION = "sessions"  # what a client's request id is to the turns of a server

_T = TypeVar("_T")


def send(
    db: str | None, session: str, text: str, *, if_running: IfRunning, message_id: str | None, as_json: bool
) -> int:
    """Hand a message to a session, for whoever works on the database; returns the exit code."""
    message = Message(
        [{"type": "text", "text": message_text(text, "TEXT")}], SUBMISSION, message_id, if_running=if_running
    )
    session_id = _found(db, session)
    outcome = _act(db, lambda service: service.send(session_id, message))
    match outcome:
        case Started():
            name, turn_id = "started", outcome.turn_id
        case Queued():
            name, turn_id = "queued", outcome.turn_id
        case Steered():
            name, turn_id = "steered", outcome.turn_id
        case Duplicate():
            name, turn_id = outcome.outcome, outcome.turn_id
        case _:
            why, kind, _ = refusal(outcome)
            _refuse(f"{why} ({kind}). Nothing was written.")
    _tell({"session_id": session_id, "outcome": name, "turn_id": turn_id}, f"{name}: turn {turn_id}", as_json=as_json)
    if not any(worker.lives for worker in open_workers(database_path(db))):
        screen.write(f"Nobody works on this database now. To have it done: {screen.program()} worker\n", err=True)
    return 0


def interrupt(db: str | None, session: str, *, as_json: bool) -> int:
    """End the turn that holds a session; returns the exit code."""
    session_id = _found(db, session)

    async def work(service: SessionService) -> str | None:
        known = await service.find(session_id)
        turn_id = known.running_turn_id if known is not None else None
        return turn_id if turn_id is not None and await service.interrupt(turn_id) else None

    turn_id = _act(db, work)
    told = "no turn is open" if turn_id is None else f"turn {turn_id} is asked to end"
    _tell({"session_id": session_id, "turn_id": turn_id}, told, as_json=as_json)
    return 0


def fork(db: str | None, session: str, *, after_turn: int | None, title: str | None, as_json: bool) -> int:
    """Make a session that begins with another's past; returns the exit code."""
    source = _found(db, session)
    shared = None
    if after_turn is not None:
        shared = run_with_store(db, lambda store: turn_id_of(store.readers, source, after_turn))
        if shared is None:
            _refuse(f"There is no turn {after_turn}. Nothing was written.")
    outcome: ForkOutcome = _act(
        db, lambda service: service.fork(new_id(), source, shared, None if title is None else utf8(title))
    )
    if not isinstance(outcome, Created):
        _refuse("That turn has not ended, or nothing of it was ever begun. Nothing was written.")
    _tell({"session_id": outcome.session_id, "forked_from": source}, outcome.session_id, as_json=as_json)
    return 0


def archive(db: str | None, session: str, *, undo: bool, as_json: bool) -> int:
    """Put a session away, or take it up again; returns the exit code."""
    session_id = _found(db, session)
    outcome = _act(db, lambda service: service.archive(session_id, archived=not undo))
    if not isinstance(outcome, Done):
        _refuse_open(outcome)
    told = "taken up again" if undo else "archived: it takes no messages, and is listed with --all"
    _tell({"session_id": session_id, "archived": not undo}, told, as_json=as_json)
    return 0


def delete(db: str | None, session: str, *, sure: bool, as_json: bool) -> int:
    """Remove a session with everything of it; returns the exit code."""
    session_id = _found(db, session)
    if not sure:
        screen.agree(f"Delete session {session_id} for good, with everything in it?", "--yes")
    outcome = _act(db, lambda service: service.delete(session_id))
    if not isinstance(outcome, Deleted):
        _refuse_open(outcome)
    _tell({"session_id": session_id, "deleted": True}, "deleted", as_json=as_json)
    return 0


# -- parts -------------------------------------------------------------------------------------------------------------


def _found(db: str | None, session: str) -> str:
    return run_with_store(db, lambda store: find_id(store.readers, session))


def _act(db: str | None, work: Callable[[SessionService], Awaitable[_T]]) -> _T:
    """Do `work` in a process that takes no turns. Those whose worker is dead are given up before, so that they can be
    ended. A refusal is the command's error.
    """

    async def guarded(service: SessionService) -> _T | CodexDBError:
        """Errors are told in here, before the worker's task group wraps them up."""
        try:
            return await work(service)
        except CodexDBError as error:
            return error

    async def run() -> _T:
        options = Options(database=database_path(db), works=False, takes_waiting=False)
        async with open_application(options) as application:
            done = await guarded(application.service)
        if isinstance(done, CodexDBError):
            raise done
        return done

    try:
        return anyio.run(run)
    except CodexDBError as error:
        raise click.ClickException(error.message) from error


def _tell(told: JsonObject, text: str, *, as_json: bool) -> None:
    screen.write(f"{encode(told) if as_json else text}\n")


def _refuse_open(outcome: Busy | NotFound) -> NoReturn:
    if isinstance(outcome, Busy):
        _refuse(f"Turn {outcome.turn_id} is open. Wait for its end, or interrupt it first. Nothing was written.")
    _refuse("The session was deleted just now.")


def _refuse(why: str) -> NoReturn:
    raise click.ClickException(why)
