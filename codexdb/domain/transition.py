"""The one place where legal moves live. CHECKs, triggers, docs/states.md and the tests are derived from it."""

from dataclasses import dataclass
from enum import StrEnum


class TurnState(StrEnum):
    QUEUED = "queued"  # behind another turn of its session
    READY = "ready"  # holds the session, no worker has it
    RUNNING = "running"  # a worker has it
    WAITING = "waiting"  # for a person's approval; holds the session, no worker has it
    COMPLETED = "completed"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


class ToolCallState(StrEnum):
    PROPOSED = "proposed"  # the model asked for it
    APPROVED = "approved"  # by policy or by a person
    DENIED = "denied"  # by policy or by a person
    STARTED = "started"  # intent committed; the side effect may have begun
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    UNKNOWN = "unknown"  # its worker died after `started`; never rerun by itself
    ABORTED = "aborted"  # its turn ended first


class ApprovalState(StrEnum):
    PENDING = "pending"
    APPROVED = "approved"
    DENIED = "denied"
    WITHDRAWN = "withdrawn"  # its turn ended first


@dataclass(frozen=True, slots=True)
class Move:
    """One legal step, with the verb that names it."""

    source: str
    target: str
    verb: str


@dataclass(frozen=True, slots=True)
class TransitionTable:
    """The states of one kind of row, where it may begin, and every step it may take."""

    table: str
    states: tuple[str, ...]
    initial: tuple[str, ...]
    moves: tuple[Move, ...]

    @property
    def terminal(self) -> tuple[str, ...]:
        """States that nothing leaves."""
        sources = {move.source for move in self.moves}
        return tuple(state for state in self.states if state not in sources)

    def allows(self, source: str, target: str) -> bool:
        """Whether a row in `source` may be updated to `target`. Staying put is always allowed."""
        return source == target or any(move.source == source and move.target == target for move in self.moves)


def _moves(verb: str, sources: tuple[str, ...], target: str) -> tuple[Move, ...]:
    return tuple(Move(source, target, verb) for source in sources)


_T = TurnState
_OPEN_TURN = (_T.QUEUED, _T.READY, _T.RUNNING, _T.WAITING)
HOLDS_SESSION = (_T.READY, _T.RUNNING, _T.WAITING)

TURN = TransitionTable(
    table="turns",
    states=tuple(_T),
    initial=(_T.QUEUED, _T.READY, _T.RUNNING),
    moves=(
        *_moves("promote", (_T.QUEUED,), _T.READY),
        *_moves("promote and claim", (_T.QUEUED,), _T.RUNNING),
        *_moves("claim", (_T.READY,), _T.RUNNING),
        *_moves("ask", (_T.RUNNING,), _T.WAITING),
        *_moves("answer", (_T.WAITING,), _T.READY),
        *_moves("rescue or suspend", (_T.RUNNING,), _T.READY),
        *_moves("complete", (_T.RUNNING,), _T.COMPLETED),
        *_moves("fail", (_T.READY, _T.RUNNING), _T.FAILED),
        *_moves("interrupt", _OPEN_TURN, _T.INTERRUPTED),
    ),
)

_C = ToolCallState
_OPEN_CALL = (_C.PROPOSED, _C.APPROVED, _C.STARTED)

TOOL_CALL = TransitionTable(
    table="tool_calls",
    states=tuple(_C),
    initial=(_C.PROPOSED,),
    moves=(
        *_moves("approve", (_C.PROPOSED,), _C.APPROVED),
        *_moves("deny", (_C.PROPOSED,), _C.DENIED),
        *_moves("start", (_C.APPROVED,), _C.STARTED),
        *_moves("succeed", (_C.STARTED,), _C.SUCCEEDED),
        *_moves("fail", (_C.STARTED,), _C.FAILED),
        *_moves("lose", (_C.STARTED,), _C.UNKNOWN),
        *_moves("abort", _OPEN_CALL, _C.ABORTED),
    ),
)

_A = ApprovalState

APPROVAL = TransitionTable(
    table="approvals",
    states=tuple(_A),
    initial=(_A.PENDING,),
    moves=(
        *_moves("approve", (_A.PENDING,), _A.APPROVED),
        *_moves("deny", (_A.PENDING,), _A.DENIED),
        *_moves("withdraw", (_A.PENDING,), _A.WITHDRAWN),
    ),
)

TABLES = (TURN, TOOL_CALL, APPROVAL)
