"""The composition root: configuration, store, service, worker and protocol, put together for one process."""

import logging
import os
import signal
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import anyio

from codexdb.agent.endpoint import HttpEndpoint, close
from codexdb.config.files import codex_home
from codexdb.config.provider import Provider
from codexdb.config.resolve import Request
from codexdb.config.source import ConfigSource
from codexdb.domain.clock import SystemClock
from codexdb.domain.errors import CodexDBError, SchemaBusyError
from codexdb.domain.json import JsonObject
from codexdb.domain.limits import CRASHES_MAX, EOF_GRACE_MS, FOREIGN_POLL_MS, RESUME_AGE_MS_MAX
from codexdb.domain.worker import RescuePolicy
from codexdb.protocol.connection import Connection
from codexdb.protocol.context import OnCancel, ToolContext
from codexdb.protocol.follower import Followers
from codexdb.protocol.handshake import Opening
from codexdb.protocol.origins import Origins
from codexdb.protocol.server import McpServer
from codexdb.service.secrets import Secrets
from codexdb.service.sessions import SessionService
from codexdb.store.database import Waiting, open_store
from codexdb.worker.identity import own_identity
from codexdb.worker.worker import Worker

_logger = logging.getLogger(__name__)

UPGRADE_WORD_S = 5.0  # between two lines of the log


@dataclass(frozen=True, slots=True)
class Options:
    """What a process was started with."""

    database: Path
    overrides: JsonObject = field(default_factory=dict[str, object], repr=False)
    defaults: Request = field(default_factory=Request)
    on_cancel: OnCancel = OnCancel.AUTO
    finish_on_eof: bool = False
    takes_waiting: bool = True  # False: only turns of its own messages are worked on
    works: bool = True  # False: messages are accepted, and left for others to work on
    resume: bool = True  # False: a dead worker's turns are interrupted
    resume_age_ms_max: int = RESUME_AGE_MS_MAX


class UpgradeLog:
    """Says on stderr that the database is being upgraded, and on a big one every few seconds how far that is."""

    def __init__(self, database: Path) -> None:
        self._database = database
        self._told: tuple[str, float] = ("", 0.0)

    def __call__(self, what: str, done: int, total: int) -> None:
        said, at = self._told
        if what != said or time.monotonic() - at > UPGRADE_WORD_S:
            self._told = (what, time.monotonic())
            _logger.warning("upgrading the database %s: %s, %d of %d", self._database, what, done, total)


@dataclass(frozen=True, slots=True)
class Application:
    """An open database with somebody to ask and somebody who works."""

    service: SessionService
    config: ConfigSource
    worker: Worker


@asynccontextmanager
async def open_application(
    options: Options, busy: Callable[[SchemaBusyError], None] = lambda _: None
) -> AsyncGenerator[Application]:
    """Open the database and work on what it holds, until the block is left; then every running turn is ended. An older
    schema is upgraded first; `busy` is told every few seconds that others are in the way.

    Raises:
        StoreRefusedError, StoreBusyError, StoreFailedError: the database cannot be used.
        InvalidConfigError: CODEX_HOME names a folder that is not there.
    """
    config = ConfigSource(codex_home(os.environ), Path.cwd(), options.overrides, options.defaults)
    secrets = Secrets()
    clock = SystemClock()
    endpoints: dict[str, tuple[Provider, HttpEndpoint]] = {}

    def endpoint(provider: Provider) -> HttpEndpoint:
        """One endpoint for a provider as long as its table stays the same."""
        known = endpoints.get(provider.id)
        if known is None or known[0] != provider:
            known = endpoints[provider.id] = (provider, HttpEndpoint(provider, clock))
        return known[1]

    def wait(error: SchemaBusyError) -> None:
        _logger.warning("%s", error.message)
        busy(error)

    async with open_store(options.database, Waiting(wait, UpgradeLog(options.database))) as store:
        worker = Worker(
            store,
            own_identity(config.home),
            clock,
            lambda settings, session_id, turn_id=None: config.reopen(settings, secrets.of(session_id, turn_id)),
            endpoint,
            RescuePolicy(options.resume, options.resume_age_ms_max, CRASHES_MAX),
            works=options.works,
            takes_waiting=options.takes_waiting,
        )
        service = SessionService(store, clock, secrets, config, lambda: worker.key, works=options.works)
        await worker.register()
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(worker.run)
                yield Application(service, config, worker)
                group.cancel_scope.cancel()
        finally:
            await worker.retire()
            with anyio.CancelScope(shield=True):
                await close()


