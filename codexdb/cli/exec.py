"""`codexdb exec`: one turn in this process, shown while it runs."""

import logging
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace

import anyio
import anyio.to_thread
import click

from codexdb.app import Application, Options, open_application
from codexdb.cli.given import message_text
from codexdb.cli.page import INTERRUPTED
from codexdb.cli.serve import application_options
from codexdb.cli.serve_options import ServeOptions
from codexdb.cli.turn_view import JsonLines, Screen, TurnView
from codexdb.config.resolve import Request
from codexdb.domain.errors import CodexDBError, SessionNotFoundError
from codexdb.domain.event import CommittedEvent, Delta
from codexdb.domain.ids import new_id, parse_id
from codexdb.domain.outcome import SendOutcome, Started
from codexdb.domain.session import ApprovalPolicy
from codexdb.protocol.turn_tools import refusal
from codexdb.service.sessions import Message, SessionService
from codexdb.store.feed import News, Subscription

COMPLETED, FAILED = 0, 1  # exit codes, beside `INTERRUPTED`
SUBMISSION = "exec"  # what a client's request id is to the turns of a server
POLL_MS = 1_000  # how often the rows are asked, in case somebody else ends our turn

_CODES = {"completed": COMPLETED, "interrupted": INTERRUPTED}


@dataclass(frozen=True, slots=True)
class Ask:
    """What the command line asks for."""

    prompt: str
    session_id: str | None  # None: a new session
    settings: Request  # of a new session


def run(options: ServeOptions, prompt: str, session: str | None, *, as_json: bool) -> int:
    """Work one turn to its end; returns the exit code: 0 completed, 1 failed or not accepted, 130 interrupted.

    SIGINT or SIGTERM interrupts the turn, which is then waited for; a second one ends the process at once.

    Raises:
        click.BadParameter: the prompt or the session's id cannot be used.
    """
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="codexdb: %(levelname)s: %(message)s")
    given = options.values
    settings = Request(  # also typed, as a caller's: else a profile would win over -m
        model=given.get("model"),
        profile=given.get("profile"),
        sandbox=given.get("sandbox_mode"),
        approval_policy=given.get("approval_policy"),
    )
    ask = Ask(message_text(prompt, "PROMPT"), None if session is None else _session_id(session), settings)
    return anyio.run(_run, application_options(options), ask, JsonLines() if as_json else Screen())


def _session_id(text: str) -> str:
    try:
        return parse_id(text)
    except ValueError as error:
        raise click.BadParameter(f"{text!r} is not the id of a session: {error}", param_hint="--session") from error


async def _run(options: Options, ask: Ask, view: TurnView) -> int:
    asked_to_stop = anyio.Event()
    code = FAILED
    async with anyio.create_task_group() as group:
        group.start_soon(_listen, asked_to_stop)
        try:
            async with open_application(replace(options, takes_waiting=False)) as application:
                code = await _guarded_turn(application, ask, view, asked_to_stop)
        except CodexDBError as error:
            view.failed(error.kind, error.message)
        group.cancel_scope.cancel()
    return code


async def _listen(asked_to_stop: anyio.Event) -> None:
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
        async for _ in signals:
            if asked_to_stop.is_set():
                os._exit(INTERRUPTED)
            asked_to_stop.set()


async def _guarded_turn(application: Application, ask: Ask, view: TurnView, asked_to_stop: anyio.Event) -> int:
    """Errors are told in here, before the worker's task group wraps them up."""
    try:
        return await _turn(application, ask, view, asked_to_stop)
    except CodexDBError as error:
        view.failed(error.kind, error.message)
        return FAILED


async def _turn(application: Application, ask: Ask, view: TurnView, asked_to_stop: anyio.Event) -> int:
    service = application.service
    session_id = ask.session_id or new_id()
    known = await service.find(session_id)
    if ask.session_id and known is None:
        raise SessionNotFoundError(f"There is no session {session_id} in this database.")
    with service.follow(session_id) as subscription:
        outcome = await _accept(application, ask, session_id, view)
        if not isinstance(outcome, Started):
            text, kind, _ = refusal(outcome)
            view.failed(kind, text)
            return FAILED
        turn_id = outcome.turn_id
        view.began(await service.find(session_id))
        async with anyio.create_task_group() as group:
            group.start_soon(_interrupt, service, turn_id, asked_to_stop)
            await _show(service, subscription, session_id, turn_id, known.next_seq - 1 if known else 0, view)
            group.cancel_scope.cancel()
    turn = await service.turn(turn_id)
    view.ended(session_id, turn)
    return _CODES.get(turn.state, FAILED) if turn else FAILED


async def _accept(application: Application, ask: Ask, session_id: str, view: TurnView) -> SendOutcome:
    message = Message([{"type": "text", "text": ask.prompt}], SUBMISSION)
    if ask.session_id:
        return await application.service.send(session_id, message)
    resolved = application.config.resolve(ask.settings)
    settings = resolved.settings
    if settings.approval_policy is ApprovalPolicy.UNTRUSTED:
        view.note(
            "Nobody can be asked here, so commands that do more than read are refused under approvals untrusted. "
            "To let them run in the sandbox: -a never"
        )
    return await application.service.open_and_send(session_id, resolved, "exec", message)


async def _interrupt(service: SessionService, turn_id: str, asked_to_stop: anyio.Event) -> None:
    await asked_to_stop.wait()
    await service.interrupt(turn_id)


async def _show(
    service: SessionService, subscription: Subscription, session_id: str, turn_id: str, seq: int, view: TurnView
) -> None:
    """Show everything after event `seq` until the turn has ended, whoever ends it.

    Showing happens on a thread: a pipe that nobody reads holds up this command, but neither the turn nor an interrupt.
    """
    ended = False
    while not ended:
        news: Sequence[News] = []
        with anyio.move_on_after(POLL_MS / 1000):
            news = await subscription.take()
        if not news or subscription.overflowed:
            subscription.overflowed = False
            news = await _rows_after(service, session_id, seq)
        shown = [each for each in news if isinstance(each, CommittedEvent | Delta)]
        ours = [
            each for each in shown if each.turn_id in (None, turn_id) and (isinstance(each, Delta) or each.seq > seq)
        ]
        seq = max((each.seq for each in shown if not isinstance(each, Delta)), default=seq)
        ended = any(not isinstance(each, Delta) and each.turn_id == turn_id and each.ends_turn for each in ours)
        await anyio.to_thread.run_sync(_show_all, view, ours)


def _show_all(view: TurnView, news: Sequence[CommittedEvent | Delta]) -> None:
    for each in news:
        if isinstance(each, Delta):
            view.delta(each)
        else:
            view.event(each)


async def _rows_after(service: SessionService, session_id: str, seq: int) -> list[News]:
    """Every event after `seq`."""
    session = await service.find(session_id)
    if session is None:
        raise SessionNotFoundError(f"Session {session_id} was deleted while its turn ran.")
    found: list[News] = []
    while page := await service.events_after(session, seq):
        found += page
        seq = page[-1].seq
    return found
