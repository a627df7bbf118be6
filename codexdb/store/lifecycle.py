"""What becomes of whole sessions: one is forked from another, put away, taken up again, deleted."""

from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import bindparam, func, insert, select, text, update
from sqlalchemy import delete as delete_from
from sqlalchemy.sql.elements import ColumnElement

from codexdb.domain.item import Item, is_context
from codexdb.domain.json import decode_object
from codexdb.domain.outcome import (
    ArchiveOutcome,
    Busy,
    Created,
    Deleted,
    DeleteOutcome,
    Done,
    ForkOutcome,
    NotFound,
    TurnNotFound,
)
from codexdb.domain.record import NewItem
from codexdb.domain.transition import TURN
from codexdb.store.record import insert_items
from codexdb.store.sessions import environment_of
from codexdb.store.statement import Statement
from codexdb.store.tables import items, quoted, sessions, turns
from codexdb.store.transaction import Transaction
from codexdb.store.turns import accepted_as_opening, note_opening

_ENDED = text(f"turns.state IN ({quoted(TURN.terminal)})")
_SOURCE = Statement(
    select(sessions.c.id, sessions.c.active_turn_id, sessions.c.next_item_seq).where(
        sessions.c.public_id == bindparam("session")
    )
)
_LAST_ITEM_OF = Statement(
    select(func.max(items.c.seq)).where(
        items.c.session_id == bindparam("session_key"),
        items.c.turn_id
        == select(turns.c.id)
        .where(turns.c.public_id == bindparam("turn"), turns.c.session_id == bindparam("session_key"), _ENDED)
        .scalar_subquery(),
    )
)
_FIRST_ITEM_OF = Statement(
    select(func.min(items.c.seq)).where(
        items.c.session_id == bindparam("session_key"), items.c.turn_id == bindparam("turn_key")
    )
)
_CONTEXT = Statement(
    select(items.c.payload)
    .where(items.c.session_id == bindparam("session_key"), items.c.turn_id.is_(None), items.c.seq <= bindparam("last"))
    .order_by(items.c.seq)
)
_COPIED = ("model", "model_provider", "cwd", "approval_policy", "sandbox_mode", "settings", "latest_plan")
_TAKEN: dict[str, ColumnElement[Any]] = {
    "public_id": bindparam("new_public_id"),
    "origin": bindparam("origin"),
    "title": func.coalesce(bindparam("new_title"), sessions.c.title),
    **{name: sessions.c[name] for name in _COPIED},
    "forked_from_id": sessions.c.id,
    "epoch": bindparam("new_epoch"),
    "next_item_seq": bindparam("next_item"),
    "created_at_ms": bindparam("now_ms"),
    "updated_at_ms": bindparam("now_ms"),
}
_FORK_SESSION = Statement(
    insert(sessions).from_select(
        list(_TAKEN), select(*_TAKEN.values()).where(sessions.c.id == bindparam("session_key"))
    )
)
_EPOCH_AT = Statement(
    select(func.coalesce(func.max(items.c.epoch), 0)).where(
        items.c.session_id == bindparam("session_key"), items.c.seq <= bindparam("last_seq")
    )
)
_ITEM_COLUMNS = ("seq", "turn_id", "epoch", "type", "role", "payload", "partial", "created_at_ms")
_COPY_ITEMS = Statement(
    insert(items).from_select(
        ["session_id", *_ITEM_COLUMNS],
        select(bindparam("new_session", type_=items.c.session_id.type), *(items.c[name] for name in _ITEM_COLUMNS))
        .where(items.c.session_id == bindparam("session_key"), items.c.seq <= bindparam("last_seq"))
        .order_by(items.c.seq),
    )
)
_ARCHIVE = Statement(
    update(sessions)
    .where(sessions.c.public_id == bindparam("session"), sessions.c.active_turn_id.is_(None))
    .values(archived_at_ms=func.coalesce(sessions.c.archived_at_ms, bindparam("now_ms")))
)
_UNARCHIVE = Statement(update(sessions).where(sessions.c.public_id == bindparam("session")).values(archived_at_ms=None))
_gone = sessions.alias("gone")
_idle = (_gone.c.public_id == bindparam("session")) & _gone.c.active_turn_id.is_(None)
_gone_key = select(_gone.c.id).where(_idle).scalar_subquery()
_roots = select(_gone.c.id).where(_idle).cte("family", recursive=True)
_family = _roots.union(select(sessions.c.id).where(sessions.c.forked_from_id == _roots.c.id))
# Keys of turns are given out again. What forks share with a session gets keys for its turns that nobody is given.
_DISOWN_ITEMS = Statement(
    update(items)
    .where(
        items.c.session_id.in_(select(_family.c.id)),
        items.c.session_id != _gone_key,
        items.c.turn_id.in_(select(turns.c.id).where(turns.c.session_id == _gone_key)),
    )
    .values(turn_id=-items.c.turn_id)
)
_HAND_ON_FORKS = Statement(
    update(sessions)
    .where(sessions.c.forked_from_id == _gone_key)
    .values(forked_from_id=select(_gone.c.forked_from_id).where(_idle).scalar_subquery())
)
_DELETE = Statement(  # everything of a session goes with it, by its references
    delete_from(sessions).where(sessions.c.public_id == bindparam("session"), sessions.c.active_turn_id.is_(None))
)
_HOLDER = Statement(
    select(turns.c.public_id, turns.c.created_at_ms)
    .select_from(sessions.join(turns, turns.c.id == sessions.c.active_turn_id))
    .where(sessions.c.public_id == bindparam("session"))
)


