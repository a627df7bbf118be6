"""The fence: a turn is written to only by the worker that holds it, in the attempt in which it does."""

from sqlalchemy import bindparam

from codexdb.domain.transition import TurnState
from codexdb.domain.worker import Fence
from codexdb.store.tables import turns

HELD = (
    turns.c.id == bindparam("turn_key"),
    turns.c.state == TurnState.RUNNING.value,
    turns.c.attempt == bindparam("held_attempt"),
    turns.c.worker_id == bindparam("held_worker"),
)


def held(fence: Fence) -> dict[str, object]:
    """The parameters of `HELD`."""
    return {"turn_key": fence.turn_key, "held_attempt": fence.attempt, "held_worker": fence.worker_key}
