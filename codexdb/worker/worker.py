"""This process's worker: takes the turns that were claimed for it, works them, ends them, and proves that it lives."""

import logging
import sqlite3
from collections.abc import Callable

import anyio

from codexdb.agent.model import ModelClient
from codexdb.config.provider import Provider
from codexdb.domain.clock import Clock
from codexdb.domain.errors import CodexDBError, FenceLostError, StoreFailedError
from codexdb.domain.limits import HEARTBEAT_MS, STORE_RETRY_MS
from codexdb.domain.worker import Claim, WorkerIdentity
from codexdb.store import liveness, workers
from codexdb.store.database import Store
from codexdb.store.turns import Ending
from codexdb.worker.endings import INTERRUPTED, STOPPED, answered, failed
from codexdb.worker.journal import RowJournal
from codexdb.worker.rescue import close_dead_workers
from codexdb.worker.turn import ReopenSettings, TurnContext, work_turn

_logger = logging.getLogger(__name__)


class Worker:
    """Owned by the composition root: `register`, then `run` in a task, then `retire`."""

    def __init__(
        self,
        store: Store,
        identity: WorkerIdentity,
        clock: Clock,
        reopen: ReopenSettings,
        model_of: Callable[[Provider], ModelClient],
    ) -> None:
        self._store = store
        self._identity = identity
        self._clock = clock
        self._context = TurnContext(store, clock, reopen, model_of)
        self._scopes: dict[str, anyio.CancelScope] = {}
        self._stopping = False
        self._key = 0

    async def register(self) -> int:
        """Hold the lock that proves our life, write our row, close what dead workers left. Returns our integer key."""
        self._lock = liveness.hold(self._store.path, self._identity.public_id)
        self._key = await self._store.writer.submit(
            workers.register, self._identity, self._clock.now_ms(), self._clock.monotonic_ms()
        )
        await close_dead_workers(self._store, self._key, self._clock)
        return self._key

    async def run(self) -> None:
        """Work until cancelled; then every running turn is interrupted and ended before this returns."""
        async with anyio.create_task_group() as group:
            group.start_soon(self._beat)
            while True:
                await self._store.feed.wait_for_work()
                feed = self._store.feed
                while feed.claims:
                    claim = feed.claims.popleft()
                    scope = self._scopes[claim.turn_id] = anyio.CancelScope()  # there before any interrupt of the turn
                    if self._stopping:
                        scope.cancel()
                    group.start_soon(self._work, claim, scope)
                while feed.interrupts:
                    scope = self._scopes.get(feed.interrupts.popleft().turn_id)
                    if scope is not None:
                        scope.cancel()

    def stop(self) -> None:
        """End every turn, and every further one at once, because this process goes down."""
        self._stopping = True
        for scope in self._scopes.values():
            scope.cancel()

    async def retire(self) -> None:
        """Say that we are gone. Every turn of ours has ended by now."""
        with anyio.CancelScope(shield=True):
            await self._store.writer.submit_in_order(workers.stop, self._key, self._clock.now_ms())
        liveness.forget(self._store.path, self._identity.public_id)
        self._lock.close()

    async def _work(self, claim: Claim, scope: anyio.CancelScope) -> None:
        """One turn from claim to end. Whatever happens, it ends, or it is not ours any more."""
        journal = RowJournal(self._store, claim, self._clock)
        ending: Ending | None = INTERRUPTED
        try:
            with scope:
                ending = await self._outcome(claim, journal)
            if scope.cancelled_caught and self._stopping:
                ending = STOPPED
        except anyio.get_cancelled_exc_class():
            ending = STOPPED
            raise
        finally:
            del self._scopes[claim.turn_id]
            if ending is None:
                _logger.warning("turn %s is no longer ours", claim.turn_id)
            else:
                with anyio.CancelScope(shield=True):
                    await self._end(claim, journal, ending)

    async def _outcome(self, claim: Claim, journal: RowJournal) -> Ending | None:
        """Work the turn; every failure is an ending, but for the loss of the turn itself."""
        try:
            message = await work_turn(self._context, claim, journal)
        except FenceLostError:
            return None
        except CodexDBError as error:
            return failed(error.kind, error.message)
        except Exception:
            _logger.exception("turn %s failed", claim.turn_id)
            return failed("internal", "Internal error; the server's log has the details.")
        return answered(message)

    async def _end(self, claim: Claim, journal: RowJournal, ending: Ending) -> None:
        """End the turn. While the disk refuses, try again, with the failure as the ending: a turn must not stay
        open.
        """
        while True:
            try:
                if not await journal.end(ending):
                    _logger.warning("turn %s was ended by somebody else", claim.turn_id)
            except (StoreFailedError, sqlite3.Error) as error:
                _logger.error("turn %s could not be ended: %s", claim.turn_id, error)  # noqa: TRY400 - no trace needed
                ending = failed(StoreFailedError.kind, str(error))
                await anyio.sleep(STORE_RETRY_MS / 1000)
                journal = RowJournal(self._store, claim, self._clock)
            except Exception:
                _logger.exception("turn %s was left open", claim.turn_id)
                return
            else:
                return

    async def _beat(self) -> None:
        """Prove that we live, and look for others who do not."""
        while True:
            await anyio.sleep(HEARTBEAT_MS / 1000)
            try:
                await self._store.writer.submit(workers.heartbeat, self._key, self._clock.monotonic_ms())
                await close_dead_workers(self._store, self._key, self._clock)
            except (CodexDBError, sqlite3.Error) as error:
                _logger.warning("no heartbeat: %s", error)
