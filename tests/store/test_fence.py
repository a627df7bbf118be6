"""An attempt that no longer holds its turn writes nothing, whatever it tries."""

from pathlib import Path

import pytest
from making import ANSWERED, CLOCK, new_message, query, register, running_turn, with_store

from codexdb.domain.event import CommittedEvent, agent_message, error
from codexdb.domain.item import assistant_message
from codexdb.domain.outcome import Busy, Started
from codexdb.domain.record import CallProposed, Entry, NewItem, RequestEnded
from codexdb.domain.transition import TurnState
from codexdb.domain.worker import Claim, Fence
from codexdb.store import endings, record, turns
from codexdb.store.database import Store

ENTRY = Entry(
    calls=[CallProposed("call", "c1", "shell", "{}")],
    items=[NewItem(assistant_message("late"))],
    events=[agent_message("late")],
    request=RequestEnded("m", "p", 1, 2, 3, None, 0, None),
    plan={"plan": []},
)
TABLES = ("sessions", "turns", "items", "events", "deltas", "tool_calls", "model_requests", "inputs")


def everything(path: Path) -> dict[str, list[tuple[object, ...]]]:
    return {table: query(path, f"SELECT * FROM {table}") for table in TABLES}  # noqa: S608


def another(claim: Claim, **fence: int) -> Claim:
    held = claim.fence
    fields = {
        "session_key": held.session_key,
        "turn_key": held.turn_key,
        "attempt": held.attempt,
        "worker_key": held.worker_key,
    }
    return Claim(Fence(**(fields | fence)), claim.session_id, claim.turn_id, claim.submission_id)


@pytest.mark.parametrize("lost", ["attempt", "worker_key", "ended"])
def test_a_lost_attempt_writes_nothing(path: Path, lost: str) -> None:
    async def test(store: Store) -> None:
        key = await register(store)
        claim = await running_turn(store, key)
        if lost == "ended":
            assert await store.writer.submit_in_order(endings.end, claim, ANSWERED, CLOCK.now_ms())
        else:
            claim = another(claim, **{lost: 7})
        before = everything(path)
        with store.feed.subscribe(claim.session_id) as subscription:
            assert not await store.writer.submit_in_order(record.append, claim, ENTRY, CLOCK.now_ms())
            assert not await store.writer.submit_in_order(endings.end, claim, ANSWERED, CLOCK.now_ms())
            assert everything(path) == before
            assert not subscription._news  # pyright: ignore[reportPrivateUsage]

    with_store(path, test)


def test_a_lost_attempt_leaves_no_deltas(path: Path) -> None:
    async def test(store: Store) -> None:
        claim = await running_turn(store, await register(store))
        assert await store.writer.submit_in_order(endings.end, claim, ANSWERED, CLOCK.now_ms())
        await store.writer.submit_in_order(record.store_delta, claim, 0, 1, "agent_message_delta", "late", 1)
        assert query(path, "SELECT * FROM deltas") == []

    with_store(path, test)


def test_a_turn_ends_once_and_frees_its_session_in_the_same_transaction(path: Path) -> None:
    async def test(store: Store) -> None:
        key = await register(store)
        claim = await running_turn(store, key)
        busy = await store.writer.submit(turns.start, claim.session_id, new_message(key))
        assert isinstance(busy, Busy)
        assert busy.turn_id == claim.turn_id
        failed = endings.Ending(TurnState.FAILED, "internal", error("no"), "internal", "no")
        first = store.writer.submit_in_order(endings.end, claim, ANSWERED, CLOCK.now_ms())
        second = store.writer.submit_in_order(endings.end, claim, failed, CLOCK.now_ms())
        following = store.writer.submit(turns.start, claim.session_id, new_message(key))
        assert (await first, await second) == (True, False)
        assert isinstance(await following, Busy | Started)  # depends on which of them was first; never both
        states = query(path, "SELECT state FROM turns WHERE public_id = ?", claim.turn_id)
        assert states == [("completed",)]
        ends = query(path, "SELECT count(*) FROM events WHERE type IN ('task_complete', 'error')")
        assert ends == [(1,)]

    with_store(path, test)


def test_followers_are_told_what_was_committed_and_in_that_order(path: Path) -> None:
    async def test(store: Store) -> None:
        claim = await running_turn(store, await register(store))
        with store.feed.subscribe(claim.session_id) as subscription:
            for number in range(20):
                entry = Entry(events=[agent_message(str(number)), agent_message("and")])
                future = store.writer.submit_in_order(record.append, claim, entry, CLOCK.now_ms())
                if number % 3 == 0:
                    await future
            await store.writer.submit_in_order(endings.end, claim, ANSWERED, CLOCK.now_ms())
            told = [each for each in await subscription.take() if isinstance(each, CommittedEvent)]
        rows = query(path, "SELECT seq, type, msg FROM events WHERE seq > 2 ORDER BY seq")
        assert [(each.seq, each.type, each.msg) for each in told] == rows
        assert len(rows) == 41

    with_store(path, test)