async def serve(options: Options, opening: Opening) -> int:
    """Serve one client until it closes its end, or until SIGTERM or SIGINT; returns the exit code."""
    server = McpServer()
    connection = Connection(opening, server, eof_grace_ms=None if options.finish_on_eof else EOF_GRACE_MS)
    stopped = anyio.Event()  # by a signal, which also ends what `--on-eof=finish` would have waited for
    code = 0
    async with anyio.create_task_group() as group:
        group.start_soon(_watch_signals, stopped)
        group.start_soon(_stop_on, stopped, connection.stop)
        served = anyio.Event()
        group.start_soon(_then, connection.run, served)
        try:
            await _serve_tools(options, server, connection, stopped, served)
        except CodexDBError as error:
            _logger.error("%s", error.message)  # noqa: TRY400 - a sentence for a person, not a trace
            server.refuse(error)
            code = 1
            await served.wait()
        group.cancel_scope.cancel()
    return code


async def _serve_tools(
    options: Options, server: McpServer, connection: Connection, stopped: anyio.Event, served: anyio.Event
) -> None:
    """Open the database, and serve tools until the client is gone; a client that goes earlier ends the opening."""
    opened = anyio.Event()
    scope = anyio.CancelScope()
    refused: CodexDBError | None = None
    async with anyio.create_task_group() as group:
        group.start_soon(_stop_on, served, lambda: None if opened.is_set() else scope.cancel())
        try:
            with scope:
                async with (
                    open_application(options, server.hold_back) as application,
                    anyio.create_task_group() as followers,
                ):
                    opened.set()
                    worker = application.worker
                    shown = Followers(connection, application.service, followers, others_work=not options.works)
                    ended = stopped if options.finish_on_eof else connection.eof
                    followers.start_soon(_stop_on, ended, worker.stop)
                    followers.start_soon(_go_down, connection.eof, worker, shown)
                    server.open(_context(options, application, connection, shown))
                    await served.wait()
                    followers.cancel_scope.cancel()
        except CodexDBError as error:  # raised below: the group would wrap it
            refused = error
        group.cancel_scope.cancel()
    if refused is not None:
        raise refused


async def work(options: Options, *, until_idle: bool) -> int:
    """Work on the turns of a database with no client attached, until SIGTERM or SIGINT, or until none is left."""
    stopped = anyio.Event()
    code = 0
    try:
        async with anyio.create_task_group() as group, open_application(options) as application:
            group.start_soon(_watch_signals, stopped)
            group.start_soon(_stop_on, stopped, application.worker.stop)
            if until_idle:
                await application.worker.found_nothing()
                if left := await application.worker.left_waiting():
                    _logger.error("turns that wait and cannot be worked on here: %d; `codexdb doctor` says why", left)
                    code = 1
            else:
                await stopped.wait()
                await application.worker.finished()
            group.cancel_scope.cancel()
    except CodexDBError as error:
        _logger.error("%s", error.message)  # noqa: TRY400
        return 1
    return code


def _context(options: Options, application: Application, connection: Connection, followers: Followers) -> ToolContext:
    return ToolContext(
        service=application.service,
        config=application.config,
        clock=SystemClock(),
        connection=connection,
        followers=followers,
        origins=Origins(),
        on_cancel=options.on_cancel,
    )


async def _then(work: Callable[[], Awaitable[None]], done: anyio.Event) -> None:
    await work()
    done.set()


async def _go_down(eof: anyio.Event, worker: Worker, followers: Followers) -> None:
    """Once our own turns have ended or are given up, answer those who wait for others, here or in another process.
    Again and again until cancelled, since a message may have been on its way when the client closed its end.
    """
    await eof.wait()
    while True:
        await worker.finished()
        followers.suspend()
        await anyio.sleep(FOREIGN_POLL_MS / 1000)


async def _stop_on(event: anyio.Event, stop: Callable[[], None]) -> None:
    await event.wait()
    stop()


async def _watch_signals(stopped: anyio.Event) -> None:
    """The first signal ends us in order, the second at once."""
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
        async for _ in signals:
            if stopped.is_set():
                os._exit(1)
            stopped.set()
