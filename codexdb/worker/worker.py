"""This process's worker: takes the turns that were claimed for it, works them, ends them, and proves that it lives."""

import logging
import sqlite3
from collections.abc import Callable
from dataclasses import replace

import anyio
from anyio.abc import TaskGroup

from codexdb.agent.loop import Asked
from codexdb.agent.model import ModelClient
from codexdb.config.provider import Provider
from codexdb.domain import crash
from codexdb.domain.clock import Clock
from codexdb.domain.errors import CodexDBError, FenceLostError, StoreFailedError
from codexdb.domain.ids import new_id
from codexdb.domain.limits import FOREIGN_POLL_MS, HEARTBEAT_MS, SHUTDOWN_WRITE_MS, STORE_RETRY_MS, TURNS_RUNNING_MAX
from codexdb.domain.worker import Claim, RescuePolicy, WorkerIdentity
from codexdb.store import claims, liveness, workers
from codexdb.store.database import Store
from codexdb.store.locks import FileLock
from codexdb.worker.endings import INTERRUPTED, SUSPENDED, Ending, answered, failed
from codexdb.worker.journal import RowJournal
from codexdb.worker.notify import Notifier
from codexdb.worker.rescue import rescue_dead_workers
from codexdb.worker.turn import ReopenSettings, TurnContext, can_be_worked, work_turn

_logger = logging.getLogger(__name__)


