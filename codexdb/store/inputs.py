"""Messages on their way to the model: accepted, not yet items. Each becomes one once, or is taken back."""

from collections.abc import Sequence
from typing import cast

from sqlalchemy import bindparam, select, update

from codexdb.domain.json import decode_object
from codexdb.domain.record import NewItem
from codexdb.domain.worker import Claim, Fence
from codexdb.store.record import allocate, insert_items, numbers
from codexdb.store.statement import Statement
from codexdb.store.tables import inputs, sessions
from codexdb.store.transaction import Transaction

_UNDELIVERED = Statement(
    select(inputs.c.id, inputs.c.item)
    .where(
        inputs.c.session_id == bindparam("session_key"),
        inputs.c.turn_id == bindparam("turn_key"),
        inputs.c.delivered_at_ms.is_(None),
        inputs.c.withdrawn_at_ms.is_(None),
        inputs.c.item.is_not(None),
    )
    .order_by(inputs.c.id)
)
_DELIVER = Statement(
    update(inputs).where(inputs.c.id == bindparam("key")).values(delivered_at_ms=bindparam("now_ms"), item=None)
)
_MOVE_INPUT = Statement(update(inputs).where(inputs.c.id == bindparam("key")).values(turn_id=bindparam("new_turn")))
_WITHDRAW = Statement(
    update(inputs)
    .where(
        inputs.c.session_id == bindparam("session_key"),
        inputs.c.turn_id == bindparam("turn_key"),
        inputs.c.delivered_at_ms.is_(None),
        inputs.c.withdrawn_at_ms.is_(None),
    )
    .values(withdrawn_at_ms=bindparam("now_ms"), item=None)
)
_WITHDRAW_STEERED = Statement(
    update(inputs)
    .where(
        inputs.c.session_id
        == select(sessions.c.id).where(sessions.c.public_id == bindparam("session")).scalar_subquery(),
        inputs.c.public_id == bindparam("input"),
        inputs.c.mode == "steer",
        inputs.c.delivered_at_ms.is_(None),
        inputs.c.withdrawn_at_ms.is_(None),
    )
    .values(withdrawn_at_ms=bindparam("now_ms"), item=None)
)


def withdraw_steered(transaction: Transaction, session_id: str, input_id: str, now_ms: int) -> bool:
    """Take back a message that was steered and that the model has not been told. False: it is told, or taken back."""
    return transaction.run(_WITHDRAW_STEERED, session=session_id, input=input_id, now_ms=now_ms) == 1


def deliver(transaction: Transaction, claim: Claim, now_ms: int) -> list[str] | None:
    """Put what was steered into this turn on record as items; their JSON, in the order of the messages. None: the fence
    is lost. Writes nothing where there is nothing.
    """
    fence = claim.fence
    rows = undelivered(transaction, fence.session_key, fence.turn_key)
    if rows and allocate(transaction, claim, 0, 0) is None:
        return None
    insert_inputs(transaction, fence, rows, now_ms)
    return [item for _, item in rows]


def undelivered(transaction: Transaction, session_key: int, turn_key: int) -> list[tuple[int, str]]:
    """Messages of a turn that are no items yet: (key, item as JSON), in their order."""
    rows = transaction.all(_UNDELIVERED, session_key=session_key, turn_key=turn_key)
    return cast("list[tuple[int, str]]", rows)


def insert_inputs(transaction: Transaction, fence: Fence, rows: Sequence[tuple[int, str]], now_ms: int) -> None:
    """Make items of undelivered messages."""
    if not rows:
        return
    _, item_seq = numbers(transaction, fence.session_key, 0, len(rows), now_ms)
    items = [NewItem(decode_object(item)) for _, item in rows]
    insert_items(transaction, fence.session_key, fence.turn_key, item_seq, items, now_ms)
    for key, _ in rows:
        transaction.run(_DELIVER, key=key, now_ms=now_ms)


def move_inputs(transaction: Transaction, rows: Sequence[tuple[int, str]], turn_key: int) -> None:
    """Give messages to another turn of their session."""
    for key, _ in rows:
        transaction.run(_MOVE_INPUT, key=key, new_turn=turn_key)


def withdraw_undelivered(transaction: Transaction, session_key: int, turn_key: int, now_ms: int) -> None:
    """Take back the messages of a turn that the model has not been told."""
    transaction.run(_WITHDRAW, session_key=session_key, turn_key=turn_key, now_ms=now_ms)