@dataclass(frozen=True, slots=True)
class NewFork:
    """A fork as it was asked for: ids and times are already chosen."""

    session_id: str
    input_id: str
    message_id: str | None
    content_hash: str  # of what is asked for, so that a repeat can be told from a conflict
    source_id: str
    after_turn: str | None  # the last turn that it shares; None: the source's last one that has ended
    title: str | None
    now_ms: int


def fork(transaction: Transaction, new: NewFork) -> ForkOutcome:
    """A session that begins with the items of another, up to the end of a turn. Settings are the source's present ones.
    Its events begin anew.
    """
    earlier = accepted_as_opening(transaction, new.message_id, new.content_hash)
    if earlier is not None:
        return earlier
    row = transaction.one(_SOURCE, session=new.source_id)
    if row is None:
        return NotFound(new.source_id)
    source, active, next_item = cast("tuple[int, int | None, int]", row)
    last_seq = _last_shared(transaction, source, active, next_item - 1, new.after_turn)
    if last_seq is None:
        return TurnNotFound(new.source_id)
    told = _untold(transaction, source, last_seq)
    ((epoch,),) = transaction.all(_EPOCH_AT, session_key=source, last_seq=last_seq)
    key = transaction.insert(
        _FORK_SESSION,
        session_key=source,
        new_public_id=new.session_id,
        origin="conversation_fork",
        new_title=new.title,
        new_epoch=epoch,
        next_item=last_seq + 1 + len(told),
        now_ms=new.now_ms,
    )
    transaction.run(_COPY_ITEMS, session_key=source, new_session=key, last_seq=last_seq)
    insert_items(transaction, key, None, last_seq + 1, [NewItem(item) for item in told], new.now_ms)
    note_opening(transaction, key, new.input_id, new.message_id, new.content_hash, new.now_ms)
    return Created(new.session_id)


def _last_shared(
    transaction: Transaction, source: int, active: int | None, last: int, after_turn: str | None
) -> int | None:
    """The number of the last item that a fork takes over; None where there is no such turn, or it has not ended, or
    nothing of it was ever begun.
    """
    if after_turn is not None:
        return cast("int | None", transaction.all(_LAST_ITEM_OF, session_key=source, turn=after_turn)[0][0])
    if active is None:
        return last
    return cast("int", transaction.all(_FIRST_ITEM_OF, session_key=source, turn_key=active)[0][0]) - 1


def _untold(transaction: Transaction, source: int, last_seq: int) -> list[Item]:
    """The source's present environment, unless it is what the model was told last in what is shared."""
    rows = cast("list[tuple[str]]", transaction.all(_CONTEXT, session_key=source, last=last_seq))
    told = [item for (payload,) in rows if is_context(item := decode_object(payload)) == "environment_context"]
    present = environment_of(transaction, source)
    return [] if told[-1:] == [present] else [present]


def archive(transaction: Transaction, session_id: str, archived: bool, now_ms: int) -> ArchiveOutcome:  # noqa: FBT001 - an operation
    """Close a session for new messages and leave it out of lists, or take that back. Needs it to be idle."""
    if not archived:
        return Done(session_id) if transaction.run(_UNARCHIVE, session=session_id) else NotFound(session_id)
    if transaction.run(_ARCHIVE, session=session_id, now_ms=now_ms):
        return Done(session_id)
    holder = transaction.one(_HOLDER, session=session_id)
    return NotFound(session_id) if holder is None else Busy(session_id, *cast("tuple[str, int]", holder))


def delete(transaction: Transaction, session_id: str) -> DeleteOutcome:
    """Remove a session with all its rows. Needs it to be idle. Its forks stay, as forks of what it was forked from."""
    transaction.run(_DISOWN_ITEMS, session=session_id)
    transaction.run(_HAND_ON_FORKS, session=session_id)
    if transaction.run(_DELETE, session=session_id):
        return Deleted(session_id)
    holder = transaction.one(_HOLDER, session=session_id)
    return NotFound(session_id) if holder is None else Busy(session_id, *cast("tuple[str, int]", holder))
