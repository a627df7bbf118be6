"""What one attempt at a turn puts on record: items, events, tool calls and the accounts of model requests."""

from collections.abc import Sequence
from dataclasses import dataclass

from codexdb.domain.approval import Approval, NewApproval
from codexdb.domain.event import Event
from codexdb.domain.item import Item
from codexdb.domain.json import JsonObject


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of this request, as the endpoint counted them."""

    input_tokens: int
    cached_input_tokens: int | None
    output_tokens: int
    reasoning_output_tokens: int | None
    total_tokens: int


@dataclass(frozen=True, slots=True)
class NewItem:
    """An item to be committed. `partial`: text of an answer that was cut short."""

    item: Item
    partial: bool = False


@dataclass(frozen=True, slots=True)
class CallProposed:
    """The model asked for a tool. `id` is ours and names the call from here on."""

    id: str
    call_id: str  # the model's own name for it
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class OpenCall:
    """A call on record that an earlier attempt left open. Nothing of it has happened yet, unless `started`: then it has
    failed in the sandbox, and a person was asked whether it may run again without.
    """

    id: str
    item: Item
    approval: Approval | None = None
    started: bool = False


@dataclass(frozen=True, slots=True)
class CallDecided:
    """Policy, or a person, said yes or no."""

    id: str
    approved: bool


@dataclass(frozen=True, slots=True)
class CallStarted:
    """Intent: committed before the side effect begins."""

    id: str


@dataclass(frozen=True, slots=True)
class CallSpawned:
    """The process that works on it, so that a leftover can be found and killed after a crash."""

    id: str
    pid: int
    pid_started_at: str  # the kernel's start time of that process, opaque; guards against a reused pid


@dataclass(frozen=True, slots=True)
class CallEnded:
    """How it came out. `state`: "succeeded", "failed" or "aborted"."""

    id: str
    state: str
    exit_code: int | None
    output: str  # bounded; what the database keeps, which is more than the model sees


@dataclass(frozen=True, slots=True)
class PatchIntent:
    """What a patch is about to do to files, so that after a kill somebody knows where it was at work, and what stood
    there. Kept until the turn's end.
    """

    call: str  # our id of the tool call
    paths: Sequence[str]  # absolute and without links
    before: JsonObject  # what the turn's diff has to know of it


CallChange = CallProposed | CallDecided | CallStarted | CallSpawned | CallEnded


@dataclass(frozen=True, slots=True)
class RequestEnded:
    """One model request, for the accounts. Times are epoch milliseconds."""

    model: str
    model_provider: str
    started_at_ms: int
    first_event_at_ms: int | None
    ended_at_ms: int
    usage: Usage | None
    retries: int
    error: str | None


@dataclass(frozen=True, slots=True)
class Entry:
    """Everything in it is committed in one transaction, in this order: calls, items, events, request."""

    calls: Sequence[CallChange] = ()
    items: Sequence[NewItem] = ()
    events: Sequence[Event] = ()
    request: RequestEnded | None = None
    delta_item: int | None = None  # the unfinished item that `items` completes: its deltas, and those before, are gone
    asks: Sequence[NewApproval] = ()
    patch: PatchIntent | None = None  # of the call that `calls` starts, told by the first of `events`
    plan: JsonObject | None = None  # the session's latest
    answer: str | None = None  # the last word, where nothing is to follow it
    retry_at_ms: int | None = None  # when the failed model request is tried again
