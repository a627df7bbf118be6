"""What one turn is worked with, settled before it begins."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from codexdb.agent.calls.context import CallContext
from codexdb.agent.model import ModelClient, ToolSpec
from codexdb.config.budget import TurnBudget
from codexdb.domain.item import Item
from codexdb.domain.json import JsonObject
from codexdb.domain.record import OpenCall


@dataclass(frozen=True, slots=True)
class Compaction:
    """When and how a session is summarised."""

    limit: int | None = None  # tokens from which on it is due; None: only when the endpoint says that it is too long
    prompt: str | None = None  # None: our own
    only: bool = False  # the turn is for nothing else


@dataclass(frozen=True, slots=True)
class Spent:
    """What earlier attempts at the turn have used up."""

    requests: int = 0
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class LeftOff:
    """Where an earlier attempt at the turn stood."""

    open_calls: Sequence[OpenCall] = ()  # made, and not started
    answer: str | None = None  # the last word, where it is on record
    retry_at_ms: int | None = None  # until when it was waiting to ask again
    spent: Spent = Spent()


@dataclass(frozen=True, slots=True)
class TurnPlan:
    """Everything that does not change while the turn is worked."""

    session_id: str
    model: str
    model_provider: str
    instructions: str
    history: Sequence[Item]  # what the model is to see of what is on record, oldest first, this turn's message included
    tools: Sequence[ToolSpec]
    calls: CallContext
    retries_max: int
    reasoning: JsonObject | None = None
    verbosity: str | None = None
    max_output_tokens: int | None = None
    show_reasoning: bool = True  # as `agent_reasoning` events
    show_raw_reasoning: bool = False
    known_tokens: int | None = None  # of the history but for its last `uncounted` items, as the endpoint counted them
    uncounted: int = 0
    budget: TurnBudget = field(default_factory=TurnBudget)
    compaction: Compaction = Compaction()
    left_off: LeftOff = field(default_factory=LeftOff)
    renew: Callable[[], ModelClient | None] | None = (
        None  # the endpoint with today's credentials; None: they are the same
    )
