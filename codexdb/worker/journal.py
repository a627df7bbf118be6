"""The agent's journal on rows: entries in order through the writer, deltas at once to followers and now and then to a
row.
"""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from codexdb.domain.clock import Clock
from codexdb.domain.errors import FenceLostError, StoreFailedError
from codexdb.domain.event import Delta, Event
from codexdb.domain.item import Item
from codexdb.domain.json import JsonObject, decode_object
from codexdb.domain.limits import DELTA_STORE_MS
from codexdb.domain.record import Entry
from codexdb.domain.transition import TurnState
from codexdb.domain.worker import Claim
from codexdb.store import endings, inputs, record
from codexdb.store.database import Store
from codexdb.store.transaction import Transaction

Entered = TypeVar("Entered")


class RowJournal:
    """Implements `agent.journal.Journal` for one claim, and ends the turn through the same queue."""

    def __init__(self, store: Store, claim: Claim, clock: Clock) -> None:
        self._store = store
        self._claim = claim
        self._clock = clock
        self._pending: list[asyncio.Future[bool]] = []
        self._generation = store.writer.generation
        self._broken: Exception | None = None  # set on the writer's thread
        self._unstored: dict[tuple[int, str], str] = {}  # text seen since the last stored delta
        self._storing: asyncio.TimerHandle | None = None  # when they are stored
        self._delta_offset = 0

    def append(self, entry: Entry) -> None:
        if entry.delta_item is not None:
            for item, kind in [key for key in self._unstored if key[0] <= entry.delta_item]:
                del self._unstored[item, kind]
        self._submit(record.append, entry)

    async def settle(self) -> None:
        pending, self._pending = self._pending, []
        for future in pending:
            if not await future:
                raise FenceLostError("another worker has the turn, or it has ended")

    async def steered(self) -> list[Item]:
        await self.settle()
        rows = await self._store.writer.submit_in_order(inputs.deliver, self._claim, self._clock.now_ms())
        if rows is None:
            raise FenceLostError("another worker has the turn, or it has ended")
        return [decode_object(row) for row in rows]

    async def wait(self) -> bool:
        """Let go of the turn behind everything appended, until a person has answered. False: it goes on at once."""
        self._store_deltas()
        return await self._last(endings.wait, None)

    async def suspend(self, notice: Event) -> bool:
        """Give the turn up behind everything appended. False: the fence is lost."""
        self._store_deltas()
        return await self._last(endings.suspend, notice)

    async def end(self, ending: endings.Ending) -> bool:
        """Write the turn's end behind everything appended. False: the fence is lost, and somebody else ends it."""
        if ending.state is TurnState.INTERRUPTED:
            self._store_deltas()  # what was said so far is kept as partial text
        return await self._last(endings.end, ending)

    async def _last(self, verb: Callable[[Transaction, Claim, Entered, int], bool], what: Entered) -> bool:
        self._unstored.clear()
        pending, self._pending = self._pending, []
        self._submit(verb, what)
        *_, outcome = await asyncio.gather(*pending, self._pending.pop(), return_exceptions=True)
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    def delta(self, item: int, msg: JsonObject) -> None:
        claim = self._claim
        self._store.feed.announce([Delta(claim.session_id, claim.turn_id, claim.submission_id, msg)])
        text = msg.get("delta")
        if isinstance(text, str):
            key = (item, str(msg["type"]))
            self._unstored[key] = self._unstored.get(key, "") + text
            if self._storing is None:
                self._storing = asyncio.get_running_loop().call_later(DELTA_STORE_MS / 1000, self._store_deltas)

    def _store_deltas(self) -> None:
        """Not awaited: a delta may be lost, and nothing waits for one."""
        if self._storing is not None:
            self._storing.cancel()
            self._storing = None
        for (item, kind), text in self._unstored.items():
            self._delta_offset += 1
            future = self._store.writer.submit_in_order(
                record.store_delta, self._claim, item, self._delta_offset, kind, text, self._clock.now_ms()
            )
            future.add_done_callback(_forget)
        self._unstored.clear()

    def _submit(self, verb: Callable[[Transaction, Claim, Entered, int], bool], what: Entered) -> None:
        self._pending.append(self._store.writer.submit_in_order(self._unless_broken, verb, what, self._clock.now_ms()))

    def _unless_broken(
        self,
        transaction: Transaction,
        verb: Callable[[Transaction, Claim, Entered, int], bool],
        what: Entered,
        now_ms: int,
    ) -> bool:
        """On the writer's thread. After an entry that failed nothing may follow, not even the end: the log would have
        a hole.
        """
        if self._broken is not None:
            raise self._broken
        if self._store.writer.generation != self._generation:
            raise StoreFailedError("Whether earlier records of this turn reached the disk is not known.")
        try:
            return verb(transaction, self._claim, what, now_ms)
        except Exception as error:
            self._broken = error
            raise


def _forget(future: "asyncio.Future[None]") -> None:
    """Look at the outcome, so that asyncio does not complain that nobody did."""
    if not future.cancelled():
        future.exception()
