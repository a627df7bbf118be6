"""The composition root: configuration, store, service, worker and protocol, put together for one process."""

import logging
import os
import signal
from collections.abc import AsyncGenerator
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
from codexdb.domain.errors import CodexDBError
from codexdb.domain.json import JsonObject
from codexdb.domain.limits import CRASHES_MAX, EOF_GRACE_MS, RESUME_AGE_MS_MAX
from codexdb.domain.worker import RescuePolicy
from codexdb.protocol.connection import Connection
from codexdb.protocol.context import OnCancel, ToolContext
from codexdb.protocol.follower import Followers
from codexdb.protocol.handshake import Opening
from codexdb.protocol.origins import Origins
from codexdb.protocol.server import McpServer
from codexdb.service.secrets import Secrets
from codexdb.service.sessions import SessionService
from codexdb.store.database import open_store
from codexdb.worker.identity import own_identity
from codexdb.worker.worker import Worker

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Options:
    """What a process was started with."""

    database: Path
    overrides: JsonObject = field(default_factory=dict[str, object], repr=False)
    defaults: Request = field(default_factory=Request)
    on_cancel: OnCancel = OnCancel.AUTO
    finish_on_eof: bool = False
    works: bool = True  # False: messages are accepted, and left for others to work on
    resume: bool = True  # False: a dead worker's turns are interrupted
    resume_age_ms_max: int = RESUME_AGE_MS_MAX


@dataclass(frozen=True, slots=True)
class Application:
    """An open database with somebody to ask and somebody who works."""

    service: SessionService
    config: ConfigSource
    worker: Worker


@asynccontextmanager
async def open_application(options: Options) -> AsyncGenerator[Application]:
    """Open the database and work on what it holds, until the block is left; then every running turn is ended.

    Raises:
        StoreRefusedError, StoreBusyError: the database cannot be used.
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

    async with open_store(options.database) as store:
        worker = Worker(
            store,
            own_identity(config.home),
            clock,
            lambda settings, session_id: config.reopen(settings, secrets.of(session_id)),
            endpoint,
            RescuePolicy(options.resume, options.resume_age_ms_max, CRASHES_MAX),
            works=options.works,
        )
        await worker.register()
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(worker.run)
                yield Application(SessionService(store, clock, secrets, lambda: worker.key), config, worker)
                group.cancel_scope.cancel()
        finally:
            await worker.retire()
            with anyio.CancelScope(shield=True):
                await close()


async def serve(options: Options, opening: Opening) -> int:
    """Serve one client until it closes its end, or until SIGTERM or SIGINT; returns the exit code."""
    server = McpServer()
    grace = None if options.finish_on_eof else EOF_GRACE_MS
    connection = Connection(opening, server, eof_grace_ms=grace)
    code = 0
    async with anyio.create_task_group() as group:
        group.start_soon(_stop_on_signal, connection)

        async def run() -> None:
            await connection.run()
            done.set()

        done = anyio.Event()
        group.start_soon(run)
        try:
            async with open_application(options) as application, anyio.create_task_group() as followers:
                if not options.finish_on_eof:
                    followers.start_soon(_stop_at_eof, connection, application.worker)
                server.open(
                    _context(options, application, connection, Followers(connection, application.service, followers))
                )
                await done.wait()
                followers.cancel_scope.cancel()
        except CodexDBError as error:
            _logger.error("%s", error.message)  # noqa: TRY400 - a sentence for a person, not a trace
            server.refuse(error)
            code = 1
            await done.wait()
        group.cancel_scope.cancel()
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


async def _stop_at_eof(connection: Connection, worker: Worker) -> None:
    """Once the client is gone its turns end, so that the calls that wait for them are answered within the grace."""
    await connection.eof.wait()
    worker.stop()


async def _stop_on_signal(connection: Connection) -> None:
    """The first signal ends us in order, the second at once."""
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        count = 0
        async for _ in signals:
            count += 1
            if count > 1:
                os._exit(1)
            connection.stop()
