"""Which sessions go when a database is pruned, and their going: the oldest first, each whole in one transaction."""

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from sqlalchemy import bindparam, delete, exists, func, or_, select, text, tuple_

from codexdb.domain.limits import PRUNE_ROWS_AT_ONCE
from codexdb.store import lifecycle
from codexdb.store.backup import Progress
from codexdb.store.pragmas import open_for_writing
from codexdb.store.readers import Reads
from codexdb.store.statement import Statement
from codexdb.store.tables import approvals, sessions, turns, workers
from codexdb.store.transaction import Transaction
from codexdb.store.vacuum import Sizes, vacuum

Place = tuple[int, int]
"""Of a session among all, by age: `updated_at_ms`, then its key."""

_NOWHERE: Place = (-1, -1)
_ROWS = sessions.c.next_seq + sessions.c.next_item_seq  # what a session takes, in rows: to read it all would take long
_place = tuple_(sessions.c.updated_at_ms, sessions.c.id)
_free = (
    sessions.c.active_turn_id.is_(None),
    ~exists(select(approvals.c.id).where(approvals.c.session_id == sessions.c.id, text("approvals.state = 'pending'"))),
    or_(bindparam("also_open") == 1, sessions.c.archived_at_ms.is_not(None)),
)
_up_to = _place <= tuple_(bindparam("last_at"), bindparam("last_key"))
_oldest_first = (sessions.c.updated_at_ms, sessions.c.id)
_running = (
    select(*_oldest_first, func.sum(_ROWS).over(order_by=_oldest_first).label("rows_so_far")).where(*_free).subquery()
)
_BEHIND_THE_NEWEST = Statement(
    select(*_oldest_first)
    .where(*_free)
    .order_by(sessions.c.updated_at_ms.desc(), sessions.c.id.desc())
    .limit(1)
    .offset(bindparam("kept"))
)
_ENOUGH = Statement(
    select(_running.c.updated_at_ms, _running.c.id)
    .where(_running.c.rows_so_far >= bindparam("rows"))
    .order_by(_running.c.updated_at_ms, _running.c.id)
    .limit(1)
)
_NEWEST = Statement(
    select(*_oldest_first).where(*_free).order_by(sessions.c.updated_at_ms.desc(), sessions.c.id.desc()).limit(1)
)
_TOLD = Statement(
    select(
        func.count(),
        func.min(sessions.c.updated_at_ms),
        func.max(sessions.c.updated_at_ms),
        func.coalesce(func.sum(_ROWS), 0),
    )
    .select_from(sessions)
    .where(*_free, _up_to)
)
_ALL_ROWS = Statement(select(func.coalesce(func.sum(_ROWS), 0)))
_USED = Statement(
    text(
        "SELECT (page_count - freelist_count) * page_size "
        "FROM pragma_page_count, pragma_freelist_count, pragma_page_size"
    )
)
_NEXT = Statement(
    select(sessions.c.public_id, *_oldest_first, _ROWS)
    .where(*_free, _up_to, _place > tuple_(bindparam("after_at"), bindparam("after_key")))
    .order_by(*_oldest_first)
    .limit(1)
)
# The newest one stays: its key would be given out again.
_FORGET_WORKERS = Statement(
    delete(workers).where(
        workers.c.stopped_at_ms.is_not(None),
        workers.c.id < select(func.max(workers.c.id)).scalar_subquery(),
        workers.c.id.not_in(select(turns.c.accepted_by_id).where(turns.c.accepted_by_id.is_not(None))),
        workers.c.id.not_in(select(turns.c.worker_id).where(turns.c.worker_id.is_not(None))),
    )
)


@dataclass(frozen=True, slots=True)
class Retention:
    """What is to stay. A session goes if everything that is given here lets it go, and it is idle and asks nobody."""

    also_open: bool = False  # also sessions that are not archived
    before_ms: int | None = None  # those stay in which a turn began or ended at this time or later
    kept: int | None = None  # so many of the newest stay
    bytes_max: int | None = None  # once the database is that small, the rest stays


@dataclass(frozen=True, slots=True)
class Plan:
    """What would go."""

    also_open: bool
    last: Place  # the newest session that goes
    sessions: int
    oldest_at_ms: int | None
    newest_at_ms: int | None
    bytes_estimated: int  # by the number of rows


@dataclass(frozen=True, slots=True)
class Pruned:
    """What has gone in one transaction. `more`: there may be others."""

    sessions: int
    last: Place
    more: bool


async def plan(reads: Reads, retention: Retention) -> Plan:
    """Look what would go. Changes nothing."""
    also_open = int(retention.also_open)
    used = cast("int", (await reads.all(_USED, {}))[0][0])
    rows = max(1, cast("int", (await reads.all(_ALL_ROWS, {}))[0][0]))
    last = await _first(reads, _NEWEST, also_open=also_open)
    if retention.before_ms is not None:
        last = min(last, (retention.before_ms, -1))
    if retention.kept is not None:
        last = min(last, await _first(reads, _BEHIND_THE_NEWEST, also_open=also_open, kept=retention.kept))
    if retention.bytes_max is not None:
        last = min(last, await _surplus(reads, also_open, rows * (used - retention.bytes_max) / used))
    told = (await reads.all(_TOLD, {"also_open": also_open, "last_at": last[0], "last_key": last[1]}))[0]
    count, oldest, newest, going = cast("tuple[int, int | None, int | None, int]", told)
    return Plan(retention.also_open, last, count, oldest, newest, used * going // rows)


def prune(transaction: Transaction, going: Plan, after: Place) -> Pruned:
    """Delete the oldest sessions of the plan behind `after`, as many as make one transaction. One that was taken up
    meanwhile stays.
    """
    count, rows = 0, 0
    while rows < PRUNE_ROWS_AT_ONCE:
        found = transaction.one(
            _NEXT,
            also_open=int(going.also_open),
            last_at=going.last[0],
            last_key=going.last[1],
            after_at=after[0],
            after_key=after[1],
        )
        if found is None:
            return Pruned(count, after, more=False)
        session_id, at_ms, key, more_rows = cast("tuple[str, int, int, int]", found)
        lifecycle.delete(transaction, session_id)
        after = (at_ms, key)
        count, rows = count + 1, rows + more_rows
    return Pruned(count, after, more=True)


def tidy(path: Path, progress: Progress) -> Sizes:
    """Forget the workers that nothing refers to any more, and return the space. Called as `vacuum` is."""
    progress("workers", 0, 0)
    with closing(open_for_writing(path)) as connection:
        connection.execute("PRAGMA foreign_keys=OFF").fetchall()  # else every turn is read for each worker
        Transaction(connection).run(_FORGET_WORKERS)
    return vacuum(path, progress)


async def _surplus(reads: Reads, also_open: int, rows: float) -> Place:
    """Up to where so many rows are; up to the newest where there are fewer."""
    if rows <= 0:
        return _NOWHERE
    found = await _first(reads, _ENOUGH, also_open=also_open, rows=rows)
    return await _first(reads, _NEWEST, also_open=also_open) if found == _NOWHERE else found


async def _first(reads: Reads, statement: Statement, **parameters: object) -> Place:
    rows = cast("list[Place]", await reads.all(statement, parameters))
    return rows[0] if rows else _NOWHERE