class Worker:
    """Owned by the composition root: `register`, then `run` in a task, then `retire`.

    `works` False: it accepts messages for others to work on, and gives every turn up at once. `takes_waiting` False: it
    works on the turns of its own messages alone.
    """

    def __init__(
        self,
        store: Store,
        identity: WorkerIdentity,
        clock: Clock,
        reopen: ReopenSettings,
        model_of: Callable[[Provider], ModelClient],
        policy: RescuePolicy,
        *,
        works: bool = True,
        takes_waiting: bool = True,
    ) -> None:
        self._store = store
        self._identity = identity
        self._clock = clock
        self._context = TurnContext(store, clock, reopen, model_of)
        self._notifier = Notifier(self._context)
        self._policy = policy
        self._scopes: dict[str, anyio.CancelScope] = {}
        self._interrupted: set[str] = set()  # turns whose scope was cancelled because somebody asked for it
        self._stopping = not works
        self._takes_waiting = takes_waiting
        self._idle = anyio.Event()
        self.key = 0  # of our row; a new one after others took us for dead
        self._owner_in_doubt = False  # somebody asked to end a turn that is not ours
        self._lock: FileLock | None = None

    async def register(self) -> None:
        """Hold the lock that proves our life, write our row, and take what dead workers left."""
        self._lock = liveness.hold(self._store.path, self._identity.public_id)
        self.key = await self._store.writer.submit(
            workers.register, self._identity, self._clock.now_ms(), self._clock.monotonic_ms()
        )
        await self._rescue()

    async def run(self) -> None:
        """Work until cancelled; then every running turn is given up before this returns."""
        feed = self._store.feed
        feed.work_waiting = True
        async with anyio.create_task_group() as group:
            group.start_soon(self._beat)
            while True:
                await feed.wait_for_work()
                self._take_claims(group)
                while feed.interrupts:
                    if not self._interrupt(feed.interrupts.popleft().turn_id):
                        self._owner_in_doubt = True
                        feed.work_waiting = True
                if feed.work_waiting:
                    feed.work_waiting = False
                    await self._look_for_work()

    def stop(self) -> None:
        """Give every turn up, and every further one at once, because this process goes down."""
        self._stopping = True
        for scope in self._scopes.values():
            scope.cancel()

    async def finished(self) -> None:
        """Return once no turn is being worked on here, or is about to be."""
        while self._scopes or self._store.feed.claims:
            self._idle = anyio.Event()
            await self._idle.wait()

    async def found_nothing(self) -> None:
        """Return once no turn is being worked on here and none waits for a worker."""
        while not self._stopping:
            await self.finished()
            if not await self._look_for_work():
                break
            await anyio.sleep(FOREIGN_POLL_MS / 1000)
        await self.finished()

    async def left_waiting(self) -> int:
        """How many turns wait that this process could take by user and CODEX_HOME, but has not."""
        identity = self._identity
        return len(await claims.waiting(self._store.readers, identity.uid, identity.codex_home, TURNS_RUNNING_MAX))

    async def retire(self) -> None:
        """Say that we are gone. What could not be ended is taken by others, who see that our lock is free."""
        with anyio.CancelScope(shield=True):
            try:
                with anyio.fail_after(SHUTDOWN_WRITE_MS / 1000):
                    if await self._store.writer.submit(workers.stop_if_idle, self.key, self._clock.now_ms()):
                        liveness.forget(self._store.path, self._identity.public_id)
            except (CodexDBError, sqlite3.Error, TimeoutError) as error:
                _logger.warning("left without a word: %s", error)
        if self._lock is not None:
            self._lock.close()

    # -- what comes in -------------------------------------------------------------------------------------------------

    def _take_claims(self, group: TaskGroup) -> None:
        feed = self._store.feed
        while feed.claims:
            claim = feed.claims.popleft()
            scope = self._scopes[claim.turn_id] = anyio.CancelScope()  # there before any interrupt of the turn
            if self._stopping:
                scope.cancel()
            group.start_soon(self._work, claim, scope)

    def _interrupt(self, turn_id: str) -> bool:
        """False: it is not worked on here."""
        scope = self._scopes.get(turn_id)
        if scope is not None:
            self._interrupted.add(turn_id)
            scope.cancel()
        return scope is not None

    async def _look_for_work(self) -> bool:
        """Turns that wait for a worker, and interrupts of ours that other processes asked for. Whether there were turns
        for us; where one of them ended instead, the next may wait by now.
        """
        try:
            if self._owner_in_doubt:  # whoever asked should not wait for a heartbeat to see that nobody is there
                self._owner_in_doubt = False
                await self._rescue()
            for turn_id in await claims.flagged(self._store.readers, self.key):
                self._interrupt(turn_id)
            room = TURNS_RUNNING_MAX - len(self._scopes)
            if self._stopping or room <= 0:
                return False
            identity = self._identity
            found = await claims.waiting(self._store.readers, identity.uid, identity.codex_home, TURNS_RUNNING_MAX)
            ours = [turn for turn in found if self._takes_waiting or turn.accepted_by == self.key]
            keys = [turn.turn_key for turn in ours if await can_be_worked(self._context, turn)][:room]
            if keys:
                await self._store.writer.submit(
                    claims.claim_waiting, keys, self.key, self._policy, self._clock.now_ms()
                )
        except (CodexDBError, sqlite3.Error) as error:
            _logger.warning("could not look for work: %s", error)
            return False
        return bool(keys)

    # -- one turn ------------------------------------------------------------------------------------------------------

    async def _work(self, claim: Claim, scope: anyio.CancelScope) -> None:
        """One turn from claim to end. Whatever happens, it ends, or is given up, or is not ours any more."""
        crash.point("claim.taken")
        journal = RowJournal(self._store, claim, self._clock)
        ending: Ending | None = None
        given_up = True
        try:
            with scope:
                ending = await self._outcome(claim, journal)
                given_up = False
        finally:
            with anyio.CancelScope(shield=True):
                if given_up and claim.turn_id in self._interrupted:
                    await self._end(claim, journal, INTERRUPTED)
                elif given_up:
                    await self._suspend(claim, journal)
                elif ending is not None and await self._end(claim, journal, ending) and ending.completes:
                    await self._notifier.completed(claim, ending.last_agent_message)
            self._interrupted.discard(claim.turn_id)
            del self._scopes[claim.turn_id]
            self._idle.set()

    async def _outcome(self, claim: Claim, journal: RowJournal) -> Ending | None:
        """Work the turn; every failure is an ending. None: it waits for a person, or is lost to somebody else."""
        again = claim.fence.attempt > 1
        try:
            while True:
                try:
                    message = await work_turn(self._context, claim, journal, again=again)
                    break
                except Asked:
                    crash.point("approval.asked")
                    if await _wait(journal):
                        crash.point("approval.waiting")
                        return None
                    again = True  # it was answered meanwhile
        except FenceLostError:
            _logger.warning("turn %s is no longer ours", claim.turn_id)
            return None
        except CodexDBError as error:
            return failed(error.kind, error.message)
        except Exception:
            _logger.exception("turn %s failed", claim.turn_id)
            return failed("internal", "Internal error; the server's log has the details.")
        return answered(message)

    async def _suspend(self, claim: Claim, journal: RowJournal) -> None:
        crash.point("suspend.before")
        try:
            with anyio.fail_after(SHUTDOWN_WRITE_MS / 1000):
                await journal.suspend(SUSPENDED)
        except Exception as error:  # noqa: BLE001 - whatever it is, the turn is rescued when our lock is free
            _logger.warning("turn %s was left to be rescued: %s", claim.turn_id, error)

    async def _end(self, claim: Claim, journal: RowJournal, ending: Ending) -> bool:
        """End the turn; returns whether it ended here and with this ending. While the disk refuses, try again, with the
        failure as the ending: a turn must not stay open.
        """
        crash.point("turn.ending")
        first = ending
        while True:
            try:
                ended = await journal.end(ending)
                crash.point("turn.ended")
            except (StoreFailedError, sqlite3.Error) as error:
                _logger.error("turn %s could not be ended: %s", claim.turn_id, error)  # noqa: TRY400 - no trace needed
                if self._stopping:
                    return False
                ending = failed(StoreFailedError.kind, str(error))
                await anyio.sleep(STORE_RETRY_MS / 1000)
                journal = RowJournal(self._store, claim, self._clock)
            except Exception:
                _logger.exception("turn %s was left open", claim.turn_id)
                return False
            else:
                if not ended:
                    _logger.warning("turn %s was ended by somebody else", claim.turn_id)
                return ended and ending is first

    # -- life ----------------------------------------------------------------------------------------------------------

    async def _beat(self) -> None:
        """Prove that we live, and look for others who do not."""
        while True:
            await anyio.sleep(HEARTBEAT_MS / 1000)
            try:
                if not await self._store.writer.submit(workers.heartbeat, self.key, self._clock.monotonic_ms()):
                    await self._start_over()
                liveness.show_life(self._store.path, self._identity.public_id)
                await self._rescue()
                self._store.feed.nudge_worker()
            except (CodexDBError, sqlite3.Error) as error:
                _logger.warning("no heartbeat: %s", error)

    async def _rescue(self) -> None:
        await rescue_dead_workers(self._store, self.key, self._identity, self._policy, self._clock)

    async def _start_over(self) -> None:
        """We were stopped for so long that others took our turns: let go of them, and go on as a new worker."""
        _logger.warning("this process was silent for too long and was replaced; it goes on as a new worker")
        for scope in self._scopes.values():
            scope.cancel()
        if self._lock is not None:
            self._lock.close()
            liveness.forget(self._store.path, self._identity.public_id)
        self._identity = replace(self._identity, public_id=new_id())
        self._lock = liveness.hold(self._store.path, self._identity.public_id)
        self.key = await self._store.writer.submit(
            workers.register, self._identity, self._clock.now_ms(), self._clock.monotonic_ms()
        )


async def _wait(journal: RowJournal) -> bool:
    """Not to be torn by an interrupt: either the turn still runs, and is ended here, or it waits, and ends at once."""
    with anyio.CancelScope(shield=True):
        return await journal.wait()
    raise AssertionError("a shielded scope does not swallow anything")
