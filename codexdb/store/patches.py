"""What the patches of an open turn were about to change, as rows among the deltas: they have the same life, since both
are gone when the turn ends.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from sqlalchemy import bindparam, exists, func, select, text

from codexdb.domain.json import JsonObject, decode, decode_object, encode
from codexdb.domain.record import PatchIntent
from codexdb.domain.worker import Fence
from codexdb.store.readers import Reads
from codexdb.store.statement import Statement, insert_into
from codexdb.store.tables import deltas, events, tool_calls, turns
from codexdb.store.transaction import Transaction

TYPE = "patch_intent"
_OF_NO_ITEM = -1

_KEEP = Statement(
    insert_into(deltas, "session_id", "turn_id", "attempt", "item", "offset", "type", "text", "created_at_ms")
)
_call = func.json_extract(deltas.c.text, "$.call")
_paths = func.json_extract(deltas.c.text, "$.paths")
_of_turn = (
    deltas.c.session_id == bindparam("session_key"),
    deltas.c.turn_id == bindparam("turn_key"),
    deltas.c.type == TYPE,
)
_WITHOUT_END = Statement(
    select(_paths)
    .where(
        *_of_turn,
        _call == bindparam("call"),
        ~exists(
            select(events.c.seq).where(
                events.c.session_id == deltas.c.session_id,
                events.c.seq > deltas.c.offset,
                events.c.type == "patch_apply_end",
                func.json_extract(events.c.msg, "$.call_id") == bindparam("call_id"),
            )
        ),
    )
    .order_by(deltas.c.offset.desc())
    .limit(1)
)
_OF_TURN = Statement(select(deltas.c.offset, deltas.c.text).where(*_of_turn).order_by(deltas.c.offset))
_TOLD = Statement(
    select(func.json_extract(events.c.msg, "$.unified_diff"))
    .where(
        events.c.session_id == bindparam("session_key"),
        events.c.seq > bindparam("after_seq"),
        events.c.turn_id == bindparam("turn_key"),
        events.c.type == "turn_diff",
    )
    .order_by(events.c.seq.desc())
    .limit(1)
)
_LEFT = Statement(
    select(tool_calls.c.public_id, _paths)
    .select_from(
        turns.join(deltas, (deltas.c.session_id == turns.c.session_id) & (deltas.c.turn_id == turns.c.id)).join(
            tool_calls, tool_calls.c.public_id == _call
        )
    )
    .where(
        text("turns.state IN ('ready', 'running', 'waiting')"),
        turns.c.worker_id == bindparam("worker_key"),
        deltas.c.type == TYPE,
        tool_calls.c.state == "started",
    )
)


@dataclass(frozen=True, slots=True)
class Left:
    """A patch that a worker had begun, and whose end is not on record."""

    call: str
    paths: Sequence[str]


def keep(transaction: Transaction, fence: Fence, intent: PatchIntent, begin_seq: int, now_ms: int) -> None:
    """Put on record what a patch is about to do; `begin_seq` is the number of the event that tells of it."""
    transaction.run(
        _KEEP,
        session_id=fence.session_key,
        turn_id=fence.turn_key,
        attempt=fence.attempt,
        item=_OF_NO_ITEM,
        offset=begin_seq,
        type=TYPE,
        text=encode({"call": intent.call, "paths": list(intent.paths), "before": intent.before}),
        created_at_ms=now_ms,
    )


def without_end(transaction: Transaction, fence: Fence, call: str, call_id: str) -> Sequence[str] | None:
    """The paths of the call's patch, if it is one that began and whose end was not told."""
    row = transaction.one(
        _WITHOUT_END, session_key=fence.session_key, turn_key=fence.turn_key, call=call, call_id=call_id
    )
    return None if row is None else cast("list[str]", decode(cast("str", row[0])))


async def of_turn(readers: Reads, fence: Fence) -> tuple[list[JsonObject], str]:
    """What the patches of an open turn have kept for its diff, oldest first, and that diff as it was told last."""
    of = {"session_key": fence.session_key, "turn_key": fence.turn_key}
    rows = cast("list[tuple[int, str]]", await readers.all(_OF_TURN, of))
    if not rows:
        return [], ""
    told = cast("list[tuple[str]]", await readers.all(_TOLD, {**of, "after_seq": rows[0][0]}))
    return [cast("JsonObject", decode_object(kept)["before"]) for _, kept in rows], told[0][0] if told else ""


async def left_by(readers: Reads, worker_key: int) -> Sequence[Left]:
    """The patches that this worker was at when it died."""
    rows = await readers.all(_LEFT, {"worker_key": worker_key})
    return [Left(call, cast("list[str]", decode(paths))) for call, paths in cast("list[tuple[str, str]]", rows)]
