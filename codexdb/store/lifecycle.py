"""What becomes of whole sessions: one is forked from another, put away, taken up again."""

from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import bindparam, func, insert, select, text, update
from sqlalchemy.sql.elements import ColumnElement

from codexdb.domain.outcome import ArchiveOutcome, Busy, Created, Done, ForkOutcome, NotFound, TurnNotFound
from codexdb.domain.record import NewItem
from codexdb.domain.transition import TURN
from codexdb.store.record import insert_items
from codexdb.store.sessions import environment_of
from codexdb.store.statement import Statement
from codexdb.store.tables import items, quoted, sessions, turns
from codexdb.store.transaction import Transaction
from codexdb.store.turns import FALLBACK_SETTING, accepted_as_opening, note_opening

_ENDED = text(f"turns.state IN ({quoted(TURN.terminal)})")
_SOURCE = Statement(
    select(sessions.c.id, sessions.c.active_turn_id, sessions.c.next_item_seq).where(
        sessions.c.public_id == bindparam("session")
    )
)
_NAMED_TURN = Statement(
    select(turns.c.id, turns.c.number).where(
        turns.c.public_id == bindparam("turn"), turns.c.session_id == bindparam("session_key"), _ENDED
    )
)
_LAST_ENDED = Statement(
    select(turns.c.id, turns.c.number)
    .where(turns.c.session_id == bindparam("session_key"), _ENDED)
    .order_by(turns.c.number.desc())
    .limit(1)
)
_LAST_ITEM_OF = Statement(
    select(func.max(items.c.seq)).where(
        items.c.session_id == bindparam("session_key"), items.c.turn_id == bindparam("turn_key")
    )
)
_FIRST_ITEM_OF_A_TURN = Statement(
    select(func.min(items.c.seq)).where(items.c.session_id == bindparam("session_key"), items.c.turn_id.is_not(None))
)
_CHANGED_LATER = Statement(
    select(turns.c.id)
    .where(
        turns.c.session_id == bindparam("session_key"),
        turns.c.number > bindparam("last_turn"),
        turns.c.settings.is_not(None),
        func.json_remove(turns.c.settings, f"$.{FALLBACK_SETTING}") != "{}",
    )
    .limit(1)
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
    shared = _shared(transaction, source, active, next_item - 1, new.after_turn)
    if shared is None:
        return TurnNotFound(new.source_id)
    last_seq, last_turn = shared
    # Turns that are left out may have changed the settings, which the model was told after what is shared.
    told = (
        [environment_of(transaction, source)]
        if transaction.one(_CHANGED_LATER, session_key=source, last_turn=last_turn)
        else []
    )
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


def _shared(
    transaction: Transaction, source: int, active: int | None, last: int, after_turn: str | None
) -> tuple[int, int] | None:
    """The numbers of the last item and of the last turn that a fork takes over; None where there is no such turn, or it
    has not ended.
    """
    if after_turn is not None:
        turn = transaction.one(_NAMED_TURN, session_key=source, turn=after_turn)
        if turn is None:
            return None
    else:
        turn = transaction.one(_LAST_ENDED, session_key=source)
        if active is None:
            return last, cast("int", turn[1]) if turn is not None else 0
    if turn is None:  # the first turn is under way: nothing but the context can be shared
        return cast("int", transaction.all(_FIRST_ITEM_OF_A_TURN, session_key=source)[0][0]) - 1, 0
    key, number = cast("tuple[int, int]", turn)
    last_of_turn = transaction.all(_LAST_ITEM_OF, session_key=source, turn_key=key)[0][0]
    return (cast("int", last_of_turn), number) if last_of_turn is not None else None


def archive(transaction: Transaction, session_id: str, archived: bool, now_ms: int) -> ArchiveOutcome:  # noqa: FBT001 - an operation
    """Close a session for new messages and leave it out of lists, or take that back. Needs it to be idle."""
    if not archived:
        return Done(session_id) if transaction.run(_UNARCHIVE, session=session_id) else NotFound(session_id)
    if transaction.run(_ARCHIVE, session=session_id, now_ms=now_ms):
        return Done(session_id)
    holder = transaction.one(_HOLDER, session=session_id)
    return NotFound(session_id) if holder is None else Busy(session_id, *cast("tuple[str, int]", holder))
